/* SPDX-License-Identifier: MIT */
/*
 * Do two hellos fit?  Pure; the sentence names the thing and both values.
 */
#include "wire/hello.h"

#include <inttypes.h>
#include <stdio.h>

#include <ferry/vm.h>

#include "wire/text.h"

static int mismatch(struct ferry_err *e, const char *kind, const char *name,
		    const char *what)
{
	return ferry_err_set(e, FERRY_E_MISMATCH, 0, "%s \"%s\" %s", kind,
			     FERRY_SHOW(name), what);
}

static double mib(uint64_t bytes)
{
	return (double)bytes / (1 << 20);
}

static const struct ferry_hello_block *
block_named(const struct ferry_hello *h, const char *name)
{
	for (size_t i = 0; i < h->blocks; i++)
		if (!strcmp(h->block[i].name, name))
			return &h->block[i];
	return NULL;
}

static int block_check(const struct ferry_hello_block *s,
		       const struct ferry_hello_block *t, struct ferry_err *e)
{
	if (s->bytes != t->bytes)
		return ferry_err_set(e, FERRY_E_MISMATCH, 0,
				     "memory block \"%s\" has %.10g MiB on the"
				     " source, %.10g MiB on the target",
				     FERRY_SHOW(s->name), mib(s->bytes),
				     mib(t->bytes));
	if (s->page_bytes != t->page_bytes)
		return ferry_err_set(e, FERRY_E_MISMATCH, 0,
				     "memory block \"%s\" has pages of %" PRIu32
				     " KiB on the source, %" PRIu32 " KiB on"
				     " the target", FERRY_SHOW(s->name),
				     s->page_bytes / 1024,
				     t->page_bytes / 1024);
	if (s->gpa != t->gpa)
		return ferry_err_set(e, FERRY_E_MISMATCH, 0,
				     "memory block \"%s\" is at guest address"
				     " 0x%" PRIx64 " on the source, 0x%" PRIx64
				     " on the target", FERRY_SHOW(s->name),
				     s->gpa, t->gpa);
	return 0;
}

static int blocks_check(const struct ferry_hello *source,
			const struct ferry_hello *target, struct ferry_err *e)
{
	for (size_t i = 0; i < source->blocks; i++) {
		const struct ferry_hello_block *s = &source->block[i];
		const struct ferry_hello_block *t =
			block_named(target, s->name);

		if (!t)
			return ferry_err_set(e, FERRY_E_MISMATCH, 0,
					     "memory block \"%s\" of %.10g MiB"
					     " exists on the source only",
					     FERRY_SHOW(s->name),
					     mib(s->bytes));
		if (block_check(s, t, e))
			return -1;
	}
	for (size_t i = 0; i < target->blocks; i++)
		if (!block_named(source, target->block[i].name))
			return ferry_err_set(e, FERRY_E_MISMATCH, 0,
					     "memory block \"%s\" of %.10g MiB"
					     " exists on the target only",
					     FERRY_SHOW(target->block[i].name),
					     mib(target->block[i].bytes));
	return 0;
}

static const struct ferry_hello_fact *
fact_named(const struct ferry_hello *h, const char *name)
{
	for (size_t i = 0; i < h->facts; i++)
		if (!strcmp(h->fact[i].name, name))
			return &h->fact[i];
	return NULL;
}

/* The next word; advances *s behind it.  Empty at the end. */
static size_t next_word(const char **s, const char **word)
{
	size_t n;

	*s += strspn(*s, " ");
	n = strcspn(*s, " ");
	*word = *s;
	*s += n;
	return n;
}

static bool has_word(const char *list, const char *word, size_t bytes)
{
	const char *w;
	size_t n;

	while ((n = next_word(&list, &w)) != 0)
		if (n == bytes && !memcmp(w, word, n))
			return true;
	return false;
}

/* The words of s that t lacks, as many as out holds. */
static size_t words_lacking(const char *s, const char *t, char *out,
			    size_t bytes)
{
	const char *word;
	size_t n, used = 0, lacking = 0;

	out[0] = '\0';
	while ((n = next_word(&s, &word)) != 0) {
		if (has_word(t, word, n))
			continue;
		lacking++;
		if (used + n + 2 < bytes)
			used += (size_t)snprintf(out + used, bytes - used,
						 " %.*s", (int)n, word);
		else
			bytes = 0;	/* the first few, without holes */
	}
	ferry_text_clean(out);
	return lacking;
}

static int subset_check(const struct ferry_hello_fact *s,
			const struct ferry_hello_fact *t, struct ferry_err *e)
{
	char first[96];
	size_t n = words_lacking(s->value, t->value, first, sizeof(first));

	if (!n)
		return 0;
	return ferry_err_set(e, FERRY_E_MISMATCH, 0,
			     "fact \"%s\": the target lacks %zu of the"
			     " source's:%s", FERRY_SHOW(s->name), n, first);
}

static int fact_check(const struct ferry_hello_fact *s,
		      const struct ferry_hello_fact *t, struct ferry_err *e)
{
	if (s->rule != t->rule)
		return mismatch(e, "fact", s->name,
				"is compared by another rule on the target");
	if (s->rule == FERRY_FACT_SUBSET)
		return subset_check(s, t, e);
	if (!strcmp(s->value, t->value))
		return 0;
	return ferry_err_set(e, FERRY_E_MISMATCH, 0,
			     "fact \"%s\" is \"%s\" on the source, \"%s\" on"
			     " the target", FERRY_SHOW(s->name),
			     FERRY_SHOW(s->value), FERRY_SHOW(t->value));
}

static int facts_check(const struct ferry_hello *source,
		       const struct ferry_hello *target, struct ferry_err *e)
{
	for (size_t i = 0; i < source->facts; i++) {
		const struct ferry_hello_fact *s = &source->fact[i];
		const struct ferry_hello_fact *t = fact_named(target, s->name);

		if (!t)
			return mismatch(e, "fact", s->name,
					"is stated by the source only");
		if (fact_check(s, t, e))
			return -1;
	}
	for (size_t i = 0; i < target->facts; i++)
		if (!fact_named(source, target->fact[i].name))
			return mismatch(e, "fact", target->fact[i].name,
					"is stated by the target only");
	return 0;
}

static const struct ferry_hello_bulk *
bulk_like(const struct ferry_hello *h, const struct ferry_hello_bulk *b)
{
	for (size_t i = 0; i < h->bulks; i++)
		if (h->bulk[i].instance == b->instance &&
		    !strcmp(h->bulk[i].name, b->name))
			return &h->bulk[i];
	return NULL;
}

static int bulk_lacks(const struct ferry_hello_bulk *b, const char *only,
		      struct ferry_err *e)
{
	return ferry_err_set(e, FERRY_E_MISMATCH, 0, "bulk device \"%s\"/%"
			     PRIu32 " exists on the %s only",
			     FERRY_SHOW(b->name), b->instance, only);
}

static int bulks_check(const struct ferry_hello *source,
		       const struct ferry_hello *target, struct ferry_err *e)
{
	for (size_t i = 0; i < source->bulks; i++) {
		const struct ferry_hello_bulk *s = &source->bulk[i];
		const struct ferry_hello_bulk *t = bulk_like(target, s);

		if (!t)
			return bulk_lacks(s, "source", e);
		if (s->version > t->version)
			return ferry_err_set(e, FERRY_E_MISMATCH, 0,
					     "bulk device \"%s\"/%" PRIu32
					     ": version %" PRIu32 " of the "
					     "source is newer than the "
					     "target's %" PRIu32,
					     FERRY_SHOW(s->name), s->instance,
					     s->version, t->version);
	}
	for (size_t i = 0; i < target->bulks; i++)
		if (!bulk_like(source, &target->bulk[i]))
			return bulk_lacks(&target->bulk[i], "target", e);
	return 0;
}

int ferry_hello_check(const struct ferry_hello *source,
		      const struct ferry_hello *target, struct ferry_err *e)
{
	if (strcmp(source->name, target->name))
		return ferry_err_set(e, FERRY_E_MISMATCH, 0,
				     "the source is \"%s\", the target is made"
				     " for \"%s\"", FERRY_SHOW(source->name),
				     FERRY_SHOW(target->name));
	if (blocks_check(source, target, e) || bulks_check(source, target, e))
		return -1;
	return facts_check(source, target, e);
}

int ferry_hello_verdict(const struct ferry_hello *answer, struct ferry_err *e)
{
	int code = FERRY_E_PEER;

	if (!answer->verdict)
		return 0;
	if (answer->verdict <= FERRY_E_NOTCONVERGED)
		code = (int)answer->verdict;
	return ferry_err_set(e, code, 0, "the target refused: %.200s",
			     answer->verdict_text[0] ? answer->verdict_text
						     : "no reason given");
}
