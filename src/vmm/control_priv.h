/* SPDX-License-Identifier: MIT */
/*
 * What the parts of control share.
 *
 *   control.c		the loop, signals, the end; nothing calls back
 *   control_rules.c	what may happen when (pure)
 *   control_vm.c	the VM is run, paused, reset; the engine's callbacks
 *   control_guest.c	what waits (guest, quit, signal) gets its effect
 *   control_migrate.c	migrations begin, end, are told about
 *   control_params.c	capabilities and parameters
 *   control_rescue.c	the half that is here, when the link is lost for good
 *   control_stats.c	statistics as query-migrate (pure)
 *   control_qmp.c	the table of commands
 *   control_say.c	the bell, words for the user, the order to end; all
 *			call it, it calls none
 *
 * Threads
 *   control	the loop; owns params; makes and frees sources and targets
 *   qmp	the QMP server's; runs commands sent as exec-oob
 *   vCPUs	machine callbacks: leave a bit in `asked`, ring, wait
 *   engine	ferry_vm_ops and events: run and pause the machine, change
 *		the run state, tell QMP, ring
 *
 * Locks, in this order
 *   run_lock	held while the machine is run, paused or reset, and while STOP
 *		and RESUME are told, so that the order in which clients hear
 *		of them is the order in which they happened.  May be held for
 *		two seconds: `stop` in postcopy waits for pages.  Never taken
 *		by the qmp thread or by vCPUs.
 *   lock	guards the fields below it; held for a few instructions.
 *   leaves	the machine's, the engine's, the QMP server's own.
 *
 * No engine function is called with `lock` held (its event callback takes
 * it), and none that waits (free) with run_lock held (its threads may be in
 * a callback that waits for run_lock).  The qmp thread uses a source or
 * target between ferry_control_pin() and unpin(), and control frees it when
 * nobody does.
 */
#ifndef FERRY_VMM_CONTROL_PRIV_H
#define FERRY_VMM_CONTROL_PRIV_H

#include <pthread.h>

#include <ferry/source.h>
#include <ferry/target.h>

#include "ctl/qmp_server.h"
#include "vmm/control.h"
#include "vmm/control_rules.h"
#include "vmm/runstate.h"

#define FERRY_CONTROL_AGAIN_NS	5000000000ull	/* two signals: now */
#define FERRY_CONTROL_STOP_NS	2000000000ull	/* for missing pages */

/* Its half was to be dumped; once at least. */
struct ferry_control_dump {
	char		*file;		/* the last one; NULL: never */
	uint64_t	at_ns;		/* when it was done */
	bool		written;	/* whole */
};

/* The migration that is under way, or was last.  At most one pointer is set. */
struct ferry_control_mig {
	struct ferry_source *source;
	struct ferry_target *target;
	bool		exit_on_error;	/* target: a failure ends us */
	bool		cancel_sent;	/* by the control thread, once */
	bool		cancel_refused;	/* it was too late */
	bool		rescued;	/* its half was dumped */
	bool		rescue_ran;	/* target: the VM ran before */
	struct ferry_control_dump dump;
	unsigned	users;		/* who pinned them */
	pthread_cond_t	unused;		/* users is 0 */
	enum ferry_state state;		/* as last told by an event; `setup`
					 * until the first */
	enum ferry_state told;		/* to QMP clients */
	enum ferry_where where;
};

/* How the loop ends; control thread. */
struct ferry_control_end {
	bool		now;
	bool		abandon;	/* free nothing: it might wait */
	int		code;
};

struct ferry_control {
	const struct ferry_control_config *config;
	struct ferry_machine	*machine;
	struct ferry_bulk_states *bulk;	/* NULL: there are none */
	struct ferry_vhost_devices *vhost;	/* NULL: there are none */
	struct ferry_vm		*vm;
	struct ferry_params	*params;
	struct ferry_qmp_server	*qmp;
	pthread_t		 thread;	/* control's own */
	int			 wake_fd;
	int			 signal_fd;
	uint64_t		 signal_ns;	/* when the last one came */
	/* what the user was told last of each that waits; control thread */
	const char		*told[FERRY_ASKS_WAITING];
	struct ferry_control_end end;

	pthread_mutex_t		 run_lock;
	bool			 held;		/* paused by a switchover */

	pthread_mutex_t		 lock;
	enum ferry_runstate	 runstate;
	enum ferry_runstate	 before;	/* the switchover */
	bool			 has_vm;	/* without a migration */
	bool			 arrive_paused;
	unsigned		 asked;		/* bits of enum ferry_ask */
	char			 panic[160];	/* why a vCPU cannot go on */
	struct ferry_control_mig mig;
};

/* control_say.c */
void ferry_control_wake(struct ferry_control *c);
void ferry_control_say(struct ferry_control *c, const char *fmt, ...)
	FERRY_PRINTF(2, 3);
void ferry_control_finish(struct ferry_control *c, int code);

/* control_vm.c */
extern const struct ferry_vm_ops ferry_control_vm_ops;
void ferry_control_hook(struct ferry_control *c,
			struct ferry_machine_config *machine);
void ferry_control_ask(struct ferry_control *c, enum ferry_ask ask);
FERRY_CHECKED int ferry_control_stop(struct ferry_control *c,
				     struct ferry_err *e);
FERRY_CHECKED int ferry_control_cont(struct ferry_control *c,
				     struct ferry_err *e);
FERRY_CHECKED int ferry_control_reset(struct ferry_control *c, bool guest,
				      struct ferry_err *e);
void ferry_control_halt(struct ferry_control *c, enum ferry_runstate why);
FERRY_CHECKED int ferry_control_stop_for_rescue(struct ferry_control *c,
						struct ferry_err *e);
enum ferry_runstate ferry_control_runstate(struct ferry_control *c);

/* control_guest.c */
void ferry_control_settle(struct ferry_control *c);
FERRY_CHECKED int ferry_control_quit(struct ferry_control *c,
				     struct ferry_err *e);
void ferry_control_signal(struct ferry_control *c, uint64_t now_ns);

/* control_migrate.c */
enum ferry_phase ferry_control_phase(struct ferry_control *c);
FERRY_CHECKED int ferry_control_check(struct ferry_control *c,
				      enum ferry_ask ask,
				      struct ferry_err *e);
void ferry_control_pin(struct ferry_control *c, struct ferry_source **source,
		       struct ferry_target **target);
void ferry_control_unpin(struct ferry_control *c);
void ferry_control_retire(struct ferry_control *c);
FERRY_CHECKED int ferry_control_migrate(struct ferry_control *c,
					const char *uri,
					struct json_object *paths,
					struct ferry_err *e);
FERRY_CHECKED int ferry_control_pause(struct ferry_control *c,
				      struct ferry_err *e);
FERRY_CHECKED int ferry_control_recover(struct ferry_control *c,
					const char *uri, struct ferry_err *e);
FERRY_CHECKED int ferry_control_resume(struct ferry_control *c,
				       const char *uri, struct ferry_err *e);
FERRY_CHECKED int ferry_control_rollback(struct ferry_control *c,
					 bool target_is_dead,
					 struct ferry_err *e);
FERRY_CHECKED int ferry_control_incoming(struct ferry_control *c,
					 const char *uri, bool exit_on_error,
					 struct ferry_err *e);
FERRY_CHECKED int ferry_control_cancel(struct ferry_control *c,
				       struct ferry_err *e);
bool ferry_control_is_over(struct ferry_control *c);
FERRY_CHECKED int ferry_control_postcopy(struct ferry_control *c,
					 struct ferry_err *e);
struct json_object *ferry_control_query_migrate(struct ferry_control *c);

/* control_rescue.c */
void ferry_control_forget_dump(struct ferry_control *c);
FERRY_CHECKED int ferry_control_rescue(struct ferry_control *c,
				       const char *path,
				       struct json_object **ret,
				       struct ferry_err *e);

/* control_params.c */
FERRY_CHECKED int ferry_control_set_pair(struct ferry_params *p,
					 const char *pair,
					 struct ferry_err *e);
struct json_object *ferry_control_query_caps(const struct ferry_params *p);
struct json_object *ferry_control_query_params(const struct ferry_params *p);
FERRY_CHECKED int ferry_control_set_caps(struct ferry_control *c,
					 struct json_object *list,
					 struct ferry_err *e);
FERRY_CHECKED int ferry_control_set_params(struct ferry_control *c,
					   struct json_object *args,
					   struct ferry_err *e);

/* control_stats.c */
/* Of bulk devices, if there are any; state is the migration's. */
void ferry_control_add_bulk(struct json_object *o, struct ferry_source *source,
			    struct ferry_target *target,
			    enum ferry_state state);
struct json_object *ferry_control_stats(const struct ferry_stats *st,
					bool target, const char *uri);
void ferry_control_add_channel(struct json_object *list,
			       const struct ferry_channel_stats *st);

/* control_qmp.c */
extern const struct ferry_qmp_command ferry_control_commands[];
extern const size_t ferry_control_commands_n;

#endif
