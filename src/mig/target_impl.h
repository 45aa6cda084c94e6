/* SPDX-License-Identifier: MIT */
/*
 * The target, inside.  Who owns what:
 *
 *   target.c         public API: any thread
 *   target_door.c    "ferry-accept" and one short-lived thread per new
 *                    connection: who is there
 *   target_admit.c   the same threads: may it come in
 *   target_main.c    "ferry-target": reads the main stream, changes the state
 *   target_command.c the same thread: one function per command
 *   target_load.c    "ferry-load": loads devices, starts the VM
 *   target_adopt.c   the door, the reader: a VM that is not known before it
 *                    comes
 *   target_lease.c   "ferry-lease": how long the VM may run; the reader, the
 *                    heart, the loader
 *   target_keep.c    the loader, the reader: that VM, when all of it is here
 *   target_tail.c    the reader: device state without lengths
 *   target_parts.c   the reader, the lanes: devices whose state comes in parts
 *   target_preempt.c "ferry-preempt": QEMU's second page channel
 *   target_recover.c the reader, the door: a source that comes back
 *   target_return.c  the same, what is ferry's in it
 *   target_faults.c  the heart: how long the guest waits
 *   target_survive.c a receiver, the reader: a channel is lost
 *   target_verify.c  the reader: sums of pages, in verify mode
 *   target_bulk.c    the door, the reader, the loader: bulk devices
 *   target_orders.c  public API: any thread, in postcopy
 *   target_watch.c   any of these: what failed, whose the VM is, how far
 *                    loading has come
 *   recv/            data, urgent and fault threads
 *
 * Lock order: `lock` is taken by all of them for moments; no other lock is
 * taken inside but leaf locks of recv/.
 */
#ifndef FERRY_MIG_TARGET_IMPL_H
#define FERRY_MIG_TARGET_IMPL_H

#include <ferry/target.h>

#include "chan/uri.h"
#include "dev/bulk_in.h"
#include "mig/bond.h"
#include "mig/flows.h"
#include "mig/greet.h"
#include "mig/heart.h"
#include "mig/lease.h"
#include "mig/params.h"
#include "mig/status.h"
#include "mig/vm.h"
#include "recv/fault.h"
#include "recv/lanes.h"
#include "recv/receiver.h"
#include "recv/stream.h"
#include "wire/command.h"

/* How far the main stream has come; bits, for sets of them. */
enum ferry_phase {
	FERRY_PHASE_BEGIN	= 1,	/* before the block list */
	FERRY_PHASE_PAGES	= 2,	/* pages may come */
	FERRY_PHASE_COMPLETE	= 4,	/* precopy: all pages are here */
	FERRY_PHASE_LOADING	= 8,	/* device state has come */
	FERRY_PHASE_RUNNING	= 16,	/* RUN has come */
	FERRY_PHASE_DONE	= 32,	/* nothing more is expected */
};

/* Where pages go. */
struct ferry_inflow {
	struct ferry_map map;
	struct ferry_place place;
	struct ferry_fault_thread fault;
	struct ferry_foreign foreign;
	_Atomic bool	 foreign_waits;	/* to hear of the end */
	struct ferry_marks gate;
	struct ferry_answer answer;
	struct ferry_rambody body;	/* pages on main */
	unsigned	 data, urgent, device;	/* channels announced */
	unsigned	 here;		/* receivers started; target->lock */
	struct ferry_receiver *receiver;	/* data, then urgent, device */
	/* Of each connection for pages: data, then urgent. */
	struct ferry_flow flow[FERRY_DATA_CHANNELS_MAX +
			       FERRY_URGENT_CHANNELS_MAX];
};

static inline unsigned ferry_inflow_channels(const struct ferry_inflow *in)
{
	return in->data + in->urgent + in->device;
}

/* Loading devices and starting the VM. */
enum ferry_load_state {
	FERRY_LOAD_NONE, FERRY_LOAD_BUSY, FERRY_LOAD_READY, FERRY_LOAD_STARTED,
	FERRY_LOAD_FAILED,
};

struct ferry_loader {
	uint8_t		*package;	/* owned */
	const uint8_t	*devices;	/* inside it */
	size_t		 device_bytes;
	uint32_t	 pong[8];	/* QEMU: PINGs of the package */
	uint32_t	 pongs;
	bool		 run_at_once;	/* QEMU: RUN came with the package */
	/* target->lock: */
	enum ferry_load_state state;
	bool		 may_run;	/* RUN was read */
	bool		 starting;	/* it runs here, whatever comes */
	bool		 give_up;
	struct ferry_thread thread;
};

/* QEMU's preempt channel: bare records of pages. */
struct ferry_preempt {
	/* target->lock: */
	bool		 here;
	bool		 listening;	/* pages may be placed */
	struct ferry_chan *chan;	/* owned */
	struct ferry_inbuf in;
	struct ferry_rambody body;
	struct ferry_thread thread;
};

/* A source that lost the connection in postcopy comes back; target->lock. */
struct ferry_recovery {
	bool		 rescued;	/* dumped: nobody is let in again */
	bool		 possible;	/* it has let go of the VM, or may
					 * have */
	bool		 waiting;	/* main broke, and the reader waits */
	bool		 coming;	/* somebody is being let in */
	bool		 here;		/* in is ready */
	bool		 lingers;	/* all is here, and nobody knows whether
					 * the source has heard so */
	bool		 heard;		/* it has, at the door */
	bool		 strayed;	/* a QEMU came back that does not belong
					 * here */
	struct ferry_inbuf in;
};

/* A device whose state comes in parts; parts->lock. */
struct ferry_parts_device {
	char		 name[FERRY_NAME_MAX + 1];
	uint32_t	 section, instance;
	bool		 ended;		/* its END came */
	uint32_t	 packets;	/* that came, each once; */
	uint32_t	 of;		/* there are so many; 0: not known */
	struct ferry_bitmap came;	/* by index */
};

struct ferry_parts {
	pthread_mutex_t	 lock;
	pthread_cond_t	 changed;
	bool		 no_more;	/* lock: no other device begins, as: */
	unsigned	 devices;
	struct ferry_parts_device device[FERRY_KEPT_DEVICES_MAX];
	/* The reader's: what is to be kept of main next. */
	uint8_t		*buf;
	uint32_t	 used, kind;
};

/* What a VM that is adopted needs besides. */
struct ferry_adoption {
	struct ferry_lanes lanes;
	struct ferry_preempt preempt;
	struct ferry_parts parts;
	enum ferry_dialect dialect;
	bool		 has_uuid;
	uint8_t		 uuid[16];
	bool		 fitted;	/* target->lock: there is a map */
	bool		 modern;	/* reader: MULTIFD_FLUSH is the mark */
	bool		 prepared;	/* loader, then reader; */
	bool		 committed;	/* the same */
	const uint8_t	*vmdesc;	/* inside tail */
	size_t		 vmdesc_bytes;
};

/*
 * How long the VM may run.
 *
 * Threads: heart asks, reader renews and ends it, loader lets the VM start;
 *          "ferry-lease" wakes when it is out.  lock: leaf; the embedder's
 *          run_until() is called with it held, so that its calls are in order.
 */
struct ferry_lease_keeper {
	pthread_mutex_t	 lock;
	struct ferry_lease_held held;	/* lock */
	bool		 out;		/* lock: the embedder was told */
	bool		 over;		/* lock: for good, one way or other */
	int		 timer_fd;
	int		 stop_fd;
	struct ferry_thread thread;
};

/* A connection that says who it is.  Its place is free when the thread is
 * done or was never started. */
struct ferry_visitor {
	struct ferry_target *target;
	/* target->lock: NULL once it has said all, or hung up.  Until then
	 * the door may shut it down. */
	struct ferry_chan *chan;
	struct ferry_thread thread;
	_Atomic bool	 done;		/* thread is about to end */
	uint64_t	 since_ns;
};

struct ferry_door {
	struct ferry_listener *listener;
	struct ferry_listener *also;	/* given later; target->lock, as: */
	struct ferry_listener *next;	/* takes its place */
	bool		 closing;
	int		 wake_fd;
	char		 uri[512];
	struct ferry_thread thread;
	struct ferry_visitor visitor[FERRY_PENDING_CONNECTIONS_MAX];
};

/* How it ends; target->lock. */
struct ferry_target_end {
	bool		 quit;		/* freed or cancelled */
	bool		 cancelled;
	bool		 given_up;	/* SHUT 1 is being said */
	bool		 done;		/* the reader has ended */
	struct ferry_err why;		/* first failure; with `quit`, set */
};

struct ferry_target {
	struct ferry_vm	*vm;
	struct ferry_params params;
	struct ferry_status status;
	struct ferry_inflow in;
	struct ferry_loader loader;
	struct ferry_door door;
	struct ferry_adoption adopted;
	struct ferry_recovery recovery;
	struct ferry_bulk_in bulk;
	struct ferry_device_sink sink;	/* into it */
	struct ferry_lease_keeper lease;
	_Atomic bool	 begun;		/* by the one listen that may */
	bool		 others_may_come;	/* set before the reader runs:
					 * the door stays open */
	struct ferry_thread reader;	/* "ferry-target" */
	struct ferry_heart heart;	/* started and stopped by reader */

	pthread_mutex_t	 lock;
	pthread_cond_t	 changed;
	bool		 taken;		/* somebody is being let in as main */
	bool		 arrived;	/* main_in is ready */
	struct ferry_target_end end;
	struct ferry_chan *main;	/* set before arrived; NULL again when
					 * who came was dismissed */
	struct ferry_inbuf main_in;	/* reader only, once arrived */
	uint8_t		 session[FERRY_SESSION_BYTES];
	struct ferry_tls *tls;		/* since listen; NULL: in the clear */
	struct ferry_bond bond;		/* with TLS: as long as session */
	enum ferry_dialect dialect;
	uint64_t	 features;	/* taken; 0 with a QEMU */

	/* A data channel that breaks is often the echo of a source that gave
	 * up and says why on main: so long its word is waited for. */
	uint64_t	 last_word_ns;

	/* lock: receivers that tell of their loss, and that none may any
	 * more. */
	unsigned	 telling;
	bool		 told_enough;

	_Atomic bool	 watched;	/* the source asked for FAULTS */
	uint64_t	 told[FERRY_HIST_BUCKETS];	/* the heart: up to
							 * the last one */

	/* Reader only. */
	enum ferry_phase phase;
	bool		 postcopy;	/* LISTEN came */
	bool		 differs;	/* VERIFY found a page that does */
	_Atomic unsigned verified;	/* enum ferry_verified; for others */
	bool		 returning;	/* the source is back, and RESUME has
					 * not come */
	bool		 may_ask;	/* what has come: a channel was lost */
	struct ferry_save tail;		/* QEMU precopy: device sections */
};

/* ---- target_door.c ------------------------------------------------------------ */

FERRY_CHECKED int ferry_door_open(struct ferry_target *t,
				  const struct ferry_uri *u,
				  struct ferry_err *e);
/* A second address, in place of the last that was given so. */
FERRY_CHECKED int ferry_door_open_also(struct ferry_target *t,
				       const struct ferry_uri *u,
				       struct ferry_err *e);
/* Let one connection in, on the calling thread; takes it.  -1: it was turned
 * away. */
FERRY_CHECKED int ferry_door_admit(struct ferry_target *t,
				   struct ferry_chan *chan,
				   struct ferry_err *e);
/* No more visitors; joins. */
void ferry_door_close(struct ferry_target *t);

/* ---- target_admit.c ----------------------------------------------------------- */

/* The VM's name in the stream is ours. */
FERRY_CHECKED int ferry_admit_check_name(struct ferry_target *t,
					 const struct ferry_config *c,
					 struct ferry_err *e);

/* Each of these takes the buffer and its channel when it succeeds; `other` also
 * when it fails but got as far as to a receiver (in->chan is NULL then). */
FERRY_CHECKED int ferry_admit_main(struct ferry_target *t,
				   struct ferry_inbuf *in,
				   const struct ferry_channel_head *head,
				   const struct ferry_hello *theirs,
				   struct ferry_err *e);
/* The answer on main: what is taken, and the verdict (NULL: none is bad). */
FERRY_CHECKED int ferry_admit_answer(struct ferry_target *t,
				     struct ferry_chan *chan,
				     const struct ferry_channel_head *offer,
				     uint64_t taken,
				     const struct ferry_err *verdict,
				     struct ferry_err *e);
FERRY_CHECKED int ferry_admit_lane(struct ferry_target *t,
				   struct ferry_inbuf *in,
				   struct ferry_err *e);
FERRY_CHECKED int ferry_admit_qemu(struct ferry_target *t,
				   struct ferry_inbuf *in,
				   const struct ferry_config *c,
				   struct ferry_err *e);
FERRY_CHECKED int ferry_admit_other(struct ferry_target *t,
				    struct ferry_inbuf *in,
				    const struct ferry_channel_head *h,
				    struct ferry_err *e);

/* Who was let in as main has left before it began: all of it is forgotten, and
 * the next may come.  By the reader, with no receiver running; -1 when there is
 * to be no next. */
FERRY_CHECKED int ferry_admit_next(struct ferry_target *t,
				   struct ferry_err *e);

/* ---- target_main.c ------------------------------------------------------------ */

void ferry_target_read(void *target);

/* It is being taken down.  Any thread. */
bool ferry_target_is_quitting(struct ferry_target *t);

/* The source hears from us also while the reader waits: for a mark on a slow
 * channel, or for the VM to start. */
FERRY_CHECKED int ferry_target_start_heart(struct ferry_target *t,
					   struct ferry_err *e);

/* ---- target_watch.c --------------------------------------------------------- */

/* Something failed on another thread than the reader: note it, tell the
 * source if that can still matter, and wake the reader. */
void ferry_target_failed(struct ferry_target *t, const struct ferry_err *why);

/* RUN was read: the VM is ours, unless cancel, free or a failure of the reader
 * came first (*e). */
bool ferry_target_take_over(struct ferry_target *t, struct ferry_err *e);

/* The last look before the VM is started; false when free came first. */
bool ferry_target_may_start(struct ferry_target *t, struct ferry_err *e);

/* Nothing is taken over from here on; false when it was before.  One who frees
 * (not `cancelled`) gives the VM back even behind RUN, as long as it was not
 * started: the source is told so. */
bool ferry_target_refuse(struct ferry_target *t, bool cancelled);

/* Wait until the loader has one of these states (bits 1 << state), or has
 * failed (-1). */
FERRY_CHECKED int ferry_target_await_load(struct ferry_target *t,
					  unsigned states,
					  struct ferry_err *e);

/* All pages are here, or an error that counts those that are not. */
FERRY_CHECKED int ferry_target_check_all(struct ferry_target *t,
					 struct ferry_err *e);

/* ---- target_command.c ----------------------------------------------------------- */

FERRY_CHECKED int ferry_target_command(struct ferry_target *t,
				       const struct ferry_section *s,
				       struct ferry_err *e);

/* ---- target_adopt.c ------------------------------------------------------------- */

/* All of these need vm->adopt. */
FERRY_CHECKED int ferry_adopt_init(struct ferry_target *t,
				   struct ferry_err *e);
void ferry_adopt_fini(struct ferry_target *t);

/* Take the shape of this source. */
FERRY_CHECKED int ferry_adopt_qemu(struct ferry_target *t,
				   const struct ferry_config *c,
				   struct ferry_err *e);
FERRY_CHECKED int ferry_adopt_ferry(struct ferry_target *t,
				    const struct ferry_hello *h,
				    struct ferry_err *e);

/* The reader's hooks into the RAM section of a QEMU. */
void ferry_adopt_hook(struct ferry_target *t);

/* ---- target_keep.c -------------------------------------------------------------- */

/* The reader: LISTEN. */
FERRY_CHECKED int ferry_adopt_listen(struct ferry_target *t,
				     struct ferry_err *e);
/* The loader: device state is here.  In precopy all is. */
FERRY_CHECKED int ferry_adopt_load(struct ferry_target *t,
				   struct ferry_err *e);
/* The VM is ours. */
FERRY_CHECKED int ferry_adopt_start(struct ferry_target *t,
				    struct ferry_err *e);
/* The reader, postcopy: nothing more will come on main. */
FERRY_CHECKED int ferry_adopt_finish(struct ferry_target *t,
				     struct ferry_err *e);
/* The reader: says SHUT 0; -1 when what took effect was taken back, or stays
 * aside.  A ferry that has not heard it is lingered for (recovery). */
FERRY_CHECKED int ferry_adopt_end(struct ferry_target *t,
				  struct ferry_err *e);
/* The reader: main broke when the VM was ours, in postcopy.  May come again. */
void ferry_adopt_pause(struct ferry_target *t);

/* ---- target_tail.c ---------------------------------------------------------------- */

/* Device state up to the end of the stream, into loader and adopted. */
FERRY_CHECKED int ferry_tail_read(struct ferry_target *t,
				  struct ferry_err *e);

/* ---- target_lease.c --------------------------------------------------------------- */

void ferry_lease_init(struct ferry_lease_keeper *l);
void ferry_lease_fini(struct ferry_lease_keeper *l);
/* The reader: LEASE. */
FERRY_CHECKED int ferry_lease_begin(struct ferry_target *t, uint64_t ns,
				    struct ferry_err *e);
bool ferry_lease_is_there(struct ferry_target *t);
bool ferry_lease_is_out(struct ferry_target *t);
/* The heart: what to ask now, or 0. */
uint32_t ferry_lease_due(struct ferry_target *t);
/* Before LOADED is said. */
void ferry_lease_loads(struct ferry_target *t);
/* The reader: RENEW, RUN. */
void ferry_lease_renewed(struct ferry_target *t, uint32_t n);
void ferry_lease_runs(struct ferry_target *t);
/* The loader: before the VM is started. */
void ferry_lease_starts(struct ferry_target *t);
/* The reader: all of the VM is here, and the source will never run it; or it
 * does, and this one is void.  For good. */
void ferry_lease_release(struct ferry_target *t);
void ferry_lease_forbid(struct ferry_target *t);
void ferry_lease_stats(struct ferry_target *t, struct ferry_stats *st);

/* ---- target_parts.c ---------------------------------------------------------------- */

void ferry_parts_init(struct ferry_target *t);
void ferry_parts_fini(struct ferry_target *t);
/* A source that left is forgotten. */
void ferry_parts_forget(struct ferry_target *t);

/* The reader: is it a section of such a device?  Then it reads it. */
bool ferry_parts_has(struct ferry_target *t, const struct ferry_section *s);
FERRY_CHECKED int ferry_parts_section(struct ferry_target *t,
				      const struct ferry_section *s,
				      struct ferry_err *e);
/* The reader: SWITCHOVER_START. */
FERRY_CHECKED int ferry_parts_switch(struct ferry_target *t,
				     struct ferry_err *e);
/* The reader, behind the end of RAM: their END sections. */
FERRY_CHECKED int ferry_parts_ends(struct ferry_target *t,
				   struct ferry_err *e);
/* The reader, at the end of the stream: all of it is here. */
FERRY_CHECKED int ferry_parts_await(struct ferry_target *t,
				    struct ferry_err *e);
/* A lane: struct ferry_lanes' device(). */
FERRY_CHECKED int ferry_parts_packet(void *target, unsigned lane,
				     const struct ferry_device_packet *p,
				     struct ferry_inbuf *in, uint8_t *buf,
				     struct ferry_err *e);

/* ---- target_preempt.c ------------------------------------------------------------- */

/* It is wanted and could come now: the next connection that says nothing. */
bool ferry_preempt_wanted(struct ferry_target *t);
/* Takes the buffer and its channel when it succeeds. */
FERRY_CHECKED int ferry_preempt_admit(struct ferry_target *t,
				      struct ferry_inbuf *in,
				      struct ferry_err *e);
void ferry_preempt_listen(struct ferry_target *t);
void ferry_preempt_stop(struct ferry_target *t);

/* ---- target_recover.c ------------------------------------------------------------- */

/* The door: a connection that begins with RECV_BITMAP.  Takes the buffer and
 * its channel when it succeeds. */
FERRY_CHECKED int ferry_recover_admit(struct ferry_target *t,
				      struct ferry_inbuf *in,
				      struct ferry_err *e);
/* The reader: the link broke, *why, or what is the cause of that.  True when
 * the source is back on a new one; false when there is nothing to wait for, or
 * no more. */
bool ferry_recover_await(struct ferry_target *t, struct ferry_err *why);
/* The reader: its commands. */
FERRY_CHECKED int ferry_recover_bitmap(struct ferry_target *t,
				       struct ferry_rd *rd,
				       struct ferry_err *e);
FERRY_CHECKED int ferry_recover_resume(struct ferry_target *t,
				       struct ferry_rd *rd,
				       struct ferry_err *e);

/* The reader, before what is asked with goes: no receiver asks any more. */
void ferry_survive_end(struct ferry_target *t);

/* ---- target_faults.c ------------------------------------------------------------- */

/* The reader: WATCH. */
FERRY_CHECKED int ferry_watch_faults(struct ferry_target *t,
				     struct ferry_rd *rd,
				     struct ferry_err *e);
/* The heart: a sign of life, and what there is to say of faults. */
void ferry_faults_beat(struct ferry_target *t);

/* ---- target_survive.c ------------------------------------------------------------ */

/* The receiver: its channel broke.  False when that is more than one channel's
 * loss. */
bool ferry_survive_loss(struct ferry_target *t, struct ferry_receiver *r,
			const struct ferry_err *why);
/* The reader: no mark came on it, *e.  1: it is lost, and what the mark was for
 * is void. */
FERRY_CHECKED int ferry_survive_void(struct ferry_target *t,
				     struct ferry_receiver *r,
				     struct ferry_err *e);
/* LOST. */
FERRY_CHECKED int ferry_survive_lost(struct ferry_target *t,
				     struct ferry_rd *rd,
				     struct ferry_err *e);

/* ---- target_verify.c ------------------------------------------------------------- */

/* Before a page comes: note what does. */
FERRY_CHECKED int ferry_verify_begin(struct ferry_target *t,
				     struct ferry_err *e);
void ferry_verify_fini(struct ferry_target *t);
/* The source is back, and will say its sums again. */
void ferry_verify_restart(struct ferry_target *t);
/* VERIFY; and all of them have come. */
FERRY_CHECKED int ferry_verify_pages(struct ferry_target *t,
				     struct ferry_rd *rd,
				     struct ferry_err *e);
FERRY_CHECKED int ferry_verify_end(struct ferry_target *t,
				   struct ferry_err *e);

/* ---- target_bulk.c --------------------------------------------------------------- */

void ferry_target_bulk_init(struct ferry_target *t);
/* The door: the devices of this source. */
FERRY_CHECKED int ferry_target_bulk_expect(struct ferry_target *t,
					   const struct ferry_hello *h,
					   struct ferry_err *e);

/* ---- target_return.c -------------------------------------------------------------- */

/* The door: a main that comes back.  Takes the buffer and its channel when it
 * succeeds. */
FERRY_CHECKED int ferry_return_admit(struct ferry_target *t,
				     struct ferry_inbuf *in,
				     const struct ferry_channel_head *head,
				     const struct ferry_hello *theirs,
				     struct ferry_err *e);
/* The reader.  May the source come back, and until when is it waited for? */
bool ferry_return_may_wait(struct ferry_target *t,
			   const struct ferry_err *why, uint64_t *until);
/* Ends all that belonged to the link but main. */
void ferry_return_let_go(struct ferry_target *t);
/* It is back: it is told what became of the VM. */
void ferry_return_begin(struct ferry_target *t);
/* VOID: the source runs the VM again, and this one never does.  Returns -1. */
FERRY_CHECKED int ferry_return_void(struct ferry_target *t,
				    const char *reason, struct ferry_err *e);
/* RESUME. */
FERRY_CHECKED int ferry_return_resume(struct ferry_target *t,
				      struct ferry_err *e);
/* The last word was said: until the source hangs up.  Has it said that it has
 * heard? */
bool ferry_return_await_heard(struct ferry_target *t, struct ferry_inbuf *in);
/* It had not: until it comes to the door for it. */
void ferry_return_linger(struct ferry_target *t);

/* ---- target_load.c -------------------------------------------------------------- */

/* Loader's fields but state are filled; takes the package. */
FERRY_CHECKED int ferry_load_start(struct ferry_target *t,
				   struct ferry_err *e);
void ferry_load_run(struct ferry_target *t);
/* Gives up and joins. */
void ferry_load_stop(struct ferry_target *t);

#endif
