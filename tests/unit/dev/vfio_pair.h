/* SPDX-License-Identifier: MIT */
/*
 * A made up VFIO device at each end of a migration, what goes between them,
 * and the engine's part in it, act by act.
 */
#ifndef FERRY_TESTS_UNIT_DEV_VFIO_PAIR_H
#define FERRY_TESTS_UNIT_DEV_VFIO_PAIR_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "base/cleanup.h"
#include "dev/bulk.h"
#include "dev/vfio.h"
#include "dev/vfio_abi.h"
#include "dev/vfio_word.h"
#include "vfio_fake.h"

#define BASIC	VFIO_MIGRATION_STOP_COPY
#define P2P	(BASIC | VFIO_MIGRATION_P2P)
#define LIVE	(BASIC | VFIO_MIGRATION_PRE_COPY)
#define ALL	(P2P | VFIO_MIGRATION_PRE_COPY)

#define PIECES_MAX	4096

struct piece {
	unsigned flags;
	size_t bytes;
	uint8_t *data;
};

/* A device at each end, and what is between them. */
struct pair {
	struct vfio_fake from, to;
	struct ferry_vfio *out, *in;
	struct ferry_bulk_ops ops;
	struct ferry_bulk out_handle, in_handle;
	struct piece piece[PIECES_MAX];
	unsigned pieces, loaded;
	unsigned initial;	/* pieces with that flag */
	unsigned was_reset;
};

enum act {
	BEGIN, LOAD_BEGIN, LOOK, ITERATE, TOUCH, FEED, QUIESCE, STOP, SAVE,
	FEED_ALL, LOAD_END, END, PREPARE, RUN, ACTS,
};


struct pair *pair_new(const struct vfio_fake_config *cfg);

/* Nothing is open, and nobody did what a kernel would not have liked. */
void pair_free(struct pair *p);

/* A config for a device, whose resets are counted in p. */
struct ferry_vfio_config pair_config(struct pair *p);
struct ferry_vfio *pair_device(struct pair *p, struct vfio_fake *f);

/* Something more on its way. */
int pair_keep(void *arg, const void *data, size_t bytes, unsigned flags,
	      struct ferry_err *e);
void pair_forget(struct pair *p);

/* All that is on its way reaches the target. */
int pair_feed(struct pair *p, struct ferry_err *e);
int pair_iterate_all(struct pair *p, struct ferry_err *e);
int pair_act(struct pair *p, enum act which, struct ferry_err *e);

/* All acts before `end`, or until one fails, which it returns. */
enum act pair_course(struct pair *p, enum act end, struct ferry_err *e);

/* What the engine does behind a failure of the act that was reached. */
void pair_cancel(struct pair *p, enum act reached);

void pair_expect_moved(struct pair *p, const char *what);

/* The device runs at the source, and all of it works once more. */
void pair_expect_back(struct pair *p, const char *what);

#endif
