/* SPDX-License-Identifier: MIT */
/*
 * Every bound on what a peer, a guest or a file may ask of us, in one place.
 * Decoders check against these once; code behind them may rely on it.
 */
#ifndef FERRY_BASE_LIMITS_H
#define FERRY_BASE_LIMITS_H

#define FERRY_PAGE_BYTES		4096u	/* QEMU's x86 target page */
#define FERRY_PAGE_SHIFT		12
#define FERRY_HUGE_BYTES		(2u << 20)

#define FERRY_BLOCKS_MAX		256u		/* blocks of memory */
#define FERRY_BLOCK_BYTES_MAX		(1ull << 46)	/* 64 TiB */
#define FERRY_NAME_MAX			255u		/* str8 */
#define FERRY_MACHINE_NAME_MAX		255u
#define FERRY_VMDESC_BYTES_MAX		(16u << 20)
#define FERRY_PACKAGE_BYTES_MAX		(64u << 20)	/* device state */
#define FERRY_SECTIONS_MAX		1024u		/* device sections */
#define FERRY_BULK_DEVICES_MAX		64u
#define FERRY_BULK_PACKET_BYTES_MAX	(256u << 10)
#define FERRY_BULK_WINDOW		32u	/* packets of one device that
						 * a target keeps room for */
#define FERRY_CAPABILITIES_MAX		64u
#define FERRY_COMMAND_BYTES_MAX		65535u		/* be16 length */
#define FERRY_RP_BYTES_MAX		512u		/* as QEMU */
#define FERRY_REQUEST_BYTES_MAX		(1u << 30)	/* one page request */

#define FERRY_KEPT_RECORDS_MAX		(1u << 18)	/* state in parts, */
#define FERRY_KEPT_PIECE_BYTES		(1u << 20)	/* of each at most */
#define FERRY_KEPT_DEVICES_MAX		64u

#define FERRY_HELLO_BYTES_MAX		(1u << 20)
#define FERRY_FACTS_MAX			64u
#define FERRY_FACT_BYTES_MAX		4096u
#define FERRY_REASON_BYTES_MAX		480u

#define FERRY_LEASE_MS_MIN		1000u
#define FERRY_LEASE_MS_MAX		3600000u

#define FERRY_DATA_CHANNELS_MAX		64u
#define FERRY_URGENT_CHANNELS_MAX	8u
#define FERRY_DEVICE_CHANNELS_MAX	64u
/* All of one migration may come at the same time, with main; and strangers. */
#define FERRY_PENDING_CONNECTIONS_MAX	(1 + FERRY_DATA_CHANNELS_MAX +	\
					 FERRY_URGENT_CHANNELS_MAX +	\
					 FERRY_DEVICE_CHANNELS_MAX + 23u)

#define FERRY_PACKET_PAGES_MAX		128u	/* multifd, TP = 4096 */
#define FERRY_STRIPE_PAGES		64u	/* one word of a bitmap */

#endif
