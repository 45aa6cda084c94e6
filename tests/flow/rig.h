/* SPDX-License-Identifier: MIT */
/*
 * A whole migration in one process: a source and a target, joined by
 * in-memory channels that pass through the product's fault layer (or by a
 * URI, through the public API only), and a "guest" that writes source memory
 * until it is stopped, and reads target memory once it is started.
 *
 *	rig_vm.c	memory, guests, what the engine asks of an embedder
 *	rig.c		channels, the course of a migration, the verdict
 */
#ifndef FERRY_FLOW_RIG_H
#define FERRY_FLOW_RIG_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>

#include <ferry/ferry.h>

#include "chan/chan.h"

#define RIG_PAGE		4096u
#define RIG_CHANNELS_MAX	64
#define RIG_BLOCKS_MAX		256
#define RIG_PARAMS_MAX		12
#define RIG_BULK_MAX		8

struct rig;
struct rig_side;

struct rig_block {
	const char	*name;
	uint64_t	 bytes;
	uint32_t	 page_bytes;
	bool		 shared;	/* memfd, not private */
};

/* Bulk devices; see rig_bulk.c. */
struct rig_bulk_config {
	unsigned	 devices;
	unsigned	 blocks;	/* of state, in each */
	unsigned	 slow_us;	/* device 0: so long to load a buffer */
	unsigned	 hold_ms;	/* device 0: ready so late */
	unsigned	 fails;		/* the last device, at this call: */
#define RIG_BULK_FAIL_BEGIN	1
#define RIG_BULK_FAIL_PENDING	2
#define RIG_BULK_FAIL_ITERATE	3
#define RIG_BULK_FAIL_STOP	4
#define RIG_BULK_FAIL_SAVE	5
#define RIG_BULK_FAIL_LOAD_BEGIN 6
#define RIG_BULK_FAIL_LOAD	7
#define RIG_BULK_FAIL_END	8
#define RIG_BULK_FAIL_RUN	9
#define RIG_BULK_FAILS		9
	bool		 hangs;		/* the last one does not return from
					 * save() before it is told to */
	bool		 short_read;	/* ignores that writing failed */
};

struct rig_fault {
	unsigned	 channel;	/* in the order they are dialled */
	struct ferry_fault fault;
};

/* Where the engine is when it calls the test back. */
enum rig_moment {
	RIG_STOP, RIG_RESUME, RIG_SAVE, RIG_LOAD, RIG_START, RIG_THROTTLE,
	RIG_UNTIL,		/* arg: 1: not now */
	RIG_SOURCE_EVENT, RIG_TARGET_EVENT,
	RIG_DIAL,		/* arg: this channel is about to be opened */
};

struct rig_config {
	struct rig_block block[RIG_BLOCKS_MAX];
	unsigned	 blocks;
	unsigned	 untouched_percent;
	unsigned	 zero_percent;
	const char	*vm_name;	/* "rig" */
	const char	*fact;		/* value of fact "cpu"; "same" */
	const char	*target_dir;	/* its shared memory is a file there */
	bool		 writer;	/* writes while it runs */
	bool		 restless;	/* and some in each pass, for certain */
	bool		 reader;	/* target's guest touches all pages */
	bool		 stopped;	/* the VM does not run at the start */
	bool		 track_process;	/* the writer does not tell */
	bool		 freed;		/* the source frees what it sent */
	const char	*param[RIG_PARAMS_MAX][2];	/* ends with NULL */
	const char	*target_param[RIG_PARAMS_MAX][2];
	struct rig_bulk_config bulk;
	/* Of both sides; opaque: struct rig_side.  NULL: none. */
	const struct ferry_foreign_ops *foreign;
	const struct ferry_track_ops *log;
	struct rig_fault fault;
	bool		 has_fault;
	struct rig_fault again;		/* of a channel of a later link */
	bool		 has_again;
	bool		 fault_all;	/* on every channel */
	bool		 hasty;		/* a peer's last word is hardly waited
					 * for: reasons may be poorer */
	bool		 recovers;	/* a lost link is found again */
	const char	*uri;		/* instead of channels of our own */
	bool		 load_fails, start_fails, save_fails, stop_fails;

	/* On the engine's thread; `arg` is the state of an event, or the
	 * percent of a throttle. */
	void		(*hook)(struct rig *r, enum rig_moment m, unsigned arg);
	void		*hook_arg;

	/* What else belongs to the VM of a side; a pass begins. */
	void		(*describe)(struct rig_side *s);
	void		(*pass)(struct rig *r, uint64_t number);
};

/* What a channel of the source has carried; ops comes first. */
struct rig_counter {
	struct ferry_chan_ops ops;
	void		(*close)(struct ferry_chan *c);
	void		(*shutdown)(struct ferry_chan *c);
	struct rig	*rig;
	struct ferry_chan *chan;	/* NULL: closed, and what it had: */
	uint64_t	 written, read;
};

struct rig_bulk {
	struct rig_side	*side;
	unsigned	 number;
	pthread_mutex_t	 lock;		/* the guest writes while it iterates */
	uint32_t	*generation;	/* of each block */
	uint8_t		*dirty;
	uint64_t	 next_index;	/* target */
	uint64_t	 began_ns;
	bool		 whole;
	_Atomic unsigned inside;	/* callbacks at once */
	unsigned	 steps;		/* bits 1 << step */
	bool		 stands;	/* had STOP */
};

struct rig_side {
	struct rig	*rig;
	bool		 is_target;
	struct ferry_vm	*vm;
	uint8_t		*mem[RIG_BLOCKS_MAX];
	uint64_t	 bytes[RIG_BLOCKS_MAX];
	int		 fd[RIG_BLOCKS_MAX];
	_Atomic bool	 running;
	_Atomic uint64_t until;		/* CLOCK_BOOTTIME: it may run */
	_Atomic bool	 quit;
	pthread_t	 guest;
	bool		 has_guest;
	bool		 saw_torn;	/* while devices were loaded */
	uint32_t	 device_state[64];
	struct rig_bulk	 bulk[RIG_BULK_MAX];
};

struct rig {
	struct rig_config cfg;
	struct rig	*to;		/* whose target we go to: our own */
	struct rig_side	 src, dst;
	struct ferry_source *source;
	struct ferry_target *target;
	pthread_t	 offer[RIG_CHANNELS_MAX];
	pthread_mutex_t	 dialling;	/* one that failed may still take its
					 * leave of the target */
	unsigned	 channels, joined;	/* dialling */
	struct rig_counter counter[RIG_CHANNELS_MAX];
	pthread_mutex_t	 closing;	/* who breaks a channel, or closes it */
	_Atomic bool	 apart;		/* nothing can be dialled */
	_Atomic uint64_t heard;		/* on main, + 1, when the source first
					 * broke a channel off or closed it */
	_Atomic unsigned both;		/* times both sides ran */
	_Atomic unsigned torn;		/* wrong pages seen by the reader */
	_Atomic unsigned lost;		/* its guest was told that a page is */
	_Atomic unsigned odd_events;	/* contradicting themselves */
	bool		 has_sum;
	uint64_t	 sum;		/* of source memory, once stopped */
	struct ferry_err source_err, target_err;
	int		 source_rc, target_rc;
	struct ferry_stats source_stats, target_stats;
};

/* Make both sides, run the migration to its end, stop the guests.  The rig is
 * the caller's storage; rig_fini() frees what is in it. */
void rig_run(struct rig *r, const struct rig_config *cfg);

/* The parts, for tests that act in between. */
void rig_init(struct rig *r, const struct rig_config *cfg);
void rig_start(struct rig *r);		/* target, then source */
void rig_start_target(struct rig *r);
void rig_start_source(struct rig *r);
/* The source has reached this state, or ended. */
void rig_await(struct rig *r, enum ferry_state state);
void rig_finish(struct rig *r);		/* both sides */
void rig_finish_source(struct rig *r);
void rig_finish_target(struct rig *r);	/* the source is gone, or has ended */
/* It stayed, and is tried once more: by new engines, without faults, to the
 * same memory. */
void rig_again(struct rig *r);
void rig_fini(struct rig *r);

/* The target waits, and nobody is being let in. */
bool rig_is_waiting(struct rig *r);

/* In the midst of it; rig_fini() frees the rest. */
void rig_free_source(struct rig *r);
void rig_free_target(struct rig *r);	/* needs a URI */

/* The network goes: what there is breaks, and nothing can be dialled until it
 * is mended (`apart`).  In a hook, or while no link is being made. */
void rig_cut(struct rig *r);
/* One channel; any thread. */
void rig_break(struct rig *r, unsigned channel);

/* A unix: address of this process. */
const char *rig_unix_uri(void);

/* Octets that a channel of the source has written [0] and read [1] until now.
 * In a hook of the source's thread, or when the source is gone. */
void rig_carried(const struct rig *r, unsigned channel, uint64_t octets[2]);

/* All that the source has opened is closed. */
bool rig_has_hung_up(const struct rig *r);

/* Pages that differ between the two sides. */
uint64_t rig_differs(struct rig *r);

/* The outcome is one that may be: says "" or what is wrong with it.  Of its
 * course alone: one VM, no hang, reasons given, whatever the memory holds. */
const char *rig_verdict(struct rig *r);
const char *rig_verdict_of_course(struct rig *r);

/* All of it moved and nothing is wrong; else fails the test, naming `what`. */
void rig_expect_moved(struct rig *r, const char *what);

/* The source has the VM, and its reason holds this text. */
void rig_expect_stayed(struct rig *r, const char *what, const char *reason);

/* ---- rig_vm.c ------------------------------------------------------------- */

/* It does, and may. */
bool rig_side_runs(struct rig_side *s);
void rig_side_init(struct rig_side *s);
void rig_side_fini(struct rig_side *s);
void rig_side_fill(struct rig_side *s);
void rig_begin_writer(struct rig_side *s);
/* Of the first block, on the calling thread. */
void rig_write_some(struct rig_side *s);
void rig_end_guest(struct rig_side *s);
uint64_t rig_side_sum(struct rig_side *s);

/* ---- rig_bulk.c ----------------------------------------------------------- */

void rig_bulk_init(struct rig_side *s);
void rig_bulk_fini(struct rig_side *s);
/* Some of the state changes, as devices' does while their VM runs. */
void rig_bulk_touch(struct rig_side *s, uint64_t turn);
/* Before another try: all of it is to be handed out. */
void rig_bulk_again(struct rig *r);
/* "", or what is wrong with them. */
const char *rig_bulk_verdict(struct rig *r);

#endif
