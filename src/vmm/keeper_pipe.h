/* SPDX-License-Identifier: MIT */
/*
 * Between `ferry run` and the process that keeps the state of one of its bulk
 * devices: two pipes, one each way, which carry frames.  Both ends are the
 * same program on the same host: fields are as they lie in memory, but for
 * blocks, which travel on.
 *
 *	to the keeper		its answer
 *	BEGIN n			DONE n		all of it is to be handed out
 *	SYNC n			DONE n		nothing changes any more
 *	PENDING			DONE n		blocks that changed
 *	HAND_OUT n		BLOCK ..., DONE n	at most n; that are left; fewer
 *						when something else is said
 *	FINISH			DIGEST		of all there is
 *	LOAD n			DONE n		nothing is here yet
 *	BLOCK			none, or ERROR later
 *	CHECK + digest		DONE		all is here, and it is that
 *
 * or ERROR and a sentence instead of an answer.  What is left of an exchange
 * that was broken off is skipped up to the n of the next one.
 */
#ifndef FERRY_VMM_KEEPER_PIPE_H
#define FERRY_VMM_KEEPER_PIPE_H

#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

enum ferry_keeper_op {
	FERRY_KEEPER_BEGIN = 1, FERRY_KEEPER_SYNC, FERRY_KEEPER_PENDING,
	FERRY_KEEPER_HAND_OUT, FERRY_KEEPER_FINISH, FERRY_KEEPER_LOAD,
	FERRY_KEEPER_BLOCK, FERRY_KEEPER_CHECK,
	FERRY_KEEPER_DONE, FERRY_KEEPER_DIGEST, FERRY_KEEPER_ERROR,
};

struct ferry_keeper_frame {
	uint32_t op;
	uint32_t bytes;		/* that follow */
	uint64_t arg;
};

/*
 * A block: be64 sum of what follows, be32 number, be32 blocks in all, be64
 * generation, content.
 */
#define FERRY_KEEPER_BLOCK_BYTES	65536u
#define FERRY_KEEPER_HEAD_BYTES		24u
#define FERRY_KEEPER_DIGEST_BYTES	16u	/* be64 blocks, be64 sum */

/* Until something can be moved; stop_fd (-1: none) readable ends it.  0, or
 * -ECANCELED, or -ETIMEDOUT after so many ms (-1: never). */
int ferry_keeper_await(int fd, short events, int stop_fd, int most_ms);

/* All of it.  0; -EPIPE when the other end is gone, -ETIMEDOUT, or another
 * -errno.  Non-blocking fds. */
int ferry_keeper_read(int fd, void *data, size_t bytes, int most_ms);
int ferry_keeper_write(int fd, const void *data, size_t bytes, int most_ms);

/* A frame on its way; what was broken off in its midst goes on where it was,
 * before anything else. */
struct ferry_keeper_said {
	size_t		 at, bytes;	/* of frame and data */
	struct ferry_keeper_frame frame;
	uint8_t		 data[FERRY_KEEPER_BLOCK_BYTES];
};

struct ferry_keeper_heard {
	size_t		 at;
	struct ferry_keeper_frame frame;
	uint8_t		 data[FERRY_KEEPER_BLOCK_BYTES];
};

/* One frame, with at most a block of data.  0; -ECANCELED when stop_fd is
 * readable, -ETIMEDOUT when nothing moved for most_ms; -EMSGSIZE: no frame;
 * else as above.  Zeroed structs begin. */
int ferry_keeper_say(int fd, struct ferry_keeper_said *s,
		     const struct ferry_keeper_frame *f, const void *data,
		     int stop_fd, int most_ms);
int ferry_keeper_hear(int fd, struct ferry_keeper_heard *h, int stop_fd,
		      int most_ms);

#endif
