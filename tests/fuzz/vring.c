/* SPDX-License-Identifier: MIT */
/*
 * A ring in a guest's memory that a fuzzer wrote.  First octet: which layout
 * and features; the next two: where it begins; then the memory.  Every octet of
 * every buffer is read or written, so that one outside of memory traps.
 */
#include "fuzz.h"

#include <sys/uio.h>

#include "vu/be/ring.h"

#define SIZE		16u
#define MEMORY		4096u
#define GPA		0x100000ull
#define USER		0x7f0000000000ull
#define DESC		0u
#define AVAIL		256u
#define USED		320u

static const uint64_t features[] = {
	FERRY_VIRTIO_F_RING_PACKED, FERRY_VIRTIO_F_EVENT_IDX,
	FERRY_VIRTIO_F_INDIRECT_DESC, FERRY_VU_VIRTIO_F_LOG_ALL,
};

static unsigned sum_of(const struct iovec *iov, uint32_t n)
{
	unsigned sum = 0;

	for (uint32_t i = 0; i < n; i++)
		for (size_t k = 0; k < iov[i].iov_len; k++)
			sum += ((const uint8_t *)iov[i].iov_base)[k];
	return sum;
}

static void write_all(const struct iovec *iov, uint32_t n, unsigned with)
{
	for (uint32_t i = 0; i < n; i++)
		memset(iov[i].iov_base, (int)(with & 0xff), iov[i].iov_len);
}

static void check_buffer(const struct ferry_vhost_buffer *b)
{
	uint64_t out = 0, in = 0;

	FUZZ_CHECK(b->outs + b->ins <= FERRY_VHOST_SEGMENTS_MAX);
	for (uint32_t i = 0; i < b->outs; i++)
		out += b->out[i].iov_len;
	for (uint32_t i = 0; i < b->ins; i++)
		in += b->in[i].iov_len;
	FUZZ_CHECK(out == b->out_bytes && in == b->in_bytes);
}

static void serve(struct ferry_vb_ring *r)
{
	struct ferry_vhost_buffer b, held;
	bool holds = false;

	for (unsigned n = 0; n < 200; n++) {
		if (ferry_vb_ring_pop(r, &b) != 1)
			break;
		check_buffer(&b);
		write_all(b.in, b.ins, sum_of(b.out, b.outs));
		if (n % 7 == 3) {
			ferry_vb_ring_unpop(r, &b);
			break;
		}
		if (n % 5 == 2 && !holds) {
			held = b;
			holds = true;
			continue;
		}
		/* A loop of buffers of gigabytes is nobody's concern. */
		ferry_vb_ring_push(r, &b, (uint32_t)b.in_bytes);
		ferry_vb_ring_flush(r);
		r->ops->want_kicks(r, n & 1);
		r->ops->more(r);
	}
	if (holds)
		ferry_vb_ring_push(r, &held, 0);
	ferry_vb_ring_flush(r);
	FUZZ_CHECK(!r->out);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
	uint8_t *memory = aligned_alloc(4096, MEMORY);
	struct ferry_vb_memory m = { 1, { {
		.gpa = GPA, .bytes = MEMORY, .user_addr = USER, .at = memory,
		.map = memory, .map_bytes = MEMORY, .page_bytes = 4096,
	} } };
	struct ferry_vb_dirty dirty = { .bits = NULL };
	struct ferry_vb_touch touch = { .missing = false };
	struct ferry_vb_ring r = {
		.where = { USER + DESC, USER + AVAIL, USER + USED,
			   GPA + USED, true },
		.memory = &m, .dirty = &dirty, .touch = &touch,
	};

	if (bytes < 4 || !memory) {
		free(memory);
		return 0;
	}
	for (unsigned i = 0; i < FERRY_LEN(features); i++)
		if (data[0] >> i & 1)
			r.features |= features[i];
	memset(memory, 0, MEMORY);
	memcpy(memory, data + 3, bytes - 3 < MEMORY ? bytes - 3 : MEMORY);
	FUZZ_CHECK(!ferry_vb_ring_init(&r, SIZE, NULL));
	if (!ferry_vb_ring_start(&r, (uint32_t)data[1] |
				 (uint32_t)data[2] << 8 |
				 (uint32_t)(data[2] & 0x80) << 24, NULL))
		serve(&r);
	ferry_vb_ring_fini(&r);
	free(memory);
	return 0;
}

/* Three buffers, one of them through a table. */
static void put_desc(uint8_t *at, uint64_t gpa, uint32_t bytes, uint16_t a,
		     uint16_t b)
{
	memcpy(at, &gpa, 8);
	memcpy(at + 8, &bytes, 4);
	memcpy(at + 12, &a, 2);
	memcpy(at + 14, &b, 2);
}

static void split_seed(uint8_t *mem)
{
	const uint16_t avail[] = { 0, 3, 0, 2, 3 };

	put_desc(mem, GPA + 1024, 100, 1, 1);
	put_desc(mem + 16, GPA + 2048, 200, 2, 0);
	put_desc(mem + 32, GPA + 1500, 50, 0, 0);
	put_desc(mem + 48, GPA + 3000, 32, 4, 0);
	put_desc(mem + 3000, GPA + 1024, 10, 1, 1);
	put_desc(mem + 3016, GPA + 1100, 10, 2, 0);
	memcpy(mem + AVAIL, avail, sizeof(avail));
}

static void packed_seed(uint8_t *mem)
{
	const uint16_t here = 1u << 7;

	put_desc(mem, GPA + 1024, 100, 0, here | 1);
	put_desc(mem + 16, GPA + 2048, 200, 0, here | 2);
	put_desc(mem + 32, GPA + 1500, 50, 1, here);
	put_desc(mem + 48, GPA + 3000, 32, 2, here | 4);
	put_desc(mem + 3000, GPA + 1024, 10, 0, 0);
	put_desc(mem + 3016, GPA + 1100, 10, 0, 2);
}

void fuzz_seeds(void (*emit)(const void *data, size_t bytes))
{
	uint8_t seed[3 + MEMORY];

	for (unsigned bits = 0; bits < 16; bits++) {
		memset(seed, 0, sizeof(seed));
		seed[0] = (uint8_t)bits;
		seed[2] = (uint8_t)(bits & 1 ? 0x80 : 0);
		if (bits & 1)
			packed_seed(seed + 3);
		else
			split_seed(seed + 3);
		emit(seed, sizeof(seed));
	}
}
