/* SPDX-License-Identifier: MIT */
/*
 * Records are given their place under the lock and written without it.
 */
#include "park/kept.h"

#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "park/hash.h"

#define COPY_BYTES	(1u << 20)

void ferry_kept_log_init(struct ferry_kept_log *l)
{
	*l = (struct ferry_kept_log){ .begun = true, .fd = -1 };
	pthread_mutex_init(&l->lock, NULL);
}

void ferry_kept_log_fini(struct ferry_kept_log *l)
{
	if (!l->begun)
		return;
	l->begun = false;
	if (l->fd >= 0)
		close(l->fd);
	l->fd = -1;
	free(l->place);
	l->place = NULL;
	pthread_mutex_destroy(&l->lock);
}

static int make_room(struct ferry_kept_log *l, const char *dir,
		     struct ferry_err *e)
{
	uint32_t room = l->room ? 2 * l->room : 256;
	struct ferry_kept_place *place;

	if (l->fd < 0)
		l->fd = open(dir, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
	if (l->fd < 0)
		return ferry_err_set(e, FERRY_E_DEVICE, errno, "create a scratch "
				     "file in %s", dir);
	if (l->n < l->room)
		return 0;
	if (l->n == FERRY_KEPT_RECORDS_MAX)
		return ferry_err_set(e, FERRY_E_UNSUPPORTED, 0, "device state "
				     "in more than %u pieces", l->n);
	place = reallocarray(l->place, room, sizeof(*place));
	if (!place)
		return ferry_err_set(e, FERRY_E_NOMEM, errno, "device state");
	l->place = place;
	l->room = room;
	return 0;
}

static int put(int fd, const uint8_t *p, size_t bytes, uint64_t offset,
	       struct ferry_err *e)
{
	while (bytes) {
		ssize_t n = pwrite(fd, p, bytes, (off_t)offset);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return ferry_err_set(e, FERRY_E_DEVICE, n ? errno : EIO,
					     "write device state");
		p += n;
		offset += (uint64_t)n;
		bytes -= (size_t)n;
	}
	return 0;
}

int ferry_kept_log_add(struct ferry_kept_log *l, const char *dir,
		       const struct ferry_kept *k, const void *data,
		       struct ferry_err *e)
{
	uint64_t hash = ferry_hash(data, k->bytes), offset;
	int rc;

	pthread_mutex_lock(&l->lock);
	rc = make_room(l, dir, e);
	offset = l->bytes;
	if (!rc) {
		l->place[l->n++] = (struct ferry_kept_place){ *k, offset,
							      hash };
		l->bytes += k->bytes;
	}
	pthread_mutex_unlock(&l->lock);
	return rc ? -1 : put(l->fd, data, k->bytes, offset, e);
}

int ferry_kept_log_copy(const struct ferry_kept_log *l, int fd,
			uint64_t offset, struct ferry_err *e)
{
	FERRY_AUTO_FREE uint8_t *buf = malloc(COPY_BYTES);

	if (!buf)
		return ferry_err_set(e, FERRY_E_NOMEM, errno, "device state");
	for (uint64_t at = 0; at < l->bytes; ) {
		ssize_t n = pread(l->fd, buf, COPY_BYTES, (off_t)at);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return ferry_err_set(e, FERRY_E_DEVICE, n ? errno : EIO,
					     "read device state back");
		if (put(fd, buf, (size_t)n, offset + at, e))
			return -1;
		at += (uint64_t)n;
	}
	return 0;
}

uint8_t *ferry_kept_log_table(const struct ferry_kept_log *l, uint64_t offset,
			      struct ferry_err *e)
{
	uint8_t *table = malloc((size_t)l->n * FERRY_KEPT_WIRE);

	if (!table) {
		ferry_err_set(e, FERRY_E_NOMEM, errno, "device state");
		return NULL;
	}
	for (uint32_t i = 0; i < l->n; i++) {
		struct ferry_kept_place p = l->place[i];

		p.offset += offset;
		ferry_kept_encode(table + (size_t)i * FERRY_KEPT_WIRE, &p);
	}
	return table;
}
