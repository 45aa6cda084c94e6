/* SPDX-License-Identifier: MIT */
/*
 * Arithmetic on iovecs.  Pure.
 */
#ifndef FERRY_CHAN_IOV_H
#define FERRY_CHAN_IOV_H

#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

static inline uint64_t ferry_iov_bytes(const struct iovec *iov, int n)
{
	uint64_t bytes = 0;

	for (int i = 0; i < n; i++)
		bytes += iov[i].iov_len;
	return bytes;
}

/* Step over what was moved and over empty entries; *n is 0 at the end. */
static inline void ferry_iov_advance(struct iovec **iov, int *n, size_t bytes)
{
	while (*n > 0 && bytes >= (*iov)->iov_len) {
		bytes -= (*iov)->iov_len;
		(*iov)++;
		(*n)--;
	}
	if (*n > 0) {
		(*iov)->iov_base = (char *)(*iov)->iov_base + bytes;
		(*iov)->iov_len -= bytes;
	}
}

#define FERRY_IOV_CUT_MAX	64

/* The first octets of an iovec that must not be changed. */
struct ferry_iov_cut {
	struct iovec	iov[FERRY_IOV_CUT_MAX];
	int		n;
};

/* At most most_bytes of iov, and at most FERRY_IOV_CUT_MAX entries that are
 * not empty.  Empty only if iov is or most_bytes is 0. */
static inline void ferry_iov_cut(struct ferry_iov_cut *out,
				 const struct iovec *iov, int n,
				 uint64_t most_bytes)
{
	out->n = 0;
	for (int i = 0; i < n && most_bytes && out->n < FERRY_IOV_CUT_MAX;
	     i++) {
		size_t len = iov[i].iov_len;

		if (!len)
			continue;
		if (len > most_bytes)
			len = (size_t)most_bytes;
		out->iov[out->n++] = (struct iovec){ iov[i].iov_base, len };
		most_bytes -= len;
	}
}

#endif
