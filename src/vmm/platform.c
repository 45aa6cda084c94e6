/* SPDX-License-Identifier: MIT */
/* See platform.h. */
#include "vmm/platform.h"

#include <string.h>
#include <time.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "vmm/layout.h"

#define PM_ENABLE	2u		/* offsets from FERRY_PORT_PM */
#define PM_CONTROL	4u
#define PM_CONTROL_ACPI	(1u << 0)	/* SCI_EN: always */
#define PM_CONTROL_KEEP	0x1c02u		/* SLP_TYP, BM_RLD */
#define PM_SLEEP	(1u << 13)

#define RESET_CPU	(1u << 2)	/* in port 0xcf9 */
#define KBD_PULSE_RESET	0xfeu		/* in port 0x64 */

#define CMOS_DATA	1u		/* offset; 0 is the index */
#define CMOS_INDEX_BITS	0x7fu
#define CMOS_STATUS_A	0x0au
#define CMOS_STATUS_B	0x0bu
#define CMOS_STATUS_D	0x0du
#define CMOS_CENTURY	0x32u

void ferry_platform_init(struct ferry_platform *p)
{
	memset(p, 0, sizeof(*p));
	p->limit_ns = UINT64_MAX;
	pthread_mutex_init(&p->lock, NULL);
}

void ferry_platform_fini(struct ferry_platform *p)
{
	pthread_mutex_destroy(&p->lock);
}

static uint8_t bcd(int n)
{
	return (uint8_t)(n / 10 % 10 << 4 | n % 10);
}

/* The host's clock in UTC; never in the middle of an update. */
static uint8_t read_cmos(uint8_t index)
{
	time_t now = time(NULL);
	struct tm t;

	gmtime_r(&now, &t);
	switch (index) {
	case 0x00:		return bcd(t.tm_sec);
	case 0x02:		return bcd(t.tm_min);
	case 0x04:		return bcd(t.tm_hour);
	case 0x06:		return bcd(t.tm_wday + 1);
	case 0x07:		return bcd(t.tm_mday);
	case 0x08:		return bcd(t.tm_mon + 1);
	case 0x09:		return bcd(t.tm_year % 100);
	case CMOS_CENTURY:	return bcd(19 + t.tm_year / 100);
	case CMOS_STATUS_A:	return 0x26;	/* 32 kHz, 1024 Hz */
	case CMOS_STATUS_B:	return 0x02;	/* BCD, 24 hours */
	case CMOS_STATUS_D:	return 0x80;	/* the battery is good */
	}
	return 0;
}

static uint32_t cmos_in(void *opaque, unsigned offset, unsigned size)
{
	struct ferry_platform *p = opaque;
	uint8_t value = 0xff;

	(void)size;
	pthread_mutex_lock(&p->lock);
	if (offset == CMOS_DATA)
		value = read_cmos(p->cmos_index);
	pthread_mutex_unlock(&p->lock);
	return value;
}

static enum ferry_act cmos_out(void *opaque, unsigned offset, unsigned size,
			       uint32_t value)
{
	struct ferry_platform *p = opaque;

	(void)size;
	pthread_mutex_lock(&p->lock);
	if (offset != CMOS_DATA)
		p->cmos_index = value & CMOS_INDEX_BITS;
	pthread_mutex_unlock(&p->lock);
	return FERRY_ACT_GO_ON;
}

/* No event ever happens here: the status register is always zero. */
static uint32_t pm_in(void *opaque, unsigned offset, unsigned size)
{
	struct ferry_platform *p = opaque;
	uint32_t value = 0;

	(void)size;
	pthread_mutex_lock(&p->lock);
	if (offset == PM_ENABLE)
		value = p->pm_enable;
	else if (offset == PM_CONTROL)
		value = p->pm_control | PM_CONTROL_ACPI;
	pthread_mutex_unlock(&p->lock);
	return value;
}

static enum ferry_act pm_out(void *opaque, unsigned offset, unsigned size,
			     uint32_t value)
{
	struct ferry_platform *p = opaque;
	enum ferry_act act = FERRY_ACT_GO_ON;

	if (size == 1)
		return act;
	pthread_mutex_lock(&p->lock);
	if (offset == PM_ENABLE)
		p->pm_enable = (uint16_t)value;
	if (offset == PM_CONTROL) {
		p->pm_control = value & PM_CONTROL_KEEP;
		if (value & PM_SLEEP)
			act = FERRY_ACT_SHUTDOWN;
	}
	pthread_mutex_unlock(&p->lock);
	return act;
}

static uint32_t reset_in(void *opaque, unsigned offset, unsigned size)
{
	struct ferry_platform *p = opaque;
	uint32_t value;

	(void)offset;
	(void)size;
	pthread_mutex_lock(&p->lock);
	value = p->reset_control;
	pthread_mutex_unlock(&p->lock);
	return value;
}

static enum ferry_act reset_out(void *opaque, unsigned offset, unsigned size,
				uint32_t value)
{
	struct ferry_platform *p = opaque;

	(void)offset;
	(void)size;
	pthread_mutex_lock(&p->lock);
	p->reset_control = value & ~RESET_CPU & 0xff;
	pthread_mutex_unlock(&p->lock);
	return value & RESET_CPU ? FERRY_ACT_RESET : FERRY_ACT_GO_ON;
}

/* There is no keyboard controller, but everybody resets by it. */
static uint32_t keyboard_in(void *opaque, unsigned offset, unsigned size)
{
	(void)opaque;
	(void)offset;
	(void)size;
	return ~0u;
}

static enum ferry_act keyboard_out(void *opaque, unsigned offset,
				   unsigned size, uint32_t value)
{
	(void)opaque;
	(void)offset;
	(void)size;
	return value == KBD_PULSE_RESET ? FERRY_ACT_RESET : FERRY_ACT_GO_ON;
}

static void beat_locked(struct ferry_heartbeat *h, uint64_t now)
{
	if (h->last_ns && now - h->last_ns > h->longest_gap_ns)
		h->longest_gap_ns = now - h->last_ns;
	if (!h->first_ns)
		h->first_ns = now;
	h->last_ns = now;
	h->beats++;
}

static enum ferry_act heartbeat_out(void *opaque, unsigned offset,
				    unsigned size, uint32_t value)
{
	struct ferry_platform *p = opaque;
	uint64_t now;

	(void)offset;
	(void)size;
	(void)value;
	pthread_mutex_lock(&p->lock);
	now = ferry_now_ns();
	if (ferry_boot_ns() < p->limit_ns)
		beat_locked(&p->heartbeat, now);
	pthread_mutex_unlock(&p->lock);
	return FERRY_ACT_GO_ON;
}

void ferry_platform_limit(struct ferry_platform *p, uint64_t boot_ns)
{
	pthread_mutex_lock(&p->lock);
	p->limit_ns = boot_ns;
	pthread_mutex_unlock(&p->lock);
}

void ferry_platform_heartbeat(struct ferry_platform *p,
			      struct ferry_heartbeat *out)
{
	pthread_mutex_lock(&p->lock);
	*out = p->heartbeat;
	p->heartbeat.beats = 0;
	p->heartbeat.longest_gap_ns = 0;
	p->heartbeat.first_ns = 0;
	pthread_mutex_unlock(&p->lock);
}

void ferry_platform_add_ports(struct ferry_platform *p,
			      struct ferry_ports *ports)
{
	const struct ferry_port_range ranges[] = {
		{ 0xfe, 0xfe, p, keyboard_in, heartbeat_out },
		{ 0x70, 0x71, p, cmos_in, cmos_out },
		{ FERRY_PORT_PM, FERRY_PORT_PM + 5, p, pm_in, pm_out },
		{ 0x64, 0x64, p, keyboard_in, keyboard_out },
		{ 0xcf9, 0xcf9, p, reset_in, reset_out },
	};

	for (size_t i = 0; i < FERRY_LEN(ranges); i++)
		ferry_ports_add(ports, &ranges[i]);
}

/*
 *   0            1               2           4            6
 *   | cmos index | reset control | pm enable | pm control |
 */
static int save(const struct ferry_section *s, void *object,
		struct ferry_wr *w, struct ferry_err *e)
{
	const struct ferry_platform *p = object;

	(void)s;
	(void)e;
	ferry_wr_u8(w, p->cmos_index);
	ferry_wr_u8(w, p->reset_control);
	ferry_wr_be16(w, p->pm_enable);
	ferry_wr_be16(w, p->pm_control);
	return 0;
}

static int load(const struct ferry_section *s, void *object,
		struct ferry_rd *r, struct ferry_err *e)
{
	struct ferry_platform *p = object;
	uint8_t index = ferry_rd_u8(r);
	uint8_t reset = ferry_rd_u8(r);
	uint16_t enable = ferry_rd_be16(r);
	uint16_t control = ferry_rd_be16(r);

	(void)s;
	if (ferry_section_ill_sized(r, e))
		return -1;
	p->cmos_index = index & CMOS_INDEX_BITS;
	p->reset_control = reset & ~RESET_CPU & 0xff;
	p->pm_enable = enable;
	p->pm_control = control & PM_CONTROL_KEEP;
	return 0;
}

const struct ferry_section ferry_section_platform = {
	.name = "platform",
	.version = 1,
	.save = save,
	.load = load,
};
