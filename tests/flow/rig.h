/* SPDX-License-Identifier: MIT */
/*
 * A whole migration in one process: a source and a target, joined by
 * in-memory channels that pass through the product's fault layer, and a
 * "guest" that writes source memory until it is stopped, and reads target
 * memory once it is started.
 */
#ifndef FERRY_FLOW_RIG_H
#define FERRY_FLOW_RIG_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>

#include <ferry/ferry.h>

#include "chan/chan.h"

#define RIG_CHANNELS_MAX	8
#define RIG_BLOCKS_MAX		4

struct rig_block {
	const char	*name;
	uint64_t	 bytes;
	uint32_t	 page_bytes;
	bool		 shared;	/* memfd, not private */
};

struct rig_fault {
	unsigned	 channel;	/* in the order they are dialled */
	struct ferry_fault fault;
};

struct rig_config {
	struct rig_block block[RIG_BLOCKS_MAX];
	unsigned	 blocks;
	unsigned	 untouched_percent;
	unsigned	 zero_percent;
	bool		 writer;	/* writes while it runs */
	bool		 reader;	/* target's guest touches all pages */
	bool		 stopped;	/* the VM does not run at the start */
	const char	*param[12][2];	/* ends with NULL */
	const char	*target_param[4][2];
	struct rig_fault fault;
	bool		 has_fault;
	const char	*target_fact;	/* value of fact "cpu" there; "same" */
	uint64_t	 target_bytes;	/* first block's size there, or 0 */
	bool		 load_fails, start_fails, save_fails, stop_fails;
};

/* What a channel of the source has carried; ops comes first. */
struct rig_counter {
	struct ferry_chan_ops ops;
	void		(*close)(struct ferry_chan *c);
	uint64_t	 written, read;
};

struct rig_side {
	struct rig	*rig;
	bool		 is_target;
	struct ferry_vm	*vm;
	uint8_t		*mem[RIG_BLOCKS_MAX];
	uint64_t	 bytes[RIG_BLOCKS_MAX];
	int		 fd[RIG_BLOCKS_MAX];
	_Atomic bool	 running;
	_Atomic bool	 quit;
	pthread_t	 guest;
	bool		 has_guest;
	uint32_t	 device_state[64];
};

struct rig {
	struct rig_config cfg;
	struct rig_side	 src, dst;
	struct ferry_source *source;
	struct ferry_target *target;
	pthread_t	 offer[RIG_CHANNELS_MAX];
	unsigned	 channels;
	struct rig_counter counter[RIG_CHANNELS_MAX];
	_Atomic unsigned both;		/* times both sides ran */
	_Atomic unsigned torn;		/* wrong pages seen by the reader */
	struct ferry_err source_err, target_err;
	int		 source_rc, target_rc;
	struct ferry_stats source_stats, target_stats;
};

/* Make both sides, run the migration to its end, stop the guests.  The rig is
 * the caller's storage; rig_fini() frees what is in it. */
void rig_run(struct rig *r, const struct rig_config *cfg);

/* The parts, for tests that act in between. */
void rig_init(struct rig *r, const struct rig_config *cfg);
void rig_start(struct rig *r);
void rig_finish(struct rig *r);
void rig_fini(struct rig *r);

/* Pages that differ between the two sides. */
uint64_t rig_differs(struct rig *r);

/* The outcome is one that may be: says "" or what is wrong with it. */
const char *rig_verdict(struct rig *r);

#endif
