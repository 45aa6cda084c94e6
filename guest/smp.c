/* SPDX-License-Identifier: MIT */
/*
 * INIT and SIPI through the local APIC, one vCPU after the other, from ring 3.
 */
#include "smp.h"

#include "x86.h"

#define APIC		0xfee00000ull
#define APIC_SPURIOUS	0x0f0
#define APIC_ICR_LOW	0x300
#define APIC_ICR_HIGH	0x310
#define APIC_ENABLE	0x1ff		/* and spurious vector 255 */
#define ICR_BUSY	0x1000
#define ICR_INIT	0x4500
#define ICR_STARTUP	0x4600

#define INIT_US		10000
#define STARTUP_US	1000000		/* then once more, then give up */
#define STARTUPS	3
#define POLLS_MAX	100000

extern const char ap_start[], ap_end[];	/* entry.S */
extern volatile uint32_t ap_index;

static _Atomic unsigned arrived = 1;

void smp_arrived(void)
{
	atomic_fetch_add(&arrived, 1);
}

static void apic_write(unsigned reg, uint32_t value)
{
	*(volatile uint32_t *)(APIC + reg) = value;
}

static uint32_t apic_read(unsigned reg)
{
	return *(volatile uint32_t *)(APIC + reg);
}

static void send_ipi(unsigned apic_id, uint32_t what)
{
	apic_write(APIC_ICR_HIGH, apic_id << 24);
	apic_write(APIC_ICR_LOW, what);
	for (unsigned i = 0; i < POLLS_MAX; i++)
		if (!(apic_read(APIC_ICR_LOW) & ICR_BUSY))
			return;
}

/* True as soon as `count` vCPUs run. */
static bool wait_us(struct cpu *boss, uint64_t us, unsigned count)
{
	uint64_t end = boss->clock.now + clock_cycles(&boss->clock, us);

	while (boss->clock.now < end) {
		if (atomic_load(&arrived) >= count)
			return true;
		cpu_tick(boss);
		cpu_pause();
	}
	return false;
}

bool smp_start(struct cpu *boss, unsigned index)
{
	char *trampoline = (char *)TRAMPOLINE;

	for (unsigned i = 0; i < (unsigned)(ap_end - ap_start); i++)
		trampoline[i] = ap_start[i];
	ap_index = index;
	atomic_thread_fence(memory_order_seq_cst);

	apic_write(APIC_SPURIOUS, APIC_ENABLE);
	send_ipi(index, ICR_INIT);
	wait_us(boss, INIT_US, CPUS_MAX + 1);
	for (unsigned i = 0; i < STARTUPS; i++) {
		send_ipi(index, ICR_STARTUP | TRAMPOLINE >> 12);
		if (wait_us(boss, STARTUP_US, index + 1))
			return true;
	}
	return false;
}
