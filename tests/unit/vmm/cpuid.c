/* SPDX-License-Identifier: MIT */
/* CPU features as words: what two hosts compare, what a user masks. */
#include "help.h"

#include <linux/kvm.h>

#include "vmm/cpuid.h"

#define ENTRIES	6u

/* A CPU with little in it. */
static struct kvm_cpuid2 *small_cpu(void)
{
	static const struct kvm_cpuid_entry2 e[ENTRIES] = {
		{ .function = 0, .eax = 0xd, .ebx = 0x756e6547,
		  .edx = 0x49656e69, .ecx = 0x6c65746e },
		{ .function = 1, .ecx = 1u << 26 | 1u << 27 | 1u << 28,
		  .edx = 1u << 25 | 1u << 26, .ebx = 0x00010800 },
		{ .function = 7, .flags = 1, .ebx = 1u << 16 | 1u << 5,
		  .ecx = 1u << 4 | 1u << 30 },
		{ .function = 0xd, .flags = 1, .eax = 0xe7 },
		{ .function = 0xd, .index = 2, .flags = 1, .eax = 256,
		  .ebx = 576 },
		{ .function = 0xd, .index = 5, .flags = 1, .eax = 64,
		  .ebx = 1088 },
	};
	struct kvm_cpuid2 *c = calloc(1, sizeof(*c) + sizeof(e));

	c->nent = ENTRIES;
	memcpy(c->entries, e, sizeof(e));
	return c;
}

static bool has_word(const char *words, const char *word)
{
	size_t n = strlen(word);

	for (const char *p = words; (p = strstr(p, word)); p += n)
		if ((p == words || p[-1] == ' ') &&
		    (p[n] == ' ' || p[n] == '\0'))
			return true;
	return false;
}

static void features_are_words_by_their_names(void **state)
{
	FERRY_AUTO_FREE struct kvm_cpuid2 *c = small_cpu();
	char words[512];

	(void)state;
	assert_ok(ferry_cpuid_features(c, words, sizeof(words), NULL));
	assert_string_equal(words, "sse sse2 xsave avx avx2 avx512f 7.ecx.30 "
			    "xstate2:256@576 xstate5:64@1088");
}

static void bits_that_follow_control_registers_are_no_features(void **state)
{
	FERRY_AUTO_FREE struct kvm_cpuid2 *c = small_cpu();
	char words[512];

	(void)state;
	assert_ok(ferry_cpuid_features(c, words, sizeof(words), NULL));
	assert_false(has_word(words, "1.ecx.27"));	/* OSXSAVE */
	assert_false(has_word(words, "7.ecx.4"));	/* OSPKE */
}

static void words_that_do_not_fit_are_an_error(void **state)
{
	FERRY_AUTO_FREE struct kvm_cpuid2 *c = small_cpu();
	struct ferry_err e;
	char words[20];

	(void)state;
	assert_refused(ferry_cpuid_features(c, words, sizeof(words), &e), &e,
		       FERRY_E_INVALID, "more than 20 octets");
}

static void a_masked_feature_is_gone_with_its_register_state(void **state)
{
	FERRY_AUTO_FREE struct kvm_cpuid2 *c = small_cpu();
	char words[512];

	(void)state;
	assert_ok(ferry_cpuid_mask(c, "avx512f,7.ecx.30,,aes", NULL));
	assert_ok(ferry_cpuid_features(c, words, sizeof(words), NULL));
	assert_string_equal(words, "sse sse2 xsave avx avx2 xstate2:256@576");
	assert_int_equal(*ferry_cpuid_register(c, 0xd, 0, 0), 7);
	assert_ok(ferry_cpuid_mask(c, "xsave", NULL));
	assert_int_equal(*ferry_cpuid_register(c, 0xd, 0, 0), 3);
}

static void a_feature_nobody_knows_cannot_be_masked(void **state)
{
	static const char *const bad[] = {
		"avx512", "AVX", "1.ecx.32", "1.ecx", " avx", "avx avx2",
		"0123456789012345678901234567890123456789012345678901234",
	};
	FERRY_AUTO_FREE struct kvm_cpuid2 *c = small_cpu();
	struct ferry_err e;

	(void)state;
	for (size_t i = 0; i < FERRY_LEN(bad); i++)
		assert_refused(ferry_cpuid_mask(c, bad[i], &e), &e,
			       FERRY_E_INVALID, "no CPU feature is called '");
}

static void the_vendor_is_read_in_its_odd_order(void **state)
{
	FERRY_AUTO_FREE struct kvm_cpuid2 *c = small_cpu();
	char vendor[13];

	(void)state;
	ferry_cpuid_vendor(c, vendor);
	assert_string_equal(vendor, "GenuineIntel");
}

static void each_vcpu_has_its_own_id(void **state)
{
	FERRY_AUTO_FREE struct kvm_cpuid2 *c = small_cpu();

	(void)state;
	ferry_cpuid_personalise(c, 5, 12);
	assert_int_equal(*ferry_cpuid_register(c, 1, 0, 1), 0x050c0800);
	assert_true(*ferry_cpuid_register(c, 1, 0, 3) & 1u << 28);
	ferry_cpuid_personalise(c, 0, 1);
	assert_int_equal(*ferry_cpuid_register(c, 1, 0, 1), 0x00010800);
	assert_false(*ferry_cpuid_register(c, 1, 0, 3) & 1u << 28);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(features_are_words_by_their_names),
		cmocka_unit_test(
			bits_that_follow_control_registers_are_no_features),
		cmocka_unit_test(words_that_do_not_fit_are_an_error),
		cmocka_unit_test(
			a_masked_feature_is_gone_with_its_register_state),
		cmocka_unit_test(a_feature_nobody_knows_cannot_be_masked),
		cmocka_unit_test(the_vendor_is_read_in_its_odd_order),
		cmocka_unit_test(each_vcpu_has_its_own_id),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
