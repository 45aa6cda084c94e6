/* SPDX-License-Identifier: MIT */
/*
 * KVM's dirty log as a source of written pages.
 *
 * With KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2 a harvest (KVM_GET_DIRTY_LOG) only
 * copies the bits; a page becomes write-protected again when its bit is
 * cleared (KVM_CLEAR_DIRTY_LOG), which arm() does piece by piece, just before
 * the piece is read.  So what is written between harvest and arm costs no
 * fault and is not sent twice, and no ioctl holds KVM's lock for long.
 * Without the capability the harvest clears all at once and arm() is done
 * before it begins.
 *
 * KVM_DIRTY_LOG_INITIALLY_SET spares the write protection of all memory at the
 * start, by having every bit set.  That would tell pages that were never
 * touched; so start() clears their bits (which costs nothing: nothing maps
 * them) and leaves those of touched pages, which the engine owes anyway: until
 * its piece is armed, a page is told at every harvest, and its writes are free.
 *
 * Threads: see dirty.h.  `lock` is held over each ioctl on the log, so that
 *          a second sender that arms a piece returns after the first's CLEAR.
 *          `done` is read without it: a bit that a harvest resets meanwhile
 *          belongs to an arm before that harvest, which then tells the page.
 * Limits:  ioctls on the VM must come from the process that made it.
 */
#include "mem/dirty_kvm.h"

#include <inttypes.h>
#include <linux/kvm.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>

#include "base/cleanup.h"
#include "mem/extent.h"

#define PIECE_PAGES	16384ull	/* 64 MiB, as few ioctls as that */

struct slot {
	struct ferry_kvm_slot	 kvm;
	uint32_t		 block;
	uint64_t		 first;		/* its first page in block */
	uint64_t		 pages;
	uint64_t		 words;
	uint64_t		*bits;		/* of the last harvest */
	struct ferry_bitmap	 done;		/* pieces armed since then */
	bool			 logging;
};

struct log {
	struct ferry_dirty	 dirty;
	const struct ferry_mem	*mem;
	int			 vm_fd;
	uint64_t		 allowed;	/* modes we may use */
	uint64_t		 modes;		/* KVM_DIRTY_LOG_*, in use */
	size_t			 slots;
	struct slot		*slot;
	pthread_mutex_t		 lock;
};

/* ---- switching on and off ----------------------------------------------- */

static int set_modes(struct log *l, uint64_t modes)
{
	struct kvm_enable_cap cap = {
		.cap = KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2,
		.args = { modes },
	};

	return ioctl(l->vm_fd, KVM_ENABLE_CAP, &cap);
}

static void choose_modes(struct log *l)
{
	int have = ioctl(l->vm_fd, KVM_CHECK_EXTENSION,
			 KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2);

	l->modes = have > 0 ? (uint64_t)have & l->allowed : 0;
	if (!(l->modes & KVM_DIRTY_LOG_MANUAL_PROTECT_ENABLE) ||
	    set_modes(l, l->modes))
		l->modes = 0;
}

/* The slot as it is, with or without its log. */
static int set_logging(struct log *l, struct slot *s, bool on)
{
	struct kvm_userspace_memory_region r = {
		.slot = s->kvm.slot,
		.flags = on ? KVM_MEM_LOG_DIRTY_PAGES : 0,
		.guest_phys_addr = s->kvm.gpa,
		.memory_size = s->kvm.bytes,
		.userspace_addr = (uintptr_t)s->kvm.addr,
	};

	if (ioctl(l->vm_fd, KVM_SET_USER_MEMORY_REGION, &r))
		return -errno;
	s->logging = on;
	return 0;
}

static void set_all_done(struct slot *s, bool done)
{
	if (done)
		ferry_bitmap_set_range(&s->done, 0, s->done.bits);
	else
		ferry_bitmap_clear_range(&s->done, 0, s->done.bits);
}

/* Clear those bits of the log that are set in `bits`, in one piece. */
static int clear_piece(struct log *l, struct slot *s, uint64_t piece)
{
	uint64_t first = piece * PIECE_PAGES, n = s->pages - first;
	struct kvm_clear_dirty_log c = {
		.slot = s->kvm.slot,
		.first_page = first,
		.num_pages = (uint32_t)(n < PIECE_PAGES ? n : PIECE_PAGES),
		.dirty_bitmap = s->bits + first / 64,
	};

	return ioctl(l->vm_fd, KVM_CLEAR_DIRTY_LOG, &c) ? -errno : 0;
}

/* ---- pages never touched ------------------------------------------------ */

static void clear_bits(uint64_t *bits, uint64_t first, uint64_t end)
{
	for (; first < end && first % 64; first++)
		bits[first / 64] &= ~(1ull << first % 64);
	for (; first + 64 <= end; first += 64)
		bits[first / 64] = 0;
	for (; first < end; first++)
		bits[first / 64] &= ~(1ull << first % 64);
}

static int keep_touched(void *arg, uint64_t first, uint64_t pages)
{
	struct slot *s = arg;
	uint64_t end = first + pages, limit = s->first + s->pages;

	first = first > s->first ? first : s->first;
	end = end < limit ? end : limit;
	if (first < end)
		clear_bits(s->bits, first - s->first, end - s->first);
	return 0;
}

static void flip_bits(struct slot *s)
{
	for (uint64_t w = 0; w < s->words; w++)
		s->bits[w] = ~s->bits[w];
	if (s->pages % 64)
		s->bits[s->words - 1] &= ~0ull >> (64 - s->pages % 64);
}

/*
 * Of the bits that are all set, leave those of touched pages.  A page that is
 * touched while this runs loses its bit, but the engine looks for touched
 * pages after start() and finds it.
 */
static int forget_untouched(struct log *l, struct slot *s, struct ferry_err *e)
{
	memset(s->bits, 0, s->words * 8);
	flip_bits(s);
	if (ferry_extent_walk(&l->mem->block[s->block], keep_touched, s, e))
		return -1;

	for (uint64_t i = 0; i < s->done.bits; i++) {
		int rc = clear_piece(l, s, i);

		if (rc)
			return ferry_err_set(e, FERRY_E_IO, -rc,
					     "KVM slot %u: clear dirty log",
					     s->kvm.slot);
	}

	/* An arm before the first harvest clears the touched ones, no more:
	 * a page that is first written after this is told by its bit alone. */
	flip_bits(s);
	return 0;
}

static int log_start(struct ferry_dirty *d, struct ferry_err *e)
{
	struct log *l = (struct log *)d;

	choose_modes(l);
	for (size_t i = 0; i < l->slots; i++) {
		struct slot *s = &l->slot[i];
		bool lazy = l->modes & KVM_DIRTY_LOG_INITIALLY_SET;
		int rc = set_logging(l, s, true);

		if (rc)
			return ferry_err_set(e, FERRY_E_IO, -rc,
					     "KVM slot %u: switch on the dirty log",
					     s->kvm.slot);
		set_all_done(s, !lazy);
		if (lazy && forget_untouched(l, s, e))
			return -1;
	}
	return 0;
}

/* Leaves slots and VM as they were; whatever fails is gone with the VM. */
static void log_stop(struct ferry_dirty *d)
{
	struct log *l = (struct log *)d;

	for (size_t i = 0; i < l->slots; i++)
		if (l->slot[i].logging)
			(void)set_logging(l, &l->slot[i], false);
	if (l->modes)
		(void)set_modes(l, 0);
	l->modes = 0;
}

/* ---- harvest and arm ---------------------------------------------------- */

static int get_log(struct log *l, struct slot *s)
{
	struct kvm_dirty_log g = {
		.slot = s->kvm.slot,
		.dirty_bitmap = s->bits,
	};
	int rc;

	pthread_mutex_lock(&l->lock);
	rc = ioctl(l->vm_fd, KVM_GET_DIRTY_LOG, &g) ? -errno : 0;
	if (!rc && l->modes)
		set_all_done(s, false);
	pthread_mutex_unlock(&l->lock);
	return rc;
}

/* The slot may begin in the middle of a word of its block. */
static void merge(const struct slot *s, struct ferry_owed *owed)
{
	uint64_t shift = s->first % 64, to = s->first / 64;

	for (uint64_t w = 0; w < s->words; w++) {
		uint64_t bits = s->bits[w];

		if (!bits)
			continue;
		ferry_owed_mark_word(owed, s->block, to + w, bits << shift);
		if (shift && bits >> (64 - shift))
			ferry_owed_mark_word(owed, s->block, to + w + 1,
					     bits >> (64 - shift));
	}
}

static int log_harvest(struct ferry_dirty *d, struct ferry_owed *owed,
		       bool final, struct ferry_err *e)
{
	struct log *l = (struct log *)d;

	(void)final;
	for (size_t i = 0; i < l->slots; i++) {
		int rc = get_log(l, &l->slot[i]);

		if (rc)
			return ferry_err_set(e, FERRY_E_IO, -rc,
					     "KVM slot %u: get dirty log",
					     l->slot[i].kvm.slot);
		merge(&l->slot[i], owed);
	}
	return 0;
}

static int arm_piece(struct log *l, struct slot *s, uint64_t piece)
{
	int rc = 0;

	if (ferry_bitmap_test(&s->done, piece))
		return 0;

	pthread_mutex_lock(&l->lock);
	if (!ferry_bitmap_test(&s->done, piece)) {
		rc = clear_piece(l, s, piece);
		if (!rc)
			ferry_bitmap_set(&s->done, piece);
	}
	pthread_mutex_unlock(&l->lock);
	return rc;
}

static int arm_slot(struct log *l, struct slot *s, uint64_t first, uint64_t end)
{
	for (uint64_t p = first / PIECE_PAGES; p * PIECE_PAGES < end; p++) {
		int rc = arm_piece(l, s, p);

		if (rc)
			return rc;
	}
	return 0;
}

static int log_arm(struct ferry_dirty *d, uint32_t block, uint64_t first,
		   uint64_t pages)
{
	struct log *l = (struct log *)d;
	int rc = 0;

	for (size_t i = 0; i < l->slots && !rc; i++) {
		struct slot *s = &l->slot[i];
		uint64_t from = first > s->first ? first : s->first;
		uint64_t end = first + pages, limit = s->first + s->pages;

		end = end < limit ? end : limit;
		if (s->block == block && from < end)
			rc = arm_slot(l, s, from - s->first, end - s->first);
	}
	return rc;
}

/* ---- making ------------------------------------------------------------- */

static void log_free(struct ferry_dirty *d)
{
	struct log *l = (struct log *)d;

	for (size_t i = 0; i < l->slots; i++) {
		free(l->slot[i].bits);
		ferry_bitmap_fini(&l->slot[i].done);
	}
	free(l->slot);
	pthread_mutex_destroy(&l->lock);
	free(l);
}

static const struct ferry_dirty_ops log_ops = {
	.name = "kvm-log",
	.start = log_start,
	.harvest = log_harvest,
	.arm = log_arm,
	.stop = log_stop,
	.free = log_free,
};

static int slot_place(struct slot *s, const struct ferry_mem *mem,
		      struct ferry_err *e)
{
	const struct ferry_kvm_slot *k = &s->kvm;
	const struct ferry_mem_block *b = ferry_mem_by_addr(mem, k->addr);
	uint64_t at = b ? (uint64_t)((uint8_t *)k->addr - b->host) : 0;

	if (!b || k->bytes > b->bytes - at)
		return ferry_err_set(e, FERRY_E_INVALID, 0,
				     "KVM slot %u: %" PRIu64
				     " octets at %p are not inside one block",
				     k->slot, k->bytes, k->addr);
	if (k->bytes == 0 || (k->bytes | at | k->gpa) % FERRY_PAGE_BYTES)
		return ferry_err_set(e, FERRY_E_INVALID, 0,
				     "KVM slot %u: %" PRIu64
				     " octets at %p, guest address 0x%" PRIx64
				     ", are not whole pages", k->slot,
				     k->bytes, k->addr, k->gpa);
	s->block = b->index;
	s->first = at / FERRY_PAGE_BYTES;
	s->pages = k->bytes / FERRY_PAGE_BYTES;
	s->words = (s->pages + 63) / 64;
	return 0;
}

static int slot_init(struct slot *s, const struct ferry_kvm_slot *kvm,
		     const struct ferry_mem *mem, struct ferry_err *e)
{
	s->kvm = *kvm;
	if (slot_place(s, mem, e))
		return -1;
	s->bits = calloc(s->words, sizeof(*s->bits));
	if (!s->bits)
		return ferry_err_set(e, FERRY_E_NOMEM, errno,
				     "KVM slot %u: dirty log", kvm->slot);
	return ferry_bitmap_init(&s->done, (s->pages + PIECE_PAGES - 1) /
				 PIECE_PAGES, e);
}

static int check_twice(const struct ferry_kvm_slot *slots, size_t n,
		       struct ferry_err *e)
{
	for (size_t i = 0; i < n; i++)
		for (size_t j = 0; j < i; j++)
			if (slots[i].slot == slots[j].slot)
				return ferry_err_set(e, FERRY_E_INVALID, 0,
						     "KVM slot %u is given twice",
						     slots[i].slot);
	return 0;
}

struct ferry_dirty *ferry_dirty_kvm_as(const struct ferry_mem *mem, int vm_fd,
				       const struct ferry_kvm_slot *slots,
				       size_t n, uint64_t modes,
				       struct ferry_err *e)
{
	struct log *l;

	if (check_twice(slots, n, e))
		return NULL;
	l = calloc(1, sizeof(*l));
	if (l)
		l->slot = calloc(n + 1, sizeof(*l->slot));
	if (!l || !l->slot) {
		free(l);
		ferry_err_set(e, FERRY_E_NOMEM, ENOMEM, "%zu KVM slots", n);
		return NULL;
	}

	l->dirty.ops = &log_ops;
	l->mem = mem;
	l->vm_fd = vm_fd;
	l->allowed = modes;
	l->slots = n;
	pthread_mutex_init(&l->lock, NULL);
	for (size_t i = 0; i < n; i++) {
		if (!slot_init(&l->slot[i], &slots[i], mem, e))
			continue;
		log_free(&l->dirty);
		return NULL;
	}
	return &l->dirty;
}

struct ferry_dirty *ferry_dirty_kvm(const struct ferry_mem *mem, int vm_fd,
				    const struct ferry_kvm_slot *slots,
				    size_t n, struct ferry_err *e)
{
	return ferry_dirty_kvm_as(mem, vm_fd, slots, n,
				  KVM_DIRTY_LOG_MANUAL_PROTECT_ENABLE |
				  KVM_DIRTY_LOG_INITIALLY_SET, e);
}
