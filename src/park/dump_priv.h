/* SPDX-License-Identifier: MIT */
/*
 * Inside of a dump: streams that are fed octets and driven by a step function,
 * and what they learn of the VM whose streams they are.
 */
#ifndef FERRY_PARK_DUMP_PRIV_H
#define FERRY_PARK_DUMP_PRIV_H

#include "base/cleanup.h"
#include "base/limits.h"
#include "park/dump.h"
#include "park/vmdesc.h"
#include "wire/config.h"
#include "wire/decode.h"
#include "wire/dialect.h"
#include "wire/hello.h"
#include "wire/ramlist.h"
#include "wire/section.h"
#include "wire/span.h"

#define FERRY_DUMP_ITERABLES_MAX	64u

/* ---- what is known of the VM --------------------------------------- */

struct ferry_dump_block {
	char		name[FERRY_NAME_MAX + 1];
	uint64_t	bytes;
	uint32_t	page_bytes;
};

/* A section that comes in parts. */
struct ferry_dump_iterable {
	uint32_t	id;
	bool		ram;
	bool		ended;
};

/* All connections of one migration share it; a new main begins it anew. */
struct ferry_dump_vm {
	struct ferry_config config;
	struct ferry_dump_block *block;		/* FERRY_BLOCKS_MAX */
	uint32_t	blocks;
	bool		listed;			/* the list is complete */
	uint64_t	advised;		/* page sizes; 0: no advice */
	struct ferry_dump_iterable iterable[FERRY_DUMP_ITERABLES_MAX];
	uint32_t	iterables;
	bool		postcopy;		/* LISTEN, or a recovery */
	bool		running;		/* RUN */
	bool		finished;		/* ferry: FINISH */
};

/* NULL when the name is unknown; an error only when the list is complete. */
const struct ferry_dump_block *ferry_dump_block_find(
	const struct ferry_dump_vm *vm, const char *name);
FERRY_CHECKED int ferry_dump_block_known(const struct ferry_dump_vm *vm,
					 const char *name,
					 const struct ferry_dump_block **b,
					 struct ferry_err *e);
struct ferry_dump_iterable *ferry_dump_iterable_find(struct ferry_dump_vm *vm,
						     uint32_t id);

static inline struct ferry_block_shape
ferry_dump_shape(const struct ferry_dump_block *b)
{
	return (struct ferry_block_shape){
		.name = b->name, .bytes = b->bytes,
		.page_bytes = b->page_bytes,
	};
}

/* ---- streams ------------------------------------------------------- */

struct ferry_dump_stream;

/*
 * Reads one record and names the next step.  Ends as a stream decoder does:
 * DONE consumes, MORE does not and says in r->lack how much is missing.
 */
typedef int ferry_dump_step(struct ferry_dump_stream *s, struct ferry_rd *r,
			    struct ferry_err *e);

/* Neighbouring pages of one kind, one record in the listing. */
struct ferry_dump_run {
	const char	*kind;		/* NULL: none */
	char		 block[FERRY_NAME_MAX + 1];
	uint64_t	 offset;	/* where the first is in the stream */
	double		 seconds;	/* and when it came */
	uint64_t	 addr;
	uint64_t	 pages;
	uint64_t	 bytes;
};

/* A bitmap that is read in pieces. */
struct ferry_dump_bits {
	uint64_t	 offset;
	uint64_t	 pages;
	uint64_t	 word;		/* the next one */
	uint64_t	 set;
};

/* The list of blocks, while it is read. */
struct ferry_dump_listing {
	struct ferry_ramlist list;
	struct ferry_ramlist_block entry;
	uint32_t	 page;		/* of the entry */
};

struct ferry_dump_stream {
	struct ferry_dump *d;
	struct ferry_dump_where where;

	/* The feeding, dump_stream.c. */
	ferry_dump_step	*step;
	ferry_dump_step	*at_end;	/* hold: gets all that was kept */
	const char	*inside;	/* what step expects, for messages */
	bool		 may_end;	/* here, between two records */
	bool		 over;		/* nothing may come any more */
	bool		 hold;		/* keep everything up to the end */
	uint64_t	 skip;		/* octets that are passed over next */
	uint64_t	 at;		/* offset of the first octet kept */
	uint64_t	 mark;		/* of the record that is being read */
	const uint8_t	*window;
	uint8_t		*buf;
	size_t		 have, room;
	size_t		 need;		/* octets, for step to go on; or 0 */

	/* The protocol. */
	enum ferry_dialect dialect;
	struct ferry_section sec;	/* the one that is open */
	uint64_t	 sec_at;
	size_t		 scanned;	/* of an opaque body */
	size_t		 package;	/* its octets */
	struct ferry_dump_listing listing;
	struct ferry_dump_bits bits;
	char		 block[FERRY_NAME_MAX + 1];	/* for CONTINUE */
	struct ferry_dump_run run;
};

void ferry_dump_stream_init(struct ferry_dump_stream *s, struct ferry_dump *d,
			    ferry_dump_step *first);
void ferry_dump_stream_fini(struct ferry_dump_stream *s);
FERRY_CHECKED int ferry_dump_stream_feed(struct ferry_dump_stream *s,
					 const uint8_t *data, size_t n,
					 struct ferry_err *e);
/* FERRY_E_CLOSED when the stream ends where it may not. */
FERRY_CHECKED int ferry_dump_stream_finish(struct ferry_dump_stream *s,
					   struct ferry_err *e);

/* Offset of what the cursor points at. */
static inline uint64_t ferry_dump_at(const struct ferry_dump_stream *s,
				     const struct ferry_rd *r)
{
	return s->at + (uint64_t)(r->p - s->window);
}

/* What comes next; inside names it. */
static inline int ferry_dump_next(struct ferry_dump_stream *s,
				  ferry_dump_step *step, const char *inside)
{
	s->step = step;
	s->inside = inside;
	s->may_end = false;
	return FERRY_DECODE_DONE;
}

/* Octets behind which there is nothing. */
static inline int ferry_dump_over(struct ferry_dump_stream *s)
{
	s->over = s->may_end = true;
	return FERRY_DECODE_DONE;
}

/* ---- the dump, and telling what was found -------------------------- */

struct ferry_dump_capture;

struct ferry_dump {
	struct ferry_dump_params p;
	struct ferry_dump_vm vm;
	struct ferry_dump_stream in;		/* no capture */
	struct ferry_dump_capture *capture;	/* or one */
	struct ferry_dump_where fault;
	size_t		 kept;			/* octets in all buffers */
	uint8_t		 first[16];		/* until the kind is known */
	size_t		 firsts;
	bool		 recovered;		/* a recovery has begun */
};

void ferry_dump_begin(struct ferry_dump_stream *s, uint64_t offset,
		      const char *record, const char *what);
void ferry_dump_number(struct ferry_dump_stream *s, const char *key,
		       uint64_t value);
void ferry_dump_hex(struct ferry_dump_stream *s, const char *key,
		    uint64_t value);
/* Cleaned; as much of it as a name or a reason may have. */
void ferry_dump_text(struct ferry_dump_stream *s, const char *key,
		     const char *value);
void ferry_dump_octets(struct ferry_dump_stream *s, const char *key,
		       const uint8_t *data, size_t n);
void ferry_dump_list(struct ferry_dump_stream *s, const char *key);
void ferry_dump_list_end(struct ferry_dump_stream *s);
void ferry_dump_end(struct ferry_dump_stream *s, uint64_t bytes);

/* One page; it is told when it is known what follows it. */
void ferry_dump_page(struct ferry_dump_stream *s, const char *kind,
		     const char *block, uint64_t addr, uint64_t bytes);
void ferry_dump_flush(struct ferry_dump_stream *s);

/* Forget the VM: a new migration begins. */
void ferry_dump_vm_reset(struct ferry_dump_vm *vm);

/* ---- the steps, by file -------------------------------------------- */

ferry_dump_step ferry_dump_start;	/* dump.c: which connection is it? */
/* The row of the section that is open, but for its end.  dump_main.c */
void ferry_dump_begin_section(struct ferry_dump_stream *s);

ferry_dump_step ferry_dump_file_header;	/* dump_main.c */
ferry_dump_step ferry_dump_section;
ferry_dump_step ferry_dump_ram;		/* dump_ram.c */
ferry_dump_step ferry_dump_preempt;
ferry_dump_step ferry_dump_ramlist;	/* dump_list.c */
ferry_dump_step ferry_dump_tail;	/* dump_device.c; at_end */
ferry_dump_step ferry_dump_opaque;
ferry_dump_step ferry_dump_package;
ferry_dump_step ferry_dump_init;	/* dump_packet.c */
ferry_dump_step ferry_dump_packet;
ferry_dump_step ferry_dump_channel;	/* dump_ferry.c */
ferry_dump_step ferry_dump_answer;
ferry_dump_step ferry_dump_reply;	/* dump_reply.c */

/* The body of s->sec has ended: its footer, then the next section. */
int ferry_dump_to_footer(struct ferry_dump_stream *s);
int ferry_dump_to_section(struct ferry_dump_stream *s);

/* dump_command.c: s->sec is a COMMAND, r holds its payload. */
FERRY_CHECKED int ferry_dump_command(struct ferry_dump_stream *s,
				     struct ferry_rd *r, struct ferry_err *e);

/* dump_device.c: FULL sections and commands up to the end of r, or to EOF,
 * which is consumed and told. */
FERRY_CHECKED int ferry_dump_devices(struct ferry_dump_stream *s,
				     struct ferry_rd *r,
				     const struct ferry_vmdesc *desc,
				     bool *eof, struct ferry_err *e);
/* The description itself, all of r. */
FERRY_CHECKED int ferry_dump_vmdesc(struct ferry_dump_stream *s,
				    uint64_t offset, struct ferry_rd *r,
				    uint64_t bytes, struct ferry_err *e);

/* dump_ferry.c: what a VM needs, as a field. */
void ferry_dump_facts(struct ferry_dump_stream *s, const struct ferry_hello *h);

/* dump_list.c: words of a bitmap; DONE when its last is read. */
FERRY_CHECKED int ferry_dump_bits(struct ferry_dump_stream *s,
				  struct ferry_rd *r, struct ferry_err *e);

/* dump_capture.c */
struct ferry_dump_capture *ferry_dump_capture_new(struct ferry_dump *d,
						  struct ferry_err *e);
void ferry_dump_capture_free(struct ferry_dump_capture *c);
FERRY_CHECKED int ferry_dump_capture_feed(struct ferry_dump_capture *c,
					  const uint8_t *data, size_t n,
					  struct ferry_err *e);
FERRY_CHECKED int ferry_dump_capture_finish(struct ferry_dump_capture *c,
					    struct ferry_err *e);
/* May these 15 octets be the head of a capture's first record? */
bool ferry_dump_capture_begins(const uint8_t head[15]);

#endif
