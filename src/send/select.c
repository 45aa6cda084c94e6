/* SPDX-License-Identifier: MIT */
/*
 * Selection.  A batch is filled word by word from stripes of one block; a word
 * is only begun when all of it fits, so that stripes are never torn between
 * two visits (a huge page's words follow each other on one channel).
 */
#include "send/select.h"

#include <stdlib.h>

#include "mem/extent.h"

#define WORD_PAGES	64u

static uint64_t stripe_words(const struct ferry_mem_block *b)
{
	return b->host_pages > WORD_PAGES ? b->host_pages / WORD_PAGES : 1;
}

static uint64_t block_words(const struct ferry_mem_block *b)
{
	return (b->pages + WORD_PAGES - 1) / WORD_PAGES;
}

static uint64_t block_stripes(const struct ferry_mem_block *b)
{
	return (block_words(b) + stripe_words(b) - 1) / stripe_words(b);
}

static uint64_t total_stripes(const struct ferry_select *s)
{
	return s->first_stripe[s->mem->blocks];
}

static int init_claims(struct ferry_select *s, struct ferry_err *e)
{
	for (uint32_t i = 0; i < s->mem->blocks; i++) {
		struct ferry_mem_block *b = &s->mem->block[i];

		if (b->host_pages > 1 &&
		    ferry_bitmap_init(&s->claimed[i], b->pages / b->host_pages,
				      e))
			return -1;
	}
	return 0;
}

int ferry_select_init(struct ferry_select *s, struct ferry_mem *mem,
		      struct ferry_owed *owed, struct ferry_dirty **dirty,
		      unsigned trackers, bool keep_heat, struct ferry_err *e)
{
	*s = (struct ferry_select){
		.mem = mem, .owed = owed, .dirty = dirty,
		.trackers = trackers,
		.first_stripe = calloc(mem->blocks + 1, sizeof(uint64_t)),
		.claimed = calloc(mem->blocks, sizeof(*s->claimed)),
	};
	if (!s->first_stripe || !s->claimed)
		return ferry_err_set(e, FERRY_E_NOMEM, errno, "selection");

	for (uint32_t i = 0; i < mem->blocks; i++)
		s->first_stripe[i + 1] = s->first_stripe[i] +
					 block_stripes(&mem->block[i]);
	if (keep_heat) {
		s->heat = calloc(total_stripes(s), sizeof(*s->heat));
		if (!s->heat)
			return ferry_err_set(e, FERRY_E_NOMEM, errno,
					     "selection: heat");
	}
	return init_claims(s, e);
}

void ferry_select_fini(struct ferry_select *s)
{
	for (uint32_t i = 0; s->claimed && i < s->mem->blocks; i++)
		ferry_bitmap_fini(&s->claimed[i]);
	free(s->claimed);
	free(s->first_stripe);
	free(s->heat);
	free(s->by_heat);
	*s = (struct ferry_select){ 0 };
}

static uint64_t load_word(struct ferry_select *s, uint32_t block, uint64_t w)
{
	return atomic_load_explicit(&s->owed->map[block].word[w],
				    memory_order_relaxed);
}

void ferry_select_note_heat(struct ferry_select *s)
{
	if (!s->heat)
		return;
	for (uint32_t i = 0; i < s->mem->blocks; i++) {
		struct ferry_mem_block *b = &s->mem->block[i];
		uint64_t words = block_words(b), per = stripe_words(b);

		for (uint64_t w = 0; w < words; w++) {
			uint32_t *heat = &s->heat[s->first_stripe[i] + w / per];
			uint64_t bits = load_word(s, i, w);

			if (w % per == 0)
				*heat /= 2;
			*heat += (uint32_t)__builtin_popcountll(bits) * 16;
		}
	}
}

/* Stripes by falling heat: a counting sort over the leading bits. */
static int sort_by_heat(struct ferry_select *s, struct ferry_err *e)
{
	uint64_t n = total_stripes(s), at[33] = { 0 };

	if (!s->heat || n > UINT32_MAX)
		return 0;
	s->by_heat = malloc(n * sizeof(*s->by_heat));
	if (!s->by_heat)
		return ferry_err_set(e, FERRY_E_NOMEM, errno,
				     "selection: order");

	/* Class 0 is the hottest: 32 - number of significant bits. */
	for (uint64_t i = 0; i < n; i++)
		at[s->heat[i] ? __builtin_clz(s->heat[i]) : 32]++;
	for (uint64_t i = 0, sum = 0; i < 33; i++) {
		uint64_t here = at[i];

		at[i] = sum;
		sum += here;
	}
	for (uint64_t i = 0; i < n; i++)
		s->by_heat[at[s->heat[i] ? __builtin_clz(s->heat[i]) : 32]++] =
			(uint32_t)i;
	return 0;
}

void ferry_select_stopped(struct ferry_select *s)
{
	s->stopped = true;
}

int ferry_select_still(struct ferry_select *s, enum ferry_order order,
		       struct ferry_err *e)
{
	s->stopped = true;
	s->still = true;
	s->order = order;
	ferry_owed_widen(s->owed);
	return order == FERRY_ORDER_HOT ? sort_by_heat(s, e) : 0;
}

void ferry_select_restart(struct ferry_select *s)
{
	for (uint32_t i = 0; i < s->mem->blocks; i++)
		if (s->claimed[i].bits)
			ferry_bitmap_clear_range(&s->claimed[i], 0,
						 s->claimed[i].bits);
	atomic_store(&s->near, 0);
}

/* The bits of word w that stand for pages that were not received. */
static uint64_t missing(const struct ferry_mem_block *b,
			const struct ferry_bitmap *received, uint64_t w)
{
	uint64_t left = b->pages - w * WORD_PAGES;
	uint64_t valid = left >= WORD_PAGES ? ~0ull : (1ull << left) - 1;

	return ~atomic_load(&received->word[w]) & valid;
}

static void drain_host_page(struct ferry_select *s, struct ferry_mem_block *b,
			    uint64_t host)
{
	uint64_t w = host * stripe_words(b);

	for (uint64_t end = w + stripe_words(b); w < end; w++)
		ferry_owed_drain_word(s->owed, b->index, w, ~0ull);
}

static uint64_t owe_stripe(struct ferry_select *s, struct ferry_mem_block *b,
			   const struct ferry_bitmap *received, uint64_t w,
			   uint64_t end)
{
	uint64_t pages, host = w / stripe_words(b);

	if (b->host_pages == 1)
		return ferry_owed_mark_word(s->owed, b->index, w,
					    missing(b, received, w));
	for (uint64_t i = w; i < end; i++) {
		if (!missing(b, received, i))
			continue;
		/* In this order: who finds it free finds it owed. */
		pages = ferry_owed_mark(s->owed, b->index, w * WORD_PAGES,
					b->host_pages);
		ferry_bitmap_clear_range(&s->claimed[b->index], host, 1);
		return pages;
	}
	/* Who had claimed it may be lost half way, and it was asked for: what
	 * is left of its bits is nobody's to send. */
	drain_host_page(s, b, host);
	return 0;
}

uint64_t ferry_select_owe_again(struct ferry_select *s,
				const struct ferry_bitmap *received)
{
	uint64_t pages = 0;

	for (uint32_t i = 0; i < s->mem->blocks; i++) {
		struct ferry_mem_block *b = &s->mem->block[i];
		uint64_t per = stripe_words(b);

		for (uint64_t w = 0; w < block_words(b); w += per)
			pages += owe_stripe(s, b, &received[i], w, w + per);
	}
	return pages;
}

void ferry_select_later(struct ferry_select *s,
			const struct ferry_bitmap *pages)
{
	s->later = pages;
}

/* What a pass takes of this word. */
static uint64_t pass_mask(const struct ferry_select *s, uint32_t block,
			  uint64_t w)
{
	if (!s->later || s->mem->block[block].host_pages > 1)
		return ~0ull;
	return ~atomic_load_explicit(&s->later[block].word[w],
				     memory_order_relaxed);
}

void ferry_cursor_rewind(struct ferry_cursor *c, unsigned share,
			 unsigned shares)
{
	*c = (struct ferry_cursor){
		.share = share, .shares = shares, .near_next = UINT64_MAX,
	};
}

static uint32_t block_of(const struct ferry_select *s, uint64_t stripe)
{
	uint32_t lo = 0, hi = s->mem->blocks - 1;

	while (lo < hi) {
		uint32_t mid = (lo + hi + 1) / 2;

		if (s->first_stripe[mid] <= stripe)
			lo = mid;
		else
			hi = mid - 1;
	}
	return lo;
}

static bool is_mine(const struct ferry_select *s, const struct ferry_cursor *c,
		    uint64_t stripe)
{
	return ferry_deal_share(&s->deal, stripe, c->shares) == c->share;
}

/* The next stripe of this share in the push's order, or UINT64_MAX.  Bits
 * only vanish after the switchover, so one lap over the order is enough;
 * stripes near a request are sent on top of it. */
static uint64_t next_stripe(struct ferry_select *s, struct ferry_cursor *c)
{
	uint64_t total = total_stripes(s);
	uint64_t near = atomic_load_explicit(&s->near, memory_order_relaxed);

	if (s->still && s->order == FERRY_ORDER_NEAR && near != c->near_seen) {
		c->near_seen = near;
		c->near_next = near - 1;
	}
	for (; c->near_next < total; c->near_next++)
		if (is_mine(s, c, c->near_next))
			return c->near_next++;
	c->near_next = UINT64_MAX;

	for (; c->next < total; c->next++) {
		uint64_t stripe = s->still && s->by_heat ?
				  s->by_heat[c->next] : c->next;

		if (is_mine(s, c, stripe)) {
			c->next++;
			return stripe;
		}
	}
	return UINT64_MAX;
}

static bool has_owed(struct ferry_select *s, uint32_t block, uint64_t w,
		     uint64_t end)
{
	for (; w < end; w++)
		if (load_word(s, block, w))
			return true;
	return false;
}

static bool has_work(struct ferry_select *s, uint32_t block, uint64_t w,
		     uint64_t end)
{
	for (; w < end; w++)
		if (load_word(s, block, w) & pass_mask(s, block, w))
			return true;
	return false;
}

/* Set the cursor to the words of the next stripe with something to send. */
static bool begin_stripe(struct ferry_select *s, struct ferry_cursor *c)
{
	uint64_t stripe;

	while ((stripe = next_stripe(s, c)) != UINT64_MAX) {
		uint32_t i = block_of(s, stripe);
		struct ferry_mem_block *b = &s->mem->block[i];
		uint64_t local = stripe - s->first_stripe[i];
		uint64_t w = local * stripe_words(b);
		uint64_t end = w + stripe_words(b);

		if (end > block_words(b))
			end = block_words(b);
		if (!has_work(s, i, w, end))
			continue;
		if (s->still && b->host_pages > 1 &&
		    ferry_bitmap_set(&s->claimed[i], local))
			continue;
		c->block = i;
		c->word = w;
		c->word_end = end;
		return true;
	}
	return false;
}

/* Writes to the pages of this word must be noticed from here on. */
static int arm(struct ferry_select *s, struct ferry_cursor *c)
{
	uint64_t page = c->word * WORD_PAGES;
	uint64_t piece = (64u << 20) / FERRY_PAGE_BYTES;

	if (s->stopped || (c->armed_block == c->block + 1ull &&
			 page < c->armed_end && page + piece >= c->armed_end))
		return 0;

	page -= page % piece;
	for (unsigned i = 0; i < s->trackers; i++) {
		uint64_t left = s->mem->block[c->block].pages - page;
		int rc = s->dirty[i]->ops->arm(s->dirty[i], c->block, page,
					       left < piece ? left : piece);

		if (rc)
			return rc;
	}
	c->armed_block = c->block + 1ull;
	c->armed_end = page + piece;
	return 0;
}

static void add_word(struct ferry_batch *batch, uint64_t w, uint64_t bits)
{
	for (; bits; bits &= bits - 1)
		batch->page[batch->n++] =
			w * WORD_PAGES + (uint64_t)__builtin_ctzll(bits);
}

static uint64_t take_word(struct ferry_select *s, struct ferry_cursor *c)
{
	return ferry_owed_drain_word(s->owed, c->block, c->word,
				     pass_mask(s, c->block, c->word));
}

static int fill(struct ferry_select *s, struct ferry_cursor *c,
		struct ferry_batch *batch, bool begin)
{
	batch->n = 0;
	batch->block = NULL;

	for (;;) {
		if (c->word == c->word_end && !(begin && begin_stripe(s, c)))
			break;
		if (batch->n && batch->block->index != c->block)
			break;
		batch->block = &s->mem->block[c->block];

		while (c->word < c->word_end) {
			int rc;

			if (batch->n > FERRY_PACKET_PAGES_MAX - WORD_PAGES)
				return 1;
			rc = arm(s, c);
			if (rc)
				return rc;
			add_word(batch, c->word, take_word(s, c));
			c->word++;
		}
	}
	return batch->n > 0;
}

int ferry_select_next(struct ferry_select *s, struct ferry_cursor *c,
		      struct ferry_batch *batch)
{
	return fill(s, c, batch, true);
}

int ferry_select_rest(struct ferry_select *s, struct ferry_cursor *c,
		      struct ferry_batch *batch)
{
	return fill(s, c, batch, false);
}

/* Whether page shall be sent by whoever claims now; its bit is drained. */
static bool claim_page(struct ferry_select *s, struct ferry_mem_block *b,
		       uint64_t page, bool again)
{
	uint64_t m = 1ull << (page % WORD_PAGES);

	return ferry_owed_drain_word(s->owed, b->index, page / WORD_PAGES, m) ||
	       again;
}

/* Owed, and nobody's so far: from now on ours, as a whole. */
static bool take_host_page(struct ferry_select *s, struct ferry_mem_block *b,
			   uint64_t host)
{
	uint64_t w = host * stripe_words(b);

	if (!has_owed(s, b->index, w, w + stripe_words(b)) ||
	    ferry_bitmap_set(&s->claimed[b->index], host))
		return false;
	drain_host_page(s, b, host);
	return true;
}

static void claim_host_page(struct ferry_select *s, struct ferry_mem_block *b,
			    uint64_t *at, uint64_t end, bool again,
			    struct ferry_batch *batch)
{
	uint64_t host = *at / b->host_pages;

	/*
	 * The claim is decided at the first page of the host page; later
	 * batches of the same one just go on.  What bulk has claimed is sent
	 * once more, but its bits are left to bulk, which may be half way
	 * through: it sends a host page whole or not at all.
	 */
	if (*at % b->host_pages == 0 && !take_host_page(s, b, host) &&
	    !again) {
		*at += b->host_pages;
		return;
	}
	while (*at < end && *at / b->host_pages == host &&
	       batch->n < FERRY_PACKET_PAGES_MAX)
		batch->page[batch->n++] = (*at)++;
}

void ferry_select_claim(struct ferry_select *s, struct ferry_mem_block *block,
			uint64_t *at, uint64_t end, bool again,
			struct ferry_batch *batch)
{
	batch->block = block;
	batch->n = 0;
	while (*at < end && batch->n < FERRY_PACKET_PAGES_MAX) {
		if (block->host_pages > 1) {
			claim_host_page(s, block, at, end, again, batch);
			continue;
		}
		if (claim_page(s, block, *at, again))
			batch->page[batch->n++] = *at;
		(*at)++;
	}
}

void ferry_batch_release(const struct ferry_batch *batch)
{
	uint32_t host = batch->block->host_pages;

	for (uint32_t i = 0, run; i < batch->n; i += run) {
		uint64_t first = batch->page[i], end;

		for (run = 1; i + run < batch->n; run++)
			if (batch->page[i + run] != first + run)
				break;
		/* A huge page goes when its last piece has. */
		end = (first + run) - (first + run) % host;
		first -= first % host;
		if (end > first)
			(void)!ferry_extent_drop(batch->block, first,
						 end - first, NULL);
	}
}

void ferry_select_hint(struct ferry_select *s, struct ferry_mem_block *block,
		       uint64_t page)
{
	uint64_t stripe = s->first_stripe[block->index] +
			  page / WORD_PAGES / stripe_words(block);

	atomic_store_explicit(&s->near, stripe + 1, memory_order_relaxed);
}
