/* SPDX-License-Identifier: MIT */
/*
 * How long to wait before the next attempt to reach a target.  Pure.
 */
#ifndef FERRY_MIG_BACKOFF_H
#define FERRY_MIG_BACKOFF_H

#include <stdint.h>

/*
 * attempt: how many have failed; 0: the first is made at once.  Of `paths`
 * addresses each is tried before the distance doubles; it ends at 3 s.  seed
 * moves it by up to a quarter to either side, so that many sources that lost
 * one link do not come back at one time.
 */
uint64_t ferry_backoff_ns(unsigned attempt, unsigned paths, uint64_t seed);

#endif
