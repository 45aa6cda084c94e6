/* SPDX-License-Identifier: MIT */
/*
 * Packets of multifd that are compressed: zlib and zstd.
 */
#ifndef FERRY_PARK_UNPACK_H
#define FERRY_PARK_UNPACK_H

#include "recv/lanes.h"

extern const struct ferry_unpack_ops ferry_unpack;

#endif
