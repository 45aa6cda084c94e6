/* SPDX-License-Identifier: MIT */
/*
 * The command line: key=value separated by blanks.  Pure.
 */
#ifndef GUEST_CONFIG_H
#define GUEST_CONFIG_H

#include <stddef.h>
#include <stdint.h>

enum config_mode { MODE_SEQ, MODE_RANDOM, MODE_READ, MODE_DB, MODE_IDLE };
enum config_net { NET_OFF, NET_ECHO, NET_FLOOD };
enum config_touch { TOUCH_WS, TOUCH_ALL };

/* All of one type: the table in config.c knows them by offset. */
struct config {
	uint64_t mode;		/* enum config_mode */
	uint64_t mem_bytes;	/* working set; 0: mem_percent counts */
	uint64_t mem_percent;	/* of the usable RAM */
	uint64_t rate;		/* bytes a second, all vCPUs; 0: no limit */
	uint64_t cpus;
	uint64_t seconds;	/* 0: for ever */
	uint64_t report_ms;
	uint64_t gaps_ms;	/* between two HIST lines; 0: none */
	uint64_t trace_ms;	/* between two samples; 0: none */
	uint64_t verify;	/* before each rewrite */
	uint64_t fill;		/* enum block_fill */
	uint64_t touch;		/* enum config_touch */
	uint64_t beat_us;	/* 0: no heartbeat */
	uint64_t avx;		/* the canary is as wide as that, if it can */
	uint64_t tsc_khz;	/* 0: find out */
	uint64_t net;		/* enum config_net */
	uint64_t net_us;	/* between two echoes */
	uint64_t announce;	/* when the network asks for it */
	uint64_t disk;		/* requests at a time; 0: none */
	uint64_t ram_bytes;	/* where the monitor gives no memory map */
};

enum config_problem { CONFIG_UNKNOWN_KEY, CONFIG_BAD_VALUE };

/* A word of the command line that is not understood; not terminated. */
typedef void config_complain(void *opaque, enum config_problem problem,
			     const char *word, size_t length);

/* All defaults, then what the words say. */
void config_parse(struct config *config, const char *cmdline,
		  config_complain *complain, void *opaque);

const char *config_mode_name(uint64_t mode);

#endif
