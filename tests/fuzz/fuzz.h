/* SPDX-License-Identifier: MIT */
/*
 * What a fuzz target is: one function over octets, which traps when a promise
 * is broken, and seeds for it, made by our own encoders.  Built two ways: with
 * libFuzzer (option `fuzzers`, clang), and with driver.c as a plain program
 * that any compiler builds and that `meson test` runs for a moment.
 */
#ifndef FERRY_TESTS_FUZZ_H
#define FERRY_TESTS_FUZZ_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/cursor.h"
#include "base/err.h"

/* Called by libFuzzer and by the driver; returns 0. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

/* Hands each seed to emit. */
void fuzz_seeds(void (*emit)(const void *data, size_t bytes));

#define FUZZ_CHECK(ok)	do { if (!(ok)) __builtin_trap(); } while (0)

/* A decoder and its encoder, through one type. */
struct fuzz_codec {
	size_t	size;		/* of what is decoded */
	bool	canonical;	/* one value has one form */
	int	(*decode)(struct ferry_rd *r, void *out, struct ferry_err *e);
	void	(*encode)(struct ferry_wr *w, const void *in);
};

/*
 * Run a stream decoder as the engine does: on nothing at first, then on as
 * many octets more as it says it lacks.  Checks its promises on the way, and
 * that what was decoded survives encoding.  Returns the octets consumed, 0 when
 * they were refused or did not suffice.
 */
size_t fuzz_stream(const struct fuzz_codec *c, const uint8_t *data,
		   size_t bytes, void *out);

#endif
