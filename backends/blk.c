/* SPDX-License-Identifier: MIT */
/*
 * ferry-vhost-blk: a disk for a virtual machine, as a vhost-user backend: a raw
 * file or a block device.
 */
#include "blk.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/fs.h>
#include <linux/virtio_blk.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common.h"

#define QUEUES_MAX	16u

struct disk_queue {
	const struct blk_engine_ops *ops;
	void			*engine;
	struct blk_request	*request;	/* as many as the queue has */
	struct blk_request	*free;
	unsigned		out;
	struct blk_turn		turn;
};

struct device {
	struct ferry_vhost	*v;
	struct blk_disk		disk;
	const char		*engine;	/* what --engine said */
	unsigned		queues;
	struct disk_queue	queue[QUEUES_MAX];

	struct blk_writer	writer;
};

/* ---- requests ------------------------------------------------------------ */

static void finish(struct ferry_vhost_queue *q, struct disk_queue *dq,
		   struct blk_request *r, int status)
{
	/* The status is the last octet: all up to it counts as written. */
	if (r->status)
		*r->status = (uint8_t)status;
	ferry_vhost_queue_push(q, &r->buffer, r->status ?
			       (uint32_t)r->buffer.in_bytes : 0);
	r->next = dq->free;
	dq->free = r;
	dq->out--;
}

/* Some of it is done: go on behind that. */
static void step(struct blk_request *r, uint64_t bytes)
{
	r->offset += bytes;
	r->bytes -= bytes;
	while (bytes && r->iovs) {
		uint64_t n = r->first->iov_len < bytes ? r->first->iov_len :
			     bytes;

		r->first->iov_base = (uint8_t *)r->first->iov_base + n;
		r->first->iov_len -= n;
		bytes -= n;
		if (!r->first->iov_len) {
			r->first++;
			r->iovs--;
		}
	}
}

static bool moves_data(const struct blk_request *r)
{
	return r->op == BLK_READ || r->op == BLK_WRITE;
}

/* Whatever is done; false: nothing was. */
static bool complete(struct ferry_vhost_queue *q, struct disk_queue *dq,
		     bool wait)
{
	int result;
	struct blk_request *r = dq->ops->reap(dq->engine, wait, &result);

	if (!r)
		return false;
	if (result == -EAGAIN || result == -EINTR) {
		dq->ops->submit(dq->engine, r);
	} else if (result < 0) {
		finish(q, dq, r, result == -EOPNOTSUPP ? VIRTIO_BLK_S_UNSUPP :
		       VIRTIO_BLK_S_IOERR);
	} else if (moves_data(r) && (uint64_t)result < r->bytes) {
		if (!result) {
			finish(q, dq, r, VIRTIO_BLK_S_IOERR);
		} else {
			step(r, (uint64_t)result);
			dq->ops->submit(dq->engine, r);
		}
	} else {
		finish(q, dq, r, VIRTIO_BLK_S_OK);
	}
	return true;
}

/* ---- a queue ------------------------------------------------------------- */

static bool is_engine(const struct blk_engine_ops *ops, const char *name)
{
	return !strcmp(name, "auto") || !strcmp(name, ops->name);
}

static bool has_engine(const char *name)
{
	for (size_t i = 0; blk_engines[i]; i++)
		if (is_engine(blk_engines[i], name))
			return true;
	return false;
}

static int open_engine(struct device *d, struct disk_queue *dq, unsigned depth,
		       struct ferry_err *e)
{
	for (size_t i = 0; blk_engines[i]; i++) {
		if (!is_engine(blk_engines[i], d->engine))
			continue;
		dq->engine = blk_engines[i]->open(&d->disk, depth);
		dq->ops = blk_engines[i];
		if (dq->engine)
			return 0;
	}
	e->code = FERRY_E_UNSUPPORTED;
	e->sys = errno;
	snprintf(e->msg, sizeof(e->msg), "%s: %s: %s", d->disk.path, d->engine,
		 strerror(errno));
	return -1;
}

static int make_requests(struct disk_queue *dq, unsigned n)
{
	struct iovec *iov = calloc((size_t)n * (BLK_SEGMENTS + 2),
				   sizeof(*iov));

	dq->request = calloc(n, sizeof(*dq->request));
	dq->free = NULL;
	dq->out = 0;
	if (!dq->request || !iov) {
		free(iov);
		return -1;
	}
	for (unsigned i = 0; i < n; i++) {
		struct blk_request *r = &dq->request[i];

		r->iov = iov + (size_t)i * (BLK_SEGMENTS + 2);
		r->next = dq->free;
		dq->free = r;
	}
	return 0;
}

static void drop_requests(struct disk_queue *dq)
{
	if (dq->request)
		free(dq->request[0].iov);
	free(dq->request);
	dq->request = NULL;
}

static int fail(struct ferry_err *e, const char *path, const char *what)
{
	e->code = FERRY_E_IO;
	e->sys = errno;
	snprintf(e->msg, sizeof(e->msg), "%s: %s%s%s", path, what,
		 errno ? ": " : "", errno ? strerror(errno) : "");
	return -1;
}

/* The guest's requests wait in the queue until the disk is ours. */
static bool has_disk(struct device *d, struct ferry_vhost_queue *q,
		     struct disk_queue *dq)
{
	if (dq->turn.came)
		return true;
	ferry_vhost_queue_watch(q, blk_turn_has_come(&dq->turn, &d->writer,
						     &d->disk) ?
				dq->ops->fd(dq->engine) : dq->turn.timer,
				POLLIN);
	return dq->turn.came;
}

static void handle(void *opaque, struct ferry_vhost_queue *q, unsigned why)
{
	struct device *d = opaque;
	struct disk_queue *dq = ferry_vhost_queue_priv(q);
	bool more = has_disk(d, q, dq);

	(void)why;
	while (more) {
		struct blk_request *r;

		more = false;
		while ((r = dq->free) &&
		       ferry_vhost_queue_pop(q, &r->buffer) == 1) {
			int status;

			dq->free = r->next;
			dq->out++;
			status = blk_prepare(&d->disk, r);
			if (status == BLK_DO_IT)
				dq->ops->submit(dq->engine, r);
			else
				finish(q, dq, r, status);
			more = true;
		}
		dq->ops->kick(dq->engine);
		while (complete(q, dq, false))
			more = true;
		ferry_vhost_queue_flush(q);
	}
}

static int start(void *opaque, struct ferry_vhost_queue *q,
		 struct ferry_err *e)
{
	struct device *d = opaque;
	struct disk_queue *dq = &d->queue[ferry_vhost_queue_index(q)];
	unsigned n = ferry_vhost_queue_size(q);

	d->disk.write_through = !(ferry_vhost_queue_features(q) &
				  1ull << VIRTIO_BLK_F_FLUSH);
	if (make_requests(dq, n) || open_engine(d, dq, n, e)) {
		drop_requests(dq);
		return -1;
	}
	if (blk_turn_open(&dq->turn)) {
		dq->ops->close(dq->engine);
		drop_requests(dq);
		blk_turn_close(&dq->turn, &d->writer, &d->disk);
		return fail(e, d->disk.path, "a timer");
	}
	ferry_vhost_queue_set_priv(q, dq);
	(void)has_disk(d, q, dq);
	return 0;
}

/* While a queue stops it gives out what another process had begun, no more. */
static bool owes(struct ferry_vhost_queue *q)
{
	struct ferry_vhost_buffer b;

	if (ferry_vhost_queue_pop(q, &b) != 1)
		return false;
	ferry_vhost_queue_unpop(q, &b);
	return true;
}

/* Whoever goes on behind us does not know of what is owed: that has to be done
 * here, and the disk to be waited for. */
static void stop(void *opaque, struct ferry_vhost_queue *q, int broken)
{
	struct device *d = opaque;
	struct disk_queue *dq = ferry_vhost_queue_priv(q);

	(void)broken;
	if (!dq->turn.came && owes(q) &&
	    blk_turn_wait(&dq->turn, &d->writer, &d->disk))
		handle(d, q, 0);
	while (dq->out) {
		dq->ops->kick(dq->engine);
		complete(q, dq, true);
	}
	dq->ops->close(dq->engine);
	drop_requests(dq);
	blk_turn_close(&dq->turn, &d->writer, &d->disk);
}

/* ---- the device ---------------------------------------------------------- */

static int config_get(void *opaque, uint32_t offset, void *data,
		      uint32_t bytes)
{
	const struct device *d = opaque;
	const struct virtio_blk_config c = {
		.capacity = d->disk.bytes / BLK_SECTOR,
		.seg_max = BLK_SEGMENTS,
		.blk_size = BLK_SECTOR,
		.num_queues = (uint16_t)d->queues,
		.max_discard_sectors = BLK_ZERO_SECTORS_MAX,
		.max_discard_seg = 1,
		.discard_sector_alignment = 8,
		.max_write_zeroes_sectors = BLK_ZERO_SECTORS_MAX,
		.max_write_zeroes_seg = 1,
		.write_zeroes_may_unmap = 1,
	};

	memcpy(data, (const uint8_t *)&c + offset, bytes);
	return 0;
}

static int open_disk(struct device *d, struct ferry_err *e)
{
	struct stat st;

	d->disk.fd = open(d->disk.path, O_CLOEXEC |
			  (d->disk.read_only ? O_RDONLY : O_RDWR));
	if (d->disk.fd < 0 || fstat(d->disk.fd, &st))
		return fail(e, d->disk.path, "open");
	d->disk.bytes = (uint64_t)st.st_size;
	if (S_ISBLK(st.st_mode) &&
	    ioctl(d->disk.fd, BLKGETSIZE64, &d->disk.bytes))
		return fail(e, d->disk.path, "its size");
	errno = 0;
	if (!S_ISBLK(st.st_mode) && !S_ISREG(st.st_mode))
		return fail(e, d->disk.path, "neither a file nor a block device");
	if (d->disk.bytes < BLK_SECTOR || d->disk.bytes % BLK_SECTOR)
		return fail(e, d->disk.path, "its size is no number of sectors of"
			    " 512 octets");
	snprintf(d->disk.id, sizeof(d->disk.id), "ferry-%llx",
		 (unsigned long long)st.st_ino);
	return 0;
}

static const struct argp_option options[] = {
	{ "disk", 'd', "PATH", 0, "a raw file, or a block device", 1 },
	{ "read-only", 'r', NULL, 0, "the guest cannot write", 1 },
	{ "queues", 'q', "N", 0, "1 to 16 (default 1)", 1 },
	{ "engine", 'e', "NAME", 0, "cached: io_uring, and at once what is in "
	  "the page cache; io_uring; preadv; or auto (default): the first "
	  "that works here", 1 },
	{ 0 },
};

struct arguments {
	struct backend	backend;
	struct device	device;
};

static error_t parse(int key, char *arg, struct argp_state *state)
{
	struct arguments *a = state->input;
	struct device *d = &a->device;
	char *end;

	switch (key) {
	case 'd':
		d->disk.path = arg;
		return 0;
	case 'r':
		d->disk.read_only = true;
		return 0;
	case 'q':
		d->queues = (unsigned)strtoul(arg, &end, 10);
		if (*end || !d->queues || d->queues > QUEUES_MAX)
			argp_error(state, "\"%s\": not from 1 to 16", arg);
		return 0;
	case 'e':
		d->engine = arg;
		if (!has_engine(arg))
			argp_error(state, "there is no engine \"%s\"", arg);
		return 0;
	case ARGP_KEY_INIT:
		state->child_inputs[0] = &a->backend;
		return 0;
	case ARGP_KEY_END:
		if (!d->disk.path)
			argp_error(state, "--disk is missing");
		return 0;
	default:
		return ARGP_ERR_UNKNOWN;
	}
}

static const char doc[] =
	"A disk for a virtual machine, as a vhost-user backend.\v"
	"Example, with a QEMU as the front-end:\n\n"
	"  ferry-vhost-blk --socket /run/vm1-disk.sock --disk vm1.img &\n"
	"  qemu-system-x86_64 ... -chardev "
	"socket,id=c0,path=/run/vm1-disk.sock \\\n"
	"      -device vhost-user-blk-pci,chardev=c0\n\n"
	"For a live migration start another one, with another socket and the "
	"same --disk, for the target.\n\n"
	"Exit codes: 0 ended by a signal, or with --once by the front-end; 1 "
	"it cannot serve; 64 wrong words.";

static uint64_t features(const struct device *d)
{
	return 1ull << VIRTIO_BLK_F_SEG_MAX | 1ull << VIRTIO_BLK_F_BLK_SIZE |
	       1ull << VIRTIO_BLK_F_FLUSH |
	       (d->queues > 1 ? 1ull << VIRTIO_BLK_F_MQ : 0) |
	       (d->disk.read_only ? 1ull << VIRTIO_BLK_F_RO :
		1ull << VIRTIO_BLK_F_DISCARD |
		1ull << VIRTIO_BLK_F_WRITE_ZEROES);
}

int main(int argc, char **argv)
{
	static struct arguments a = { .device = {
		.queues = 1, .engine = "auto",
		.writer = { .lock = PTHREAD_MUTEX_INITIALIZER },
	} };
	const struct argp_child children[] = {
		{ &backend_argp, 0, NULL, 0 }, { 0 },
	};
	const struct argp argp = { options, parse, NULL, doc, children, NULL,
				   NULL };
	struct ferry_vhost_shape shape = FERRY_VHOST_SHAPE_INIT;
	struct ferry_vhost_ops ops = FERRY_VHOST_OPS_INIT;
	struct device *d = &a.device;
	struct ferry_err e;

	argp_parse(&argp, argc, argv, 0, NULL, &a);
	backend_block_signals();
	if (open_disk(d, &e))
		return backend_fail(&e);

	shape.name = "disk";
	shape.queues = d->queues;
	shape.queue_size_max = 1024;
	shape.config_bytes = sizeof(struct virtio_blk_config);
	shape.features = features(d);
	ops.config_get = config_get;
	ops.start = start;
	ops.handle = handle;
	ops.stop = stop;
	d->v = ferry_vhost_new(&shape, &ops, d, backend_log, &e);
	if (!d->v)
		return backend_fail(&e);
	return backend_serve(d->v, &a.backend);
}
