/* SPDX-License-Identifier: MIT */
/*
 * The source, inside.  Who owns what:
 *
 *   source.c          public API: any thread
 *   source_orders.c   the same: what may be asked while there is no link
 *   source_run.c      the conductor: one thread, "ferry-source"; the algorithm
 *   source_end.c      conductor: how it ends, or pauses
 *   source_recover.c  conductor: a lost link is found again
 *   source_rollback.c conductor: it is not found again; the VM goes on here
 *   source_govern.c   conductor, the return path: the push and the faults
 *   source_survive.c  conductor: a channel is lost, and the link lives
 *   source_memory.c   conductor: what is owed, dirty tracking
 *   source_bulk.c     conductor, the return path: bulk devices
 *   source_ferry.c,   conductor: what differs by who is at the other end
 *   source_greet.c,
 *   source_qemu.c,
 *   source_multifd.c,
 *   source_parts.c
 *   send/             data threads and the return-path thread
 *
 * Lock order: none is taken inside another; status, replies, crew, pace and
 * comeback each have a leaf lock.
 */
#ifndef FERRY_MIG_SOURCE_IMPL_H
#define FERRY_MIG_SOURCE_IMPL_H

#include <ferry/source.h>

#include "chan/uri.h"
#include "dev/bulk_out.h"
#include "mig/flows.h"
#include "mig/backoff.h"
#include "mig/bond.h"
#include "mig/govern.h"
#include "mig/greet.h"
#include "mig/heart.h"
#include "mig/lease.h"
#include "mig/params.h"
#include "mig/policy.h"
#include "mig/replies.h"
#include "mig/status.h"
#include "mig/vm.h"
#include "send/bulk.h"
#include "send/crew.h"
#include "send/returns.h"
#include "send/speak.h"

#define FERRY_UNSENT_POSTCOPY_BYTES	(128u << 10)

/* How the source gets its connections; tests bring their own. */
struct ferry_dialer {
	void	*arg;
	struct ferry_chan *(*dial)(void *arg, enum ferry_channel_type type,
				   unsigned index, struct ferry_err *e);
	unsigned features;	/* enum ferry_chan_features of what it dials */
};

/* What cancel and commit race for; the first to move it from OPEN wins. */
enum ferry_gate_state {
	FERRY_GATE_OPEN, FERRY_GATE_CANCELLED, FERRY_GATE_COMMITTED,
};

/* Why there is to be no link for now. */
enum ferry_halt { FERRY_HALT_NONE, FERRY_HALT_PAUSED, FERRY_HALT_CANCELLED,
		  FERRY_HALT_BACK };	/* to be rolled back */

#define FERRY_PATHS_MAX	8

/*
 * How a lost link is found again.
 *
 * Threads: the API asks, the conductor waits, and tries.  lock: leaf; also
 *          who shuts main down from outside holds it, and who closes it.
 */
struct ferry_comeback {
	pthread_mutex_t	 lock;
	pthread_cond_t	 changed;
	/* lock: */
	struct ferry_uri path[FERRY_PATHS_MAX];
	unsigned	 paths;
	unsigned	 at;		/* the one in use, or to be tried next */
	unsigned	 good;		/* the one that was in use last */
	bool		 asked;		/* by hand: now */
	bool		 rescued;	/* dumped: it does not come back */
	bool		 back;		/* asked: the VM is to go on here */
	bool		 burnt;		/* it does */
	bool		 was_halted;	/* before that */
	bool		 leaving;	/* the target may not know that it failed */
	struct ferry_err refused;	/* why it does not */
	struct ferry_err never;		/* why it cannot be; code 0: it can */
	/* conductor: */
	struct ferry_backoff backoff;
};

/* What is sent, and by what. */
struct ferry_outflow {
	struct ferry_owed owed;
	struct ferry_bitmap *at_target;	/* per block: told or sent */
	struct ferry_bitmap *untouched;	/* per block: not to be read, or NULL */
	struct ferry_select select;
	struct ferry_crew crew;
	/* chan NULL: there is none */
	struct ferry_lane urgent[FERRY_URGENT_CHANNELS_MAX];
	struct ferry_requests requests;
	struct ferry_returns returns;
	struct ferry_send_counters count;
	/* Of each connection: data, then urgent. */
	struct ferry_flow flow[FERRY_DATA_CHANNELS_MAX +
			       FERRY_URGENT_CHANNELS_MAX];
	unsigned	 lanes;		/* multifd channels of a QEMU at work */
	uint32_t	 sequence;	/* of barriers */
	uint64_t	 discarded_pages;	/* by the last discard() */
	struct ferry_losses lost;	/* channels, in postcopy */
	struct ferry_losses told;	/* by the target, of which some may
					 * not be among them yet */
	bool		 deals;		/* the pass was halted: what is left
					 * is to be dealt anew, */
	unsigned	 dealt;		/* which it was so often */
	bool		 tracking;	/* dirty sources were started */
};

/* Figures for statistics; relaxed. */
struct ferry_source_figures {
	_Atomic unsigned passes;
	_Atomic unsigned throttle_percent;
	_Atomic uint64_t rate;
	_Atomic uint64_t dirty_pages_per_s;
	_Atomic uint64_t expected_pause_ns;
	_Atomic uint64_t pause_ns;
	_Atomic uint64_t precopy_bytes;
	_Atomic uint64_t pause_bytes;
	_Atomic uint64_t distinct_pages;
	_Atomic unsigned lost_channels;
	_Atomic uint64_t push_limit;
	_Atomic uint64_t fault_p99_ns;
	_Atomic unsigned verified;	/* enum ferry_verified */
};

/* What the user wants of the conductor, who looks again and again. */
struct ferry_orders {
	_Atomic int	 gate;		/* enum ferry_gate_state */
	_Atomic bool	 cancel;	/* also ends dialling */
	_Atomic int	 halt;		/* enum ferry_halt; after the commit */
	_Atomic bool	 want_postcopy;
	_Atomic bool	 quit;		/* being freed */
};

/* The push held back for the faults: who has the turn of the return path. */
struct ferry_governor {
	_Atomic bool	 anew;		/* another link: forget the rest */
	struct ferry_govern law;
	uint64_t	 since_ns, bytes;	/* at the last report */
};

struct ferry_dialect_ops;

struct ferry_source {
	struct ferry_vm	*vm;
	struct ferry_params params;
	struct ferry_status status;
	struct ferry_replies replies;
	struct ferry_source_figures fig;
	const struct ferry_dialect_ops *dialect;

	_Atomic bool	 begun;		/* by the one start that may; its own
					 * until the conductor runs: */
	struct ferry_dialer dialer;
	struct ferry_comeback comeback;
	struct ferry_lease_given lease;
	uint8_t		 session[FERRY_SESSION_BYTES];
	struct ferry_tls *tls;		/* NULL: in the clear */
	struct ferry_bond bond;		/* with TLS: of the first main */
	uint64_t	 features;	/* taken by the target */
	_Atomic uint16_t data, urgent;	/* channels announced to it, */
	uint16_t	 device;	/* and these */

	struct ferry_chan *_Atomic main;
	struct ferry_inbuf main_in;	/* until the return path has it */
	struct ferry_speaker speak;
	struct ferry_heart heart;	/* started and stopped by conductor */
	struct ferry_outflow out;
	struct ferry_governor govern;
	struct ferry_bulk_out bulk;	/* ops NULL: there are no devices */
	struct ferry_bulk_lanes bulk_lanes;

	struct ferry_thread conductor;
	struct ferry_orders orders;
	_Atomic bool	 postcopy;	/* the switchover is one; conductor
					 * sets it */

	/* A sender that fails is often the echo of a target that gave up and
	 * says why on main: so long its word is waited for. */
	uint64_t	 last_word_ns;

	/* Conductor only. */
	struct ferry_lane *turn;	/* held: no request is answered */
	bool		 stopped;	/* ops.stop() was called */
	bool		 finished;	/* FINISH was said on this link */
	bool		 packaged;	/* it may say LOADED */
	uint64_t	 started_ns;
	uint64_t	 stopped_ns;
};

/*
 * What depends on the peer.  All run on the conductor.
 */
struct ferry_dialect_ops {
	const char *name;
	uint64_t settle_ns;	/* after the hand-over in postcopy: so long at
				 * most only what is asked for is sent */

	/* Connections, agreement. */
	int (*connect)(struct ferry_source *s, struct ferry_err *e);

	/* Everything up to the block list; what is known to be zero. */
	int (*begin)(struct ferry_source *s, struct ferry_err *e);

	/* Around a pass of the crew; last: the VM is stopped. */
	int (*pass_begin)(struct ferry_source *s, bool last,
			  struct ferry_err *e);
	int (*pass_end)(struct ferry_source *s, struct ferry_err *e);

	/* What was sent so far is placed before what is said next. */
	int (*barrier)(struct ferry_source *s, struct ferry_err *e);

	/* Say which pages are owed that the target may think it has; `last`:
	 * the VM is stopped and nothing will be added. */
	int (*discard)(struct ferry_source *s, bool last, struct ferry_err *e);

	/* Precopy: all pages have been sent. */
	int (*all_sent)(struct ferry_source *s, struct ferry_err *e);

	/* Device state; returns when the VM was handed over for good and the
	 * target was heard (where it can be). */
	int (*hand_over)(struct ferry_source *s, const struct ferry_save *dev,
			 struct ferry_err *e);

	/* Nothing is owed any more: until the target says it has all.  1:
	 * something is, after all. */
	int (*finish)(struct ferry_source *s, struct ferry_err *e);

	/* After a lost link.  Can it be found again (*e: why not)?  Main;
	 * then what became of the VM (*all: the target has all of it); and,
	 * once it is known what is owed, the other channels. */
	int (*may_return)(struct ferry_source *s, struct ferry_err *e);
	int (*reconnect)(struct ferry_source *s, struct ferry_err *e);
	int (*settle)(struct ferry_source *s, bool *all, struct ferry_err *e);
	int (*rejoin)(struct ferry_source *s, struct ferry_err *e);

	bool tries_by_itself;
};

extern const struct ferry_dialect_ops ferry_dialect_ferry;
extern const struct ferry_dialect_ops ferry_dialect_qemu;

/* ---- source.c --------------------------------------------------------------- */

/* By the conductor once nothing is to be said or heard any more, or by who
 * frees. */
void ferry_source_close_main(struct ferry_source *s);

/* Make the conductor look at its orders. */
void ferry_source_poke(struct ferry_source *s);

/* A connection to the target: dialled, and with TLS greeted. */
struct ferry_chan *ferry_source_dial(struct ferry_source *s,
				     enum ferry_channel_type type,
				     unsigned index, struct ferry_err *e);

/* ---- source_orders.c --------------------------------------------------------- */

/* From any thread: what is read or written on main ends soon. */
void ferry_source_break_main(struct ferry_source *s);

/* What it is started with. */
void ferry_source_begin_path(struct ferry_source *s,
			     const struct ferry_uri *uri);

/* The address to be dialled now. */
void ferry_source_path(struct ferry_source *s, struct ferry_uri *uri);

/* No link for now: refused where there is none to be had, or it must not be
 * given up.  In postcopy, or after it was lost. */
FERRY_CHECKED int ferry_source_halt(struct ferry_source *s,
				    enum ferry_halt why, struct ferry_err *e);

/* ---- source_end.c -------------------------------------------------------------- */

/* All of it is at the target. */
void ferry_source_complete(struct ferry_source *s);

/* It failed, *why: the VM goes on here, or, handed over, all is kept.  True
 * when the link is to be found again now; it may take long to say so. */
bool ferry_source_broke(struct ferry_source *s, struct ferry_err *why);

/* The VM is not at the target: it goes on here. */
void ferry_source_fall_back(struct ferry_source *s,
			    const struct ferry_err *err);

/* ---- source_recover.c ---------------------------------------------------------- */

/* Paused: wait until it is to be tried again.  False: it is being freed.
 * halted: by an order, which was told. */
bool ferry_source_await_turn(struct ferry_source *s, bool halted);

/* One attempt, up to where nothing differs from before (*all: nothing is left
 * to be sent). */
FERRY_CHECKED int ferry_source_reconnect(struct ferry_source *s, bool *all,
					 struct ferry_err *e);

/* It failed for this reason, and the target may not know: before anybody sees
 * that it failed, and after. */
void ferry_source_plan_leave(struct ferry_source *s,
			     const struct ferry_err *why);
void ferry_source_take_leave(struct ferry_source *s,
			     const struct ferry_err *why);

/* Until the target knows, for a second at most: else it turns the next
 * migration of this VM away.  Whoever frees it. */
void ferry_source_await_leave(struct ferry_source *s);

/* Paused: until when that is no end, and whether it can be helped at all. */
void ferry_source_note_pause(struct ferry_source *s, bool halted);

/* ---- source_rollback.c --------------------------------------------------------- */

/* Paused, and asked for: the VM goes on here.  False: it may not, yet. */
bool ferry_source_roll_back(struct ferry_source *s);
bool ferry_source_was_rolled_back(struct ferry_source *s);
/* Then: the target, if it comes to life, hears of it. */
void ferry_source_tell_void(struct ferry_source *s);
void ferry_source_rollback_stats(struct ferry_source *s,
				 struct ferry_stats *st);
/* ---- source_survive.c ---------------------------------------------------------- */

/* From here on requests are answered, and channels may be lost. */
void ferry_survive_begin(struct ferry_source *s);
bool ferry_survive_has_losses(struct ferry_source *s);
/* An urgent channel failed, *e: 0 when the others can go on. */
FERRY_CHECKED int ferry_survive_note(struct ferry_source *s, unsigned urgent,
				     struct ferry_err *e);
/* The target says that a channel is lost; -1 when it must not. */
FERRY_CHECKED int ferry_survive_heard(struct ferry_source *s,
				      struct ferry_err *e);
/* Of what was lost since, nothing is expected any more, by anyone, and what it
 * carried is owed again.  No job is under way. */
FERRY_CHECKED int ferry_survive(struct ferry_source *s, struct ferry_err *e);

/* ---- source_govern.c ------------------------------------------------------------ */

/* Postcopy begins, on this link. */
FERRY_CHECKED int ferry_govern_begin(struct ferry_source *s,
				     struct ferry_err *e);
void ferry_govern_heard(struct ferry_source *s,
			const struct ferry_rp_faults *f);
/* Most that the push may send now, bytes/s; 0: no limit. */
uint64_t ferry_source_push_rate(struct ferry_source *s);

/* ---- source_greet.c ------------------------------------------------------------ */

/* Main and the agreement on it; `again`: of a migration that there is. */
FERRY_CHECKED int ferry_greet_target(struct ferry_source *s, bool again,
				     struct ferry_err *e);
/* Data and urgent channels, as announced. */
FERRY_CHECKED int ferry_greet_others(struct ferry_source *s,
				     struct ferry_err *e);

/* ---- source_multifd.c ---------------------------------------------------------- */

/* Whether what is asked of multifd can go well. */
FERRY_CHECKED int ferry_multifd_check(struct ferry_source *s,
				      struct ferry_err *e);
/* The channels, behind main's, if there are to be any. */
FERRY_CHECKED int ferry_multifd_open(struct ferry_source *s,
				     struct ferry_err *e);
/* Before the mark on main. */
FERRY_CHECKED int ferry_multifd_mark(struct ferry_source *s,
				     struct ferry_err *e);
/* From now on pages go on main; the channels stay, and are silent. */
void ferry_multifd_rest(struct ferry_source *s);

/* ---- source_parts.c ------------------------------------------------------------ */

/* All of these do nothing where no device's state came in parts. */

/* Whether it can be said to this peer, in this way. */
FERRY_CHECKED int ferry_parts_check(struct ferry_source *s,
				    struct ferry_err *e);
/* Behind the list of blocks: how it begins. */
FERRY_CHECKED int ferry_parts_say_begin(struct ferry_source *s,
					struct ferry_err *e);
/* The VM is stopped: the switchover begins. */
FERRY_CHECKED int ferry_parts_say_switch(struct ferry_source *s,
					 struct ferry_err *e);
/* Behind the end of RAM: how it ends, and all packets. */
FERRY_CHECKED int ferry_parts_say_end(struct ferry_source *s,
				      struct ferry_err *e);

/* ---- source_run.c ---------------------------------------------------------- */

void ferry_source_conduct(void *source);

/* -1 with FERRY_E_CANCELLED when cancelled or being freed, or with what the
 * target or the link said. */
FERRY_CHECKED int ferry_source_check(struct ferry_source *s,
				     struct ferry_err *e);

/* The target's last word, while there is more to send: it is not to be counted
 * later. */
FERRY_CHECKED int ferry_source_refuse_shut(struct ferry_source *s,
					   struct ferry_err *e);

/* Wait for a reply, or one of several; -1 on bad news. */
FERRY_CHECKED int ferry_source_await(struct ferry_source *s, unsigned wanted,
				     struct ferry_err *e);

/* Wait until this channel takes something; -1 on bad news, or when it took
 * nothing for the timeout. */
FERRY_CHECKED int ferry_source_await_room(void *source,
					  struct ferry_chan *chan,
					  struct ferry_err *e);

/* Run a crew's job to its end, or until halted. */
FERRY_CHECKED int ferry_source_job(struct ferry_source *s, enum ferry_job job,
				   uint32_t sequence, struct ferry_err *e);

/* Debug line: this step of the switchover is done, so long after the stop. */
void ferry_source_note(struct ferry_source *s, const char *step);

/* From here on the VM is the target's: false when cancel came first. */
bool ferry_source_commit(struct ferry_source *s);

/* What nobody asked for is sent too. */
bool ferry_source_pushes(struct ferry_source *s);

/* All that is owed after the switch to postcopy, until the target has said that
 * it has it: source_push.c. */
FERRY_CHECKED int ferry_source_push(struct ferry_source *s,
				    struct ferry_err *e);

/* Start reading the return path on the main channel. */
FERRY_CHECKED int ferry_source_listen_back(struct ferry_source *s,
					   enum ferry_dialect dialect,
					   struct ferry_err *e);

/* ---- source_bulk.c ------------------------------------------------------------ */

/* All of these do nothing where there are no bulk devices. */
FERRY_CHECKED int ferry_source_bulk_init(struct ferry_source *s,
					 struct ferry_err *e);
void ferry_source_bulk_fini(struct ferry_source *s);
/* They iterate. */
FERRY_CHECKED int ferry_source_bulk_begin(struct ferry_source *s,
					  struct ferry_err *e);
/* What policy is to know. */
void ferry_source_bulk_policy(struct ferry_source *s,
			      struct ferry_policy_in *in);
/* A moment, or until one of them has news. */
FERRY_CHECKED int ferry_source_bulk_rest(struct ferry_source *s,
					 struct ferry_err *e);
/* The VM is about to be stopped; it was; its memory was sent. */
FERRY_CHECKED int ferry_source_bulk_park(struct ferry_source *s,
					 struct ferry_err *e);
FERRY_CHECKED int ferry_source_bulk_stopped(struct ferry_source *s,
					    struct ferry_err *e);
void ferry_source_bulk_behind_memory(struct ferry_source *s);
/* LOADED was heard: it may have been. */
FERRY_CHECKED int ferry_source_bulk_all_sent(struct ferry_source *s,
					     struct ferry_err *e);
/* True when the message was for them. */
bool ferry_source_bulk_message(struct ferry_source *s,
			       const struct ferry_rp *m);
/* No packet is sent any more; their channels are closed. */
void ferry_source_bulk_hang_up(struct ferry_source *s);
/* Before the VM goes on here. */
void ferry_source_bulk_cancel(struct ferry_source *s);

/* ---- source_memory.c ---------------------------------------------------------- */

FERRY_CHECKED int ferry_outflow_init(struct ferry_source *s,
				     struct ferry_err *e);
/* Breaks the channels of pages (which with a QEMU is main), joins all
 * threads. */
void ferry_outflow_stop(struct ferry_source *s);
void ferry_outflow_fini(struct ferry_source *s);
/* One bitmap per block; NULL with *e. */
struct ferry_bitmap *ferry_outflow_new_maps(const struct ferry_mem *mem,
					    struct ferry_err *e);
void ferry_outflow_free_maps(const struct ferry_mem *mem,
			     struct ferry_bitmap **maps);

/* Start tracking; then find what was ever touched.  all: owe every page and
 * remember the untouched ones, instead of owing the touched only. */
FERRY_CHECKED int ferry_outflow_survey(struct ferry_source *s, bool all,
				       struct ferry_err *e);
/* After stop, before a push that nothing preceded: what was touched since. */
FERRY_CHECKED int ferry_outflow_resurvey(struct ferry_source *s,
					 struct ferry_err *e);
FERRY_CHECKED int ferry_outflow_harvest(struct ferry_source *s, bool final,
					struct ferry_err *e);
void ferry_outflow_stop_tracking(struct ferry_source *s);

/* Towards a ferry: discard what is owed and believed to be at the target. */
FERRY_CHECKED int ferry_outflow_discard(struct ferry_source *s, bool last,
					struct ferry_err *e);

#endif
