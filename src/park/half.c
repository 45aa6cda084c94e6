/* SPDX-License-Identifier: MIT */
/*
 * See half.h.
 */
#include "park/half.h"

#include <inttypes.h>
#include <stdlib.h>

#include "base/cleanup.h"

#define BUF_BYTES (FERRY_HALF_RECORD_WIRE + FERRY_HALF_PAYLOAD_MAX + \
		   FERRY_HALF_DIGEST_WIRE)

static int name_it(const struct ferry_half_file *h, struct ferry_err *e)
{
	return ferry_err_wrap(e, "%.150s", h->path);
}

static int get(struct ferry_half_file *h, uint8_t *to, size_t bytes,
	       struct ferry_err *e)
{
	if (fread(to, 1, bytes, h->file) == bytes)
		return 0;
	return ferror(h->file) ?
	       ferry_err_set(e, FERRY_E_IO, errno, "read") :
	       ferry_err_set(e, FERRY_E_PROTO, 0, "it ends too early: it was "
			     "not written or not copied to its end");
}

/* A record that is whole, into buf. */
static int read_record(struct ferry_half_file *h, uint32_t *type,
		       struct ferry_rd *payload, struct ferry_err *e)
{
	uint8_t *body = h->buf + FERRY_HALF_RECORD_WIRE;
	struct ferry_rd r;
	uint32_t bytes;

	if (get(h, h->buf, FERRY_HALF_RECORD_WIRE, e))
		return -1;
	r = ferry_rd_over(h->buf, FERRY_HALF_RECORD_WIRE);
	if (ferry_half_record_decode(&r, type, &bytes, e) ||
	    get(h, body, bytes + FERRY_HALF_DIGEST_WIRE, e))
		return -1;
	r = ferry_rd_over(body + bytes, FERRY_HALF_DIGEST_WIRE);
	if (ferry_rd_be64(&r) != ferry_half_digest(h->buf, bytes +
						   FERRY_HALF_RECORD_WIRE))
		return ferry_err_set(e, FERRY_E_PROTO, 0, "it is damaged: a "
				     "record of type %" PRIu32 " does not "
				     "match its digest", *type);
	if (ferry_half_rank(*type) < ferry_half_rank(h->last) ||
	    (*type == h->last && *type == FERRY_HALF_HEAD))
		return ferry_err_set(e, FERRY_E_PROTO, 0, "it is damaged: its "
				     "records are out of order");
	h->last = *type;
	*payload = ferry_rd_over(body, bytes);
	return 0;
}

static int read_head(struct ferry_half_file *h, struct ferry_err *e)
{
	struct ferry_rd r;
	uint32_t type, bytes;

	if (get(h, h->buf, FERRY_HALF_START_WIRE, e))
		return ferry_err_set(e, FERRY_E_PROTO, 0,
				     "this is no half of a VM");
	r = ferry_rd_over(h->buf, FERRY_HALF_START_WIRE);
	if (ferry_half_start_decode(&r, e) || read_record(h, &type, &r, e))
		return -1;
	if (type != FERRY_HALF_HEAD)
		return ferry_err_set(e, FERRY_E_PROTO, 0,
				     "it is damaged: it has no head");
	if (ferry_half_head_decode(&r, &h->head, e))
		return -1;
	if (ferry_hello_head_decode(&r, &bytes, e) != FERRY_DECODE_DONE ||
	    bytes != ferry_rd_left(&r))
		return ferry_err_set(e, FERRY_E_PROTO, 0, "it is damaged: "
				     "what it says of the VM");
	return ferry_hello_decode(&r, false, &h->vm, e);
}

int ferry_half_open(struct ferry_half_file *h, const char *path,
		    struct ferry_err *e)
{
	*h = (struct ferry_half_file){ .buf = malloc(BUF_BYTES) };
	snprintf(h->path, sizeof(h->path), "%s", path);
	if (!h->buf)
		return ferry_err_set(e, FERRY_E_NOMEM, errno, "half of a VM");
	h->file = fopen(path, "re");
	if (!h->file)
		ferry_err_set(e, FERRY_E_IO, errno, "open %.150s", path);
	else if (!read_head(h, e))
		return 0;
	else
		(void)name_it(h, e);
	ferry_half_close(h);
	return -1;
}

void ferry_half_close(struct ferry_half_file *h)
{
	if (h->file)
		fclose(h->file);
	free(h->buf);
	ferry_hello_fini(&h->vm);
	h->file = NULL;
	h->buf = NULL;
}

/* ---- what follows ------------------------------------------------------- */

static int outside(const struct ferry_half_place *p, struct ferry_err *e)
{
	return ferry_err_set(e, FERRY_E_PROTO, 0, "it is damaged: pages from "
			     "%" PRIu64 " of block %" PRIu32 " on, which "
			     "there are not", p->first, p->block);
}

static bool is_inside(const struct ferry_half_file *h, uint32_t block,
		      uint64_t first, uint64_t pages)
{
	uint64_t all = block < h->vm.blocks ?
		       h->vm.block[block].bytes / FERRY_PAGE_BYTES : 0;

	return pages && first < all && pages <= all - first;
}

struct ferry_half_run ferry_half_run_at(const struct ferry_half_record *r,
					uint64_t i)
{
	struct ferry_rd rd = ferry_rd_over(r->data + i * FERRY_HALF_RUN_WIRE,
					   FERRY_HALF_RUN_WIRE);
	struct ferry_half_run run;

	ferry_half_run_decode(&rd, &run);
	return run;
}

static int check_runs(struct ferry_half_file *h,
		      const struct ferry_half_record *r, struct ferry_err *e)
{
	for (uint64_t i = 0; i < r->n; i++) {
		struct ferry_half_run run = ferry_half_run_at(r, i);
		struct ferry_half_place at = { r->place.block, run.first };

		if (!is_inside(h, at.block, run.first, run.pages))
			return outside(&at, e);
		h->count.has += run.pages;
	}
	return 0;
}

static int check_end(struct ferry_half_file *h, struct ferry_rd *rd,
		     struct ferry_err *e)
{
	struct ferry_half_end end;

	ferry_half_end_decode(rd, &end);
	if (end.has != h->count.has || end.pages != h->count.pages ||
	    (h->sums && h->sums != h->count.has) || fgetc(h->file) != EOF)
		return ferry_err_set(e, FERRY_E_PROTO, 0, "it is damaged: it "
				     "has not what its end says");
	return 0;
}

static int take(struct ferry_half_file *h, struct ferry_half_record *r,
		struct ferry_rd *rd, struct ferry_err *e)
{
	if (r->type == FERRY_HALF_END)
		return check_end(h, rd, e);
	if (r->type == FERRY_HALF_STATE) {
		r->n = ferry_rd_left(rd);
		r->data = rd->p;
		return 0;
	}
	ferry_half_place_decode(rd, &r->place);
	r->data = rd->p;
	if (r->type == FERRY_HALF_HAS) {
		r->n = ferry_rd_left(rd) / FERRY_HALF_RUN_WIRE;
		return check_runs(h, r, e);
	}
	if (r->type == FERRY_HALF_SUMS) {
		r->n = ferry_rd_left(rd) / sizeof(uint32_t);
		h->sums += r->n;
	} else {
		r->n = ferry_rd_left(rd) / FERRY_PAGE_BYTES;
		h->count.pages += r->n;
	}
	return is_inside(h, r->place.block, r->place.first, r->n) ? 0 :
	       outside(&r->place, e);
}

int ferry_half_next(struct ferry_half_file *h, struct ferry_half_record *r,
		    struct ferry_err *e)
{
	struct ferry_rd rd = { 0 };

	*r = (struct ferry_half_record){ 0 };
	return read_record(h, &r->type, &rd, e) || take(h, r, &rd, e) ?
	       name_it(h, e) : 0;
}
