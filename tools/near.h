/* SPDX-License-Identifier: MIT */
/*
 * Words that are nearly the same.  Pure.
 */
#ifndef FERRY_TOOLS_NEAR_H
#define FERRY_TOOLS_NEAR_H

/* How many letters must be changed, added, left out or swapped with their
 * neighbour to make `b` of `a`; of words too long to be commands, many. */
unsigned ferry_near(const char *a, const char *b);

#endif
