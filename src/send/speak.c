/* SPDX-License-Identifier: MIT */
/*
 * Utterances on the main channel: each is encoded into a small buffer and
 * written in one piece, so that a reader never waits for half of one longer
 * than the network makes it.
 */
#include "send/speak.h"

#include <poll.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "chan/iov.h"
#include "wire/config.h"
#include "wire/ram.h"
#include "wire/ramlist.h"
#include "wire/ranges.h"

#define RAM_END_WIRE	(2 * FERRY_RAM_MARK_WIRE + FERRY_FOOTER_WIRE)

void ferry_speaker_init(struct ferry_speaker *s, const struct ferry_mem *mem)
{
	*s = (struct ferry_speaker){ .mem = mem };
	pthread_mutex_init(&s->lock, NULL);
}

void ferry_speaker_fini(struct ferry_speaker *s)
{
	pthread_mutex_destroy(&s->lock);
}

void ferry_speaker_move(struct ferry_speaker *s, struct ferry_chan *chan)
{
	pthread_mutex_lock(&s->lock);
	s->chan = chan;
	s->torn = false;
	pthread_mutex_unlock(&s->lock);
}

static int write_some(struct ferry_speaker *s, const struct iovec *iov, int n,
		      size_t *put, struct ferry_err *e)
{
	ssize_t rc;

	if (s->await_room && s->await_room(s->arg, s->chan, e))
		return -1;
	rc = s->chan->ops->writev(s->chan, iov, n);
	if (rc < 0)
		return ferry_chan_err(s->chan, "write", rc, e);
	*put = (size_t)rc;
	return 0;
}

/* Caller holds the lock. */
static int write_all(struct ferry_speaker *s, struct iovec *iov, int n,
		     struct ferry_err *e)
{
	size_t put = 0;

	ferry_iov_advance(&iov, &n, 0);
	while (n > 0) {
		if (write_some(s, iov, n, &put, e)) {
			s->torn = s->torn || put;
			return -1;
		}
		ferry_iov_advance(&iov, &n, put);
	}
	return 0;
}

static int say_iov(struct ferry_speaker *s, struct iovec *iov, int n,
		   struct ferry_err *e)
{
	int rc;

	pthread_mutex_lock(&s->lock);
	rc = write_all(s, iov, n, e);
	pthread_mutex_unlock(&s->lock);
	return rc;
}

static int say(struct ferry_speaker *s, const struct ferry_wr *w,
	       struct ferry_err *e)
{
	struct iovec iov = { w->start, ferry_wr_used(w) };

	return say_iov(s, &iov, 1, e);
}

int ferry_speak_octets(struct ferry_speaker *s, const struct ferry_wr *w,
		       struct ferry_err *e)
{
	return say(s, w, e);
}

static bool has_room(struct ferry_speaker *s)
{
	return s->chan->ops->wait(s->chan, POLLOUT, 0) == 1;
}

int ferry_speak_open(struct ferry_speaker *s, const char *machine,
		     struct ferry_err *e)
{
	uint8_t octets[FERRY_FILE_HEADER_WIRE + 8 + FERRY_MACHINE_NAME_MAX];
	struct ferry_wr w = ferry_wr_over(octets, sizeof(octets));
	struct ferry_config c = { 0 };

	strncpy(c.machine, machine, sizeof(c.machine) - 1);
	ferry_file_header_encode(&w);
	ferry_config_encode(&w, &c);
	return say(s, &w, e);
}

int ferry_speak(struct ferry_speaker *s, enum ferry_command command,
		struct ferry_err *e)
{
	uint8_t octets[FERRY_COMMAND_WIRE];
	struct ferry_wr w = ferry_wr_over(octets, sizeof(octets));

	ferry_command_encode(&w, command);
	return say(s, &w, e);
}

int ferry_speak_u32(struct ferry_speaker *s, enum ferry_command command,
		    uint32_t value, struct ferry_err *e)
{
	uint8_t octets[FERRY_COMMAND_U32_WIRE];
	struct ferry_wr w = ferry_wr_over(octets, sizeof(octets));

	ferry_command_u32_encode(&w, command, value);
	return say(s, &w, e);
}

int ferry_speak_ask_map(struct ferry_speaker *s, const char *block,
			struct ferry_err *e)
{
	uint8_t octets[FERRY_COMMAND_WIRE + 1 + FERRY_NAME_MAX];
	struct ferry_wr w = ferry_wr_over(octets, sizeof(octets));

	ferry_recv_bitmap_encode(&w, block);
	return say(s, &w, e);
}

int ferry_speak_advise(struct ferry_speaker *s, struct ferry_err *e)
{
	uint8_t octets[FERRY_ADVISE_WIRE];
	struct ferry_wr w = ferry_wr_over(octets, sizeof(octets));
	struct ferry_advise a = { .ram = true };

	for (uint32_t i = 0; i < s->mem->blocks; i++)
		a.page_sizes |= s->mem->block[i].page_bytes;
	ferry_advise_encode(&w, &a);
	s->advised = true;
	return say(s, &w, e);
}

/* Only says that postcopy was advised; encoding does not call it. */
static uint32_t no_page_bytes(void *arg, const char *name)
{
	(void)arg;
	(void)name;
	return 0;
}

static void encode_list(struct ferry_wr *w, const struct ferry_mem *mem,
			bool advised)
{
	struct ferry_ramlist list = {
		.page_bytes = advised ? no_page_bytes : NULL,
	};

	for (uint32_t i = 0; i < mem->blocks; i++) {
		struct ferry_ramlist_block b = {
			.bytes = mem->block[i].bytes,
			.gpa = mem->block[i].gpa,
			.page_bytes = mem->block[i].page_bytes,
		};

		memcpy(b.name, mem->block[i].name, sizeof(b.name));
		ferry_ramlist_encode(w, &list, &b);
	}
}

static void encode_ram_end(const struct ferry_speaker *s, struct ferry_wr *w)
{
	if (s->flush)
		ferry_ram_mark_encode(w, FERRY_RAM_MULTIFD_FLUSH, 0);
	ferry_ram_mark_encode(w, FERRY_RAM_EOS, 0);
	ferry_footer_encode(w, FERRY_RAM_SECTION_ID);
}

int ferry_speak_ram_start(struct ferry_speaker *s, struct ferry_err *e)
{
	struct ferry_section start = {
		.type = FERRY_SECTION_START, .id = FERRY_RAM_SECTION_ID,
		.version = FERRY_RAM_SECTION_VERSION,
		.name = FERRY_RAM_SECTION_NAME,
	};
	size_t size = FERRY_SECTION_HEAD_MAX + FERRY_RAM_MARK_WIRE +
		      RAM_END_WIRE +
		      s->mem->blocks * (1 + FERRY_NAME_MAX + 3 * 8);
	FERRY_AUTO_FREE uint8_t *octets = malloc(size);
	struct ferry_wr w = ferry_wr_over(octets, size);

	if (!octets)
		return ferry_err_set(e, FERRY_E_NOMEM, errno, "block list");
	ferry_section_encode(&w, &start);
	ferry_ram_mark_encode(&w, FERRY_RAM_MEM_SIZE,
			      s->mem->pages * FERRY_PAGE_BYTES);
	encode_list(&w, s->mem, s->advised);
	encode_ram_end(s, &w);
	return say(s, &w, e);
}

int ferry_speak_ram_open(struct ferry_speaker *s, bool last,
			 struct ferry_err *e)
{
	struct ferry_section part = {
		.type = last ? FERRY_SECTION_END : FERRY_SECTION_PART,
		.id = FERRY_RAM_SECTION_ID,
	};
	uint8_t octets[FERRY_SECTION_HEAD_MAX];
	struct ferry_wr w = ferry_wr_over(octets, sizeof(octets));

	ferry_section_encode(&w, &part);
	return say(s, &w, e);
}

int ferry_speak_ram_close(struct ferry_speaker *s, struct ferry_err *e)
{
	uint8_t octets[RAM_END_WIRE];
	struct ferry_wr w = ferry_wr_over(octets, sizeof(octets));

	encode_ram_end(s, &w);
	return say(s, &w, e);
}

struct range_buf {
	struct ferry_span *span;
	size_t		 n, most;
	uint8_t		*octets;
	size_t		 size;
};

static int flush_ranges(struct ferry_speaker *s, struct range_buf *rb,
			enum ferry_command command, const char *block,
			struct ferry_err *e)
{
	struct ferry_wr w = ferry_wr_over(rb->octets, rb->size);

	if (!rb->n)
		return 0;
	ferry_ranges_encode(&w, command, block, rb->span, rb->n);
	rb->n = 0;
	return say(s, &w, e);
}

static int say_runs(struct ferry_speaker *s, struct range_buf *rb,
		    enum ferry_command command,
		    const struct ferry_mem_block *block,
		    const struct ferry_bitmap *map, bool value,
		    struct ferry_err *e)
{
	uint64_t at = 0;

	for (;;) {
		uint64_t end;

		at = value ? ferry_bitmap_next_set(map, at) :
			     ferry_bitmap_next_clear(map, at);
		if (at == map->bits)
			break;
		end = value ? ferry_bitmap_next_clear(map, at) :
			      ferry_bitmap_next_set(map, at);
		rb->span[rb->n++] = (struct ferry_span){
			at * FERRY_PAGE_BYTES, (end - at) * FERRY_PAGE_BYTES,
		};
		at = end;
		if (rb->n == rb->most &&
		    flush_ranges(s, rb, command, block->name, e))
			return -1;
	}
	return flush_ranges(s, rb, command, block->name, e);
}

int ferry_speak_ranges(struct ferry_speaker *s, enum ferry_command command,
		       const struct ferry_mem_block *block,
		       const struct ferry_bitmap *map, bool value,
		       struct ferry_err *e)
{
	size_t most = s->dialect == FERRY_DIALECT_QEMU ?
		      FERRY_RANGES_QEMU : ferry_ranges_most(block->name);
	size_t size = ferry_ranges_bytes(block->name, most);
	FERRY_AUTO_FREE struct ferry_span *span = calloc(most, sizeof(*span));
	FERRY_AUTO_FREE uint8_t *octets = malloc(size);
	struct range_buf rb = { span, 0, most, octets, size };

	if (!span || !octets)
		return ferry_err_set(e, FERRY_E_NOMEM, errno, "%s of block %s",
				     ferry_command_name((uint16_t)command),
				     block->name);
	return say_runs(s, &rb, command, block, map, value, e);
}

int ferry_speak_package(struct ferry_speaker *s, bool listen,
			const void *devices, size_t bytes,
			struct ferry_err *e)
{
	bool run = s->dialect == FERRY_DIALECT_QEMU;
	uint8_t head[FERRY_COMMAND_U32_WIRE + FERRY_COMMAND_WIRE];
	uint8_t tail[FERRY_COMMAND_WIRE];
	struct ferry_wr h = ferry_wr_over(head, sizeof(head));
	struct ferry_wr t = ferry_wr_over(tail, sizeof(tail));
	size_t total = bytes + (listen ? FERRY_COMMAND_WIRE : 0) +
		       (run ? FERRY_COMMAND_WIRE : 0);
	struct iovec iov[3];

	if (total > FERRY_PACKAGE_BYTES_MAX)
		return ferry_err_set(e, FERRY_E_DEVICE, 0,
				     "device state of %zu octets is more than "
				     "%u MiB", total,
				     FERRY_PACKAGE_BYTES_MAX >> 20);
	ferry_command_u32_encode(&h, FERRY_COMMAND_PACKAGED, (uint32_t)total);
	if (listen)
		ferry_command_encode(&h, FERRY_COMMAND_POSTCOPY_LISTEN);
	if (run)
		ferry_command_encode(&t, FERRY_COMMAND_POSTCOPY_RUN);

	iov[0] = (struct iovec){ head, ferry_wr_used(&h) };
	iov[1] = (struct iovec){ (void *)devices, bytes };
	iov[2] = (struct iovec){ tail, ferry_wr_used(&t) };
	return say_iov(s, iov, 3, e);
}

int ferry_speak_end(struct ferry_speaker *s, const void *devices,
		    size_t bytes, struct ferry_err *e)
{
	struct ferry_section eof = { .type = FERRY_SECTION_EOF };
	struct ferry_section desc = { .type = FERRY_SECTION_VMDESCRIPTION };
	uint8_t tail[2 * FERRY_SECTION_HEAD_MAX];
	struct ferry_wr t = ferry_wr_over(tail, sizeof(tail));
	struct iovec iov[2];

	ferry_section_encode(&t, &eof);
	ferry_section_encode(&t, &desc);
	iov[0] = (struct iovec){ (void *)devices, bytes };
	iov[1] = (struct iovec){ tail, ferry_wr_used(&t) };
	return say_iov(s, iov, 2, e);
}

int ferry_speak_eof(struct ferry_speaker *s, struct ferry_err *e)
{
	struct ferry_section eof = { .type = FERRY_SECTION_EOF };
	uint8_t octets[FERRY_SECTION_HEAD_MAX];
	struct ferry_wr w = ferry_wr_over(octets, sizeof(octets));

	ferry_section_encode(&w, &eof);
	return say(s, &w, e);
}

void ferry_speak_abort(struct ferry_speaker *s, const char *reason)
{
	uint8_t octets[FERRY_COMMAND_HEAD_WIRE + 2 + FERRY_REASON_BYTES_MAX];
	struct ferry_wr w = ferry_wr_over(octets, sizeof(octets));

	if (s->dialect != FERRY_DIALECT_FERRY)
		return;
	ferry_abort_encode(&w, reason);
	if (!s->torn && has_room(s))
		(void)!say(s, &w, NULL);
}

int ferry_speak_void(struct ferry_speaker *s, const char *reason,
		     struct ferry_err *e)
{
	uint8_t octets[FERRY_COMMAND_HEAD_WIRE + 2 + FERRY_REASON_BYTES_MAX];
	struct ferry_wr w = ferry_wr_over(octets, sizeof(octets));

	ferry_void_encode(&w, reason);
	return say(s, &w, e);
}

bool ferry_speak_beat(struct ferry_speaker *s, enum ferry_command command,
		      uint32_t value)
{
	uint8_t octets[FERRY_COMMAND_U32_WIRE];
	struct ferry_wr w = ferry_wr_over(octets, sizeof(octets));
	struct iovec iov;
	bool said;

	if (pthread_mutex_trylock(&s->lock))
		return false;
	ferry_command_u32_encode(&w, command, value);
	iov = (struct iovec){ octets, ferry_wr_used(&w) };
	said = !s->torn && has_room(s) && !write_all(s, &iov, 1, NULL);
	pthread_mutex_unlock(&s->lock);
	return said;
}
