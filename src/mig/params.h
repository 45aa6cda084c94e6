/* SPDX-License-Identifier: MIT */
/*
 * The table of parameters, and the values of one migration.
 *
 * Threads: numbers are atomic words; a running migration reads them whenever it
 *          decides something, ferry_source_set() writes them from any thread.
 */
#ifndef FERRY_MIG_PARAMS_H
#define FERRY_MIG_PARAMS_H

#include <stdatomic.h>
#include <stdbool.h>

#include <ferry/params.h>

#include "base/err.h"

/* Row numbers of the table in params.c. */
enum ferry_param {
	FERRY_P_POSTCOPY_RAM,
	FERRY_P_AUTO_CONVERGE,
	FERRY_P_RELEASE_RAM,
	FERRY_P_DOWNTIME_LIMIT,
	FERRY_P_MAX_BANDWIDTH,
	FERRY_P_MAX_POSTCOPY_BANDWIDTH,
	FERRY_P_CHANNELS,
	FERRY_P_THROTTLE_INITIAL,
	FERRY_P_THROTTLE_INCREMENT,
	FERRY_P_THROTTLE_MAX,
	FERRY_P_PASSES,
	FERRY_P_MAX_PASSES,
	FERRY_P_BY,
	FERRY_P_PUSH,
	FERRY_P_PUSH_ORDER,
	FERRY_P_PREFAULT_FORWARD,
	FERRY_P_PREFAULT_BACKWARD,
	FERRY_P_URGENT,
	FERRY_P_URGENT_CHANNELS,
	FERRY_P_MAX_FAULT_P99,
	FERRY_P_PEER,
	FERRY_P_CHANNEL_HEADER,
	FERRY_P_QEMU_PREEMPT,
	FERRY_P_QEMU_MULTIFD,
	FERRY_P_COMPRESSION,
	FERRY_P_TIMEOUT,
	FERRY_P_RECOVER,
	FERRY_P_VERIFY,
	FERRY_P_DEVICE_CHANNELS,
	FERRY_P_BULK,
	FERRY_P_LEASE,
	FERRY_P_ZLIB_LEVEL,
	FERRY_P_ZSTD_LEVEL,
	FERRY_P_ZSTD_FASTER,
	FERRY_P_CHANNEL_BANDWIDTH,
	/* Texts, behind all numbers. */
	FERRY_P_TLS_CREDS,
	FERRY_P_TLS_HOSTNAME,
	FERRY_P_TLS_AUTHZ,
	FERRY_PARAMS
};

#define FERRY_TEXTS		(FERRY_PARAMS - FERRY_P_TLS_CREDS)
#define FERRY_TEXT_BYTES	1024u

#define FERRY_PASSES_AUTO	1000u	/* x-ferry-precopy-passes' default */

enum ferry_peer { FERRY_PEER_FERRY, FERRY_PEER_QEMU };
enum ferry_bulk_way { FERRY_BULK_PARALLEL, FERRY_BULK_SERIAL };
enum ferry_compression {
	FERRY_COMPRESSION_NONE, FERRY_COMPRESSION_ZLIB,
	FERRY_COMPRESSION_ZSTD, FERRY_COMPRESSION_AUTO,
};
enum ferry_push_order { FERRY_PUSH_LINEAR, FERRY_PUSH_NEAR, FERRY_PUSH_HOT };

struct ferry_params {
	_Atomic uint64_t v[FERRY_PARAMS];
	/* Never changed while a migration runs. */
	char text[FERRY_TEXTS][FERRY_TEXT_BYTES];
};

/* What multifd-channels is by default where so many CPUs may be used: at full
 * speed a channel takes one, and the guests are to have the others. */
unsigned ferry_params_channels(unsigned cpus);

void ferry_params_init(struct ferry_params *p);
void ferry_params_copy(struct ferry_params *to, const struct ferry_params *p);

/* As ferry_params_set(), but refuses what may not change while running. */
FERRY_CHECKED int ferry_params_change(struct ferry_params *p, const char *name,
				      const char *value, struct ferry_err *e);

static inline uint64_t ferry_param(const struct ferry_params *p,
				   enum ferry_param i)
{
	return atomic_load_explicit(&p->v[i], memory_order_relaxed);
}

static inline const char *ferry_param_text(const struct ferry_params *p,
					   enum ferry_param i)
{
	return p->text[i - FERRY_P_TLS_CREDS];
}

/* Without a header a ferry is spoken to as a QEMU is. */
static inline enum ferry_peer ferry_param_peer(const struct ferry_params *p)
{
	return ferry_param(p, FERRY_P_CHANNEL_HEADER) ?
	       (enum ferry_peer)ferry_param(p, FERRY_P_PEER) : FERRY_PEER_QEMU;
}

/* For who gives no signs of life (a QEMU), or gives them and takes nothing. */
static inline uint32_t ferry_patience_ms(const struct ferry_params *p)
{
	return (uint32_t)(ferry_param(p, FERRY_P_TIMEOUT) * 5 / 2);
}

#endif
