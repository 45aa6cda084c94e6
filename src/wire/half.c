/* SPDX-License-Identifier: MIT */
/*
 * Halves of VMs, see half.h.
 */
#include "wire/half.h"

#define DIGEST_SEED	0x66657272792e6866ull
#define DIGEST_FACTOR	0x9e3779b97f4a7c15ull	/* odd */

const char *ferry_half_side_name(uint32_t side)
{
	return side == FERRY_HALF_SOURCE ? "source" : "target";
}

static uint64_t mix(uint64_t h, uint64_t word)
{
	h = (h ^ word) * DIGEST_FACTOR;
	return h ^ h >> 29;
}

uint64_t ferry_half_digest(const void *data, size_t bytes)
{
	struct ferry_rd r = ferry_rd_over(data, bytes);
	uint64_t h = DIGEST_SEED ^ bytes, word;
	size_t rest = bytes % sizeof(word);

	for (size_t i = 0; i < bytes / sizeof(word); i++) {
		memcpy(&word, ferry_rd_bytes(&r, sizeof(word)), sizeof(word));
		h = mix(h, __builtin_bswap64(word));
	}
	return mix(h, ferry_rd_be(&r, rest));
}

/* ---- the file's first octets -------------------------------------------- */

/*   0                8          12         16
 *   | "FERRYHLF"     | version  | 0        |
 */
void ferry_half_start_encode(struct ferry_wr *w)
{
	ferry_wr_bytes(w, FERRY_HALF_MAGIC, 8);
	ferry_wr_be32(w, FERRY_HALF_VERSION);
	ferry_wr_be32(w, 0);
}

int ferry_half_start_decode(struct ferry_rd *r, struct ferry_err *e)
{
	const uint8_t *magic = ferry_rd_bytes(r, 8);
	uint32_t version = ferry_rd_be32(r), zero = ferry_rd_be32(r);

	if (!magic || memcmp(magic, FERRY_HALF_MAGIC, 8))
		return ferry_err_set(e, FERRY_E_PROTO, 0,
				     "this is no half of a VM");
	if (version != FERRY_HALF_VERSION || zero)
		return ferry_err_set(e, FERRY_E_UNSUPPORTED, 0, "half of a VM: "
				     "version %u is not known here", version);
	return 0;
}

/* ---- records ------------------------------------------------------------ */

/*   0          4          8
 *   | type     | octets   | payload, then be64 digest of all before it
 */
void ferry_half_record_encode(struct ferry_wr *w, uint32_t type,
			      uint32_t bytes)
{
	ferry_wr_be32(w, type);
	ferry_wr_be32(w, bytes);
}

unsigned ferry_half_rank(uint32_t type)
{
	static const uint8_t rank[FERRY_HALF_TYPES] = {
		[FERRY_HALF_HEAD] = 1, [FERRY_HALF_HAS] = 2,
		[FERRY_HALF_SUMS] = 3, [FERRY_HALF_STATE] = 4,
		[FERRY_HALF_PAGES] = 5, [FERRY_HALF_END] = 6,
	};

	return type < FERRY_HALF_TYPES ? rank[type] : 0;
}

static bool is_possible(uint32_t type, uint32_t bytes)
{
	/* `step`: of what is behind the place; 0: it has none. */
	static const struct { uint32_t least, most, step; } rows[] = {
		[FERRY_HALF_HEAD] = { FERRY_HALF_HEAD_WIRE + 5,
				      FERRY_HALF_PAYLOAD_MAX },
		[FERRY_HALF_HAS] = {
			FERRY_HALF_PLACE_WIRE + FERRY_HALF_RUN_WIRE,
			FERRY_HALF_PLACE_WIRE +
			FERRY_HALF_RUNS_MAX * FERRY_HALF_RUN_WIRE,
			FERRY_HALF_RUN_WIRE },
		[FERRY_HALF_STATE] = { 1, FERRY_HALF_PAYLOAD_MAX },
		[FERRY_HALF_PAGES] = {
			FERRY_HALF_PLACE_WIRE + FERRY_PAGE_BYTES,
			FERRY_HALF_PLACE_WIRE +
			FERRY_HALF_PAGES_MAX * FERRY_PAGE_BYTES,
			FERRY_PAGE_BYTES },
		[FERRY_HALF_END] = { FERRY_HALF_END_WIRE,
				     FERRY_HALF_END_WIRE },
		[FERRY_HALF_SUMS] = {
			FERRY_HALF_PLACE_WIRE + sizeof(uint32_t),
			FERRY_HALF_PLACE_WIRE +
			FERRY_HALF_SUMS_MAX * sizeof(uint32_t),
			sizeof(uint32_t) },
	};

	if (!type || type >= FERRY_HALF_TYPES || bytes < rows[type].least ||
	    bytes > rows[type].most)
		return false;
	return !rows[type].step ||
	       (bytes - FERRY_HALF_PLACE_WIRE) % rows[type].step == 0;
}

int ferry_half_record_decode(struct ferry_rd *r, uint32_t *type,
			     uint32_t *bytes, struct ferry_err *e)
{
	*type = ferry_rd_be32(r);
	*bytes = ferry_rd_be32(r);
	if (r->bad)
		return ferry_err_set(e, FERRY_E_PROTO, 0, "it ends too early");
	if (!is_possible(*type, *bytes))
		return ferry_err_set(e, FERRY_E_PROTO, 0, "it is damaged: a "
				     "record of type %u with %u octets",
				     *type, *bytes);
	return 0;
}

/*   0          4          8               16              32
 *   | side     | 0        | made at       | session id    | hello
 */
void ferry_half_head_encode(struct ferry_wr *w,
			    const struct ferry_half_head *h)
{
	ferry_wr_be32(w, h->side);
	ferry_wr_be32(w, 0);
	ferry_wr_be64(w, h->made_s);
	ferry_wr_bytes(w, h->session, sizeof(h->session));
}

int ferry_half_head_decode(struct ferry_rd *r, struct ferry_half_head *h,
			   struct ferry_err *e)
{
	const uint8_t *session;
	uint32_t zero;

	h->side = ferry_rd_be32(r);
	zero = ferry_rd_be32(r);
	h->made_s = ferry_rd_be64(r);
	session = ferry_rd_bytes(r, sizeof(h->session));
	if (!session || zero || (h->side != FERRY_HALF_SOURCE &&
				 h->side != FERRY_HALF_TARGET))
		return ferry_err_set(e, FERRY_E_PROTO, 0, "it is damaged: "
				     "half of side %u", h->side);
	memcpy(h->session, session, sizeof(h->session));
	return 0;
}

/*   0          4          8               16
 *   | block    | 0        | first page    | runs, sums, or pages
 */
void ferry_half_place_encode(struct ferry_wr *w,
			     const struct ferry_half_place *p)
{
	ferry_wr_be32(w, p->block);
	ferry_wr_be32(w, 0);
	ferry_wr_be64(w, p->first);
}

void ferry_half_place_decode(struct ferry_rd *r, struct ferry_half_place *p)
{
	p->block = ferry_rd_be32(r);
	(void)ferry_rd_be32(r);
	p->first = ferry_rd_be64(r);
}

/*   0               8               16
 *   | first page    | pages         |
 */
void ferry_half_run_encode(struct ferry_wr *w,
			   const struct ferry_half_run *run)
{
	ferry_wr_be64(w, run->first);
	ferry_wr_be64(w, run->pages);
}

void ferry_half_run_decode(struct ferry_rd *r, struct ferry_half_run *run)
{
	run->first = ferry_rd_be64(r);
	run->pages = ferry_rd_be64(r);
}

/*   0               8               16
 *   | pages it has  | in PAGES      |
 */
void ferry_half_end_encode(struct ferry_wr *w,
			   const struct ferry_half_end *end)
{
	ferry_wr_be64(w, end->has);
	ferry_wr_be64(w, end->pages);
}

void ferry_half_end_decode(struct ferry_rd *r, struct ferry_half_end *end)
{
	end->has = ferry_rd_be64(r);
	end->pages = ferry_rd_be64(r);
}
