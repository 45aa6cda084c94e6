/* SPDX-License-Identifier: MIT */
/*
 * The far end of a channel, and what a target would make of what it reads.
 */
#include "help.h"

#include <unistd.h>

/* ---- the far end -------------------------------------------------------- */

static void read_all(void *arg)
{
	struct sink *s = arg;

	for (;;) {
		struct iovec iov;
		ssize_t got;

		if (s->bytes == s->size) {
			s->size = s->size ? 2 * s->size : 1 << 16;
			s->data = realloc(s->data, s->size);
			if (!s->data)
				return;
		}
		iov = (struct iovec){ s->data + s->bytes, s->size - s->bytes };
		got = s->end->ops->readv(s->end, &iov, 1);
		if (got <= 0)
			return;
		s->bytes += (size_t)got;
		s->so_far = s->bytes;
	}
}

struct ferry_chan *sink_open(struct sink *s, const char *name)
{
	struct ferry_chan *end[2];
	struct ferry_err e = { 0 };

	*s = (struct sink){ 0 };
	assert_ok(ferry_chan_pair(end, &e));
	ferry_chan_set_name(end[0], "%s", name);
	s->end = end[1];
	assert_ok(ferry_thread_start(&s->thread, "sink", read_all, s, &e));
	return end[0];
}

void sink_wait_bytes(const struct sink *s, size_t bytes)
{
	while (s->so_far < bytes)
		usleep(100);
}

void sink_wait(struct sink *s)
{
	ferry_thread_join(&s->thread);
}

void sink_fini(struct sink *s)
{
	if (!s->end)
		return;
	s->end->ops->shutdown(s->end);
	sink_wait(s);
	ferry_chan_close(s->end);
	free(s->data);
	*s = (struct sink){ 0 };
}

/* ---- what has come ------------------------------------------------------ */

void tally_init(struct tally *t, const struct ferry_mem *mem)
{
	*t = (struct tally){ .mem = mem };
	assert_true(mem->blocks <= TALLY_BLOCKS_MAX);
	for (uint32_t i = 0; i < mem->blocks; i++) {
		t->image[i] = calloc(1, mem->block[i].bytes);
		t->count[i] = calloc(mem->block[i].pages, 1);
		assert_true(t->image[i] && t->count[i]);
	}
}

void tally_fini(struct tally *t)
{
	for (unsigned i = 0; i < TALLY_BLOCKS_MAX; i++) {
		free(t->image[i]);
		free(t->count[i]);
	}
}

static const struct ferry_mem_block *
block_named(const struct tally *t, const char *name)
{
	const struct ferry_mem_block *b = ferry_mem_by_name(t->mem, name);

	if (!b)
		fail_msg("there is no block '%s'", name);
	return b;
}

static struct ferry_block_shape shape_of(const struct ferry_mem_block *b)
{
	return (struct ferry_block_shape){ b->name, b->bytes, b->page_bytes };
}

/* data NULL: zeroes. */
static void came(struct tally *t, const struct ferry_mem_block *b,
		 uint64_t offset, const uint8_t *data)
{
	uint8_t *at = t->image[b->index] + offset;

	t->count[b->index][offset / PAGE]++;
	if (data)
		memcpy(at, data, PAGE);
	else
		memset(at, 0, PAGE);
	t->normal += data != NULL;
	t->zero += data == NULL;
	if (t->each)
		t->each(t->arg, b->index, offset / PAGE);
}

static void one_packet(struct tally *t, struct ferry_rd *rd)
{
	const struct ferry_mem_block *b;
	struct ferry_block_shape shape;
	struct ferry_packet p;
	struct ferry_err e = { 0 };
	const uint8_t *payload;

	if (ferry_packet_decode(rd, 0, &p, &e) != FERRY_DECODE_DONE)
		fail_msg("packet: %s", e.msg);
	t->ends_with_sync = p.flags & FERRY_PACKET_SYNC;
	if (t->ends_with_sync) {
		t->syncs++;
		t->last_sync = (uint32_t)p.packet_num;
		return;
	}
	b = block_named(t, p.name);
	shape = shape_of(b);
	if (ferry_packet_check_in(&p, &shape, &e))
		fail_msg("packet: %s", e.msg);
	payload = ferry_rd_bytes(rd, p.payload_bytes);
	assert_non_null(payload);
	assert_int_equal(p.payload_bytes, p.normal_pages * PAGE);
	for (uint32_t i = 0; i < p.normal_pages; i++)
		came(t, b, p.offset[i], payload + i * PAGE);
	for (uint32_t i = 0; i < p.zero_pages; i++)
		came(t, b, p.offset[p.normal_pages + i], NULL);
}

void tally_packets(struct tally *t, const uint8_t *data, size_t bytes)
{
	struct ferry_rd rd = ferry_rd_over(data, bytes);

	while (ferry_rd_left(&rd))
		one_packet(t, &rd);
}

void tally_records(struct tally *t, const uint8_t *data, size_t bytes)
{
	struct ferry_rd rd = ferry_rd_over(data, bytes);
	const struct ferry_mem_block *b = NULL;

	while (ferry_rd_left(&rd)) {
		struct ferry_ram_record rec;
		struct ferry_block_shape shape;
		struct ferry_err e = { 0 };

		if (ferry_ram_decode(&rd, FERRY_RAM_IN_POSTCOPY, &rec, &e) !=
		    FERRY_DECODE_DONE)
			fail_msg("record: %s", e.msg);
		if (!rec.same_block)
			b = block_named(t, rec.name);
		assert_non_null(b);
		shape = shape_of(b);
		if (ferry_ram_check_in(&rec, &shape, &e))
			fail_msg("record: %s", e.msg);
		came(t, b, rec.addr, rec.kind == FERRY_RAM_ZERO ? NULL :
		     ferry_rd_bytes(&rd, PAGE));
	}
}

void tally_check(const struct tally *t, uint8_t *const wanted[])
{
	for (uint32_t i = 0; i < t->mem->blocks; i++) {
		const struct ferry_mem_block *b = &t->mem->block[i];

		for (uint64_t p = 0; p < b->pages; p++) {
			if (t->count[i][p] != wanted[i][p])
				fail_msg("block %s page %lu came %u times, "
					 "not %u", b->name, (unsigned long)p,
					 t->count[i][p], wanted[i][p]);
			if (t->count[i][p] &&
			    memcmp(t->image[i] + p * PAGE, b->host + p * PAGE,
				   PAGE))
				fail_msg("block %s page %lu came damaged",
					 b->name, (unsigned long)p);
		}
	}
}
