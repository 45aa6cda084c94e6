/* SPDX-License-Identifier: MIT */
/*
 * The target: takes the VM.
 *
 * One object is one incoming migration.  All functions may be called from any
 * thread; only ferry_target_wait() and ferry_target_free() block.
 * Precopy or postcopy, ferry or QEMU at the other end: it finds out by itself.
 */
#ifndef FERRY_TARGET_H
#define FERRY_TARGET_H

#include <ferry/event.h>
#include <ferry/params.h>
#include <ferry/vm.h>

#ifdef __cplusplus
extern "C" {
#endif

struct ferry_target;

/*
 * The VM is described as at the source and not running; its memory has not
 * been touched (or its content does not matter: it is dropped).
 * params and cb may be NULL; both are copied.
 */
struct ferry_target *ferry_target_new(struct ferry_vm *vm,
				      const struct ferry_params *params,
				      const struct ferry_callbacks *cb,
				      struct ferry_err *e);

/*
 * Wait for a source at this address: tcp:HOST:PORT (port 0: any free one),
 * unix:PATH, fd:N (a connected socket, or a pipe or file to read), file:PATH.
 * Returns when it can be reached.  Strangers that connect are turned away and
 * do not disturb it; a source that leaves before its stream has begun is
 * forgotten.  While one is there (silent for x-ferry-timeout at most), others
 * are refused.
 */
int ferry_target_listen(struct ferry_target *t, const char *uri,
			struct ferry_err *e);

/*
 * The address with the port that was chosen, into buf; as a string that
 * ferry_source_start() takes.  Needs a successful listen.
 */
int ferry_target_uri(struct ferry_target *t, char *buf, size_t bytes,
		     struct ferry_err *e);

/* In postcopy: break the link.  The source may come back. */
int ferry_target_pause(struct ferry_target *t, struct ferry_err *e);

/*
 * In postcopy: be found at this address too (tcp: or unix:).  It takes the
 * place of the one that was given last in this way; what it listens at since
 * the start stays.  As long as the target lives its source may come back to
 * either by itself, without this.
 */
int ferry_target_recover(struct ferry_target *t, const char *uri,
			 struct ferry_err *e);

/*
 * Paused, and the link will not come back: write what this side has of the VM
 * to fd (a file, or a pipe), for `ferry rescue merge`: its memory as far as it
 * is here, its devices as they are now (save() is called, on this thread).
 * The VM was stopped before, and stays so; running: it ran until then, and is
 * to run where it goes on.  It gives the migration up: from here on the source
 * is not let in, whether this succeeds or not; it may be repeated.  Blocks.
 */
int ferry_target_rescue(struct ferry_target *t, int running, int fd,
			struct ferry_err *e);

/*
 * Before that, where threads wait for missing pages and cannot be stopped
 * otherwise: who waits for one, or touches one later, gets SIGSEGV (a vCPU:
 * EFAULT, at the instruction that touched it).  For good.
 */
int ferry_target_abandon(struct ferry_target *t, struct ferry_err *e);

/* Give up waiting or loading: refused after the commit. */
int ferry_target_cancel(struct ferry_target *t, struct ferry_err *e);

/* Wait for the end, as ferry_source_wait(): 0: all of the VM is here. */
int ferry_target_wait(struct ferry_target *t, int timeout_ms,
		      struct ferry_err *e);

/* May the embedder run the VM here now?  0, or -1 with why not. */
int ferry_target_may_run(struct ferry_target *t, struct ferry_err *e);

void ferry_target_stats(struct ferry_target *t, struct ferry_stats *out);

/* As ferry_source_channel(). */
int ferry_target_channel(struct ferry_target *t, unsigned i,
			 struct ferry_channel_stats *out);

/*
 * Ends threads and connections and frees.  As long as the VM was not started
 * here, the source is told that it will not be, and has it.  Between that and
 * the completion of a postcopy this loses the VM unless the source can be
 * resumed: missing pages never come, and are made inaccessible: a thread that
 * waits for one, or touches one later, gets SIGSEGV (a vCPU: EFAULT), not
 * zeroes.
 */
void ferry_target_free(struct ferry_target *t);

/* Take a VM with all defaults; returns when it has all arrived. */
int ferry_receive(struct ferry_vm *vm, const char *uri, struct ferry_err *e);

#ifdef __cplusplus
}
#endif
#endif
