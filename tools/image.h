/* SPDX-License-Identifier: MIT */
/*
 * `ferry run --image`: the VM of an image goes on in this process.  It comes
 * as a migration over a socket of its own, from a thread that serves the image
 * (park/serve.h).
 */
#ifndef FERRY_TOOLS_IMAGE_H
#define FERRY_TOOLS_IMAGE_H

#include <stdint.h>

#include "base/err.h"

struct ferry_tool_image;

/* NULL, and why not.  The image is open and checked, but for its memory. */
struct ferry_tool_image *ferry_tool_image_open(const char *path,
					       struct ferry_err *e);

/* Its VM has so many octets of RAM, and vCPUs, or it is said what to give
 * instead. */
FERRY_CHECKED int ferry_tool_image_fits(const struct ferry_tool_image *i,
					uint64_t ram_bytes, unsigned vcpus,
					struct ferry_err *e);

/* Where its VM waits to come from: what to listen at. */
const char *ferry_tool_image_uri(const struct ferry_tool_image *i);

/* Serve as soon as somebody listens there.  If that fails it is said, and this
 * process gets SIGTERM. */
FERRY_CHECKED int ferry_tool_image_start(struct ferry_tool_image *i,
					 struct ferry_err *e);

/* Ends what is under way; true when it failed. */
bool ferry_tool_image_close(struct ferry_tool_image *i);

#endif
