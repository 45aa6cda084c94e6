/* SPDX-License-Identifier: MIT */
/*
 * CPU features by name: /proc/cpuinfo's where it has one, else leaf, register
 * and bit, such as "7.1.eax.11".  Two hosts compare words, so a name may never
 * change its meaning; a bit that gets a name later needs a new machine type.
 */
#include <inttypes.h>
#include <linux/kvm.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "base/cleanup.h"
#include "vmm/cpuid.h"

#define WORD_BYTES	40u

/* Registers that hold feature bits.  `skip`: bits that follow the guest's own
 * control registers, or repeat another register's. */
static const struct feature_register {
	uint32_t	 leaf, subleaf;
	unsigned	 reg;			/* eax ebx ecx edx */
	uint32_t	 skip;
	const char	*prefix;
	const char	*name[32];
} registers[] = {
	{ 0x1, 0, 3, 0, "1.edx", {
		"fpu", "vme", "de", "pse", "tsc", "msr", "pae", "mce",
		"cx8", "apic", NULL, "sep", "mtrr", "pge", "mca", "cmov",
		"pat", "pse36", "pn", "clflush", NULL, "dts", "acpi", "mmx",
		"fxsr", "sse", "sse2", "ss", "ht", "tm", "ia64", "pbe" } },
	{ 0x1, 0, 2, 1u << 27, "1.ecx", {
		"pni", "pclmulqdq", "dtes64", "monitor", "ds_cpl", "vmx",
		"smx", "est", "tm2", "ssse3", "cid", "sdbg", "fma", "cx16",
		"xtpr", "pdcm", NULL, "pcid", "dca", "sse4_1", "sse4_2",
		"x2apic", "movbe", "popcnt", "tsc_deadline_timer", "aes",
		"xsave", NULL, "avx", "f16c", "rdrand", "hypervisor" } },
	{ 0x6, 0, 0, 0, "6.eax", { [2] = "arat" } },
	{ 0x7, 0, 1, 0, "7.ebx", {
		"fsgsbase", "tsc_adjust", "sgx", "bmi1", "hle", "avx2", NULL,
		"smep", "bmi2", "erms", "invpcid", "rtm", "cqm", NULL, "mpx",
		"rdt_a", "avx512f", "avx512dq", "rdseed", "adx", "smap",
		"avx512ifma", NULL, "clflushopt", "clwb", "intel_pt",
		"avx512pf", "avx512er", "avx512cd", "sha_ni", "avx512bw",
		"avx512vl" } },
	{ 0x7, 0, 2, 1u << 4, "7.ecx", {
		[1] = "avx512vbmi", [2] = "umip", [3] = "pku",
		[5] = "waitpkg", [6] = "avx512_vbmi2", [8] = "gfni",
		[9] = "vaes", [10] = "vpclmulqdq", [11] = "avx512_vnni",
		[12] = "avx512_bitalg", [14] = "avx512_vpopcntdq",
		[16] = "la57", [22] = "rdpid", [24] = "bus_lock_detect",
		[25] = "cldemote", [27] = "movdiri", [28] = "movdir64b" } },
	{ 0x7, 0, 3, 0, "7.edx", {
		[4] = "fsrm", [8] = "avx512_vp2intersect",
		[9] = "srbds_ctrl", [10] = "md_clear", [14] = "serialize",
		[16] = "tsxldtrk", [20] = "ibt", [22] = "amx_bf16",
		[23] = "avx512_fp16", [24] = "amx_tile", [25] = "amx_int8",
		[26] = "spec_ctrl", [27] = "intel_stibp",
		[28] = "flush_l1d", [29] = "arch_capabilities",
		[31] = "spec_ctrl_ssbd" } },
	{ 0x7, 1, 0, 0, "7.1.eax", {
		[4] = "avx_vnni", [5] = "avx512_bf16", [21] = "amx_fp16",
		[23] = "avx_ifma" } },
	{ 0x7, 1, 3, 0, "7.1.edx", { NULL } },
	{ 0x7, 2, 3, 0, "7.2.edx", { NULL } },
	{ 0xd, 1, 0, 0, "d.1.eax", {
		"xsaveopt", "xsavec", "xgetbv1", "xsaves", "xfd" } },
	{ 0x80000001, 0, 3, 0x0183f3ff, "80000001.edx", {
		[11] = "syscall", [19] = "mp", [20] = "nx", [22] = "mmxext",
		[25] = "fxsr_opt", [26] = "pdpe1gb", [27] = "rdtscp",
		[29] = "lm", [30] = "3dnowext", [31] = "3dnow" } },
	{ 0x80000001, 0, 2, 0, "80000001.ecx", {
		"lahf_lm", "cmp_legacy", "svm", "extapic", "cr8_legacy",
		"abm", "sse4a", "misalignsse", "3dnowprefetch", "osvw", "ibs",
		"xop", "skinit", "wdt", NULL, "lwp", "fma4", "tce", NULL,
		"nodeid_msr", NULL, "tbm", "topoext", "perfctr_core",
		"perfctr_nb", NULL, "bpext", "ptsc", "perfctr_llc",
		"mwaitx" } },
	{ 0x80000007, 0, 3, 0, "80000007.edx", { [8] = "nonstop_tsc" } },
	{ 0x80000008, 0, 1, 0, "80000008.ebx", {
		[0] = "clzero", [2] = "xsaveerptr", [9] = "wbnoinvd",
		[12] = "ibpb", [14] = "ibrs", [15] = "stibp",
		[24] = "amd_ssbd", [25] = "virt_ssbd" } },
	{ 0x80000021, 0, 0, 0, "80000021.eax", { NULL } },
	{ 0x40000001, 0, 0, 0, "kvm", {
		[0] = "kvmclock", [1] = "kvm_nopiodelay", [3] = "kvmclock2",
		[4] = "kvm_asyncpf", [5] = "kvm_steal_time",
		[6] = "kvm_pv_eoi", [7] = "kvm_pv_unhalt",
		[9] = "kvm_pv_tlb_flush", [11] = "kvm_pv_ipi",
		[12] = "kvm_poll_control", [13] = "kvm_pv_sched_yield",
		[14] = "kvm_asyncpf_int", [24] = "kvmclock_stable" } },
};

/* Masking one of these takes the register state that goes with it. */
static const struct {
	const char	*word;
	uint32_t	 components;
} state_of[] = {
	{ "xsave",	~0u },
	{ "avx",	1u << 2 | 7u << 5 },
	{ "mpx",	3u << 3 },
	{ "avx512f",	7u << 5 },
	{ "pku",	1u << 9 },
	{ "amx_tile",	3u << 17 },
};

static void make_word(const struct feature_register *r, unsigned bit,
		      char word[WORD_BYTES])
{
	if (r->name[bit])
		snprintf(word, WORD_BYTES, "%s", r->name[bit]);
	else
		snprintf(word, WORD_BYTES, "%s.%u", r->prefix, bit);
}

struct list {
	char	*at;
	size_t	 left;
	bool	 full;
};

static void append(struct list *l, const char *fmt, ...) FERRY_PRINTF(2, 3);

static void append(struct list *l, const char *fmt, ...)
{
	va_list ap;
	int n;

	va_start(ap, fmt);
	n = vsnprintf(l->at, l->left, fmt, ap);
	va_end(ap);
	if (n < 0 || (size_t)n >= l->left) {
		l->full = true;
		return;
	}
	l->at += n;
	l->left -= (size_t)n;
}

/* Saved register state has a layout that the CPU chooses; a target must have
 * each component of the source at the same place. */
static void append_components(struct list *l, struct kvm_cpuid2 *cpuid)
{
	const uint32_t *have = ferry_cpuid_register(cpuid, 0xd, 0, 0);

	for (unsigned i = 2; have && i < 32; i++) {
		const uint32_t *size = ferry_cpuid_register(cpuid, 0xd, i, 0);

		if ((*have >> i & 1) && size)
			append(l, " xstate%u:%" PRIu32 "@%" PRIu32, i, size[0],
			       size[1]);
	}
}

int ferry_cpuid_features(struct kvm_cpuid2 *cpuid, char *words, size_t bytes,
			 struct ferry_err *e)
{
	struct list l = { .at = words, .left = bytes };

	words[0] = '\0';
	for (size_t i = 0; i < FERRY_LEN(registers); i++) {
		const struct feature_register *r = &registers[i];
		const uint32_t *have = ferry_cpuid_register(cpuid, r->leaf,
							    r->subleaf, r->reg);

		for (unsigned bit = 0; have && bit < 32; bit++) {
			char word[WORD_BYTES];

			if (!(*have & ~r->skip & 1u << bit))
				continue;
			make_word(r, bit, word);
			append(&l, "%s%s", l.at == words ? "" : " ", word);
		}
	}
	append_components(&l, cpuid);
	if (l.full)
		return ferry_err_set(e, FERRY_E_INVALID, 0,
				     "the CPU's features need more than %zu "
				     "octets", bytes);
	return 0;
}

static void mask_components(struct kvm_cpuid2 *cpuid, const char *word)
{
	uint32_t *have = ferry_cpuid_register(cpuid, 0xd, 0, 0);

	for (size_t i = 0; have && i < FERRY_LEN(state_of); i++)
		if (!strcmp(word, state_of[i].word))
			*have &= ~state_of[i].components | 3;
}

static int mask_word(struct kvm_cpuid2 *cpuid, const char *want,
		     struct ferry_err *e)
{
	for (size_t i = 0; i < FERRY_LEN(registers); i++) {
		const struct feature_register *r = &registers[i];
		uint32_t *have = ferry_cpuid_register(cpuid, r->leaf,
						      r->subleaf, r->reg);

		for (unsigned bit = 0; bit < 32; bit++) {
			char word[WORD_BYTES];

			make_word(r, bit, word);
			if (strcmp(word, want))
				continue;
			if (have)
				*have &= ~(1u << bit);
			mask_components(cpuid, want);
			return 0;
		}
	}
	return ferry_err_set(e, FERRY_E_INVALID, 0,
			     "no CPU feature is called '%s'", want);
}

int ferry_cpuid_mask(struct kvm_cpuid2 *cpuid, const char *mask,
		     struct ferry_err *e)
{
	while (*mask) {
		size_t n = strcspn(mask, ",");
		char word[WORD_BYTES];

		snprintf(word, sizeof(word), "%.*s",
			 (int)(n < sizeof(word) ? n : sizeof(word) - 1), mask);
		if (n && mask_word(cpuid, word, e))
			return -1;
		mask += n + (mask[n] == ',');
	}
	return 0;
}
