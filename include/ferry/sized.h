/* SPDX-License-Identifier: MIT */
/*
 * How the *_INIT macros of structs that begin with `size` are made; not for
 * use by programs.  C++ before 20 has no designated initialisers: there they
 * are values, and ferry_stats s = FERRY_STATS_INIT; reads the same.
 */
#ifndef FERRY_SIZED_H
#define FERRY_SIZED_H

#ifdef __cplusplus
#define FERRY_SIZED(type) [] { \
	struct type ferry_sized = {}; \
	ferry_sized.size = sizeof(ferry_sized); \
	return ferry_sized; }()
#else
#define FERRY_SIZED(type) { .size = sizeof(struct type) }
#endif

#endif
