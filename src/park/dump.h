/* SPDX-License-Identifier: MIT */
/*
 * Taking apart what goes over the wire, or lies in a file: the records of a
 * stream, of a capture of a conversation (docs/dump.md), of an image.  What is
 * found is told to an ops table, record by record; who prints it, and how, is
 * not known here.
 *
 * All octets are read by the codecs of wire/; pages are passed over, not kept.
 * Kept are device state and QEMU's description of it, until they can be told
 * apart: FERRY_DUMP_KEPT_MAX octets at most, whatever the input says.
 *
 * Threads: one dump, one thread.
 */
#ifndef FERRY_PARK_DUMP_H
#define FERRY_PARK_DUMP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

#define FERRY_DUMP_KEPT_MAX	(160u << 20)

/* Where a record begins. */
struct ferry_dump_where {
	int		conn;		/* of a capture; -1: no capture */
	bool		back;		/* from target to source */
	unsigned	depth;		/* 1: inside of a package or image */
	double		seconds;	/* capture: when it was seen */
	uint64_t	offset;		/* in this direction of this
					 * connection; else in the file */
};

/*
 * A record: begin, its fields, end.  Keys are static, words of letters and
 * '_'.  Text is printable UTF-8 and lives until the call returns.
 */
struct ferry_dump_ops {
	/* record: "COMMAND"; what: "PING", or NULL where record says all. */
	void (*begin)(void *arg, const struct ferry_dump_where *where,
		      const char *record, const char *what);
	void (*number)(void *arg, const char *key, uint64_t value);
	/* A number that people read in hexadecimal: addresses, flags. */
	void (*hex)(void *arg, const char *key, uint64_t value);
	void (*text)(void *arg, const char *key, const char *value);
	/* The values between these two are a list; their keys are NULL. */
	void (*list)(void *arg, const char *key);
	void (*list_end)(void *arg);
	/* bytes: of the record, all in all.  times: how many records of the
	 * wire these are (a run of pages), else 1. */
	void (*end)(void *arg, uint64_t bytes, uint64_t times);
};

enum ferry_dump_kind {
	FERRY_DUMP_AUTO,	/* by its first octets */
	FERRY_DUMP_STREAM,	/* what a source says, on any connection */
	FERRY_DUMP_RETURN,	/* what a target says */
	FERRY_DUMP_PREEMPT,	/* QEMU's preempt channel: it has no magic */
	FERRY_DUMP_CAPTURE,	/* docs/dump.md */
};

struct ferry_dump_params {
	const struct ferry_dump_ops *ops;
	void		*arg;
	enum ferry_dump_kind kind;
	bool		 each_page;	/* else neighbours are one record */
	uint64_t	 offset;	/* of the first octet that is fed */
};

struct ferry_dump;

struct ferry_dump *ferry_dump_new(const struct ferry_dump_params *p,
				  struct ferry_err *e);
void ferry_dump_free(struct ferry_dump *d);

/* The next octets, in any pieces.  After a failure only free() is left. */
FERRY_CHECKED int ferry_dump_feed(struct ferry_dump *d, const void *data,
				  size_t bytes, struct ferry_err *e);

/* So many octets that come next are not looked at; a reader that can may jump
 * over them, and says so. */
uint64_t ferry_dump_skippable(const struct ferry_dump *d);
void ferry_dump_skip(struct ferry_dump *d, uint64_t bytes);

/* The input has ended.  0: every octet was understood. */
FERRY_CHECKED int ferry_dump_finish(struct ferry_dump *d,
				    struct ferry_err *e);

/* After a failure: where.  Messages begin with it, too. */
struct ferry_dump_where ferry_dump_fault(const struct ferry_dump *d);

/* Do these first octets begin an image? */
#define FERRY_DUMP_IMAGE_MAGIC_BYTES	8
bool ferry_dump_is_image(const void *data, size_t bytes);

/* An image, which is not fed but opened.  verify: all memory, by its hashes. */
FERRY_CHECKED int ferry_dump_image(const char *path,
				   const struct ferry_dump_ops *ops, void *arg,
				   bool verify, struct ferry_err *e);

#endif
