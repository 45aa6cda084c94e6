/* SPDX-License-Identifier: MIT */
/*
 * An in-memory database: a hash table of small records over the whole working
 * set, with gets, puts and scans all over it.
 *
 * A page is a bucket of 16 slots, one record of 256 bytes each; 12 are taken.
 * Every vCPU has a table of its own, of its own pages.  The records are
 * numbered; the key of record r is the number scrambled, and the hash function
 * undoes that and names bucket r / 12.  So a bucket can tell which keys belong
 * in it, and the table is filled in the order of memory, yet keys that follow
 * each other are far apart.  In the bucket, a record sits in the first free
 * slot from the one its key points to.
 *
 * The shadow has the version of each record; a record is held against it.
 */
#include "mode.h"

#include <stddef.h>

#define SLOTS		(PAGE_BYTES / RECORD_BYTES)
#define RECORDS		12u
#define SCAN_BUCKETS	16u
#define GET_PERCENT	60
#define PUT_PERCENT	35		/* the rest are scans */

static uint64_t records(const struct cpu *c)
{
	return c->own_pages * RECORDS;
}

/* Never 0, which marks a free slot, and different for every vCPU. */
static uint64_t key_of(const struct cpu *c, uint64_t record)
{
	return block_mix((c->index + 1ull) << 48 | record);
}

static uint32_t *version_of(const struct cpu *c, uint64_t record)
{
	uint64_t share = c->guest->hot_pages / c->guest->config.cpus + 1;

	return &c->guest->shadow[c->index * share * RECORDS + record];
}

static uint64_t *bucket_at(const struct cpu *c, uint64_t bucket)
{
	return (uint64_t *)pool_address(&c->guest->pool, cpu_page(c, bucket));
}

static uint64_t *slot_at(uint64_t *bucket, uint64_t slot)
{
	return bucket + slot % SLOTS * RECORD_WORDS;
}

static void prepare(struct cpu *c)
{
	for (uint64_t i = 0; i < records(c); i++)
		*version_of(c, i) = 1;
	c->writes += records(c);
}

/* The slot of a record; without it, the free slot it would take; NULL when the
 * bucket is full of others. */
static uint64_t *find(const struct cpu *c, uint64_t record)
{
	uint64_t *bucket = bucket_at(c, record / RECORDS);
	uint64_t key = key_of(c, record);

	for (unsigned i = 0; i < SLOTS; i++) {
		uint64_t *slot = slot_at(bucket, key + i);

		if (slot[BLOCK_ID] == key || slot[BLOCK_ID] == 0)
			return slot;
	}
	return NULL;
}

static void put(struct cpu *c, uint64_t record)
{
	uint64_t *slot = find(c, record);

	if (slot)
		block_write(slot, RECORD_WORDS, key_of(c, record),
			    *version_of(c, record),
			    (enum block_fill)c->guest->config.fill);
}

/* Make the bucket what the shadow says. */
static void write_bucket(struct cpu *c, uint64_t bucket)
{
	uint64_t *words = bucket_at(c, bucket);

	for (unsigned i = 0; i < PAGE_WORDS; i++)
		words[i] = 0;
	for (unsigned i = 0; i < RECORDS; i++)
		put(c, bucket * RECORDS + i);
}

static void report(struct cpu *c, uint64_t record, const uint64_t *slot,
		   enum block_verdict v)
{
	uint64_t bucket = record / RECORDS;
	bool foreign = v == BLOCK_FOREIGN;

	cpu_bad(c, &(struct bad){
		.place = cpu_page(c, bucket), .kind = block_verdict_name(v),
		.expect = foreign ? key_of(c, record) : *version_of(c, record),
		.found = slot[foreign ? BLOCK_ID : BLOCK_COUNTER],
		.extra = "addr", .extra_value = (uint64_t)slot });
	write_bucket(c, bucket);
}

/* True when the record is there and right; else reported and repaired. */
static bool get(struct cpu *c, uint64_t record)
{
	const uint64_t *slot = find(c, record);
	enum block_verdict v;

	if (!slot)
		slot = bucket_at(c, record / RECORDS);
	v = block_check(slot, RECORD_WORDS, key_of(c, record),
			*version_of(c, record));
	if (v == BLOCK_GOOD)
		return true;
	report(c, record, slot, v);
	return false;
}

/* Whatever is not one of the records must be zero, to the last bit. */
static const uint64_t *find_litter(uint64_t *bucket)
{
	unsigned used = 0;

	for (unsigned i = 0; i < SLOTS; i++) {
		const uint64_t *slot = slot_at(bucket, i);

		if (slot[BLOCK_ID] != 0 ? ++used > RECORDS :
		    block_check(slot, RECORD_WORDS, 0, 0) != BLOCK_ZERO)
			return slot;
	}
	return NULL;
}

static void scan(struct cpu *c, uint64_t bucket)
{
	const uint64_t *litter;

	for (unsigned i = 0; i < RECORDS; i++)
		if (!get(c, bucket * RECORDS + i))
			return;
	litter = find_litter(bucket_at(c, bucket));
	if (litter)
		report(c, bucket * RECORDS, litter, BLOCK_TORN);
}

static void fill(struct cpu *c, uint64_t page)
{
	write_bucket(c, page / c->guest->config.cpus);
}

static void check(struct cpu *c, uint64_t page)
{
	uint64_t bucket = page / c->guest->config.cpus;

	scan(c, bucket);
	for (unsigned i = 0; i < RECORDS; i++)
		c->writes_found += *version_of(c, bucket * RECORDS + i);
}

static uint64_t step_put(struct cpu *c, uint64_t record)
{
	if (c->guest->config.verify)
		get(c, record);
	++*version_of(c, record);
	c->writes++;
	put(c, record);
	count_up(&c->written, 1);
	count_up(&c->written_bytes, RECORD_BYTES);
	return RECORD_BYTES;
}

static uint64_t step_scan(struct cpu *c, uint64_t bucket)
{
	for (unsigned i = 0; i < SCAN_BUCKETS; i++) {
		cpu_tick(c);
		scan(c, (bucket + i) % c->own_pages);
	}
	return SCAN_BUCKETS * PAGE_BYTES;
}

static uint64_t step(struct cpu *c)
{
	uint64_t dice = cpu_random(c, 100);
	uint64_t record = cpu_random(c, records(c));

	if (dice < GET_PERCENT) {
		get(c, record);
		return RECORD_BYTES;
	}
	if (dice < GET_PERCENT + PUT_PERCENT)
		return step_put(c, record);
	return step_scan(c, record / RECORDS);
}

const struct mode mode_db = {
	.shadow_bytes = RECORDS * sizeof(uint32_t),
	.prepare = prepare,
	.fill = fill,
	.check = check,
	.step = step,
};
