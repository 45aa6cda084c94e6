/* SPDX-License-Identifier: MIT */
/*
 * What the source says on the main channel, but for pages: one call per
 * utterance, each written at once.
 *
 * Threads: the conductor, never while a crew works on the same channel; and
 *          ferry_speak_beat() by one other thread, which never blocks.
 */
#ifndef FERRY_SEND_SPEAK_H
#define FERRY_SEND_SPEAK_H

#include <pthread.h>

#include "base/bitmap.h"
#include "chan/chan.h"
#include "mem/mem.h"
#include "wire/command.h"

#define FERRY_RAM_SECTION_ID	1u

struct ferry_speaker {
	struct ferry_chan *chan;
	const struct ferry_mem *mem;
	enum ferry_dialect dialect;
	bool		 advised;	/* postcopy may follow */
	bool		 flush;		/* MULTIFD_FLUSH goes before EOS */

	/* Before each write: wait until the channel takes something; -1: it
	 * shall not be waited for any longer.  NULL: the write waits. */
	int		(*await_room)(void *arg, struct ferry_chan *chan,
				      struct ferry_err *e);
	void		*arg;

	pthread_mutex_t	 lock;		/* one utterance at a time */
	bool		 torn;		/* one was not written to its end:
					 * nothing can be said behind it */
};

void ferry_speaker_init(struct ferry_speaker *s, const struct ferry_mem *mem);
void ferry_speaker_fini(struct ferry_speaker *s);

/* Another link, on which nothing was said yet.  No beat is under way. */
void ferry_speaker_move(struct ferry_speaker *s, struct ferry_chan *chan);

/* After a lost link: RECV_BITMAP, what of this block has come? */
FERRY_CHECKED int ferry_speak_ask_map(struct ferry_speaker *s,
				      const char *block, struct ferry_err *e);

/* File header and CONFIGURATION. */
FERRY_CHECKED int ferry_speak_open(struct ferry_speaker *s, const char *machine,
				   struct ferry_err *e);

FERRY_CHECKED int ferry_speak(struct ferry_speaker *s,
			      enum ferry_command command, struct ferry_err *e);
FERRY_CHECKED int ferry_speak_u32(struct ferry_speaker *s,
				  enum ferry_command command, uint32_t value,
				  struct ferry_err *e);

/* POSTCOPY_ADVISE with the page sizes of the memory. */
FERRY_CHECKED int ferry_speak_advise(struct ferry_speaker *s,
				     struct ferry_err *e);

/* The RAM section: START with the block list; then PART (or END) is opened,
 * page records follow by an encoder, and it is closed. */
FERRY_CHECKED int ferry_speak_ram_start(struct ferry_speaker *s,
					struct ferry_err *e);
FERRY_CHECKED int ferry_speak_ram_open(struct ferry_speaker *s, bool last,
				       struct ferry_err *e);
FERRY_CHECKED int ferry_speak_ram_close(struct ferry_speaker *s,
					struct ferry_err *e);

/*
 * Ranges of pages of one block whose bit is set (or clear) in the map, as
 * RAM_DISCARD or ZERO_RANGES commands, as many as are needed.
 */
FERRY_CHECKED int ferry_speak_ranges(struct ferry_speaker *s,
				     enum ferry_command command,
				     const struct ferry_mem_block *block,
				     const struct ferry_bitmap *map,
				     bool value, struct ferry_err *e);

/* What somebody else has encoded, in one piece. */
FERRY_CHECKED int ferry_speak_octets(struct ferry_speaker *s,
				     const struct ferry_wr *w,
				     struct ferry_err *e);

/* PACKAGED and the octets; LISTEN goes in front where asked for, and with a
 * QEMU RUN behind. */
FERRY_CHECKED int ferry_speak_package(struct ferry_speaker *s, bool listen,
				      const void *devices, size_t bytes,
				      struct ferry_err *e);

/* Device sections, EOF and an empty VMDESCRIPTION: how precopy towards a QEMU
 * (or into a file) ends. */
FERRY_CHECKED int ferry_speak_end(struct ferry_speaker *s,
				  const void *devices, size_t bytes,
				  struct ferry_err *e);

/* The last octet of a postcopy stream towards a QEMU. */
FERRY_CHECKED int ferry_speak_eof(struct ferry_speaker *s,
				  struct ferry_err *e);

/* ABORT, if there is room for it; errors do not matter any more. */
void ferry_speak_abort(struct ferry_speaker *s, const char *reason);

/* VOID, after a rollback. */
FERRY_CHECKED int ferry_speak_void(struct ferry_speaker *s,
				   const char *reason, struct ferry_err *e);

/* A sign of life (PING 0, or what else is due), unless something is being said
 * already or there is no room: then the channel is not silent, or nobody
 * listens.  True when it was said. */
bool ferry_speak_beat(struct ferry_speaker *s, enum ferry_command command,
		      uint32_t value);

#endif
