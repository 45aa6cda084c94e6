/* SPDX-License-Identifier: MIT */
/*
 * `ferry dump`: the records of a stream, a capture or an image.
 */
#include "command.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "dump_print.h"

#define READ_BYTES	(256u << 10)
#define SEEK_MIN	(1u << 20)	/* less is faster read than jumped */

struct words {
	const char	*file;
	bool		 json, summary, verify, each_page;
	enum ferry_dump_kind kind;
	uint64_t	 offset;
};

/* One run. */
struct job {
	struct words	 words;
	const struct ferry_dump_ops *ops;
	void		*arg;
	struct ferry_dump_print print;
	struct ferry_dump_count count;
	struct ferry_dump_where fault;
	uint8_t		 buf[READ_BYTES];
};

static const struct {
	const char		*name;
	enum ferry_dump_kind	 kind;
} kinds[] = {
	{ "auto", FERRY_DUMP_AUTO },
	{ "stream", FERRY_DUMP_STREAM },
	{ "return", FERRY_DUMP_RETURN },
	{ "preempt", FERRY_DUMP_PREEMPT },
	{ "capture", FERRY_DUMP_CAPTURE },
};

static void set_kind(struct words *w, const char *arg,
		     struct argp_state *state)
{
	for (size_t i = 0; i < FERRY_LEN(kinds); i++) {
		if (!strcmp(kinds[i].name, arg)) {
			w->kind = kinds[i].kind;
			return;
		}
	}
	argp_error(state, "--as=%s: auto, stream, return, preempt or capture",
		   arg);
}

static void set_offset(struct words *w, const char *arg,
		       struct argp_state *state)
{
	char *end;

	errno = 0;
	w->offset = strtoull(arg, &end, 0);
	if (errno || *end || end == arg || *arg == '-' ||
	    w->offset > INT64_MAX)
		argp_error(state, "--offset=%s is no number of octets", arg);
}

static error_t option(int key, char *arg, struct argp_state *state)
{
	struct words *w = state->input;

	switch (key) {
	case 'j':
		w->json = true;
		return 0;
	case 's':
		w->summary = true;
		return 0;
	case 'v':
		w->verify = true;
		return 0;
	case 'p':
		w->each_page = true;
		return 0;
	case 'a':
		set_kind(w, arg, state);
		return 0;
	case 'o':
		set_offset(w, arg, state);
		return 0;
	case ARGP_KEY_ARG:
		if (w->file)
			argp_error(state, "one file at a time");
		w->file = arg;
		return 0;
	case ARGP_KEY_NO_ARGS:
		argp_error(state, "which file? (- is the standard input)");
		return 0;
	}
	return ARGP_ERR_UNKNOWN;
}

/* As many octets of what comes next as are not looked at and there. */
static void jump(struct ferry_dump *d, int fd)
{
	uint64_t skip = ferry_dump_skippable(d), left;
	struct stat st;
	off_t at;

	if (skip < SEEK_MIN || fstat(fd, &st) || !S_ISREG(st.st_mode))
		return;
	at = lseek(fd, 0, SEEK_CUR);
	if (at < 0 || at >= st.st_size)
		return;
	left = (uint64_t)(st.st_size - at);
	skip = skip < left ? skip : left;
	if (lseek(fd, (off_t)skip, SEEK_CUR) >= 0)
		ferry_dump_skip(d, skip);
}

static ssize_t read_some(struct job *j, int fd, struct ferry_err *e)
{
	ssize_t n;

	do {
		n = read(fd, j->buf, sizeof(j->buf));
	} while (n < 0 && errno == EINTR);
	if (n < 0)
		ferry_err_set(e, FERRY_E_IO, errno, "read");
	return n;
}

static int feed_all(struct job *j, struct ferry_dump *d, int fd, ssize_t n,
		    struct ferry_err *e)
{
	while (n > 0) {
		if (ferry_dump_feed(d, j->buf, (size_t)n, e))
			return -1;
		jump(d, fd);
		n = read_some(j, fd, e);
	}
	return n < 0 ? -1 : ferry_dump_finish(d, e);
}

/* j->buf holds the first n octets of the input. */
static int dump_stream(struct job *j, int fd, ssize_t n, struct ferry_err *e)
{
	const struct ferry_dump_params p = {
		.ops = j->ops, .arg = j->arg, .kind = j->words.kind,
		.each_page = j->words.each_page, .offset = j->words.offset,
	};
	struct ferry_dump *d = ferry_dump_new(&p, e);
	int rc;

	if (!d)
		return -1;
	rc = feed_all(j, d, fd, n, e);
	j->fault = ferry_dump_fault(d);
	ferry_dump_free(d);
	return rc;
}

/* A pipe cannot be sought: read up to there. */
static int go_to(struct job *j, int fd, struct ferry_err *e)
{
	uint64_t left = j->words.offset;

	if (!left || lseek(fd, (off_t)left, SEEK_CUR) >= 0)
		return 0;
	while (left) {
		size_t want = left < READ_BYTES ? (size_t)left : READ_BYTES;
		ssize_t n = read(fd, j->buf, want);

		if (n <= 0)
			return ferry_err_set(e, FERRY_E_IO, n ? errno : 0,
					     "it ends before the offset");
		left -= (uint64_t)n;
	}
	return 0;
}

static int dump(struct job *j, struct ferry_err *e)
{
	bool in = !strcmp(j->words.file, "-");
	const char *path = in ? "/dev/stdin" : j->words.file;
	FERRY_AUTO_FD opened = in ? -1 : open(path, O_RDONLY | O_CLOEXEC);
	int fd = in ? STDIN_FILENO : opened;
	struct stat st;
	ssize_t n;

	if (fd < 0)
		return ferry_err_set(e, FERRY_E_IO, errno, "open");
	if (go_to(j, fd, e))
		return -1;
	n = read_some(j, fd, e);
	if (n < 0)
		return -1;
	if (j->words.kind == FERRY_DUMP_AUTO && !j->words.offset &&
	    ferry_dump_is_image(j->buf, (size_t)n) && !fstat(fd, &st) &&
	    S_ISREG(st.st_mode))
		return ferry_dump_image(path, j->ops, j->arg, j->words.verify,
					e);
	if (j->words.verify)
		return ferry_err_set(e, FERRY_E_INVALID, 0,
				     "only images have hashes to verify");
	return dump_stream(j, fd, n, e);
}

/* Some errors name the file themselves: an image is opened by its path. */
static int fail(const char *file, const char *why)
{
	size_t n = strlen(file);

	if (!strncmp(why, file, n) && why[n] == ':')
		return ferry_tool_fail(FERRY_EXIT_FAILED, "%s", why);
	return ferry_tool_fail(FERRY_EXIT_FAILED, "%s: %s", file, why);
}

static int show(struct job *j)
{
	struct ferry_err err = { 0 };
	int rc;

	j->fault.conn = -1;
	j->ops = j->words.summary ? &ferry_dump_as_count :
		 j->words.json ? &ferry_dump_as_json : &ferry_dump_as_text;
	j->arg = j->words.summary ? (void *)&j->count : (void *)&j->print;

	rc = dump(j, &err);
	if (j->words.summary)
		ferry_dump_count_print(&j->count, j->words.json);
	if (!rc)
		return ferry_tool_printed(FERRY_EXIT_DONE);
	if (j->words.json)
		ferry_dump_error_print(&j->fault, err.msg);
	return fail(j->words.file, err.msg);
}

int ferry_tool_dump(int argc, char **argv)
{
	static const struct argp_option options[] = {
		{ "json", 'j', NULL, 0, "JSON lines, an object per record",
		  0 },
		{ "summary", 's', NULL, 0,
		  "only how many records and octets of which kind", 0 },
		{ "pages", 'p', NULL, 0,
		  "each page, not runs of neighbours", 0 },
		{ "verify", 'v', NULL, 0,
		  "of an image, read and check all memory", 0 },
		{ "as", 'a', "KIND", 0,
		  "auto, stream, return, preempt or capture", 0 },
		{ "offset", 'o', "OCTETS", 0,
		  "begin there; what is before is not looked at", 0 },
		{ 0 },
	};
	static const struct argp argp = {
		.options = options, .parser = option, .args_doc = "FILE|-",
		.doc = "List the records of a migration stream, of a capture "
		       "of one, or of an image.  Exit code 0 if all of it was "
		       "understood, to the last octet, else 1 and where it "
		       "went wrong.\v"
		       "Example: xz -dc tcp.cap.xz | ferry dump --summary -",
	};
	struct job *j = calloc(1, sizeof(*j));
	int code;

	if (!j)
		return ferry_tool_fail(FERRY_EXIT_FAILED, "no memory");
	code = ferry_tool_parse(&argp, argc, argv, &j->words);
	if (!code)
		code = show(j);
	free(j);
	return code;
}
