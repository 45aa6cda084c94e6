/* SPDX-License-Identifier: MIT */
/*
 * State of the VM that is no vCPU's: interrupt chips, timer, clock.
 *
 * They are loaded after the vCPUs: the IOAPIC hands what is pending to the
 * LAPICs, which must have their state by then; the PIT raises a line of the
 * chips; kvmclock, which runs from the moment it is set, comes last of all.
 */
#include <inttypes.h>
#include <linux/kvm.h>
#include <string.h>
#include <sys/ioctl.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "vmm/state.h"

static const struct {
	uint32_t	 id;
	uint32_t	 bytes;
} chips[] = {
	{ KVM_IRQCHIP_PIC_MASTER, sizeof(struct kvm_pic_state) },
	{ KVM_IRQCHIP_PIC_SLAVE,  sizeof(struct kvm_pic_state) },
	{ KVM_IRQCHIP_IOAPIC,	  sizeof(struct kvm_ioapic_state) },
};

static int save_irqchip(const struct ferry_section *s, void *object,
			struct ferry_wr *w, struct ferry_err *e)
{
	const struct ferry_kvm *kvm = object;

	(void)s;
	for (size_t i = 0; i < FERRY_LEN(chips); i++) {
		struct kvm_irqchip chip = { .chip_id = chips[i].id };

		if (ioctl(kvm->vm_fd, KVM_GET_IRQCHIP, &chip))
			return ferry_err_set(e, FERRY_E_DEVICE, errno,
					     "chip %zu: read from KVM", i);
		ferry_state_put_struct(w, &chip.chip, chips[i].bytes);
	}
	return 0;
}

static int load_irqchip(const struct ferry_section *s, void *object,
			struct ferry_rd *r, struct ferry_err *e)
{
	const struct ferry_kvm *kvm = object;
	struct kvm_irqchip chip[FERRY_LEN(chips)] = { 0 };

	(void)s;
	for (size_t i = 0; i < FERRY_LEN(chips); i++) {
		chip[i].chip_id = chips[i].id;
		if (ferry_state_get_struct(r, &chip[i].chip, chips[i].bytes,
					   e))
			return ferry_err_wrap(e, "chip %zu", i);
	}
	if (ferry_section_ill_sized(r, e))
		return -1;
	for (size_t i = 0; i < FERRY_LEN(chips); i++)
		if (ioctl(kvm->vm_fd, KVM_SET_IRQCHIP, &chip[i]))
			return ferry_err_set(e, FERRY_E_DEVICE, errno,
					     "chip %zu: KVM refuses it", i);
	return 0;
}

/* The kernel notes when a channel was loaded by its own clock, which means
 * nothing elsewhere: on the way the times are ages. */
static void flip_load_times(struct kvm_pit_state2 *pit)
{
	int64_t now = (int64_t)ferry_now_ns();

	for (size_t i = 0; i < FERRY_LEN(pit->channels); i++)
		pit->channels[i].count_load_time = (int64_t)
			((uint64_t)now -
			 (uint64_t)pit->channels[i].count_load_time);
}

static int save_pit(const struct ferry_section *s, void *object,
		    struct ferry_wr *w, struct ferry_err *e)
{
	const struct ferry_kvm *kvm = object;
	struct kvm_pit_state2 pit = { 0 };

	if (ioctl(kvm->vm_fd, KVM_GET_PIT2, &pit))
		return ferry_err_set(e, FERRY_E_DEVICE, errno,
				     "read from KVM");
	flip_load_times(&pit);
	ferry_state_put_struct(w, &pit, s->bytes);
	return 0;
}

static int load_pit(const struct ferry_section *s, void *object,
		    struct ferry_rd *r, struct ferry_err *e)
{
	const struct ferry_kvm *kvm = object;
	struct kvm_pit_state2 pit = { 0 };

	if (ferry_state_get_struct(r, &pit, s->bytes, e) ||
	    ferry_section_ill_sized(r, e))
		return -1;
	flip_load_times(&pit);
	if (ioctl(kvm->vm_fd, KVM_SET_PIT2, &pit))
		return ferry_err_set(e, FERRY_E_DEVICE, errno,
				     "KVM refuses it");
	return 0;
}

static int save_kvmclock(const struct ferry_section *s, void *object,
			 struct ferry_wr *w, struct ferry_err *e)
{
	const struct ferry_kvm *kvm = object;
	struct kvm_clock_data clock = { 0 };

	(void)s;
	if (ioctl(kvm->vm_fd, KVM_GET_CLOCK, &clock))
		return ferry_err_set(e, FERRY_E_DEVICE, errno,
				     "read from KVM");
	ferry_wr_be64(w, clock.clock);
	return 0;
}

/* The guest's clock goes on where it stood: the pause is not in it, as the TSC
 * does not have it either.  Its time of day is then late by the pause. */
static int load_kvmclock(const struct ferry_section *s, void *object,
			 struct ferry_rd *r, struct ferry_err *e)
{
	const struct ferry_kvm *kvm = object;
	struct kvm_clock_data clock = { .clock = ferry_rd_be64(r) };

	(void)s;
	if (ferry_section_ill_sized(r, e))
		return -1;
	if (ioctl(kvm->vm_fd, KVM_SET_CLOCK, &clock))
		return ferry_err_set(e, FERRY_E_DEVICE, errno,
				     "KVM refuses it");
	return 0;
}

const struct ferry_section ferry_section_irqchip = {
	.name = "irqchip", .version = 1,
	.save = save_irqchip, .load = load_irqchip,
};

const struct ferry_section ferry_section_pit = {
	.name = "pit2", .version = 1,
	.save = save_pit, .load = load_pit,
	.bytes = sizeof(struct kvm_pit_state2),
};

const struct ferry_section ferry_section_kvmclock = {
	.name = "kvmclock", .version = 1,
	.save = save_kvmclock, .load = load_kvmclock,
};
