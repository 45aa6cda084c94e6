/* SPDX-License-Identifier: MIT */
/*
 * What the engine asks of a bulk device, asked of the process that keeps its
 * state.
 */
#include "vmm/bulk_state.h"

#include <ferry/bulk.h>

#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/cursor.h"
#include "vmm/keeper_pipe.h"

#define BLOCK		FERRY_KEEPER_BLOCK_BYTES
#define PIPE_BYTES	(1 << 20)
#define AT_ONCE		16u		/* blocks that iterate() hands out */
#define MOST_MS		10000		/* that it is silent */
#define AGAIN_MS	1000		/* the same, of one that was */
#define CANCEL_MS	50		/* the same, while the VM waits */
#define TURN_FIRST	(1ull << 32)	/* is no number of blocks */
#define REAP_TRIES	100		/* ms that a process takes to end */

struct keeper {
	struct ferry_bulk_state_config cfg;
	pid_t		 pid;
	int		 to, from;
	bool		 gone;		/* waited for: */
	int		 status;
	/* The engine's, one thread at a time. */
	uint64_t	 turn;
	uint64_t	 loaded;	/* octets */
	uint8_t		 digest[FERRY_KEEPER_DIGEST_BYTES];
	bool		 has_digest;
	bool		 silent;	/* it was, for MOST_MS, and still is */
	struct ferry_keeper_said said;
	struct ferry_keeper_heard heard;
};

struct ferry_bulk_states {
	_Atomic uint32_t *running;	/* a page that they map too */
	int		 page_fd;
	bool		 empty;
	unsigned	 n;
	struct keeper	*keeper[FERRY_BULK_STATES_MAX];
};

/* ---- asking --------------------------------------------------------------- */

/* Its end of a pipe is gone: it is about to be, too. */
static void reap(struct keeper *k)
{
	const struct timespec ms = { .tv_nsec = 1000000 };

	for (int i = 0; i < REAP_TRIES && !k->gone; i++) {
		k->gone = waitpid(k->pid, &k->status, WNOHANG) == k->pid;
		if (!k->gone)
			nanosleep(&ms, NULL);
	}
}

static int wrong(struct keeper *k, int rc, int most_ms, struct ferry_err *e)
{
	k->silent |= rc == -ETIMEDOUT && most_ms >= AGAIN_MS;
	if (rc == -ECANCELED)
		return ferry_err_set(e, FERRY_E_CANCELLED, 0,
				     "the migration is over");
	if (rc == -ETIMEDOUT)
		return ferry_err_set(e, FERRY_E_DEVICE, 0, "its process has "
				     "been silent for %g s", most_ms / 1e3);
	if (rc == -EMSGSIZE)
		return ferry_err_set(e, FERRY_E_DEVICE, 0, "its process says "
				     "%" PRIu32 " octets",
				     k->heard.frame.bytes);
	if (rc != -EPIPE)
		return ferry_err_set(e, FERRY_E_DEVICE, -rc, "the pipe to its "
				     "process");
	reap(k);
	if (k->gone && WIFSIGNALED(k->status))
		return ferry_err_set(e, FERRY_E_DEVICE, 0, "its process was "
				     "killed by signal %d",
				     WTERMSIG(k->status));
	return ferry_err_set(e, FERRY_E_DEVICE, 0, "its process has ended");
}

static int ask(struct keeper *k, uint32_t op, uint64_t arg, const void *data,
	       uint32_t bytes, int stop_fd, struct ferry_err *e)
{
	const struct ferry_keeper_frame f = { op, bytes, arg };
	int rc = ferry_keeper_say(k->to, &k->said, &f, data, stop_fd, MOST_MS);

	return rc ? wrong(k, rc, MOST_MS, e) : 0;
}

/* An answer, or its sentence why not; what follows it lies in heard.data. */
static int hear(struct keeper *k, struct ferry_keeper_frame *f, int stop_fd,
		struct ferry_err *e)
{
	int rc = ferry_keeper_hear(k->from, &k->heard, stop_fd, MOST_MS);

	*f = (struct ferry_keeper_frame){ 0 };
	if (rc)
		return wrong(k, rc, MOST_MS, e);
	k->silent = false;
	*f = k->heard.frame;
	if (f->op != FERRY_KEEPER_ERROR)
		return 0;
	return ferry_err_set(e, FERRY_E_DEVICE, 0, "%.*s", (int)f->bytes,
			     (const char *)k->heard.data);
}

/* A question with a number for an answer. */
static int question(struct keeper *k, uint32_t op, const void *data,
		    uint32_t bytes, uint64_t *answer, int stop_fd,
		    struct ferry_err *e)
{
	struct ferry_keeper_frame f;

	if (ask(k, op, 0, data, bytes, stop_fd, e) || hear(k, &f, stop_fd, e))
		return -1;
	*answer = f.arg;
	return 0;
}

/* Something begins anew: what it says of what was before is skipped, now or,
 * where that is broken off, by the next that begins. */
static int begin_anew(struct keeper *k, uint32_t op, int stop_fd, int most_ms,
		      struct ferry_err *e)
{
	const struct ferry_keeper_frame f = { op, 0, ++k->turn };
	const struct ferry_keeper_frame *is = &k->heard.frame;
	int rc = ferry_keeper_say(k->to, &k->said, &f, NULL, stop_fd, most_ms);

	do
		if (!rc)
			rc = ferry_keeper_hear(k->from, &k->heard, stop_fd,
					       most_ms);
	while (!rc && (is->op != FERRY_KEEPER_DONE || is->arg != f.arg));
	if (rc)
		return wrong(k, rc, most_ms, e);
	k->silent = false;
	return 0;
}

/* Who was silent just now is not waited for again. */
static int patience(const struct keeper *k)
{
	return k->silent ? AGAIN_MS : MOST_MS;
}

/*
 * The VM waits: one that does not answer is left alone, and skips what it is
 * at when it begins anew.  That it is silent is said once.
 */
static int call_off(struct keeper *k, struct ferry_err *e)
{
	bool known = k->silent;
	int rc = begin_anew(k, FERRY_KEEPER_SYNC, -1, known ? 0 : CANCEL_MS, e);

	return known ? 0 : rc;
}

/* ---- what the engine asks ------------------------------------------------- */

/*
 * It changes while the VM runs, which it is told by the page; what it is at
 * when the VM is stopped ends before it does what save() asks for.
 */
static int on_step(void *opaque, enum ferry_bulk_step step,
		   struct ferry_err *e)
{
	struct keeper *k = opaque;

	if (step == FERRY_BULK_BEGIN)
		return begin_anew(k, FERRY_KEEPER_BEGIN, -1, patience(k), e);
	return step == FERRY_BULK_CANCEL ? call_off(k, e) : 0;
}

static int on_pending(void *opaque, struct ferry_bulk_pending *p,
		      struct ferry_err *e)
{
	struct keeper *k = opaque;
	uint64_t blocks = 0;

	if (question(k, FERRY_KEEPER_PENDING, NULL, 0, &blocks, -1, e))
		return -1;
	if (k->cfg.live)
		p->dirty_bytes = blocks * BLOCK;
	else
		p->stop_bytes = blocks * BLOCK;
	return 0;
}

/* An answer that was begun is taken to its end, unless all is over. */
static int hand_out(struct keeper *k, uint64_t most, struct ferry_bulk *out,
		    int stop_fd, uint64_t *left, struct ferry_err *e)
{
	struct ferry_keeper_frame f;

	if (ask(k, FERRY_KEEPER_HAND_OUT, most, NULL, 0, stop_fd, e))
		return -1;
	for (;;) {
		if (hear(k, &f, stop_fd, e))
			return -1;
		if (f.op != FERRY_KEEPER_BLOCK)
			break;
		if (ferry_bulk_write(out, k->heard.data, f.bytes, 0, e))
			return -1;
	}
	*left = f.arg;
	return 0;
}

static int on_iterate(void *opaque, struct ferry_bulk *out,
		      struct ferry_err *e)
{
	const struct keeper *k = opaque;
	uint64_t left = 0;

	if (!k->cfg.live)
		return 0;
	if (hand_out(opaque, AT_ONCE, out, -1, &left, e))
		return -1;
	return left > 0;
}

static int on_save(void *opaque, struct ferry_bulk *out, struct ferry_err *e)
{
	struct keeper *k = opaque;
	struct ferry_keeper_frame f;
	int over = ferry_bulk_fd(out);
	uint64_t left;

	if (hand_out(k, UINT32_MAX, out, over, &left, e) ||
	    ask(k, FERRY_KEEPER_FINISH, 0, NULL, 0, over, e) ||
	    hear(k, &f, over, e))
		return -1;
	return ferry_bulk_write(out, k->heard.data, f.bytes, FERRY_BULK_CONFIG,
				e);
}

static int on_load_begin(void *opaque, struct ferry_bulk *in, uint32_t version,
			 struct ferry_err *e)
{
	struct keeper *k = opaque;

	(void)version;
	k->loaded = 0;
	k->has_digest = false;
	return begin_anew(k, FERRY_KEEPER_LOAD, ferry_bulk_fd(in),
			  patience(k), e);
}

/* Blocks are not answered, unless something is wrong with one. */
static int hear_complaint(struct keeper *k, int stop_fd, struct ferry_err *e)
{
	struct pollfd p = { .fd = k->from, .events = POLLIN };
	struct ferry_keeper_frame f;

	if (poll(&p, 1, 0) <= 0)
		return 0;
	if (hear(k, &f, stop_fd, e))
		return -1;
	return ferry_err_set(e, FERRY_E_DEVICE, 0, "its process speaks out of "
			     "turn");
}

static int on_load_buffer(void *opaque, struct ferry_bulk *in, uint64_t index,
			  unsigned flags, const void *data, size_t bytes,
			  struct ferry_err *e)
{
	struct keeper *k = opaque;
	int over = ferry_bulk_fd(in);

	(void)index;
	if (flags & FERRY_BULK_CONFIG) {
		k->has_digest = bytes == sizeof(k->digest);
		memcpy(k->digest, data, k->has_digest ? bytes : 0);
		return 0;
	}
	k->loaded += bytes;
	return hear_complaint(k, over, e) ||
	       ask(k, FERRY_KEEPER_BLOCK, 0, data, (uint32_t)bytes, over, e) ?
	       -1 : 0;
}

static int on_ready(void *opaque)
{
	const struct keeper *k = opaque;

	return k->loaded >= k->cfg.first;
}

static int on_load_end(void *opaque, struct ferry_bulk *in,
		       struct ferry_err *e)
{
	struct keeper *k = opaque;
	uint64_t ignored;

	if (!k->has_digest)
		return ferry_err_set(e, FERRY_E_DEVICE, 0, "its state ends "
				     "early");
	return question(k, FERRY_KEEPER_CHECK, k->digest, sizeof(k->digest),
			&ignored, ferry_bulk_fd(in), e);
}

int ferry_bulk_states_describe(struct ferry_bulk_states *s,
			       struct ferry_vm *vm, struct ferry_err *e)
{
	struct ferry_bulk_ops ops = FERRY_BULK_OPS_INIT;

	ops.step = on_step;
	ops.pending = on_pending;
	ops.iterate = on_iterate;
	ops.save = on_save;
	ops.load_begin = on_load_begin;
	ops.load_buffer = on_load_buffer;
	ops.ready = on_ready;
	ops.load_end = on_load_end;
	for (unsigned i = 0; i < s->n; i++) {
		struct keeper *k = s->keeper[i];
		char fact[80], bytes[24];

		snprintf(fact, sizeof(fact), "bulk-state.%s", k->cfg.name);
		snprintf(bytes, sizeof(bytes), "%" PRIu64, k->cfg.bytes);
		if (ferry_vm_add_bulk(vm, k->cfg.name, 0, 1, &ops, k, e) ||
		    ferry_vm_add_fact(vm, fact, FERRY_FACT_EQUAL, bytes, e))
			return -1;
	}
	return 0;
}

/* ---- their processes ------------------------------------------------------ */

/* Behind fork(): only what is safe there.  Of what is open it keeps its ends
 * of the pipes, the page, and where words for people go. */
static void become_keeper(const int keep[3], char **argv)
{
	int high[3], nothing = open("/dev/null", O_RDWR);
	sigset_t none;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	for (int i = 0; i < 3; i++)	/* out of each other's way */
		high[i] = fcntl(keep[i], F_DUPFD, 10);
	for (int i = 0; i < 3; i++)
		if (dup2(high[i], 3 + i) < 0)
			_exit(1);
	dup2(nothing, STDIN_FILENO);
	dup2(nothing, STDOUT_FILENO);
	close_range(6, ~0u, 0);
	execv("/proc/self/exe", argv);
	_exit(1);
}

static int spawn(struct ferry_bulk_states *s, struct keeper *k, int in,
		 int out, struct ferry_err *e)
{
	static char name[] = "ferry", part[] = "bulk-keeper";
	const int keep[] = { in, out, s->page_fd };
	char blocks[24], rate[24], change[24], empty[2] = { s->empty ? '1' :
							    '0', '\0' };
	char *argv[] = { name, part, blocks, rate, change, empty, NULL };

	snprintf(blocks, sizeof(blocks), "%" PRIu64, k->cfg.bytes / BLOCK);
	snprintf(rate, sizeof(rate), "%" PRIu64, k->cfg.rate);
	snprintf(change, sizeof(change), "%" PRIu64, k->cfg.change);
	k->pid = fork();
	if (k->pid < 0)
		return ferry_err_set(e, FERRY_E_IO, errno, "fork");
	if (!k->pid)
		become_keeper(keep, argv);
	return 0;
}

static int open_pipe(int *read_end, int *write_end, struct ferry_err *e)
{
	int fd[2];

	if (pipe2(fd, O_CLOEXEC | O_NONBLOCK))
		return ferry_err_set(e, FERRY_E_IO, errno, "pipe");
	*read_end = fd[0];
	*write_end = fd[1];
	/* As large as this user may have; it works with any size. */
	(void)!fcntl(fd[0], F_SETPIPE_SZ, PIPE_BYTES);
	return 0;
}

static int start(struct ferry_bulk_states *s, const char *words,
		 struct ferry_err *e)
{
	struct keeper *k = calloc(1, sizeof(*k));
	FERRY_AUTO_FD in = -1;
	FERRY_AUTO_FD out = -1;

	if (!k)
		return ferry_err_set(e, FERRY_E_NOMEM, errno, "--bulk-state");
	k->pid = -1;
	k->turn = TURN_FIRST;
	k->to = k->from = -1;
	s->keeper[s->n++] = k;
	if (ferry_bulk_state_parse(words, &k->cfg, e) ||
	    open_pipe(&in, &k->to, e) || open_pipe(&k->from, &out, e) ||
	    spawn(s, k, in, out, e))
		return -1;
	return 0;
}

static int make_page(struct ferry_bulk_states *s, struct ferry_err *e)
{
	void *page = MAP_FAILED;

	s->page_fd = memfd_create("ferry-runs", MFD_CLOEXEC);
	if (s->page_fd >= 0 && !ftruncate(s->page_fd, 4096))
		page = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED,
			    s->page_fd, 0);
	if (page == MAP_FAILED)
		return ferry_err_set(e, FERRY_E_IO, errno, "--bulk-state");
	s->running = page;
	return 0;
}

struct ferry_bulk_states *
ferry_bulk_states_new(const char *const *words, size_t n, bool empty,
		      struct ferry_err *e)
{
	struct ferry_bulk_states *s;
	int rc;

	if (ferry_bulk_states_check(words, n, e))
		return NULL;
	s = calloc(1, sizeof(*s));
	if (!s) {
		ferry_err_set(e, FERRY_E_NOMEM, errno, "--bulk-state");
		return NULL;
	}
	s->empty = empty;
	rc = make_page(s, e);
	for (size_t i = 0; i < n && !rc; i++)
		rc = start(s, words[i], e);
	if (!rc)
		return s;
	ferry_bulk_states_free(s);
	return NULL;
}

void ferry_bulk_states_free(struct ferry_bulk_states *s)
{
	if (!s)
		return;
	for (unsigned i = 0; i < s->n; i++) {
		struct keeper *k = s->keeper[i];

		ferry_cleanup_fd(&k->to);
		ferry_cleanup_fd(&k->from);
		if (k->pid > 0 && !k->gone) {
			kill(k->pid, SIGKILL);
			waitpid(k->pid, &k->status, 0);
		}
		free(k);
	}
	if (s->running)
		munmap(s->running, 4096);
	ferry_cleanup_fd(&s->page_fd);
	free(s);
}

void ferry_bulk_states_run(struct ferry_bulk_states *s, bool runs)
{
	if (s)
		atomic_store(s->running, runs);
}
