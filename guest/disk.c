/* SPDX-License-Identifier: MIT */
/*
 * A disk that is watched: blocks of 4 KiB, at random, are written and read
 * again.  Each is made as a page is (block.h), so that a read tells a lost
 * write from a torn one and from another block's.
 *
 * disk=N: so many requests at a time.  No block has two.
 */
#include "devices.h"

#include "console.h"

#define T_IN		0u
#define T_OUT		1u
#define S_OK		0u
#define S_NONE		0xffu

#define F_FLUSH		(1ull << 9)	/* without it each write would wait */

#define SECTORS		(PAGE_BYTES / 512)
#define BLOCKS_MAX	4096u
#define BLOCKS_MIN	(2 * DISK_DEPTH_MAX)
#define PER_SLOT	3u		/* descriptors */
#define SLOT_BYTES	(2 * PAGE_BYTES) /* data; header and status */

struct disk disk;

struct request {
	uint32_t	type, reserved;
	uint64_t	sector;
	volatile uint8_t status;
};

static uint64_t *data_of(unsigned slot)
{
	return (uint64_t *)(disk.memory + slot * SLOT_BYTES);
}

static struct request *request_of(unsigned slot)
{
	return (struct request *)(disk.memory + slot * SLOT_BYTES +
				  PAGE_BYTES);
}

static void *take(struct cpu *c, uint64_t bytes)
{
	uint64_t at = pool_take(&c->guest->pool, bytes, UINT64_MAX);

	if (!at)
		console_fatal(c, "disk", "no memory for blocks");
	return (void *)at;
}

static void size_up(struct cpu *c)
{
	uint64_t sectors = virtio_config(&disk.device, 0) |
			   (uint64_t)virtio_config(&disk.device, 4) << 32;

	disk.blocks = sectors / SECTORS;
	if (disk.blocks > BLOCKS_MAX)
		disk.blocks = BLOCKS_MAX;
	if (disk.blocks < BLOCKS_MIN)
		console_fatal(c, "disk", "it is too small");
	disk.counter = take(c, disk.blocks * sizeof(*disk.counter));
	for (uint64_t i = 0; i < disk.blocks; i++)
		disk.counter[i] = 0;
}

void disk_setup(struct cpu *c)
{
	const char *wrong;

	if (!virtio_find(&disk.device, VIRTIO_BLK, 0))
		console_fatal(c, "disk", "there is no such device");
	wrong = virtio_begin(&disk.device, F_FLUSH);
	if (!wrong)
		wrong = virtio_queue(&disk.device, &disk.queue, 0,
				     &c->guest->pool);
	if (wrong)
		console_fatal(c, "disk", wrong);
	disk.depth = (unsigned)c->guest->config.disk;
	if (disk.depth > disk.queue.size / PER_SLOT)
		disk.depth = disk.queue.size / PER_SLOT;
	disk.memory = take(c, disk.depth * SLOT_BYTES);
	size_up(c);
	virtio_go(&disk.device);
}

/* ---- requests ----------------------------------------------------------- */

static bool is_busy(uint64_t block)
{
	for (unsigned i = 0; i < disk.depth; i++)
		if (disk.slot[i].busy && disk.slot[i].block == block)
			return true;
	return false;
}

static void submit(unsigned slot)
{
	const struct disk_slot *s = &disk.slot[slot];
	struct request *r = request_of(slot);
	struct virtq_desc *d = &disk.queue.desc[PER_SLOT * slot];
	const uint16_t head = (uint16_t)(PER_SLOT * slot);

	r->type = s->type;
	r->reserved = 0;
	r->sector = s->block * SECTORS;
	r->status = S_NONE;
	d[0] = (struct virtq_desc){ (uint64_t)r, 16, VIRTQ_NEXT,
				    (uint16_t)(head + 1) };
	d[1] = (struct virtq_desc){
		(uint64_t)data_of(slot), PAGE_BYTES,
		(uint16_t)(VIRTQ_NEXT | (s->type == T_IN ? VIRTQ_WRITE : 0)),
		(uint16_t)(head + 2) };
	d[2] = (struct virtq_desc){ (uint64_t)&r->status, 1, VIRTQ_WRITE, 0 };
	virtq_make(&disk.queue, head);
}

static void begin(struct cpu *c, unsigned slot)
{
	struct disk_slot *s = &disk.slot[slot];
	uint64_t block = cpu_random(c, disk.blocks);

	if (is_busy(block))
		return;
	s->block = block;
	s->type = disk.counter[block] && cpu_random(c, 2) ? T_IN : T_OUT;
	s->busy = true;
	if (s->type == T_OUT)
		block_write(data_of(slot), PAGE_WORDS, block,
			    disk.counter[block] + 1ull, FILL_PATTERN);
	submit(slot);
}

static void say_bad(struct cpu *c, const struct disk_slot *s,
		    const uint64_t *data, enum block_verdict v)
{
	struct line l = { 0 };

	count_up(&disk.bad, 1);
	if (count_read(&disk.bad) > 20)
		return;
	line_text(&l, "DISKBAD");
	line_key(&l, "block", s->block);
	line_key(&l, "expect", disk.counter[s->block]);
	line_key(&l, "found", data[BLOCK_COUNTER]);
	line_key_text(&l, "kind", block_verdict_name(v));
	console_send(c, &l);
}

static void check(struct cpu *c, unsigned slot)
{
	const struct disk_slot *s = &disk.slot[slot];
	enum block_verdict v = block_check(data_of(slot), PAGE_WORDS, s->block,
					   disk.counter[s->block]);

	count_up(&disk.reads, 1);
	if (v == BLOCK_GOOD)
		return;
	say_bad(c, s, data_of(slot), v);
	disk.counter[s->block] = 0;
}

static void complete(struct cpu *c, unsigned slot)
{
	struct disk_slot *s = &disk.slot[slot];

	s->busy = false;
	pace_note(c, &disk.pace);
	if (request_of(slot)->status != S_OK) {
		count_up(&disk.errors, 1);
		disk.counter[s->block] = 0;
	} else if (s->type == T_IN) {
		check(c, slot);
	} else {
		disk.counter[s->block]++;
		count_up(&disk.writes, 1);
	}
}

void disk_poll(struct cpu *c)
{
	uint32_t bytes;
	uint16_t head;

	while (virtq_done(&disk.queue, &head, &bytes)) {
		unsigned slot = head / PER_SLOT;

		if (head % PER_SLOT || slot >= disk.depth ||
		    !disk.slot[slot].busy)
			count_up(&disk.errors, 1);	/* repeated */
		else
			complete(c, slot);
	}
	for (unsigned i = 0; i < disk.depth; i++)
		if (!disk.slot[i].busy)
			begin(c, i);
	virtq_show(&disk.queue);
}
