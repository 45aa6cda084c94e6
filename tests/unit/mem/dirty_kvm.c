/* SPDX-License-Identifier: MIT */
/*
 * KVM's dirty log, with a virtual machine of one vCPU whose whole program is
 * "write one octet at DS:BX and halt": the test picks DS's base, and so says
 * which page is written when.  In all modes that the kernel has.
 */
#include "help.h"

#include <fcntl.h>
#include <linux/kvm.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/ioctl.h>

#include "mem/dirty_kvm.h"

/* One block, two slots, as around a hole below 4 GiB; the second slot begins
 * in the middle of a word of the block's bitmap. */
#define SLOT0_PAGES	25601ull
#define SLOT1_PAGES	16489ull
#define PAGES		(SLOT0_PAGES + SLOT1_PAGES)
#define SLOT1_GPA	0x10000000ull
#define CODE_PAGE	1	/* page 0 stays for vectors, none are used */

#define ENABLE		KVM_DIRTY_LOG_MANUAL_PROTECT_ENABLE
#define LAZY		KVM_DIRTY_LOG_INITIALLY_SET

struct stage {
	struct area		 a;
	struct ferry_mem	 mem;
	struct ferry_owed	 owed;
	struct ferry_dirty	*d;
	int			 kvm, vm, vcpu;
	struct kvm_run		*run;
	size_t			 run_bytes;
	struct ferry_kvm_slot	 slot[2];
	uint8_t			*copy;		/* what the target has */
};

static uint64_t mode;		/* of this turn of the tests */

static uint64_t gpa_of(uint64_t page)
{
	return page < SLOT0_PAGES ? page * PAGE :
	       SLOT1_GPA + (page - SLOT0_PAGES) * PAGE;
}

static void make_vcpu(struct stage *s)
{
	/* mov [bx], al; hlt */
	static const uint8_t code[] = { 0x88, 0x07, 0xf4 };

	s->vcpu = ioctl(s->vm, KVM_CREATE_VCPU, 0);
	assert_true(s->vcpu >= 0);
	s->run_bytes = (size_t)ioctl(s->kvm, KVM_GET_VCPU_MMAP_SIZE, 0);
	s->run = mmap(NULL, s->run_bytes, PROT_READ | PROT_WRITE, MAP_SHARED,
		      s->vcpu, 0);
	assert_true(s->run != MAP_FAILED);
	memcpy(s->a.p + CODE_PAGE * PAGE, code, sizeof(code));
}

/* The guest writes value into a page, at its start. */
static void guest_writes(struct stage *s, uint64_t page, uint8_t value)
{
	struct kvm_regs r = { .rip = CODE_PAGE * PAGE, .rax = value,
			      .rflags = 2 };
	struct kvm_sregs sr;

	assert_int_equal(ioctl(s->vcpu, KVM_GET_SREGS, &sr), 0);
	sr.cs.selector = 0;
	sr.cs.base = 0;
	sr.ds.selector = 0;
	sr.ds.base = gpa_of(page);
	assert_int_equal(ioctl(s->vcpu, KVM_SET_SREGS, &sr), 0);
	assert_int_equal(ioctl(s->vcpu, KVM_SET_REGS, &r), 0);
	assert_int_equal(ioctl(s->vcpu, KVM_RUN, 0), 0);
	assert_int_equal(s->run->exit_reason, KVM_EXIT_HLT);
}

static void make_vm(struct stage *s)
{
	s->kvm = open("/dev/kvm", O_RDWR | O_CLOEXEC);
	s->vm = ioctl(s->kvm, KVM_CREATE_VM, 0);
	assert_true(s->vm >= 0);
	(void)ioctl(s->vm, KVM_SET_TSS_ADDR, 0xfffbd000ul);
	for (uint32_t i = 0; i < 2; i++) {
		struct kvm_userspace_memory_region r = {
			.slot = s->slot[i].slot,
			.guest_phys_addr = s->slot[i].gpa,
			.memory_size = s->slot[i].bytes,
			.userspace_addr = (uintptr_t)s->slot[i].addr,
		};

		assert_int_equal(ioctl(s->vm, KVM_SET_USER_MEMORY_REGION, &r),
				 0);
	}
	make_vcpu(s);
}

static int make(void **state)
{
	struct stage *s = calloc(1, sizeof(*s));
	struct ferry_err e = { 0 };

	area_make(&s->a, MEMFD, PAGES * PAGE);
	area_add(&s->mem, "ram", &s->a);
	s->slot[0] = (struct ferry_kvm_slot)FERRY_KVM_SLOT_INIT;
	s->slot[0].slot = 3;
	s->slot[0].bytes = SLOT0_PAGES * PAGE;
	s->slot[0].addr = s->a.p;
	s->slot[1] = s->slot[0];
	s->slot[1].slot = 7;
	s->slot[1].gpa = SLOT1_GPA;
	s->slot[1].bytes = SLOT1_PAGES * PAGE;
	s->slot[1].addr = s->a.p + SLOT0_PAGES * PAGE;
	make_vm(s);
	s->d = ferry_dirty_kvm_as(&s->mem, s->vm, s->slot, 2, mode, &e);
	if (!s->d)
		fail_msg("%s", e.msg);
	/* Only touched pages of it become real. */
	s->copy = mmap(NULL, PAGES * PAGE, PROT_READ | PROT_WRITE,
		       MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	*state = s;
	return ferry_owed_init(&s->owed, &s->mem, &e);
}

static int unmake(void **state)
{
	struct stage *s = *state;

	s->d->ops->stop(s->d);
	s->d->ops->free(s->d);
	ferry_owed_fini(&s->owed);
	ferry_mem_fini(&s->mem);
	munmap(s->run, s->run_bytes);
	munmap(s->copy, PAGES * PAGE);
	close(s->vcpu);
	close(s->vm);
	close(s->kvm);
	area_free(&s->a);
	free(s);
	return 0;
}

static void start(struct stage *s)
{
	struct ferry_err e = { 0 };

	if (s->d->ops->start(s->d, &e))
		fail_msg("%s", e.msg);
}

static void harvest(struct stage *s, bool final)
{
	struct ferry_err e = { 0 };

	if (s->d->ops->harvest(s->d, &s->owed, final, &e))
		fail_msg("%s", e.msg);
}

static void arm(struct stage *s, uint64_t first, uint64_t pages)
{
	assert_int_equal(s->d->ops->arm(s->d, 0, first, pages), 0);
}

static void forget(struct stage *s)
{
	for (uint64_t w = 0; w < s->owed.map[0].words; w++)
		ferry_owed_drain_word(&s->owed, 0, w, ~0ull);
}

/*
 * Owed are exactly these n.  The page of the code does not count: ordinary KVM
 * maps a page writable, and tells it, when it is first read (seen on SVM).
 */
static void owed_are(struct stage *s, const uint64_t *page, size_t n)
{
	ferry_owed_drain_word(&s->owed, 0, 0, 1ull << CODE_PAGE);
	assert_int_equal(ferry_owed_pages(&s->owed), n);
	for (size_t i = 0; i < n; i++)
		if (!ferry_bitmap_test(&s->owed.map[0], page[i]))
			fail_msg("page %llu is not owed",
				 (unsigned long long)page[i]);
}

static const uint64_t some[] = {
	2, 63, 64, 16383, 16384, SLOT0_PAGES - 1, SLOT0_PAGES,
	SLOT0_PAGES + 62, SLOT0_PAGES + 63, SLOT0_PAGES + 16384, PAGES - 1,
};
#define SOME	(sizeof(some) / sizeof(some[0]))

static void exactly_the_written_pages_are_told(void **state)
{
	struct stage *s = *state;

	start(s);
	arm(s, 0, PAGES);
	for (size_t i = 0; i < SOME; i++)
		guest_writes(s, some[i], 1);
	harvest(s, false);
	owed_are(s, some, SOME);
	forget(s);

	arm(s, 0, PAGES);
	harvest(s, false);
	owed_are(s, NULL, 0);
	guest_writes(s, some[5], 2);
	harvest(s, true);
	owed_are(s, &some[5], 1);
}

static void untouched_pages_are_not_told_before_the_first_arm(void **state)
{
	struct stage *s = *state;
	const uint64_t touched[] = { 20000, 30000 };

	s->a.p[20000 * PAGE] = 1;
	start(s);
	guest_writes(s, 30000, 1);
	harvest(s, true);
	assert_true(ferry_bitmap_test(&s->owed.map[0], 30000));
	if (mode & LAZY)
		owed_are(s, touched, 2);
	else
		owed_are(s, &touched[1], 1);
}

static void a_write_after_arm_is_told_by_the_next_harvest(void **state)
{
	struct stage *s = *state;

	start(s);
	for (unsigned round = 0; round < 3; round++) {
		guest_writes(s, 16384, 1);	/* before: told or not */
		harvest(s, false);
		guest_writes(s, 16384, 2);
		arm(s, 16384 + 5, 1);		/* the piece of that page */
		forget(s);
		guest_writes(s, 16384, 3);
		harvest(s, false);
		assert_true(ferry_bitmap_test(&s->owed.map[0], 16384));
	}
}

static void a_new_start_in_the_same_vm_begins_afresh(void **state)
{
	struct stage *s = *state;

	for (unsigned round = 0; round < 3; round++) {
		start(s);
		arm(s, 0, PAGES);
		harvest(s, false);
		guest_writes(s, some[round], 1);
		if (round == 1)
			arm(s, 0, PAGES / 2);
		s->d->ops->stop(s->d);
		s->d->ops->stop(s->d);
		guest_writes(s, some[round], 2);
		forget(s);

		start(s);
		arm(s, 0, PAGES);
		guest_writes(s, some[round + 1], 1);
		harvest(s, true);
		owed_are(s, &some[round + 1], 1);
		s->d->ops->stop(s->d);
		forget(s);
	}
}

/* The engine in small: drain a word, arm, read its pages. */
static void send_word(struct stage *s, uint64_t w, bool final)
{
	uint64_t bits;

	if (!final)
		arm(s, w * 64, PAGES - w * 64 < 64 ? PAGES - w * 64 : 64);
	bits = ferry_owed_drain_word(&s->owed, 0, w, ~0ull);
	for (; bits; bits &= bits - 1) {
		uint64_t at = (w * 64 + (uint64_t)__builtin_ctzll(bits)) *
			      PAGE;

		atomic_store((_Atomic uint8_t *)(s->copy + at),
			     atomic_load((_Atomic uint8_t *)(s->a.p + at)));
	}
}

static uint64_t next_random(uint64_t *x)
{
	*x = *x * 6364136223846793005ull + 1442695040888963407ull;
	return *x >> 33;
}

/* All pages the guest uses: a handful in each word, in all pieces. */
static uint64_t pick(uint64_t *x)
{
	return 128 + next_random(x) % 160 * 262 + next_random(x) % 3;
}

static void same_as_copy(struct stage *s)
{
	for (uint64_t p = 128; p < PAGES; p++)
		if ((p - 128) % 262 < 3 &&
		    s->a.p[p * PAGE] != s->copy[p * PAGE])
			fail_msg("page %llu: %u here, %u there",
				 (unsigned long long)p, s->a.p[p * PAGE],
				 s->copy[p * PAGE]);
}

static void any_order_of_writes_and_passes_loses_nothing(void **state)
{
	struct stage *s = *state;
	uint64_t x = 42;

	start(s);
	for (unsigned step = 0; step < 3000; step++) {
		if (next_random(&x) % 100 == 0)
			harvest(s, false);
		else if (next_random(&x) % 2)
			send_word(s, pick(&x) / 64, false);
		else
			guest_writes(s, pick(&x), (uint8_t)(step | 1));
	}
	harvest(s, true);
	for (uint64_t w = 0; w < s->owed.map[0].words; w++)
		send_word(s, w, true);
	same_as_copy(s);
}

struct busy {
	struct stage	*s;
	atomic_bool	 end;
	uint64_t	 seed;
};

static void *busy_vcpu(void *arg)
{
	struct busy *b = arg;

	for (uint8_t v = 1; !atomic_load(&b->end); v++)
		guest_writes(b->s, pick(&b->seed), v);
	return NULL;
}

static void *busy_sender(void *arg)
{
	struct busy *b = arg;

	while (!atomic_load(&b->end))
		send_word(b->s, pick(&b->seed) / 64, false);
	return NULL;
}

static void two_senders_and_a_running_vcpu_lose_nothing(void **state)
{
	struct stage *s = *state;
	struct busy b[3] = {
		{ s, false, 1 }, { s, false, 2 }, { s, false, 3 },
	};
	pthread_t t[3];

	start(s);
	pthread_create(&t[0], NULL, busy_vcpu, &b[0]);
	pthread_create(&t[1], NULL, busy_sender, &b[1]);
	pthread_create(&t[2], NULL, busy_sender, &b[2]);
	for (int i = 0; i < 100; i++) {
		harvest(s, false);
		usleep(1000);
	}
	for (int i = 0; i < 3; i++) {
		atomic_store(&b[i].end, true);
		pthread_join(t[i], NULL);
	}
	harvest(s, true);
	for (uint64_t w = 0; w < s->owed.map[0].words; w++)
		send_word(s, w, true);
	same_as_copy(s);
}

static void slots_that_make_no_sense_are_refused(void **state)
{
	struct stage *s = *state;
	struct ferry_err e = { 0 };
	struct ferry_kvm_slot bad[2];
	const struct {
		const char *why;
		uint64_t bytes;
		void *addr;
		uint64_t gpa;
		const char *says;
	} table[] = {
		{ "outside", PAGE, s, 0, "not inside one block" },
		{ "past the end", PAGES * PAGE, s->a.p + PAGE, 0,
		  "not inside one block" },
		{ "wraps", UINT64_MAX, s->a.p, 0, "not inside one block" },
		{ "empty", 0, s->a.p, 0, "whole pages" },
		{ "odd size", 100, s->a.p, 0, "whole pages" },
		{ "odd address", PAGE, s->a.p + 1, 0, "whole pages" },
		{ "odd guest address", PAGE, s->a.p, 12, "whole pages" },
	};

	for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
		memcpy(bad, s->slot, sizeof(bad));
		bad[1].bytes = table[i].bytes;
		bad[1].addr = table[i].addr;
		bad[1].gpa = table[i].gpa;
		if (ferry_dirty_kvm(&s->mem, s->vm, bad, 2, &e) ||
		    e.code != FERRY_E_INVALID || !strstr(e.msg, table[i].says))
			fail_msg("%s: %s", table[i].why, e.msg);
	}
	bad[1] = bad[0] = s->slot[0];
	assert_null(ferry_dirty_kvm(&s->mem, s->vm, bad, 2, &e));
	assert_non_null(strstr(e.msg, "twice"));
}

static void a_slot_that_kvm_does_not_have_is_an_error(void **state)
{
	struct stage *s = *state;
	struct ferry_kvm_slot none = s->slot[0];
	struct ferry_err e = { 0 };
	struct ferry_dirty *d;

	none.slot = 1;		/* overlaps slot 3 in guest memory */
	d = ferry_dirty_kvm(&s->mem, s->vm, &none, 1, &e);
	assert_non_null(d);
	assert_int_equal(d->ops->start(d, &e), -1);
	assert_non_null(strstr(e.msg, "KVM slot 1: "));
	d->ops->stop(d);
	d->ops->free(d);
}

#define T(f) cmocka_unit_test_setup_teardown(f, make, unmake)

int main(void)
{
	static const uint64_t modes[] = { 0, ENABLE, ENABLE | LAZY };
	const struct CMUnitTest tests[] = {
		T(exactly_the_written_pages_are_told),
		T(untouched_pages_are_not_told_before_the_first_arm),
		T(a_write_after_arm_is_told_by_the_next_harvest),
		T(a_new_start_in_the_same_vm_begins_afresh),
		T(any_order_of_writes_and_passes_loses_nothing),
		T(two_senders_and_a_running_vcpu_lose_nothing),
		T(slots_that_make_no_sense_are_refused),
		T(a_slot_that_kvm_does_not_have_is_an_error),
	};
	int kvm = open("/dev/kvm", O_RDWR | O_CLOEXEC), failed = 0;
	uint64_t have;

	need(kvm >= 0, "/dev/kvm cannot be opened");
	have = (uint64_t)ioctl(kvm, KVM_CHECK_EXTENSION,
			       KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2);
	close(kvm);
	for (size_t i = 0; i < sizeof(modes) / sizeof(modes[0]); i++) {
		mode = modes[i];
		if ((mode & have) != mode) {
			printf("kernel lacks log mode %llu: left out\n",
			       (unsigned long long)mode);
			continue;
		}
		printf("log mode %llu\n", (unsigned long long)mode);
		failed += cmocka_run_group_tests(tests, NULL, NULL);
	}
	return failed;
}
