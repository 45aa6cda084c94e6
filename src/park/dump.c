/* SPDX-License-Identifier: MIT */
/*
 * What kind of input, which connection: from the first octets.
 */
#include "park/dump.h"

#include <inttypes.h>
#include <stdlib.h>

#include "park/dump_priv.h"
#include "park/layout.h"
#include "wire/channel.h"
#include "wire/kind.h"

/* ---- one connection ------------------------------------------------ */

static int start_recovery(struct ferry_dump_stream *s)
{
	s->d->vm.postcopy = true;
	s->d->recovered = true;
	return ferry_dump_to_section(s);
}

static uint32_t magic_of(const uint8_t *p)
{
	struct ferry_rd r = ferry_rd_over(p, 4);

	return ferry_rd_be32(&r);
}

static int start_back(struct ferry_dump_stream *s, const uint8_t first[4])
{
	bool ferry = magic_of(first) == FERRY_CHANNEL_ANSWER_MAGIC;

	ferry_dump_next(s, ferry ? ferry_dump_answer : ferry_dump_reply,
			ferry ? "a channel header" : "a message");
	return FERRY_DECODE_DONE;
}

/* What else people have lying about. */
static const char *known_as(uint32_t magic)
{
	static const struct {
		uint32_t mask, magic;
		const char *what;
	} rows[] = {
		{ 0xffff0000, 0x1f8b0000, ", as gzip has it: unpack it" },
		{ 0xffffffff, 0x28b52ffd, ", as zstd has it: unpack it" },
		{ 0xffffffff, 0x514649fb, ", a qcow2 disk" },
		{ 0xffffffff, 0x4c696276, ", as virsh save has it: the stream "
		  "lies behind its head, see --offset" },
	};

	for (size_t i = 0; i < FERRY_LEN(rows); i++)
		if ((magic & rows[i].mask) == rows[i].magic)
			return rows[i].what;
	return "";
}

/* Consumes nothing: the step it names reads the same octets again. */
int ferry_dump_start(struct ferry_dump_stream *s, struct ferry_rd *r,
		     struct ferry_err *e)
{
	if (ferry_rd_left(r) < FERRY_CONN_KIND_WIRE) {
		r->lack = FERRY_CONN_KIND_WIRE - ferry_rd_left(r);
		return FERRY_DECODE_MORE;
	}
	if (s->where.back)
		return start_back(s, r->p);

	switch (ferry_conn_kind(r->p)) {
	case FERRY_CONN_FERRY:
		return ferry_dump_next(s, ferry_dump_channel,
				       "a channel header");
	case FERRY_CONN_QEMU_MAIN:
		return ferry_dump_next(s, ferry_dump_file_header,
				       "a file header");
	case FERRY_CONN_QEMU_MULTIFD:
		return ferry_dump_next(s, ferry_dump_init, "INIT");
	case FERRY_CONN_QEMU_RECOVERY:
		return start_recovery(s);
	case FERRY_CONN_UNKNOWN:
		break;
	}
	/* Beside others of a capture it can be a preempt channel. */
	if (s->where.conn >= 0)
		return ferry_dump_next(s, ferry_dump_preempt,
				       "a page of a preempt channel");
	return ferry_err_set(e, FERRY_E_PROTO, 0, "not a migration's stream, "
			     "nor a capture of one, nor an image of a parked "
			     "VM: it begins with 0x%08" PRIx32 "%s",
			     magic_of(r->p), known_as(magic_of(r->p)));
}

/* ---- the input ----------------------------------------------------- */

bool ferry_dump_is_image(const void *data, size_t bytes)
{
	return bytes >= FERRY_DUMP_IMAGE_MAGIC_BYTES &&
	       !memcmp(data, FERRY_IMAGE_MAGIC, FERRY_DUMP_IMAGE_MAGIC_BYTES);
}

struct ferry_dump *ferry_dump_new(const struct ferry_dump_params *p,
				  struct ferry_err *e)
{
	struct ferry_dump *d = calloc(1, sizeof(*d));

	if (d) {
		d->p = *p;
		d->vm.block = calloc(FERRY_BLOCKS_MAX, sizeof(*d->vm.block));
	}
	if (!d || !d->vm.block) {
		free(d);
		ferry_err_set(e, FERRY_E_NOMEM, ENOMEM, "dump");
		return NULL;
	}
	ferry_dump_stream_init(&d->in, d, ferry_dump_start);
	d->in.at = d->in.mark = p->offset;
	d->fault.conn = -1;
	return d;
}

void ferry_dump_free(struct ferry_dump *d)
{
	if (!d)
		return;
	ferry_dump_capture_free(d->capture);
	ferry_dump_stream_fini(&d->in);
	free(d->vm.block);
	free(d);
}

struct ferry_dump_where ferry_dump_fault(const struct ferry_dump *d)
{
	return d->fault;
}

static int fault(struct ferry_dump *d, struct ferry_err *e)
{
	d->fault = d->in.where;
	d->fault.offset = d->in.mark;
	return ferry_err_wrap(e, "0x%" PRIx64, d->in.mark);
}

static int feed(struct ferry_dump *d, const uint8_t *data, size_t bytes,
		struct ferry_err *e)
{
	if (d->capture)
		return ferry_dump_capture_feed(d->capture, data, bytes, e);
	return ferry_dump_stream_feed(&d->in, data, bytes, e) ? fault(d, e)
							       : 0;
}

/* No stream begins like a capture, and a capture not like a stream: its first
 * octets are a time. */
static int decide(struct ferry_dump *d, struct ferry_err *e)
{
	enum ferry_dump_kind kind = d->p.kind;

	if (kind == FERRY_DUMP_AUTO && ferry_dump_is_image(d->first,
							   d->firsts))
		return ferry_err_set(e, FERRY_E_INVALID, 0,
				     "this is an image, which is read from a "
				     "file, not from a pipe");
	if (kind == FERRY_DUMP_AUTO && d->firsts >= 4 &&
	    magic_of(d->first) == FERRY_CHANNEL_ANSWER_MAGIC)
		kind = FERRY_DUMP_RETURN;
	if (kind == FERRY_DUMP_AUTO && d->firsts >= 15 &&
	    ferry_conn_kind(d->first) == FERRY_CONN_UNKNOWN &&
	    ferry_dump_capture_begins(d->first))
		kind = FERRY_DUMP_CAPTURE;

	d->in.where.back = kind == FERRY_DUMP_RETURN;
	if (kind == FERRY_DUMP_PREEMPT)
		ferry_dump_next(&d->in, ferry_dump_preempt,
				"a page of a preempt channel");
	d->p.kind = kind == FERRY_DUMP_AUTO ? FERRY_DUMP_STREAM : kind;
	if (kind != FERRY_DUMP_CAPTURE)
		return 0;
	d->capture = ferry_dump_capture_new(d, e);
	return d->capture ? 0 : -1;
}

static bool undecided(const struct ferry_dump *d)
{
	return d->firsts < sizeof(d->first) - 1;
}

static int open_input(struct ferry_dump *d, struct ferry_err *e)
{
	size_t n = d->firsts;

	d->firsts = sizeof(d->first);
	return feed(d, d->first, n, e);
}

int ferry_dump_feed(struct ferry_dump *d, const void *data, size_t bytes,
		    struct ferry_err *e)
{
	const uint8_t *p = data;

	while (bytes && undecided(d)) {
		d->first[d->firsts++] = *p++;
		bytes--;
		if (!undecided(d) && (decide(d, e) || open_input(d, e)))
			return -1;
	}
	return bytes ? feed(d, p, bytes, e) : 0;
}

uint64_t ferry_dump_skippable(const struct ferry_dump *d)
{
	return d->in.have ? 0 : d->in.skip;
}

void ferry_dump_skip(struct ferry_dump *d, uint64_t bytes)
{
	d->in.skip -= bytes;
	d->in.at += bytes;
}

int ferry_dump_finish(struct ferry_dump *d, struct ferry_err *e)
{
	if (undecided(d) && (decide(d, e) || open_input(d, e)))
		return -1;
	if (d->capture)
		return ferry_dump_capture_finish(d->capture, e);
	return ferry_dump_stream_finish(&d->in, e) ? fault(d, e) : 0;
}
