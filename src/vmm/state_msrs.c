/* SPDX-License-Identifier: MIT */
/*
 * Model specific registers.  Which ones are state is found at start: those
 * that KVM lists and lets be read and written back, less those below.
 *
 *   0       4       8              16
 *   | count | index | value         | index | value ...
 */
#include <inttypes.h>
#include <linux/kvm.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>

#include "base/cleanup.h"
#include "vmm/state.h"

#define MSRS_MAX		1024u
#define MSR_TSC			0x10u
#define MSR_TSC_DEADLINE	0x6e0u

/* Writing one of these is a command: KVM writes the time of day into guest
 * memory, where by now something else may be. */
#define MSR_KVM_WALL_CLOCK	0x11u
#define MSR_KVM_WALL_CLOCK_NEW	0x4b564d00u

/* State, though KVM does not list it: the memory type ranges. */
static const struct {
	uint32_t first, last;
} unlisted[] = {
	{ 0x200, 0x20f }, { 0x250, 0x250 }, { 0x258, 0x259 },
	{ 0x268, 0x26f }, { 0x2ff, 0x2ff },
};

union one_msr {
	struct kvm_msrs	msrs;
	uint8_t		room[sizeof(struct kvm_msrs) +
			     sizeof(struct kvm_msr_entry)];
};

/* The caller's: free(). */
static struct kvm_msr_list *ask_list(int fd, unsigned long request,
				     struct ferry_err *e)
{
	struct kvm_msr_list *l;

	l = calloc(1, sizeof(*l) + MSRS_MAX * sizeof(l->indices[0]));
	if (!l) {
		ferry_err_set(e, FERRY_E_NOMEM, ENOMEM, "list of MSRs");
		return NULL;
	}
	l->nmsrs = MSRS_MAX;
	if (ioctl(fd, request, l)) {
		ferry_err_set(e, FERRY_E_IO, errno, "list of MSRs");
		free(l);
		return NULL;
	}
	return l;
}

static struct kvm_msrs *new_values(struct ferry_err *e)
{
	struct kvm_msrs *m;

	m = calloc(1, sizeof(*m) + MSRS_MAX * sizeof(m->entries[0]));
	if (!m)
		ferry_err_set(e, FERRY_E_NOMEM, ENOMEM, "MSRs");
	return m;
}

static bool in_list(const struct kvm_msr_list *l, uint32_t index)
{
	for (uint32_t i = 0; i < l->nmsrs; i++)
		if (l->indices[i] == index)
			return true;
	return false;
}

bool ferry_msr_get(int vcpu_fd, uint32_t index, uint64_t *value)
{
	union one_msr m = { .room = { 0 } };

	m.msrs.nmsrs = 1;
	m.msrs.entries[0].index = index;
	if (ioctl(vcpu_fd, KVM_GET_MSRS, &m) != 1)
		return false;
	*value = m.msrs.entries[0].data;
	return true;
}

bool ferry_msr_set(int vcpu_fd, uint32_t index, uint64_t value)
{
	union one_msr m = { .room = { 0 } };

	m.msrs.nmsrs = 1;
	m.msrs.entries[0].index = index;
	m.msrs.entries[0].data = value;
	return ioctl(vcpu_fd, KVM_SET_MSRS, &m) == 1;
}

/* Can it be read, and can what was read be written? */
static bool is_state(int vcpu_fd, uint32_t index)
{
	uint64_t value;

	if (index == MSR_KVM_WALL_CLOCK || index == MSR_KVM_WALL_CLOCK_NEW)
		return false;
	if (!ferry_msr_get(vcpu_fd, index, &value))
		return false;
	/* not tried: it would set this vCPU's apart from the others' */
	return index == MSR_TSC || ferry_msr_set(vcpu_fd, index, value);
}

static void add(struct ferry_msrs *m, int vcpu_fd, uint32_t index)
{
	if (m->count < MSRS_MAX && is_state(vcpu_fd, index))
		m->index[m->count++] = index;
}

int ferry_msrs_init(struct ferry_msrs *m, const struct ferry_kvm *kvm,
		    int vcpu_fd, struct ferry_err *e)
{
	/* feature MSRs tell what the CPU is, and are the host's */
	FERRY_AUTO_FREE struct kvm_msr_list *all =
		ask_list(kvm->fd, KVM_GET_MSR_INDEX_LIST, e);
	FERRY_AUTO_FREE struct kvm_msr_list *features =
		ask_list(kvm->fd, KVM_GET_MSR_FEATURE_INDEX_LIST, e);

	if (!all || !features)
		return -1;
	m->count = 0;
	m->index = calloc(MSRS_MAX, sizeof(m->index[0]));
	if (!m->index)
		return ferry_err_set(e, FERRY_E_NOMEM, ENOMEM, "MSRs");
	for (uint32_t i = 0; i < all->nmsrs; i++)
		if (!in_list(features, all->indices[i]) &&
		    all->indices[i] != MSR_TSC_DEADLINE)
			add(m, vcpu_fd, all->indices[i]);
	for (size_t i = 0; i < FERRY_LEN(unlisted); i++)
		for (uint32_t x = unlisted[i].first; x <= unlisted[i].last; x++)
			add(m, vcpu_fd, x);
	/* last: it is compared with the TSC as it then is */
	add(m, vcpu_fd, MSR_TSC_DEADLINE);
	return 0;
}

void ferry_msrs_fini(struct ferry_msrs *m)
{
	free(m->index);
	*m = (struct ferry_msrs){ 0 };
}

static int save(const struct ferry_section *s, void *object,
		struct ferry_wr *w, struct ferry_err *e)
{
	const struct ferry_vcpu_state *v = object;
	FERRY_AUTO_FREE struct kvm_msrs *m = new_values(e);
	int n;

	(void)s;
	if (!m)
		return -1;
	for (size_t i = 0; i < v->msrs->count; i++)
		m->entries[i].index = v->msrs->index[i];
	m->nmsrs = (uint32_t)v->msrs->count;
	n = ioctl(v->fd, KVM_GET_MSRS, m);
	if (n != (int)m->nmsrs)
		return ferry_err_set(e, FERRY_E_DEVICE, n < 0 ? errno : 0,
				     "MSR 0x%" PRIx32 " cannot be read",
				     m->entries[n < 0 ? 0 : n].index);
	ferry_wr_be32(w, m->nmsrs);
	for (uint32_t i = 0; i < m->nmsrs; i++) {
		ferry_wr_be32(w, m->entries[i].index);
		ferry_wr_be64(w, m->entries[i].data);
	}
	return 0;
}

static bool known(const struct ferry_msrs *m, uint32_t index)
{
	for (size_t i = 0; i < m->count; i++)
		if (m->index[i] == index)
			return true;
	return false;
}

/* Another kernel may have MSRs that this one has not; while such a one is
 * zero the guest has not used it. */
static int decode(struct ferry_rd *r, const struct ferry_msrs *here,
		  struct kvm_msrs *m, struct ferry_err *e)
{
	uint32_t count = ferry_rd_be32(r);

	if (count > MSRS_MAX)
		return ferry_err_set(e, FERRY_E_DEVICE, 0,
				     "%" PRIu32 " MSRs, the most is %u", count,
				     MSRS_MAX);
	for (uint32_t i = 0; i < count; i++) {
		uint32_t index = ferry_rd_be32(r);
		uint64_t data = ferry_rd_be64(r);

		if (known(here, index))
			m->entries[m->nmsrs++] = (struct kvm_msr_entry){
				.index = index, .data = data };
		else if (data)
			return ferry_err_set(e, FERRY_E_MISMATCH, 0,
					     "the guest uses MSR 0x%" PRIx32
					     " (0x%" PRIx64 "), which this "
					     "host does not have", index,
					     data);
	}
	return ferry_section_ill_sized(r, e) ? -1 : 0;
}

static int load(const struct ferry_section *s, void *object,
		struct ferry_rd *r, struct ferry_err *e)
{
	const struct ferry_vcpu_state *v = object;
	FERRY_AUTO_FREE struct kvm_msrs *m = new_values(e);
	int n;

	(void)s;
	if (!m)
		return -1;
	if (decode(r, v->msrs, m, e))
		return -1;
	n = ioctl(v->fd, KVM_SET_MSRS, m);
	if (n < 0)
		return ferry_err_set(e, FERRY_E_DEVICE, errno,
				     "KVM_SET_MSRS");
	if (n < (int)m->nmsrs)
		return ferry_err_set(e, FERRY_E_DEVICE, 0,
				     "KVM refuses MSR 0x%" PRIx32 " = 0x%"
				     PRIx64, m->entries[n].index,
				     (uint64_t)m->entries[n].data);
	return 0;
}

const struct ferry_section ferry_section_msrs = {
	.name = "cpu/msrs",
	.version = 1,
	.save = save,
	.load = load,
};
