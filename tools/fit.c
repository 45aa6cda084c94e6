/* SPDX-License-Identifier: MIT */
/*
 * The rules, as tables.  Where QEMU itself refuses with a word, there is none.
 */
#include "fit.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/cleanup.h"

/* Before 10.2 QEMU takes both and then loses its way. */
#define MULTIFD_POSTCOPY	1002
/* Since then zero pages may travel inside multifd's packets. */
#define MULTIFD_ZEROES		900

typedef int check_fn(const struct ferry_view *s, const struct ferry_view *t,
		     struct ferry_err *e);

static const char *kind_of(const struct ferry_view *v)
{
	return v->kind == FERRY_PEER_QEMU ? "a QEMU" : "ferry run";
}

/* ---- two VMs ---------------------------------------------------------------- */

static int check_kinds(const struct ferry_view *s, const struct ferry_view *t,
		       struct ferry_err *e)
{
	if (s->kind == t->kind)
		return 0;
	return ferry_err_set(e, FERRY_E_UNSUPPORTED, 0, "%s is %s and %s is "
			     "%s: one cannot load the state of the other's "
			     "devices; `ferry park` can keep either", s->name,
			     kind_of(s), t->name, kind_of(t));
}

int ferry_fit_source(const struct ferry_view *s, struct ferry_err *e)
{
	if (s->waits)
		return ferry_err_set(e, FERRY_E_STATE, 0, "%s has no VM to "
				     "move: it waits for one itself", s->name);
	if (s->kind == FERRY_PEER_QEMU && !strcmp(s->state, "postmigrate"))
		return ferry_err_set(e, FERRY_E_STATE, 0, "%s has given its "
				     "VM away (postmigrate); only if that "
				     "runs nowhere else, QMP's cont takes it "
				     "back", s->name);
	if (*s->blocked)
		return ferry_err_set(e, FERRY_E_STATE, 0, "%s cannot migrate; "
				     "QEMU says: %s", s->name, s->blocked);
	return 0;
}

static int check_waits(const struct ferry_view *s, const struct ferry_view *t,
		       struct ferry_err *e)
{
	if (ferry_fit_source(s, e))
		return -1;
	if (!t->waits)
		return ferry_err_set(e, FERRY_E_STATE, 0, "%s does not wait "
				     "for a VM (it is: %s); start it with "
				     "%s defer", t->name, t->state,
				     t->kind == FERRY_PEER_QEMU ?
				     "-incoming" : "--incoming");
	return 0;
}

static int check_machine(const struct ferry_view *s,
			 const struct ferry_view *t, struct ferry_err *e)
{
	if (*s->machine && *t->machine && strcmp(s->machine, t->machine))
		return ferry_err_set(e, FERRY_E_MISMATCH, 0, "%s is a %s and "
				     "%s a %s: start %s with -machine %s",
				     s->name, s->machine, t->name, t->machine,
				     t->name, s->machine);
	return 0;
}

static int check_size(const struct ferry_view *s, const struct ferry_view *t,
		      struct ferry_err *e)
{
	if (s->ram_bytes && t->ram_bytes && s->ram_bytes != t->ram_bytes)
		return ferry_err_set(e, FERRY_E_MISMATCH, 0, "%s has %" PRIu64
				     " MiB of RAM and %s %" PRIu64 " MiB",
				     s->name, s->ram_bytes >> 20, t->name,
				     t->ram_bytes >> 20);
	if (s->vcpus && t->vcpus && s->vcpus != t->vcpus)
		return ferry_err_set(e, FERRY_E_MISMATCH, 0, "%s has %zu "
				     "vCPUs and %s %zu", s->name, s->vcpus,
				     t->name, t->vcpus);
	return 0;
}

/* ---- two QEMUs, as they are set ----------------------------------------------- */

static const struct {
	const char *name;
	const char *lost;	/* on at the source only */
	const char *stuck;	/* on at the target only; NULL: harmless */
} alike[] = {
	{ "multifd", "pages would be lost without an error",
	  "it would wait for connections forever" },
	{ "postcopy-ram", "postcopy would be refused", NULL },
	{ "postcopy-preempt", "requested pages would not arrive",
	  "it would wait for a connection forever" },
	{ "compress", "compressed pages could not be read", NULL },
	{ "switchover-ack", "the source would wait for a word forever",
	  "the source does not know its word" },
	{ "mapped-ram", "the stream could not be read",
	  "the stream could not be read" },
	{ "x-ignore-shared", "the stream could not be read",
	  "the stream could not be read" },
	{ "dirty-bitmaps", "the bitmaps could not be read", NULL },
};

/* What to do about it. */
static const char *remedy(const struct ferry_view *t)
{
	return t->listens ? "; it listens already: start it with -incoming "
			    "defer, and both are set alike" : "";
}

static int check_caps(const struct ferry_view *s, const struct ferry_view *t,
		      struct ferry_err *e)
{
	for (size_t i = 0; i < FERRY_LEN(alike); i++) {
		bool here = ferry_view_cap(s, alike[i].name);
		bool there = ferry_view_cap(t, alike[i].name);
		const char *why = here ? alike[i].lost : alike[i].stuck;

		if (here != there && why)
			return ferry_err_set(e, FERRY_E_MISMATCH, 0, "%s is "
					     "%s at %s and %s at %s: %s%s",
					     alike[i].name, here ? "on" :
					     "off", s->name, there ? "on" :
					     "off", t->name, why, remedy(t));
	}
	return 0;
}

static const struct {
	const char *name, *why;
} same_values[] = {
	{ "multifd-channels", "pages would be lost without an error" },
	{ "multifd-compression", "pages could not be read" },
};

static int check_multifd(const struct ferry_view *s,
			 const struct ferry_view *t, struct ferry_err *e)
{
	for (size_t i = 0; ferry_view_cap(s, "multifd") &&
			   i < FERRY_LEN(same_values); i++) {
		const char *name = same_values[i].name;
		const char *here = ferry_view_word(s, name);
		const char *there = ferry_view_word(t, name);

		if (strcmp(here, there))
			return ferry_err_set(e, FERRY_E_MISMATCH, 0, "%s is "
					     "%s at %s and %s at %s: %s%s",
					     name, here, s->name, there,
					     t->name, same_values[i].why,
					     remedy(t));
	}
	return 0;
}

static int check_version(const struct ferry_view *v, struct ferry_err *e)
{
	if (ferry_view_cap(v, "multifd") && ferry_view_cap(v, "postcopy-ram") &&
	    v->version < MULTIFD_POSTCOPY)
		return ferry_err_set(e, FERRY_E_UNSUPPORTED, 0, "multifd and "
				     "postcopy together need QEMU 10.2; %s "
				     "is a QEMU %u.%u", v->name,
				     v->version / 100, v->version % 100);
	return 0;
}

static int check_versions(const struct ferry_view *s,
			  const struct ferry_view *t, struct ferry_err *e)
{
	return check_version(s, e) || check_version(t, e) ? -1 : 0;
}

/* An older target does not look for zero pages in packets: what became zero
 * would keep its old content. */
static int check_zeroes(const struct ferry_view *s, const struct ferry_view *t,
			struct ferry_err *e)
{
	if (!ferry_view_cap(s, "multifd") || t->version >= MULTIFD_ZEROES ||
	    strcmp(ferry_view_word(s, "zero-page-detection"), "multifd"))
		return 0;
	return ferry_err_set(e, FERRY_E_MISMATCH, 0, "zero-page-detection is "
			     "multifd at %s, and %s is a QEMU %u.%u, which "
			     "would lose zero pages: say --set "
			     "zero-page-detection=legacy", s->name, t->name,
			     t->version / 100, t->version % 100);
}

int ferry_fit_creds(const struct ferry_view *s, const struct ferry_view *t,
		    const char *said, struct ferry_err *e)
{
	bool here = *(said ? said : ferry_view_word(s, "tls-creds"));
	bool there = *(said && !t->listens ? said :
		       ferry_view_word(t, "tls-creds"));

	if (here == there)
		return 0;
	return ferry_err_set(e, FERRY_E_MISMATCH, 0, "tls-creds is set at %s "
			     "and not at %s", here ? s->name : t->name,
			     here ? t->name : s->name);
}

static int check_tls(const struct ferry_view *s, const struct ferry_view *t,
		     struct ferry_err *e)
{
	return ferry_fit_creds(s, t, NULL, e);
}

static int run_all(check_fn *const *checks, size_t n,
		   const struct ferry_view *s, const struct ferry_view *t,
		   struct ferry_err *e)
{
	for (size_t i = 0; i < n; i++)
		if (checks[i](s, t, e))
			return -1;
	return 0;
}

int ferry_fit_sides(const struct ferry_view *source,
		    const struct ferry_view *target, struct ferry_err *e)
{
	static check_fn *const checks[] = {
		check_kinds, check_waits, check_machine, check_size,
	};

	return run_all(checks, FERRY_LEN(checks), source, target, e);
}

int ferry_fit_settings(const struct ferry_view *source,
		       const struct ferry_view *target, struct ferry_err *e)
{
	static check_fn *const checks[] = {
		check_caps, check_multifd, check_versions, check_zeroes,
		check_tls,
	};

	return run_all(checks, FERRY_LEN(checks), source, target, e);
}

/* ---- an address ---------------------------------------------------------------- */

bool ferry_fit_is_one_way(const char *uri)
{
	return !strncmp(uri, "exec:", 5) || !strncmp(uri, "file:", 5);
}

int ferry_fit_address(const struct ferry_view *s, const struct ferry_wish *w,
		      const char *uri, struct ferry_err *e)
{
	if (ferry_fit_is_one_way(uri) && ferry_view_cap(s, "postcopy-ram"))
		return ferry_err_set(e, FERRY_E_UNSUPPORTED, 0, "postcopy "
				     "needs somebody who answers, and %s is "
				     "one-way; say --precopy", uri);
	if (ferry_view_cap(s, "multifd") && !ferry_wish_said(w, "multifd"))
		return ferry_err_set(e, FERRY_E_MISMATCH, 0, "multifd is on "
				     "at %s; if it is off at %s, pages are "
				     "lost without an error. Give the "
				     "target's QMP socket instead, or say "
				     "--set multifd=on or off", s->name, uri);
	return check_version(s, e);
}

struct text {
	char *buf;
	size_t bytes, at;
};

static void add(struct text *t, const char *name, const char *value)
{
	int n;

	if (t->at >= t->bytes)
		return;
	n = snprintf(t->buf + t->at, t->bytes - t->at, "%s%s %s",
		     t->at ? ", " : "", name, value);
	t->at += n > 0 ? (size_t)n : 0;
}

bool ferry_fit_needs(const struct ferry_view *s, char *buf, size_t bytes)
{
	struct text t = { buf, bytes, 0 };

	*buf = '\0';
	for (size_t i = 0; i < FERRY_LEN(alike); i++)
		if (ferry_view_cap(s, alike[i].name))
			add(&t, alike[i].name, "on");
	for (size_t i = 0; ferry_view_cap(s, "multifd") &&
			   i < FERRY_LEN(same_values); i++)
		add(&t, same_values[i].name,
		    ferry_view_word(s, same_values[i].name));
	return t.at > 0;
}
