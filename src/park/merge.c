/* SPDX-License-Identifier: MIT */
/*
 * See merge.h.  The target's half is read first, to know what is taken from
 * the source's.
 */
#include "park/merge.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "dev/registry.h"
#include "mem/mem.h"
#include "park/half.h"
#include "park/suspect.h"
#include "park/writer.h"
#include "wire/dialect.h"

struct merge {
	struct ferry_half_file half[2];
	struct ferry_half_file *source, *target;
	struct ferry_image_writer w;
	struct ferry_mem mem;		/* the blocks, in w's file */
	struct ferry_map map;		/* here: holds something; zero: taken
					 * from the target; asked: the source
					 * has it */
	struct ferry_suspects suspects;
	struct ferry_merge_page changed;	/* the first */
	struct ferry_save state;
	struct ferry_merged *out;
};

/* ---- do they fit? ------------------------------------------------------- */

static int check_sides(struct merge *m, struct ferry_err *e)
{
	struct ferry_half_file *a = &m->half[0], *b = &m->half[1];

	if (a->head.side == b->head.side)
		return ferry_err_set(e, FERRY_E_MISMATCH, 0, "%.100s and "
				     "%.100s are both of the %s; one of each "
				     "side is needed", a->path, b->path,
				     ferry_half_side_name(a->head.side));
	m->source = a->head.side == FERRY_HALF_SOURCE ? a : b;
	m->target = m->source == a ? b : a;
	if (memcmp(a->head.session, b->head.session,
		   sizeof(a->head.session)))
		return ferry_err_set(e, FERRY_E_MISMATCH, 0, "%.100s and "
				     "%.100s are halves of different "
				     "migrations", a->path, b->path);
	return 0;
}

static bool same_block(const struct ferry_hello_block *a,
		       const struct ferry_hello_block *b)
{
	return a->bytes == b->bytes && a->page_bytes == b->page_bytes &&
	       a->gpa == b->gpa && !strcmp(a->name, b->name);
}

static int check_shape(const struct merge *m, struct ferry_err *e)
{
	const struct ferry_hello *s = &m->source->vm, *t = &m->target->vm;
	bool same = s->blocks == t->blocks && !strcmp(s->name, t->name);

	for (size_t i = 0; same && i < s->blocks; i++)
		same = same_block(&s->block[i], &t->block[i]);
	return same ? 0 : ferry_err_set(e, FERRY_E_MISMATCH, 0, "%.100s and "
					"%.100s are halves of VMs of other "
					"shapes", m->half[0].path,
					m->half[1].path);
}

/* ---- reading ------------------------------------------------------------ */

static void note_runs(struct ferry_bitmap *map,
		      const struct ferry_half_record *r)
{
	for (uint64_t i = 0; i < r->n; i++) {
		struct ferry_half_run run = ferry_half_run_at(r, i);

		ferry_bitmap_set_range(map, run.first, run.pages);
	}
}

static int put_page(struct merge *m, uint32_t block, uint64_t page,
		    const uint8_t *data, struct ferry_err *e)
{
	const struct ferry_mem_block *b = &m->mem.block[block];
	uint64_t at = b->fd_offset + page * FERRY_PAGE_BYTES;
	size_t left = FERRY_PAGE_BYTES;

	ferry_map_set_here(&m->map, block, page, 1);
	while (left) {
		ssize_t n = pwrite(b->fd, data, left, (off_t)at);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return ferry_err_set(e, FERRY_E_IO, errno, "write %s",
					     m->w.part);
		data += n;
		at += (uint64_t)n;
		left -= (size_t)n;
	}
	return 0;
}

static void name_wrong(struct merge *m, uint32_t block, uint64_t page,
		       bool changed)
{
	struct ferry_merge_page at = { .page = page, .changed = changed };

	snprintf(at.block, sizeof(at.block), "%s", m->mem.block[block].name);
	if (changed && !m->out->changed++)
		m->changed = at;
	if (m->out->wrong++ < FERRY_MERGE_NAMED)
		m->out->page[m->out->named++] = at;
}

/* A page that the target has, as the source has it; NULL: zeroes. */
static int compare_page(struct merge *m, uint32_t block, uint64_t page,
			const uint8_t *data, struct ferry_err *e)
{
	static const uint8_t zeroes[FERRY_PAGE_BYTES];
	enum ferry_suspicion is = ferry_suspects_judge(&m->suspects, block,
						       page, data);

	if (is == FERRY_PAGE_RIGHT)
		return 0;
	name_wrong(m, block, page, is == FERRY_PAGE_MIXED);
	return is == FERRY_PAGE_MIXED ? 0 :
	       put_page(m, block, page, data ? data : zeroes, e);
}

/* Of those that the target has, and that are zero at the source. */
static int compare_rest(struct merge *m, struct ferry_err *e)
{
	uint32_t block = 0;
	uint64_t page = 0;

	for (; ferry_suspects_next(&m->suspects, &block, &page); page++)
		if (ferry_bitmap_test(&m->map.asked[block], page) &&
		    compare_page(m, block, page, NULL, e))
			return -1;
	return 0;
}

static int lacks(const struct ferry_half_file *h,
		 const struct ferry_half_record *r, uint64_t page,
		 struct ferry_err *e)
{
	return ferry_err_set(e, FERRY_E_PROTO, 0, "%.150s: it is damaged: page "
			     "%" PRIu64 " of block %" PRIu32 " is there, and "
			     "not in its map", h->path, page, r->place.block);
}

/* A page that the half itself does not count as its own is not taken. */
static int put_pages(struct merge *m, const struct ferry_half_file *h,
		     const struct ferry_half_record *r, struct ferry_err *e)
{
	const struct ferry_bitmap *theirs = &m->map.zero[r->place.block];
	const struct ferry_bitmap *has = h == m->target ? theirs :
					 &m->map.asked[r->place.block];
	uint32_t block = r->place.block;

	for (uint64_t i = 0; i < r->n; i++) {
		const uint8_t *data = r->data + i * FERRY_PAGE_BYTES;
		uint64_t page = r->place.first + i;
		bool both;

		if (!ferry_bitmap_test(has, page))
			return lacks(h, r, page, e);
		both = h == m->source && ferry_bitmap_test(theirs, page);
		if (h == m->target)
			ferry_suspects_hold(&m->suspects, block, page, data);
		if (both ? compare_page(m, block, page, data, e) :
			   put_page(m, block, page, data, e))
			return -1;
	}
	return 0;
}

static int note_sums(struct merge *m, const struct ferry_half_file *h,
		     const struct ferry_half_record *r, struct ferry_err *e)
{
	for (uint64_t i = 0; i < r->n; i++)
		if (!ferry_bitmap_test(&m->map.zero[r->place.block],
				       r->place.first + i))
			return lacks(h, r, r->place.first + i, e);
	return ferry_suspects_note(&m->suspects, &m->mem, r, e);
}

static int put_state(struct merge *m, const struct ferry_half_record *r,
		     struct ferry_err *e)
{
	ferry_save_bytes(&m->state, r->data, r->n);
	return m->state.failed ? ferry_err_set(e, FERRY_E_NOMEM,
					       m->state.failed,
					       "device state") : 0;
}

static int read_half(struct merge *m, struct ferry_half_file *h,
		     struct ferry_err *e)
{
	struct ferry_half_record r;
	int rc = 0;

	do {
		if (ferry_half_next(h, &r, e))
			return -1;
		if (r.type == FERRY_HALF_HAS)
			note_runs(h == m->target ?
				  &m->map.zero[r.place.block] :
				  &m->map.asked[r.place.block], &r);
		else if (r.type == FERRY_HALF_SUMS && h == m->target)
			rc = note_sums(m, h, &r, e);
		else if (r.type == FERRY_HALF_PAGES)
			rc = put_pages(m, h, &r, e);
		else if (r.type == FERRY_HALF_STATE && h == m->target)
			rc = put_state(m, &r, e);
	} while (!rc && r.type != FERRY_HALF_END);
	return rc;
}

/* ---- the image ---------------------------------------------------------- */

static int lay_out(struct merge *m, struct ferry_err *e)
{
	const struct ferry_hello *vm = &m->target->vm;

	for (size_t i = 0; i < vm->blocks; i++) {
		const struct ferry_hello_block *b = &vm->block[i];
		uint64_t offset;

		if (ferry_image_writer_block(&m->w, b->name, b->bytes,
					     b->page_bytes, b->gpa, &offset,
					     e) ||
		    ferry_mem_add_file(&m->mem, b->name, b->bytes,
				       b->page_bytes, b->gpa, m->w.memory_fd,
				       offset, e))
			return -1;
	}
	for (size_t i = 0; i < vm->facts; i++)
		if (ferry_image_writer_fact(&m->w, &vm->fact[i], e))
			return -1;
	return ferry_map_init(&m->map, &m->mem, e);
}

/* With release-ram the source has freed what was on the way. */
static int check_all(struct merge *m, struct ferry_err *e)
{
	uint64_t nowhere = 0;

	for (uint32_t i = 0; i < m->mem.blocks; i++)
		for (uint64_t k = 0; k < m->mem.block[i].pages; k++) {
			bool there = ferry_bitmap_test(&m->map.zero[i], k);

			m->out->from_target += there;
			nowhere += !there &&
				   !ferry_bitmap_test(&m->map.asked[i], k);
		}
	m->out->from_target -= m->out->wrong - m->out->changed;
	m->out->pages = m->mem.pages;
	m->out->from_source = m->mem.pages - m->out->from_target;
	return nowhere ? ferry_err_set(e, FERRY_E_STATE, 0, "%" PRIu64 " pages "
				       "are in neither half: they were on the "
				       "way when the link was lost, and the "
				       "source had freed them (release-ram)",
				       nowhere) : 0;
}

static int check_wrong(const struct merge *m,
		       const struct ferry_merge_how *how, struct ferry_err *e)
{
	if (!m->out->changed || how->accept_mismatch)
		return 0;
	return ferry_err_set(e, FERRY_E_MISMATCH, 0, "block %.100s page %" PRIu64
			     " came wrong at the target, and the guest has "
			     "changed it since: neither half has it right "
			     "(such pages: %" PRIu64 "; --accept-mismatch "
			     "takes them as they are at the target)",
			     m->changed.block, m->changed.page,
			     m->out->changed);
}

static int seal(struct merge *m, struct ferry_err *e)
{
	const struct ferry_image_vm vm = {
		.machine = m->target->vm.name,
		.dialect = FERRY_DIALECT_FERRY,
		.sections = m->state.data, .sections_bytes = m->state.bytes,
	};

	if (!m->state.bytes)
		return ferry_err_set(e, FERRY_E_PROTO, 0, "%.150s: it is "
				     "damaged: no state of devices",
				     m->target->path);
	snprintf(m->out->machine, sizeof(m->out->machine), "%s", vm.machine);
	m->out->state_bytes = m->state.bytes;
	return ferry_image_writer_seal(&m->w, &m->map, &vm, e);
}

static int merge(struct merge *m, const char *image,
		 const struct ferry_merge_how *how, struct ferry_err *e)
{
	if (check_sides(m, e) || check_shape(m, e) ||
	    ferry_image_writer_open(&m->w, image, how->zstd_level, e))
		return -1;
	if (lay_out(m, e) || read_half(m, m->target, e) ||
	    read_half(m, m->source, e) || compare_rest(m, e) ||
	    check_all(m, e) || check_wrong(m, how, e))
		return -1;
	return seal(m, e);
}

int ferry_merge(const char *a, const char *b, const char *image,
		const struct ferry_merge_how *how, struct ferry_merged *out,
		struct ferry_err *e)
{
	struct merge m = { .out = out, .w = { .fd = -1, .memory_fd = -1 } };
	int rc;

	*out = (struct ferry_merged){ 0 };
	rc = ferry_half_open(&m.half[0], a, e) ||
	     ferry_half_open(&m.half[1], b, e) ||
	     merge(&m, image, how, e) ? -1 : 0;
	ferry_suspects_fini(&m.suspects);
	ferry_save_fini(&m.state);
	ferry_map_fini(&m.map);
	ferry_mem_fini(&m.mem);
	ferry_image_writer_fini(&m.w);
	ferry_half_close(&m.half[0]);
	ferry_half_close(&m.half[1]);
	return rc;
}
