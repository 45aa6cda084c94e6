/* SPDX-License-Identifier: MIT */
/* See virtio.h; the registers are those of virtio 1.2, 4.2.2. */
#include "virtio.h"

#include <stddef.h>

#include "packed.h"

#define MAGIC		0x74726976u

#define R_MAGIC		0x000
#define R_VERSION	0x004
#define R_TYPE		0x008
#define R_FEATURES	0x010
#define R_FEATURES_SEL	0x014
#define R_TAKEN		0x020
#define R_TAKEN_SEL	0x024
#define R_QUEUE_SEL	0x030
#define R_QUEUE_MAX	0x034
#define R_QUEUE_SIZE	0x038
#define R_QUEUE_READY	0x044
#define R_NOTIFY	0x050
#define R_STATUS	0x070
#define R_DESC		0x080
#define R_AVAIL		0x090
#define R_USED		0x0a0
#define R_CONFIG	0x100

#define S_DRIVER	3u		/* seen, and known */
#define S_FEATURES_OK	8u
#define S_DRIVER_OK	4u

#define NO_INTERRUPT	1u

/* Where devices may be: those of ferry, and of a QEMU's "microvm". */
static const struct {
	uint64_t at;
	uint32_t bytes, n;
} windows[] = {
	{ 0xfe000000, 0x1000, 16 },
	{ 0xfeb00000, 0x200, 24 },
};

static volatile uint32_t *reg(const struct virtio *v, unsigned at)
{
	return v->regs + at / 4;
}

static bool is_device(const struct virtio *v, uint32_t type)
{
	return *reg(v, R_MAGIC) == MAGIC && *reg(v, R_VERSION) == 2 &&
	       *reg(v, R_TYPE) == type;
}

bool virtio_find(struct virtio *v, uint32_t type, unsigned n)
{
	for (unsigned w = 0; w < sizeof(windows) / sizeof(windows[0]); w++)
		for (uint64_t i = 0; i < windows[w].n; i++) {
			v->regs = (volatile uint32_t *)(windows[w].at +
							i * windows[w].bytes);
			if (is_device(v, type) && !n--)
				return true;
		}
	return false;
}

static uint64_t read_features(const struct virtio *v)
{
	uint64_t low;

	*reg(v, R_FEATURES_SEL) = 0;
	low = *reg(v, R_FEATURES);
	*reg(v, R_FEATURES_SEL) = 1;
	return (uint64_t)*reg(v, R_FEATURES) << 32 | low;
}

const char *virtio_begin(struct virtio *v, uint64_t want)
{
	*reg(v, R_STATUS) = 0;
	*reg(v, R_STATUS) = S_DRIVER;
	v->features = read_features(v) &
		      (want | VIRTIO_F_VERSION_1 | VIRTIO_F_PACKED);
	*reg(v, R_TAKEN_SEL) = 0;
	*reg(v, R_TAKEN) = (uint32_t)v->features;
	*reg(v, R_TAKEN_SEL) = 1;
	*reg(v, R_TAKEN) = (uint32_t)(v->features >> 32);
	*reg(v, R_STATUS) = S_DRIVER | S_FEATURES_OK;
	return *reg(v, R_STATUS) & S_FEATURES_OK ? NULL :
	       "the device refuses features";
}

static void set_address(const struct virtio *v, unsigned at, const void *p)
{
	*reg(v, at) = (uint32_t)(uint64_t)p;
	*reg(v, at + 4) = (uint32_t)((uint64_t)p >> 32);
}

const char *virtio_queue(struct virtio *v, struct virtq *q, uint32_t number,
			 struct pool *pool)
{
	uint64_t at = pool_take(pool, 4ull * PAGE_BYTES, UINT64_MAX);
	uint32_t max;

	if (!at)
		return "no memory for a queue";
	for (uint64_t i = 0; i < 4 * PAGE_WORDS; i++)
		((uint64_t *)at)[i] = 0;
	*reg(v, R_QUEUE_SEL) = number;
	max = *reg(v, R_QUEUE_MAX);
	if (!max)
		return "the device lacks a queue";
	*q = (struct virtq){
		.notify = reg(v, R_NOTIFY), .number = number,
		.size = (uint16_t)(max < VIRTQ_SIZE ? max : VIRTQ_SIZE),
		.desc = (struct virtq_desc *)at,
		.avail = (struct virtq_avail *)(at + PAGE_BYTES),
		.used = (struct virtq_used *)(at + 2ull * PAGE_BYTES),
	};
	q->avail->flags = NO_INTERRUPT;
	if (v->features & VIRTIO_F_PACKED)
		packed_init(q, (void *)(at + 3ull * PAGE_BYTES));
	*reg(v, R_QUEUE_SIZE) = q->size;
	set_address(v, R_DESC, q->packed.ring ? (void *)q->packed.ring :
		    q->desc);
	set_address(v, R_AVAIL, q->avail);
	set_address(v, R_USED, q->used);
	*reg(v, R_QUEUE_READY) = 1;
	return *reg(v, R_QUEUE_READY) ? NULL : "the device refuses a queue";
}

void virtio_go(struct virtio *v)
{
	*reg(v, R_STATUS) = S_DRIVER | S_FEATURES_OK | S_DRIVER_OK;
}

uint32_t virtio_config(const struct virtio *v, unsigned at)
{
	return *reg(v, R_CONFIG + at);
}

void virtq_make(struct virtq *q, uint16_t head)
{
	if (q->packed.ring) {
		packed_make(q, head);
		return;
	}
	q->avail->ring[q->made % q->size] = head;
	q->made++;
}

void virtq_show(struct virtq *q)
{
	if (q->told == q->made)
		return;
	q->told = q->made;
	__atomic_thread_fence(__ATOMIC_RELEASE);
	if (!q->packed.ring)
		q->avail->index = q->made;
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
	if (q->packed.ring ? packed_wants_kick(q) : !(q->used->flags & 1))
		*q->notify = q->number;
}

bool virtq_done(struct virtq *q, uint16_t *head, uint32_t *bytes)
{
	if (q->packed.ring)
		return packed_done(q, head, bytes);
	if (q->used->index == q->seen)
		return false;
	__atomic_thread_fence(__ATOMIC_ACQUIRE);
	*head = (uint16_t)q->used->ring[q->seen % q->size].id;
	*bytes = q->used->ring[q->seen % q->size].bytes;
	q->seen++;
	return true;
}
