/* SPDX-License-Identifier: MIT */
/*
 * A whole vhost-user backend: a disk that lives in this process's memory.
 *
 *	cc vhost-mem.c $(pkg-config --cflags --libs ferry-vhost) -o vhost-mem
 *	./vhost-mem /tmp/disk.sock
 *
 *	qemu-system-x86_64 -m 1G \
 *	    -object memory-backend-memfd,id=m,size=1G,share=on \
 *	    -machine q35,memory-backend=m \
 *	    -chardev socket,id=c,path=/tmp/disk.sock \
 *	    -device vhost-user-blk-pci,chardev=c ...
 *
 * It migrates: its content travels as the device's state, where the front-end
 * can carry that, and all the rest is the library's business.
 */
#include <linux/virtio_blk.h>
#include <stdio.h>
#include <string.h>
#include <sys/uio.h>

#include <ferry/vhost.h>

#define SECTORS	131072u			/* of 512 octets: 64 MiB */

static unsigned char disk[SECTORS * 512u];

static int config_get(void *opaque, uint32_t offset, void *data,
		      uint32_t bytes)
{
	const struct virtio_blk_config c = { .capacity = SECTORS };

	(void)opaque;
	memcpy(data, (const char *)&c + offset, bytes);
	return 0;
}

/* Move data between the disk and segments; the first of `out` is the header,
 * the last of `in` the status, as Linux and firmwares lay requests out. */
static int move(const struct iovec *iov, uint32_t n, uint64_t at, int write)
{
	for (uint32_t i = 0; i < n; at += iov[i++].iov_len) {
		if (at > sizeof(disk) || iov[i].iov_len > sizeof(disk) - at)
			return VIRTIO_BLK_S_IOERR;
		if (write)
			memcpy(disk + at, iov[i].iov_base, iov[i].iov_len);
		else
			memcpy(iov[i].iov_base, disk + at, iov[i].iov_len);
	}
	return VIRTIO_BLK_S_OK;
}

static int request(const struct ferry_vhost_buffer *b)
{
	struct virtio_blk_outhdr head;

	if (!b->outs || b->out[0].iov_len < sizeof(head))
		return VIRTIO_BLK_S_IOERR;
	/* Guest memory: read once, then decide. */
	memcpy(&head, b->out[0].iov_base, sizeof(head));
	if (head.sector >= SECTORS)
		return VIRTIO_BLK_S_IOERR;
	if (head.type == VIRTIO_BLK_T_IN)
		return move(b->in, b->ins - 1, head.sector * 512, 0);
	if (head.type == VIRTIO_BLK_T_OUT)
		return move(b->out + 1, b->outs - 1, head.sector * 512, 1);
	return VIRTIO_BLK_S_UNSUPP;
}

static void handle(void *opaque, struct ferry_vhost_queue *q, unsigned why)
{
	struct ferry_vhost_buffer b;

	(void)opaque, (void)why;
	while (ferry_vhost_queue_pop(q, &b) == 1) {
		if (b.ins) {
			unsigned char *status = b.in[b.ins - 1].iov_base;

			*status = (unsigned char)request(&b);
		}
		ferry_vhost_queue_push(q, &b, (uint32_t)b.in_bytes);
	}
}

static int save(void *opaque, struct ferry_vhost_stream *s,
		struct ferry_err *e)
{
	(void)opaque;
	return ferry_vhost_stream_write(s, disk, sizeof(disk), e);
}

static int load(void *opaque, struct ferry_vhost_stream *s,
		struct ferry_err *e)
{
	(void)opaque;
	return ferry_vhost_stream_read(s, disk, sizeof(disk), e);
}

static void say(void *opaque, int level, const char *line)
{
	(void)opaque;
	if (level <= 1)
		fprintf(stderr, "%s\n", line);
}

int main(int argc, char **argv)
{
	struct ferry_vhost_shape shape = FERRY_VHOST_SHAPE_INIT;
	struct ferry_vhost_ops ops = FERRY_VHOST_OPS_INIT;
	struct ferry_vhost *v;
	struct ferry_err e;

	if (argc != 2) {
		fprintf(stderr, "usage: vhost-mem SOCKET\n");
		return 2;
	}
	shape.name = "disk";
	shape.queues = 1;
	shape.config_bytes = sizeof(struct virtio_blk_config);
	ops.config_get = config_get;
	ops.handle = handle;
	ops.save = save;
	ops.load = load;

	v = ferry_vhost_new(&shape, &ops, NULL, say, &e);
	if (!v || ferry_vhost_listen(v, argv[1], &e) ||
	    ferry_vhost_wait(v, -1, &e)) {
		fprintf(stderr, "vhost-mem: %s\n", e.msg);
		return 1;
	}
	ferry_vhost_free(v);
	return 0;
}
