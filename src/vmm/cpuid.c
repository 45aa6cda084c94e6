/* SPDX-License-Identifier: MIT */
/*
 * The guest's CPUID, from KVM_GET_SUPPORTED_CPUID.  Kept from every guest:
 *
 *  - nested virtualisation: its state is not among the sections;
 *  - performance counters: they differ between hosts in ways that no feature
 *    word tells;
 *  - arch-capabilities: a guest that does not see them assumes the worst CPU,
 *    which is true wherever it moves.
 *
 * Names of features are in features.c.
 */
#include "vmm/cpuid.h"

#include <linux/kvm.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>

#include "base/cleanup.h"
#include "vmm/kvm.h"

#define ENTRIES_MAX	512u
#define ENTRIES_ADDED	8u

enum { EAX, EBX, ECX, EDX };

static const struct {
	uint32_t leaf, subleaf;
	unsigned reg;
	uint32_t bits;
} hidden[] = {
	{ 0x00000001, 0, ECX, 1u << 5 },		/* vmx */
	{ 0x80000001, 0, ECX, 1u << 2 },		/* svm */
	{ 0x8000000a, 0, EAX, ~0u },
	{ 0x8000000a, 0, EDX, ~0u },
	{ 0x00000001, 0, ECX, 1u << 15 },		/* pdcm */
	{ 0x0000000a, 0, EAX, ~0u },
	{ 0x0000000a, 0, EBX, ~0u },
	{ 0x0000000a, 0, ECX, ~0u },
	{ 0x0000000a, 0, EDX, ~0u },
	{ 0x80000001, 0, ECX, 1u << 23 | 1u << 24 },	/* perfctr */
	{ 0x80000022, 0, EAX, ~0u },
	{ 0x00000007, 0, EDX, 1u << 29 | 1u << 30 },	/* capability MSRs */
};

static struct kvm_cpuid2 *allocate(unsigned entries)
{
	struct kvm_cpuid2 *c;

	c = calloc(1, sizeof(*c) + entries * sizeof(c->entries[0]));
	if (c)
		c->nent = entries;
	return c;
}

static struct kvm_cpuid2 *ask_supported(const struct ferry_kvm *kvm,
					struct ferry_err *e)
{
	FERRY_AUTO_FREE struct kvm_cpuid2 *c = allocate(ENTRIES_MAX +
							ENTRIES_ADDED);

	if (!c) {
		ferry_err_set(e, FERRY_E_NOMEM, ENOMEM, "CPUID");
		return NULL;
	}
	c->nent = ENTRIES_MAX;
	if (ioctl(kvm->fd, KVM_GET_SUPPORTED_CPUID, c)) {
		ferry_err_set(e, FERRY_E_IO, errno, "KVM_GET_SUPPORTED_CPUID");
		return NULL;
	}
	return ferry_steal(&c);
}

static struct kvm_cpuid_entry2 *find(struct kvm_cpuid2 *c, uint32_t leaf,
				     uint32_t subleaf)
{
	for (unsigned i = 0; i < c->nent; i++) {
		struct kvm_cpuid_entry2 *entry = &c->entries[i];
		bool indexed = entry->flags & KVM_CPUID_FLAG_SIGNIFCANT_INDEX;

		if (entry->function == leaf &&
		    (!indexed || entry->index == subleaf))
			return entry;
	}
	return NULL;
}

uint32_t *ferry_cpuid_register(struct kvm_cpuid2 *cpuid, uint32_t leaf,
			       uint32_t subleaf, unsigned reg)
{
	struct kvm_cpuid_entry2 *entry = find(cpuid, leaf, subleaf);

	return entry ? &entry->eax + reg : NULL;
}

static void change(struct kvm_cpuid2 *c, uint32_t leaf, unsigned reg,
		   uint32_t keep, uint32_t set)
{
	uint32_t *r = ferry_cpuid_register(c, leaf, 0, reg);

	if (r)
		*r = (*r & keep) | set;
}

static void remove_leaf(struct kvm_cpuid2 *c, uint32_t leaf)
{
	unsigned n = 0;

	for (unsigned i = 0; i < c->nent; i++)
		if (c->entries[i].function != leaf)
			c->entries[n++] = c->entries[i];
	c->nent = n;
}

static void add_topology(struct kvm_cpuid2 *c, uint32_t index, uint32_t eax,
			 uint32_t ebx, uint32_t ecx)
{
	c->entries[c->nent++] = (struct kvm_cpuid_entry2){
		.function = 0xb, .index = index,
		.flags = KVM_CPUID_FLAG_SIGNIFCANT_INDEX,
		.eax = eax, .ebx = ebx, .ecx = ecx | index,
	};
}

static unsigned id_bits(unsigned vcpus)
{
	unsigned bits = 0;

	while (1u << bits < vcpus)
		bits++;
	return bits;
}

/* One package, a core per vCPU, one thread per core. */
static void set_topology(struct kvm_cpuid2 *c, unsigned vcpus)
{
	uint32_t *max = ferry_cpuid_register(c, 0, 0, EAX);

	remove_leaf(c, 0x1f);
	if (max && *max > 0x1e)
		*max = 0x1e;
	remove_leaf(c, 0xb);
	if (!max || *max < 0xb)
		return;
	add_topology(c, 0, 0, 1, 1u << 8);
	add_topology(c, 1, id_bits(vcpus), vcpus, 2u << 8);
	add_topology(c, 2, 0, 0, 0);
}

/* Who shares a cache: nobody but for the last level. */
static void set_sharing(struct kvm_cpuid_entry2 *entry, unsigned vcpus)
{
	uint32_t ids = (1u << id_bits(vcpus)) - 1;
	uint32_t sharing = (entry->eax >> 5 & 7) >= 3 ? ids : 0;

	if ((entry->eax & 0x1f) == 0)	/* the end of the list */
		return;
	entry->eax = (entry->eax & 0x3fff) | sharing << 14;
	if (entry->function == 4)
		entry->eax |= ids << 26;
}

void ferry_cpuid_personalise(struct kvm_cpuid2 *c, unsigned id, unsigned vcpus)
{
	change(c, 1, EBX, 0x0000ffff, id << 24 | vcpus << 16);
	change(c, 1, EDX, ~(1u << 28), vcpus > 1 ? 1u << 28 : 0);
	change(c, 0x80000008, ECX, 0xffff0f00,
	       id_bits(vcpus) << 12 | (vcpus - 1));
	change(c, 0x8000001e, EAX, 0, id);
	change(c, 0x8000001e, EBX, 0, id);
	change(c, 0x8000001e, ECX, 0, 0);
	for (unsigned i = 0; i < c->nent; i++) {
		struct kvm_cpuid_entry2 *entry = &c->entries[i];

		if (entry->function == 4 || entry->function == 0x8000001d)
			set_sharing(entry, vcpus);
		if (entry->function == 0xb)
			entry->edx = id;
	}
}

struct kvm_cpuid2 *ferry_cpuid_new(const struct ferry_kvm *kvm, unsigned vcpus,
				   const char *mask, struct ferry_err *e)
{
	FERRY_AUTO_FREE struct kvm_cpuid2 *c = ask_supported(kvm, e);

	if (!c)
		return NULL;
	for (size_t i = 0; i < FERRY_LEN(hidden); i++) {
		uint32_t *r = ferry_cpuid_register(c, hidden[i].leaf,
						   hidden[i].subleaf,
						   hidden[i].reg);

		if (r)
			*r &= ~hidden[i].bits;
	}
	change(c, 1, ECX, ~0u, 1u << 31);	/* under a hypervisor */
	if (ioctl(kvm->fd, KVM_CHECK_EXTENSION, KVM_CAP_TSC_DEADLINE_TIMER) > 0)
		change(c, 1, ECX, ~0u, 1u << 24);
	set_topology(c, vcpus);
	if (mask && ferry_cpuid_mask(c, mask, e))
		return NULL;
	return ferry_steal(&c);
}

void ferry_cpuid_vendor(const struct kvm_cpuid2 *cpuid, char vendor[13])
{
	const struct kvm_cpuid_entry2 *entry = NULL;

	memset(vendor, 0, 13);
	for (unsigned i = 0; !entry && i < cpuid->nent; i++)
		if (cpuid->entries[i].function == 0)
			entry = &cpuid->entries[i];
	if (!entry)
		return;
	memcpy(vendor, &entry->ebx, 4);
	memcpy(vendor + 4, &entry->edx, 4);
	memcpy(vendor + 8, &entry->ecx, 4);
}
