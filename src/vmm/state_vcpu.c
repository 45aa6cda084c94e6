/* SPDX-License-Identifier: MIT */
/*
 * A vCPU's state.  Most sections are one struct of KVM's ABI, which never
 * changes its meaning; a size in front refuses a stranger's.
 *
 * The time stamp counter is restored to its value at saving: the guest's clock
 * stands still during the move, and never goes back (kvmclock likewise, see
 * state_vm.c).
 */
#include <inttypes.h>
#include <linux/kvm.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>

#include "base/cleanup.h"
#include "vmm/state.h"

#define STRUCT_BYTES_MAX	1024u
#define TSC_TOLERANCE_PPM	250u	/* what NTP copes with; as QEMU */

void ferry_state_put_struct(struct ferry_wr *w, const void *data,
			    uint32_t bytes)
{
	ferry_wr_be32(w, bytes);
	ferry_wr_bytes(w, data, bytes);
}

int ferry_state_get_struct(struct ferry_rd *r, void *data, uint32_t bytes,
			   struct ferry_err *e)
{
	uint32_t size = ferry_rd_be32(r);
	const uint8_t *at;

	if (!r->bad && size != bytes)
		return ferry_err_set(e, FERRY_E_DEVICE, 0,
				     "state has %" PRIu32 " octets, %" PRIu32
				     " are wanted", size, bytes);
	at = ferry_rd_bytes(r, bytes);
	if (at)
		memcpy(data, at, bytes);
	return 0;
}

static int save_struct(const struct ferry_section *s, void *object,
		       struct ferry_wr *w, struct ferry_err *e)
{
	const struct ferry_vcpu_state *v = object;
	uint64_t buf[STRUCT_BYTES_MAX / 8] = { 0 };

	if (ioctl(v->fd, s->get, buf))
		return ferry_err_set(e, FERRY_E_DEVICE, errno,
				     "read from KVM");
	ferry_state_put_struct(w, buf, s->bytes);
	return 0;
}

static int load_struct(const struct ferry_section *s, void *object,
		       struct ferry_rd *r, struct ferry_err *e)
{
	const struct ferry_vcpu_state *v = object;
	uint64_t buf[STRUCT_BYTES_MAX / 8] = { 0 };

	if (ferry_state_get_struct(r, buf, s->bytes, e) ||
	    ferry_section_ill_sized(r, e))
		return -1;
	if (ioctl(v->fd, s->set, buf))
		return ferry_err_set(e, FERRY_E_DEVICE, errno,
				     "KVM refuses it");
	return 0;
}

#ifdef KVM_GET_XSAVE2
#define GET_XSAVE2	KVM_GET_XSAVE2
#else
#define GET_XSAVE2	_IOR(KVMIO, 0xcf, struct kvm_xsave)
#endif

static int save_xsave(const struct ferry_section *s, void *object,
		      struct ferry_wr *w, struct ferry_err *e)
{
	const struct ferry_vcpu_state *v = object;
	uint32_t bytes = v->kvm->xsave_bytes;
	FERRY_AUTO_FREE void *buf = calloc(1, bytes);
	bool large = bytes > sizeof(struct kvm_xsave);

	(void)s;
	if (!buf)
		return ferry_err_set(e, FERRY_E_NOMEM, ENOMEM, "xsave");
	if (ioctl(v->fd, large ? GET_XSAVE2 : KVM_GET_XSAVE, buf))
		return ferry_err_set(e, FERRY_E_DEVICE, errno,
				     "read from KVM");
	ferry_state_put_struct(w, buf, bytes);
	return 0;
}

/* A target may have room for more than the source sends. */
static int load_xsave(const struct ferry_section *s, void *object,
		      struct ferry_rd *r, struct ferry_err *e)
{
	const struct ferry_vcpu_state *v = object;
	FERRY_AUTO_FREE void *buf = calloc(1, v->kvm->xsave_bytes);
	uint32_t bytes = ferry_rd_be32(r);
	const uint8_t *at = ferry_rd_bytes(r, bytes);

	(void)s;
	if (!buf)
		return ferry_err_set(e, FERRY_E_NOMEM, ENOMEM, "xsave");
	if (ferry_section_ill_sized(r, e))
		return -1;
	if (bytes < sizeof(struct kvm_xsave) || bytes > v->kvm->xsave_bytes)
		return ferry_err_set(e, FERRY_E_DEVICE, 0,
				     "register state of %" PRIu32 " octets, "
				     "this host has %" PRIu32, bytes,
				     v->kvm->xsave_bytes);
	memcpy(buf, at, bytes);
	if (ioctl(v->fd, KVM_SET_XSAVE, buf))
		return ferry_err_set(e, FERRY_E_DEVICE, errno,
				     "KVM refuses it");
	return 0;
}

static int save_tsc_khz(const struct ferry_section *s, void *object,
			struct ferry_wr *w, struct ferry_err *e)
{
	const struct ferry_vcpu_state *v = object;
	int khz = ioctl(v->fd, KVM_GET_TSC_KHZ, 0);

	(void)s;
	if (khz <= 0)
		return ferry_err_set(e, FERRY_E_DEVICE, khz < 0 ? errno : 0,
				     "read from KVM");
	ferry_wr_be32(w, (uint32_t)khz);
	return 0;
}

static int load_tsc_khz(const struct ferry_section *s, void *object,
			struct ferry_rd *r, struct ferry_err *e)
{
	const struct ferry_vcpu_state *v = object;
	int64_t here = ioctl(v->fd, KVM_GET_TSC_KHZ, 0);
	int64_t khz = ferry_rd_be32(r);

	(void)s;
	if (ferry_section_ill_sized(r, e))
		return -1;
	if (llabs(khz - here) <= here * TSC_TOLERANCE_PPM / 1000000)
		return 0;
	if (!v->kvm->tsc_control || khz == 0 ||
	    ioctl(v->fd, KVM_SET_TSC_KHZ, (unsigned long)khz))
		return ferry_err_set(e, FERRY_E_MISMATCH, 0,
				     "the guest's clock ticks at %" PRId64
				     " kHz, this CPU at %" PRId64 " kHz and "
				     "it cannot scale", khz, here);
	return 0;
}

static const struct ferry_section
mp_state = {
	.name = "cpu/mp-state", .version = 1,
	.save = save_struct, .load = load_struct,
	.get = KVM_GET_MP_STATE, .set = KVM_SET_MP_STATE,
	.bytes = sizeof(struct kvm_mp_state),
},
tsc_khz = {
	.name = "cpu/tsc-khz", .version = 1,
	.save = save_tsc_khz, .load = load_tsc_khz,
},
sregs = {
	.name = "cpu/sregs", .version = 1,
	.save = save_struct, .load = load_struct,
	.get = KVM_GET_SREGS, .set = KVM_SET_SREGS,
	.bytes = sizeof(struct kvm_sregs),
},
regs = {
	.name = "cpu/regs", .version = 1,
	.save = save_struct, .load = load_struct,
	.get = KVM_GET_REGS, .set = KVM_SET_REGS,
	.bytes = sizeof(struct kvm_regs),
},
xcrs = {
	.name = "cpu/xcrs", .version = 1,
	.save = save_struct, .load = load_struct,
	.get = KVM_GET_XCRS, .set = KVM_SET_XCRS,
	.bytes = sizeof(struct kvm_xcrs),
},
xsave = {
	.name = "cpu/xsave", .version = 1,
	.save = save_xsave, .load = load_xsave,
},
debugregs = {
	.name = "cpu/debugregs", .version = 1,
	.save = save_struct, .load = load_struct,
	.get = KVM_GET_DEBUGREGS, .set = KVM_SET_DEBUGREGS,
	.bytes = sizeof(struct kvm_debugregs),
},
lapic = {
	.name = "cpu/lapic", .version = 1,
	.save = save_struct, .load = load_struct,
	.get = KVM_GET_LAPIC, .set = KVM_SET_LAPIC,
	.bytes = sizeof(struct kvm_lapic_state),
},
events = {
	.name = "cpu/events", .version = 1,
	.save = save_struct, .load = load_struct,
	.get = KVM_GET_VCPU_EVENTS, .set = KVM_SET_VCPU_EVENTS,
	.bytes = sizeof(struct kvm_vcpu_events),
};

_Static_assert(sizeof(struct kvm_lapic_state) <= STRUCT_BYTES_MAX, "largest");
_Static_assert(sizeof(struct kvm_sregs) <= STRUCT_BYTES_MAX, "sregs");
_Static_assert(sizeof(struct kvm_xcrs) <= STRUCT_BYTES_MAX, "xcrs");

/*
 * The order of saving and of loading.
 *
 *  mp-state   first: reading it lets KVM act on an INIT or SIPI that waits,
 *             which changes registers and LAPIC
 *  tsc-khz    before the TSC and the TSC deadline are set
 *  sregs      CPU mode and APIC base: what all of the following is checked
 *             against (the LAPIC's layout depends on x2APIC mode)
 *  regs       setting them drops a pending exception: before events
 *  xcrs       what of the extended state is in use
 *  lapic      before msrs: the TSC deadline is dropped unless the LAPIC's
 *             timer is in that mode
 *  events     last: pending exceptions and interrupts, which the other calls
 *             may touch
 */
const struct ferry_section *const
ferry_vcpu_sections[FERRY_VCPU_SECTIONS_MAX] = {
	&mp_state, &tsc_khz, &sregs, &regs, &xcrs, &xsave, &debugregs, &lapic,
	&ferry_section_msrs, &events, NULL,
};
