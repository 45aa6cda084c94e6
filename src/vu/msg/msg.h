/* SPDX-License-Identifier: MIT */
/*
 * vhost-user messages: octets to structs and back.  docs/VHOST.md, "The
 * protocol".
 *
 * A message is a header of 12 octets and a payload, in the byte order of the
 * machine, as both ends share its memory; file descriptors travel beside the
 * header.  Both roles use this codec: a request and its reply are two columns
 * of one row.
 *
 * Pure, any thread.  What depends on the device (how many queues it has, what
 * its memory is) is checked by who knows it; everything else here, once.
 */
#ifndef FERRY_VU_MSG_MSG_H
#define FERRY_VU_MSG_MSG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

/* Requests of the front-end. */
enum ferry_vu_request {
	FERRY_VU_GET_FEATURES		= 1,
	FERRY_VU_SET_FEATURES		= 2,
	FERRY_VU_SET_OWNER		= 3,
	FERRY_VU_RESET_OWNER		= 4,
	FERRY_VU_SET_MEM_TABLE		= 5,
	FERRY_VU_SET_LOG_BASE		= 6,
	FERRY_VU_SET_LOG_FD		= 7,
	FERRY_VU_SET_VRING_NUM		= 8,
	FERRY_VU_SET_VRING_ADDR		= 9,
	FERRY_VU_SET_VRING_BASE		= 10,
	FERRY_VU_GET_VRING_BASE		= 11,
	FERRY_VU_SET_VRING_KICK		= 12,
	FERRY_VU_SET_VRING_CALL		= 13,
	FERRY_VU_SET_VRING_ERR		= 14,
	FERRY_VU_GET_PROTOCOL_FEATURES	= 15,
	FERRY_VU_SET_PROTOCOL_FEATURES	= 16,
	FERRY_VU_GET_QUEUE_NUM		= 17,
	FERRY_VU_SET_VRING_ENABLE	= 18,
	FERRY_VU_SEND_RARP		= 19,
	FERRY_VU_NET_SET_MTU		= 20,
	FERRY_VU_SET_BACKEND_REQ_FD	= 21,
	FERRY_VU_GET_CONFIG		= 24,
	FERRY_VU_SET_CONFIG		= 25,
	FERRY_VU_POSTCOPY_ADVISE	= 28,
	FERRY_VU_POSTCOPY_LISTEN	= 29,
	FERRY_VU_POSTCOPY_END		= 30,
	FERRY_VU_GET_INFLIGHT_FD	= 31,
	FERRY_VU_SET_INFLIGHT_FD	= 32,
	FERRY_VU_RESET_DEVICE		= 34,
	FERRY_VU_GET_MAX_MEM_SLOTS	= 36,
	FERRY_VU_ADD_MEM_REG		= 37,
	FERRY_VU_REM_MEM_REG		= 38,
	FERRY_VU_SET_STATUS		= 39,
	FERRY_VU_GET_STATUS		= 40,
	FERRY_VU_SET_DEVICE_STATE_FD	= 42,
	FERRY_VU_CHECK_DEVICE_STATE	= 43,
};

/* Requests of the backend, on a socket of their own. */
enum ferry_vu_backend_request {
	FERRY_VU_BACKEND_CONFIG_CHANGE	= 2,
};

/* Protocol features: bit numbers. */
enum ferry_vu_protocol_feature {
	FERRY_VU_F_MQ			= 0,
	FERRY_VU_F_LOG_SHMFD		= 1,
	FERRY_VU_F_RARP			= 2,
	FERRY_VU_F_REPLY_ACK		= 3,
	FERRY_VU_F_NET_MTU		= 4,
	FERRY_VU_F_BACKEND_REQ		= 5,
	FERRY_VU_F_PAGEFAULT		= 8,
	FERRY_VU_F_CONFIG		= 9,
	FERRY_VU_F_BACKEND_SEND_FD	= 10,
	FERRY_VU_F_INFLIGHT_SHMFD	= 12,
	FERRY_VU_F_RESET_DEVICE		= 13,
	FERRY_VU_F_CONFIGURE_MEM_SLOTS	= 15,
	FERRY_VU_F_STATUS		= 16,
	FERRY_VU_F_DEVICE_STATE		= 19,
};

/* Among the virtio features, two are vhost's own. */
#define FERRY_VU_VIRTIO_F_LOG_ALL	(1ull << 26)
#define FERRY_VU_VIRTIO_F_PROTOCOL	(1ull << 30)

/* The header's flags. */
#define FERRY_VU_VERSION		1u	/* bits 0 and 1 */
#define FERRY_VU_REPLY			4u
#define FERRY_VU_NEED_REPLY		8u

#define FERRY_VU_HEADER_BYTES		12
#define FERRY_VU_REGIONS_MAX		8
#define FERRY_VU_FDS_MAX		8
#define FERRY_VU_CONFIG_BYTES_MAX	256
#define FERRY_VU_PAYLOAD_MAX		(12 + FERRY_VU_CONFIG_BYTES_MAX)

#define FERRY_VU_NO_FD			0x100u	/* in VRING_KICK, _CALL, _ERR,
						 * and the reply to
						 * SET_DEVICE_STATE_FD */
#define FERRY_VU_INDEX_MASK		0xffu
#define FERRY_VU_ADDR_LOG		1u	/* flags of VRING_ADDR */

struct ferry_vu_header {
	uint32_t	request;
	uint32_t	flags;
	uint32_t	bytes;		/* of the payload */
};

struct ferry_vu_state {			/* of a ring */
	uint32_t	index;
	uint32_t	num;
};

struct ferry_vu_addr {
	uint32_t	index;
	uint32_t	flags;
	uint64_t	desc;		/* these three: where the front-end */
	uint64_t	used;		/* has them in its memory */
	uint64_t	avail;
	uint64_t	log;		/* guest physical */
};

struct ferry_vu_region {
	uint64_t	gpa;
	uint64_t	bytes;
	uint64_t	user_addr;	/* in who says it */
	uint64_t	fd_offset;
};

struct ferry_vu_mem {
	uint32_t		n;
	struct ferry_vu_region	region[FERRY_VU_REGIONS_MAX];
};

struct ferry_vu_log {
	uint64_t	bytes;
	uint64_t	fd_offset;
};

struct ferry_vu_config {
	uint32_t	offset;
	uint32_t	bytes;
	uint32_t	flags;
	uint8_t		data[FERRY_VU_CONFIG_BYTES_MAX];
};

struct ferry_vu_inflight {
	uint64_t	bytes;
	uint64_t	fd_offset;
	uint16_t	queues;
	uint16_t	queue_size;
};

struct ferry_vu_transfer {		/* SET_DEVICE_STATE_FD */
	uint32_t	direction;	/* 0 save, 1 load */
	uint32_t	phase;		/* 0: the device is stopped */
};

struct ferry_vu_msg {
	struct ferry_vu_header	h;
	union {
		uint64_t		u64;
		struct ferry_vu_state	state;
		struct ferry_vu_addr	addr;
		struct ferry_vu_mem	mem;
		struct ferry_vu_region	region;
		struct ferry_vu_log	log;
		struct ferry_vu_config	config;
		struct ferry_vu_inflight inflight;
		struct ferry_vu_transfer transfer;
	};
};

/* How a payload looks. */
enum ferry_vu_form {
	FERRY_VU_NONE,
	FERRY_VU_U64,
	FERRY_VU_STATE,
	FERRY_VU_ADDR,
	FERRY_VU_MEM,
	FERRY_VU_REGION,	/* a u64 of padding, then the region */
	FERRY_VU_LOG,
	FERRY_VU_CONFIG,
	FERRY_VU_INFLIGHT,
	FERRY_VU_TRANSFER,
	FERRY_VU_FORMS,
};

/* What a request carries.  fds_max counts those of the request. */
struct ferry_vu_row {
	uint8_t		request;
	uint8_t		form;
	uint8_t		reply;		/* a form; NONE: only an ack, if asked */
	uint8_t		fds_min, fds_max;
	bool		has_reply;	/* also one of form NONE (ADVISE) */
	bool		always_ack;	/* without REPLY_ACK too, if asked */
	int8_t		feature;	/* protocol feature that it needs; -1 */
	const char	*name;
};

/* NULL when there is no such request. */
const struct ferry_vu_row *ferry_vu_row(uint32_t request);
const char *ferry_vu_name(uint32_t request);

/* "PAGEFAULT"; "?" */
const char *ferry_vu_feature_name(unsigned bit);

/*
 * 12 octets.  Refused: a version that is not 1, unknown flags, a payload
 * beyond PAYLOAD_MAX.  An unknown request is not refused here.
 */
FERRY_CHECKED int ferry_vu_header_decode(const uint8_t *octets,
					 struct ferry_vu_header *h,
					 struct ferry_err *e);
void ferry_vu_header_encode(uint8_t *octets, const struct ferry_vu_header *h);

/* Of the answer to a request.  To SET_LOG_BASE some say how large the log is,
 * some say nothing. */
enum ferry_vu_form ferry_vu_answer_form(const struct ferry_vu_header *h,
					enum ferry_vu_form form);

/*
 * h.bytes octets into the union.  Every field is bounded as its comment says;
 * sums of a region's fields do not wrap.
 */
FERRY_CHECKED int ferry_vu_payload_decode(const uint8_t *octets,
					  enum ferry_vu_form form,
					  struct ferry_vu_msg *m,
					  struct ferry_err *e);

/* At most PAYLOAD_MAX octets; returns how many. */
size_t ferry_vu_payload_encode(uint8_t *octets, enum ferry_vu_form form,
			       const struct ferry_vu_msg *m);

#endif
