/* SPDX-License-Identifier: MIT */
/*
 * Events, statistics and log lines.
 */
#ifndef FERRY_EVENT_H
#define FERRY_EVENT_H

#include <stddef.h>
#include <stdint.h>

#include <ferry/sized.h>
#include <ferry/state.h>

#ifdef __cplusplus
extern "C" {
#endif

enum ferry_event_type {
	FERRY_EVENT_STATE	= 1,	/* state, where, safe: after a change */
	FERRY_EVENT_PASS	= 2,	/* source: pass n of precopy begins */
	FERRY_EVENT_LISTENING	= 3,	/* target: uri it can be reached at */
	FERRY_EVENT_LEASE	= 4,	/* target: its lease has run out, and
					 * the VM stands still (text says so);
					 * or it goes on ("") */
	FERRY_EVENT_BULK	= 16,	/* a bulk device is loaded at the
					 * target: its name */
};

struct ferry_event {
	uint32_t size;
	uint32_t type;			/* enum ferry_event_type */
	uint64_t time_ns;		/* CLOCK_MONOTONIC */
	enum ferry_state state;
	enum ferry_where where;
	unsigned safe;			/* enum ferry_safe bits */
	unsigned pass;
	const char *text;		/* reason or uri, or ""; borrowed */
};

enum ferry_log_level {
	FERRY_LOG_ERROR, FERRY_LOG_WARN, FERRY_LOG_INFO, FERRY_LOG_DEBUG,
};

/*
 * Given at creation of a source or target; copied.  Any slot may be NULL.
 *
 * event: called in order, one at a time, on whichever engine thread made the
 * change, with no lock of the engine's that an API call would need: it may
 * call any function of this source or target but *_free and *_wait.  It
 * should return soon: the migration waits.  The last one may come shortly
 * after *_wait has returned; none comes after *_free has.
 * log: any thread, several at once; one line without a newline.
 */
struct ferry_callbacks {
	uint32_t size;
	uint32_t reserved;
	void *opaque;
	void (*event)(void *opaque, const struct ferry_event *event);
	void (*log)(void *opaque, enum ferry_log_level level,
		    const char *line);
};

#define FERRY_CALLBACKS_INIT FERRY_SIZED(ferry_callbacks)

/* Upper bounds of histogram buckets are FERRY_HIST_FIRST_NS << i. */
#define FERRY_HIST_BUCKETS	32
#define FERRY_HIST_FIRST_NS	1024

/* What the sums of all pages say. */
enum ferry_verified {
	FERRY_VERIFIED_NOT,	/* nothing, or not yet */
	FERRY_VERIFIED_RIGHT,	/* each page is there as at the source */
	FERRY_VERIFIED_WRONG,	/* one is not: stats.error names it */
};

/* What a field says of the source; of the target the same, but for what is
 * noted, and 0 where only the source can tell (rates, passes, the parts of
 * sent_bytes). */
struct ferry_stats {
	uint32_t size;
	enum ferry_state state;
	enum ferry_where where;
	unsigned safe;

	uint64_t total_ns;		/* since start, until the end */
	uint64_t setup_ns;
	uint64_t pause_ns;		/* source: stop() called to RUN sent;
					 * 0 until then */
	uint64_t expected_pause_ns;	/* prediction while active */

	uint64_t memory_bytes;		/* all blocks */
	uint64_t remaining_bytes;	/* still owed; target: not here; 0
					 * before it is active */
	uint64_t distinct_bytes;	/* sent or known zero at least once;
					 * target: here */
	uint64_t sent_bytes;		/* everything, all channels; target:
					 * received */
	uint64_t precopy_bytes;
	uint64_t pause_bytes;		/* while stopped */
	uint64_t postcopy_bytes;
	uint64_t rate_bytes_per_s;	/* of the last pass; before there was
					 * one and at the end of all */
	uint64_t dirty_pages_per_s;

	uint64_t normal_pages;		/* target: received, as are these */
	uint64_t zero_pages;
	unsigned passes;
	unsigned throttle_percent;

	/* postcopy: requests seen (source) or faults taken (target) */
	uint64_t requests;
	uint64_t request_pages;
	uint64_t dropped_pages;		/* target: second copies dropped */
	uint64_t fault_sum_ns;		/* target: fault seen to page placed */
	uint64_t fault_max_ns;		/* those that still wait included */
	uint64_t fault_hist[FERRY_HIST_BUCKETS];
	unsigned data_channels;
	unsigned urgent_channels;
	char error[240];		/* why it failed or paused, or "" */

	/* postcopy: the link was lost */
	unsigned recoveries;		/* times that it went on */
	unsigned recover_attempts;
	uint64_t apart_ns;		/* without a link, all together; how
					 * long a guest waited for a page is
					 * in fault_max_ns */
	uint64_t last_pause_ns;		/* when it was lost last, or 0;
					 * CLOCK_MONOTONIC */
	unsigned seeking;		/* 1: there is none, and it is looked
					 * for, by itself or because asked */
	enum ferry_rollback rollback;	/* source */

	/* x-ferry-lease; 0 without */
	uint64_t lease_ns;
	uint64_t lease_left_ns;		/* target: the VM may run so long yet;
					 * source without a link: until it does
					 * not run there any more */
	unsigned lease_out;		/* target, 1: the VM stands still */
	unsigned reserved;

	/* postcopy, source */
	uint64_t push_limit;		/* bytes/s, to hold max-fault-p99; 0:
					 * the push is not held back by it */
	uint64_t fault_p99_ns;		/* how long the guest waited, as the
					 * target said last */
	unsigned lost_channels;		/* while the link lived: the others
					 * took their share over */
	unsigned unused;

	/* postcopy, target */
	uint64_t waiting_ns;		/* the longest wait for a page that
					 * goes on; fault_max_ns counts it,
					 * too */
	unsigned waiting;		/* for how many pages somebody waits */
	unsigned freed;			/* source, 1: what was sent was freed
					 * (release-ram): no way back */

	/* x-ferry-verify */
	enum ferry_verified verified;
	unsigned spare;
};

#define FERRY_STATS_INIT FERRY_SIZED(ferry_stats)

enum ferry_channel_kind {
	FERRY_CHANNEL_KIND_DATA		= 2,	/* bulk pages */
	FERRY_CHANNEL_KIND_URGENT	= 3,	/* pages that were asked for */
};

enum ferry_packing {
	FERRY_PACKING_NONE, FERRY_PACKING_ZLIB, FERRY_PACKING_ZSTD,
};

/* One connection of a migration between two ferries, links that were lost
 * included. */
struct ferry_channel_stats {
	uint32_t size;
	enum ferry_channel_kind kind;
	unsigned index;			/* among those of its kind */
	enum ferry_packing packing;	/* of its last packet of pages */
	uint64_t bytes;			/* sent; target: received, as are: */
	uint64_t normal_pages;
	uint64_t zero_pages;
	uint64_t blocked_ns;		/* in writing; target: waiting for
					 * something to read */
	uint64_t packed_from_bytes;	/* pages that were compressed, and */
	uint64_t packed_to_bytes;	/* what they became */
};

#define FERRY_CHANNEL_STATS_INIT FERRY_SIZED(ferry_channel_stats)

/* The p-th percentile (0 to 100) of such a histogram, as the upper bound of
 * its bucket interpolated linearly; 0 when empty. */
uint64_t ferry_hist_percentile_ns(const uint64_t hist[FERRY_HIST_BUCKETS],
				  double p);

#ifdef __cplusplus
}
#endif
#endif
