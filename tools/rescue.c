/* SPDX-License-Identifier: MIT */
/*
 * `ferry rescue`: a migration that has lost its link for good leaves a VM in
 * two halves.  Each side writes its half to a file; the two make an image.
 */
#include "command.h"

#include <inttypes.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "ctl/json.h"
#include "park/merge.h"
#include "peer.h"
#include "ram_dump.h"

#define WORDS_MAX	4
#define DUMP_MS		(60 * 60 * 1000)	/* as long as a disk takes */

struct options {
	const char	*word[WORDS_MAX];
	unsigned	 words;
	int		 json;
	int		 compress;
	int		 accept;
};

enum { ACCEPT = 256 };

static const struct argp_option list[] = {
	{ "accept-mismatch", ACCEPT, NULL, 0, "merge: of pages that came wrong "
	  "and that the guest has changed since, which neither half has right, "
	  "take the target's", 0 },
	{ "compress", 'c', NULL, 0, "merge: compress the image with zstd", 0 },
	{ "json", 'j', NULL, 0, "print one JSON object", 1 },
	{ 0 },
};

static const char doc[] =
	"When the link is lost for good in postcopy: put the two halves of a "
	"VM together.  `dump` lets VM's process, at the source or at the "
	"target, write its half to FILE on its host: memory as far as it has "
	"it, at the target the devices, too.  The VM is stopped there for "
	"good, and neither side comes back to this migration; the process may "
	"be ended then.  Of a VM that was killed, and had its RAM in a file "
	"(`ferry run --ram-path`), `dump` makes a plain dump of the memory "
	"that had come.  DUMP THE TARGET FIRST: a source that was dumped "
	"cannot be rolled back any more (`ferry rollback`), which is all that "
	"is left if the target dies before it has written its half.  `merge` makes IMAGE of both files, on any host; "
	"`ferry run --image` and `ferry serve` start it.\v"
	"Example:\n\n"
	"  ferry rescue dump web2 /var/tmp/web.target     (at the target)\n"
	"  ferry rescue dump web /var/tmp/web.source      (then at the "
	"source)\n"
	"  ferry rescue merge web.source web.target web.ferry\n"
	"  ferry run --image web.ferry --ram 1G --vcpus 2\n\n"
	"Exit codes: 0 written; 1 not written: nothing was left behind; 2 "
	"wrong words; 5 there is no such VM, or it does not answer.";

static error_t option(int key, char *arg, struct argp_state *state)
{
	struct options *o = state->input;

	switch (key) {
	case 'c':
		o->compress = 1;
		return 0;
	case 'j':
		o->json = 1;
		return 0;
	case ACCEPT:
		o->accept = 1;
		return 0;
	case ARGP_KEY_ARG:
		if (o->words == WORDS_MAX)
			argp_error(state, "'%s' is one word too many", arg);
		else
			o->word[o->words++] = arg;
		return 0;
	case ARGP_KEY_END:
		if (!(o->words == 3 && !strcmp(o->word[0], "dump")) &&
		    !(o->words == 4 && !strcmp(o->word[0], "merge")))
			argp_error(state, "dump VM FILE, dump RAM-FILE FILE, "
				   "or merge HALF HALF IMAGE");
		return 0;
	}
	return ARGP_ERR_UNKNOWN;
}

/* ---- dump --------------------------------------------------------------- */

/* Its process has a working directory of its own. */
static int absolute(const char *path, char out[PATH_MAX], struct ferry_err *e)
{
	char here[PATH_MAX];
	int n;

	if (*path == '/')
		n = snprintf(out, PATH_MAX, "%s", path);
	else if (!getcwd(here, sizeof(here)))
		return ferry_err_set(e, FERRY_E_IO, errno, "getcwd");
	else
		n = snprintf(out, PATH_MAX, "%s/%s", here, path);
	return n < PATH_MAX ? 0 : ferry_err_set(e, FERRY_E_INVALID, 0,
						"%.100s... is too long", path);
}

static int call(struct ferry_peer *p, const char *path,
		struct json_object **ret, struct ferry_err *e)
{
	struct json_object *args;

	if (p->kind != FERRY_PEER_FERRY)
		return ferry_err_set(e, FERRY_E_PEER, 0, "%s is a QEMU, which "
				     "cannot write its half", p->name);
	args = json_object_new_object();
	ferry_json_add_str(args, "filename", path);
	p->patience_ms = DUMP_MS;
	return ferry_peer_call(p, "x-ferry-rescue", args, ret, e);
}

static void tell_dump(const struct options *o, const char *path,
		      struct json_object *said)
{
	const char *side = ferry_json_str(said, "side");

	if (o->json) {
		ferry_json_add_str(said, "file", path);
		puts(ferry_json_text(said));
		return;
	}
	printf("%s: the %s's half of %s\n", path, side ? side : "?",
	       o->word[1]);
}

/* Of a process that was killed. */
static int dump_ram(const struct options *o)
{
	FERRY_AUTO_JSON *j = NULL;
	uint64_t held, all;
	struct ferry_err err;

	if (ferry_ram_dump(o->word[1], o->word[2], &held, &all, &err))
		return ferry_tool_fail(FERRY_EXIT_FAILED, "%s", err.msg);
	if (!o->json) {
		printf("%s: %" PRIu64 " of %" PRIu64 " MiB of memory; its vCPUs "
		       "and devices went with the process: it cannot run\n",
		       o->word[2], held >> 20, all >> 20);
		return ferry_tool_printed(FERRY_EXIT_DONE);
	}
	j = json_object_new_object();
	ferry_json_add_str(j, "file", o->word[2]);
	ferry_json_add_str(j, "side", "dead");
	ferry_json_add_u64(j, "bytes", held);
	ferry_json_add_u64(j, "ram-bytes", all);
	puts(ferry_json_text(j));
	return ferry_tool_printed(FERRY_EXIT_DONE);
}

static int dump(const struct options *o)
{
	FERRY_AUTO_JSON *said = NULL;
	char path[PATH_MAX];
	struct ferry_err err = { 0 };
	struct ferry_peer p;
	int code;

	if (ferry_is_ram_file(o->word[1]))
		return dump_ram(o);
	if (absolute(o->word[2], path, &err))
		return ferry_tool_fail(FERRY_EXIT_USAGE, "%s", err.msg);
	if (ferry_peer_open(&p, o->word[1], &err))
		code = ferry_tool_fail(FERRY_EXIT_NO_VM, "%s", err.msg);
	else if (call(&p, path, &said, &err))
		code = ferry_tool_fail(err.code == FERRY_E_PEER ?
				       FERRY_EXIT_FAILED : FERRY_EXIT_NO_VM,
				       "%s", err.msg);
	else
		code = FERRY_EXIT_DONE;
	ferry_peer_close(&p);
	if (code)
		return code;
	tell_dump(o, path, said);
	return ferry_tool_printed(FERRY_EXIT_DONE);
}

/* ---- merge -------------------------------------------------------------- */

#define warn(...) ferry_tool_fail(FERRY_EXIT_DONE, "warning: " __VA_ARGS__)

static const char *taken(const struct ferry_merge_page *p)
{
	return p->changed ? "target" : "source";
}

static void warn_wrong(const struct ferry_merged *m)
{
	for (unsigned i = 0; i < m->named; i++) {
		const struct ferry_merge_page *p = &m->page[i];

		warn("block %s page %" PRIu64 " came wrong at the target; %s",
		     p->block, p->page, p->changed ? "the guest has changed it "
		     "since, and it is taken as it is there" :
		     "it is taken from the source");
	}
	if (m->wrong > m->named)
		warn("and %" PRIu64 " pages more; of all %" PRIu64 ", %" PRIu64
		     " are as the guest has changed them", m->wrong - m->named,
		     m->wrong, m->changed);
	if (m->wrong)
		warn("the guest may have read what came wrong: what it made "
		     "of that is in the image");
}

static struct json_object *wrong_pages(const struct ferry_merged *m)
{
	struct json_object *pages = json_object_new_array();

	for (unsigned i = 0; i < m->named; i++) {
		struct json_object *o = json_object_new_object();

		ferry_json_add_str(o, "block", m->page[i].block);
		ferry_json_add_u64(o, "page", m->page[i].page);
		ferry_json_add_str(o, "taken", taken(&m->page[i]));
		json_object_array_add(pages, o);
	}
	return pages;
}

static void tell_merge(const struct options *o, const struct ferry_merged *m)
{
	FERRY_AUTO_JSON *j = NULL;

	if (!o->json) {
		printf("%s: %" PRIu64 " MiB from the target, %" PRIu64
		       " MiB from the source\n", o->word[3],
		       m->from_target >> 8, m->from_source >> 8);
		return;
	}
	j = json_object_new_object();
	ferry_json_add_str(j, "image", o->word[3]);
	ferry_json_add_str(j, "machine", m->machine);
	ferry_json_add_u64(j, "pages", m->pages);
	ferry_json_add_u64(j, "from-target", m->from_target);
	ferry_json_add_u64(j, "from-source", m->from_source);
	ferry_json_add_u64(j, "state-bytes", m->state_bytes);
	ferry_json_add_u64(j, "wrong", m->wrong);
	ferry_json_add_u64(j, "wrong-changed", m->changed);
	json_object_object_add(j, "wrong-pages", wrong_pages(m));
	puts(ferry_json_text(j));
}

static int merge(const struct options *o)
{
	const struct ferry_merge_how how = {
		.zstd_level = o->compress ? 3 : 0,
		.accept_mismatch = o->accept,
	};
	struct ferry_err err = { 0 };
	struct ferry_merged m;

	if (ferry_merge(o->word[1], o->word[2], o->word[3], &how, &m, &err))
		return ferry_tool_fail(FERRY_EXIT_FAILED, "%s", err.msg);
	warn_wrong(&m);
	tell_merge(o, &m);
	return ferry_tool_printed(FERRY_EXIT_DONE);
}

int ferry_tool_rescue(int argc, char **argv)
{
	static const struct argp argp = {
		.options = list, .parser = option,
		.args_doc = "dump VM FILE\ndump RAM-FILE FILE\nmerge HALF HALF IMAGE",
		.doc = doc,
	};
	struct options o = { 0 };
	int code = ferry_tool_parse(&argp, argc, argv, &o);

	if (code)
		return code;
	signal(SIGPIPE, SIG_IGN);
	return !strcmp(o.word[0], "dump") ? dump(&o) : merge(&o);
}
