/* SPDX-License-Identifier: MIT */
/*
 * Addresses, as QEMU writes them: tcp:HOST:PORT (HOST empty, a name, IPv4, or
 * IPv6 in brackets), unix:PATH, fd:N, file:PATH[,offset=N].
 *
 * An empty host is every address when listening and 127.0.0.1 when dialling;
 * port 0 is for listening only.
 * Threads: any; a listener has one user at a time.
 */
#ifndef FERRY_CHAN_URI_H
#define FERRY_CHAN_URI_H

#include <stdbool.h>

#include "chan/chan.h"

enum ferry_uri_kind {
	FERRY_URI_TCP, FERRY_URI_UNIX, FERRY_URI_FD, FERRY_URI_FILE,
};

struct ferry_uri {
	enum ferry_uri_kind kind;
	char host[256];
	char port[8];
	char path[4096];
	int fd;
	uint64_t offset;
};

/* Also checks that fd N is open here. */
FERRY_CHECKED int ferry_uri_parse(struct ferry_uri *u, const char *text,
				  struct ferry_err *e);

/* The text again, cut to fit; for messages, and for parsing if it fits. */
void ferry_uri_format(const struct ferry_uri *u, char *buf, size_t bytes);

/* What a channel to this address will be able to do (enum ferry_chan_features),
 * without connecting; for an fd or a file by looking at it.  A file says
 * READ and WRITE: one of them, as it is opened. */
unsigned ferry_uri_features(const struct ferry_uri *u);

/* Who is dialled, for a certificate to name: "" where that has no name. */
const char *ferry_uri_host(const struct ferry_uri *u);

/* Only who is on this machine can come by it. */
bool ferry_uri_is_local(const struct ferry_uri *u);

/*
 * Connect (or open for writing).  Gives up after timeout_ms (0: when the
 * kernel does), and within 50 ms of *cancel becoming true (may be NULL); only
 * looking up a name cannot be interrupted.  Every address of a name is tried.
 * Each call makes a new connection, but fd:N works once (the fd is duplicated).
 */
struct ferry_chan *ferry_uri_dial(const struct ferry_uri *u,
				  uint32_t timeout_ms,
				  const _Atomic bool *cancel,
				  struct ferry_err *e);

/* Where a target reads what cannot be listened at: fd:N (duplicated) and
 * file: (opened for reading, from its offset). */
struct ferry_chan *ferry_uri_open(const struct ferry_uri *u,
				  struct ferry_err *e);

/* ---- listening --------------------------------------------------------- */

struct ferry_listener;

/* tcp and unix only.  A stale unix socket file (nobody listens) is replaced,
 * a live one is an error. */
struct ferry_listener *ferry_listen(const struct ferry_uri *u,
				    struct ferry_err *e);

/* For poll(): readable when accept would not block. */
int ferry_listener_fd(const struct ferry_listener *l);

/* NULL and *e; FERRY_E_TIMEOUT when nobody is waiting (never blocks).  Its name
 * tells where it is from. */
struct ferry_chan *ferry_listener_accept(struct ferry_listener *l,
					 struct ferry_err *e);

/* URI with the chosen port, one that ferry_uri_parse() takes. */
void ferry_listener_uri(const struct ferry_listener *l, char *buf,
			size_t bytes);

/* Closes, and removes a unix socket's file.  NULL is allowed. */
void ferry_listener_close(struct ferry_listener *l);

#endif
