/* SPDX-License-Identifier: MIT */
/*
 * Reading an image by pread, not by mapping it: a file that is cut short or a
 * disk that fails is then an error and not a SIGBUS.
 */
#include "park/image.h"

#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zstd.h>

#include "base/cleanup.h"
#include "park/hash.h"
#include "wire/dialect.h"
#include "wire/text.h"

static int read_all(const struct ferry_image *img, void *data, size_t bytes,
		    uint64_t offset)
{
	uint8_t *p = data;

	while (bytes) {
		ssize_t n = pread(img->fd, p, bytes, (off_t)offset);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return n ? -errno : -ENODATA;
		p += n;
		offset += (uint64_t)n;
		bytes -= (size_t)n;
	}
	return 0;
}

/* ---- opening ------------------------------------------------------------------ */

static int read_head(struct ferry_image *img, struct ferry_err *e)
{
	uint8_t head[FERRY_IMAGE_HEAD_BYTES] = { 0 };
	struct stat st;
	int rc;

	if (fstat(img->fd, &st))
		return ferry_err_set(e, FERRY_E_IO, errno, "look at it");
	if (!S_ISREG(st.st_mode))
		return ferry_err_set(e, FERRY_E_INVALID, 0,
				     "it is not a regular file");
	rc = read_all(img, head, sizeof(head), 0);
	if (rc && rc != -ENODATA)
		return ferry_err_set(e, FERRY_E_IO, -rc, "read its head");
	return ferry_image_head_decode(head, (uint64_t)st.st_size, &img->head,
				       e);
}

static uint8_t *read_piece(const struct ferry_image *img,
			   const struct ferry_piece *p, const char *what,
			   struct ferry_err *e)
{
	FERRY_AUTO_FREE uint8_t *data = malloc(p->bytes ? p->bytes : 1);
	int rc;

	if (!data) {
		ferry_err_set(e, FERRY_E_NOMEM, errno, "%s", what);
		return NULL;
	}
	rc = read_all(img, data, p->bytes, p->offset);
	if (rc) {
		ferry_err_set(e, FERRY_E_IO, -rc, "read its %s", what);
		return NULL;
	}
	if (ferry_hash(data, p->bytes) != p->hash) {
		ferry_err_set(e, FERRY_E_PROTO, 0, "the image is damaged: its "
			      "%s does not match its hash", what);
		return NULL;
	}
	return ferry_steal(&data);
}

static int check_state(const struct ferry_image *img, struct ferry_err *e)
{
	const struct ferry_image_index *x = &img->index;

	if ((uint64_t)x->sections_bytes + x->vmdesc_bytes !=
	    img->head.state.bytes)
		return ferry_err_set(e, FERRY_E_PROTO, 0, "the image is "
				     "damaged: size of the device state");
	return 0;
}

/* Of its records only the table. */
static int read_kept(struct ferry_image *img, struct ferry_err *e)
{
	struct ferry_kept_place p;

	if (!(img->head.flags & FERRY_IMAGE_KEPT))
		return 0;
	img->kept = read_piece(img, &img->head.kept,
			       "table of device state in parts", e);
	if (!img->kept)
		return -1;
	img->kept_records = (uint32_t)(img->head.kept.bytes / FERRY_KEPT_WIRE);
	for (uint32_t i = 0; i < img->kept_records; i++)
		if (ferry_kept_decode(img->kept + (size_t)i * FERRY_KEPT_WIRE,
				      img->head.file_bytes, &p))
			return ferry_err_set(e, FERRY_E_PROTO, 0, "the image "
					     "is damaged: device state in "
					     "parts, record %" PRIu32, i);
	return 0;
}

static int read_rest(struct ferry_image *img, struct ferry_err *e)
{
	FERRY_AUTO_FREE uint8_t *index = NULL;

	img->chunks = img->head.table.bytes / FERRY_CHUNK_WIRE;
	img->table = read_piece(img, &img->head.table, "chunk table", e);
	if (!img->table)
		return -1;
	index = read_piece(img, &img->head.index, "index", e);
	if (!index || ferry_image_index_decode(index, img->head.index.bytes,
					       img->chunks, &img->index, e))
		return -1;
	img->state = read_piece(img, &img->head.state, "device state", e);
	return img->state ? check_state(img, e) || read_kept(img, e) : -1;
}

int ferry_image_open(struct ferry_image *img, const char *path,
		     struct ferry_err *e)
{
	*img = (struct ferry_image){
		.fd = open(path, O_RDONLY | O_CLOEXEC),
	};
	ferry_hash_prepare();
	if (img->fd < 0)
		return ferry_err_set(e, FERRY_E_IO, errno, "open image %s",
				     path);
	if (read_head(img, e) || read_rest(img, e)) {
		ferry_image_close(img);
		return ferry_err_wrap(e, "%s", path);
	}
	return 0;
}

void ferry_image_close(struct ferry_image *img)
{
	if (img->fd >= 0)
		close(img->fd);
	img->fd = -1;
	ferry_hello_fini(&img->index.vm);
	free(img->table);
	free(img->state);
	free(img->kept);
	img->table = img->state = img->kept = NULL;
}

const char *ferry_image_peer(const struct ferry_image *img)
{
	return img->index.dialect == FERRY_DIALECT_QEMU ? "qemu" : "ferry";
}

/* ---- device state in parts ----------------------------------------------------- */

bool ferry_image_kept(const struct ferry_image *img, uint32_t i,
		      struct ferry_kept_place *p)
{
	return i < img->kept_records &&
	       !ferry_kept_decode(img->kept + (size_t)i * FERRY_KEPT_WIRE,
				  img->head.file_bytes, p);
}

int ferry_image_read_kept(const struct ferry_image *img, uint32_t i,
			  uint8_t *out, struct ferry_err *e)
{
	struct ferry_kept_place p = { 0 };
	int rc = ferry_image_kept(img, i, &p) ?
		 read_all(img, out, p.k.bytes, p.offset) : -EINVAL;

	if (rc)
		return ferry_err_set(e, FERRY_E_IO, -rc, "read device state");
	if (ferry_hash(out, p.k.bytes) == p.hash)
		return 0;
	return ferry_err_set(e, FERRY_E_PROTO, 0, "the image is damaged: "
			     "device state in parts, record %" PRIu32 ", does "
			     "not match its hash", i);
}

/* ---- memory -------------------------------------------------------------------- */

bool ferry_image_is_zero(const struct ferry_image *img, uint64_t chunk)
{
	/* Of a table of a million: nothing more is looked at. */
	return ferry_chunk_is_zero(img->table + chunk * FERRY_CHUNK_WIRE);
}

int ferry_image_cache_init(struct ferry_image_cache *c, struct ferry_err *e)
{
	*c = (struct ferry_image_cache){ .which = UINT64_MAX };
	c->zstd = ZSTD_createDCtx();
	c->packed = malloc(FERRY_CHUNK_BYTES);
	if (posix_memalign((void **)&c->chunk, FERRY_PAGE_BYTES,
			   FERRY_CHUNK_BYTES))
		c->chunk = NULL;
	if (c->zstd && c->packed && c->chunk)
		return 0;
	ferry_image_cache_fini(c);
	ferry_err_set(e, FERRY_E_NOMEM, ENOMEM, "room for a chunk");
	return -1;
}

void ferry_image_cache_fini(struct ferry_image_cache *c)
{
	ZSTD_freeDCtx(c->zstd);
	free(c->packed);
	free(c->chunk);
	*c = (struct ferry_image_cache){ .which = UINT64_MAX };
}

static int damaged(const struct ferry_image *img, uint64_t chunk, int sys,
		   const char *how, struct ferry_err *e)
{
	struct ferry_chunk_place p = ferry_chunk_find(&img->index, chunk);

	return ferry_err_set(e, sys ? FERRY_E_IO : FERRY_E_PROTO, sys,
			     "the image is damaged: memory of block %s at 0x%"
			     PRIx64 " %s",
			     FERRY_SHOW(img->index.vm.block[p.block].name),
			     p.page * FERRY_PAGE_BYTES, how);
}

/* From the file to out, through `packed` when it is shorter than what it
 * holds. */
static int load(const struct ferry_image *img, struct ferry_image_cache *c,
		uint64_t chunk, const struct ferry_chunk *rec, uint8_t *out,
		struct ferry_err *e)
{
	size_t bytes = ferry_chunk_find(&img->index, chunk).pages *
		       FERRY_PAGE_BYTES;
	bool packed = rec->stored_bytes < bytes;
	uint8_t *to = packed ? c->packed : out;
	size_t n;
	int rc;

	if (rec->stored_bytes > bytes ||
	    (packed && !(img->head.flags & FERRY_IMAGE_ZSTD)))
		return damaged(img, chunk, 0, "has an impossible size", e);
	rc = read_all(img, to, rec->stored_bytes, rec->offset);
	if (rc)
		return damaged(img, chunk, -rc, "cannot be read", e);
	if (ferry_hash(to, rec->stored_bytes) != rec->hash)
		return damaged(img, chunk, 0, "does not match its hash", e);
	if (!packed)
		return 0;
	n = ZSTD_decompressDCtx(c->zstd, out, bytes, c->packed,
				rec->stored_bytes);
	if (ZSTD_isError(n) || n != bytes)
		return damaged(img, chunk, 0, "cannot be unpacked", e);
	return 0;
}

int ferry_image_read(const struct ferry_image *img,
		     struct ferry_image_cache *c, uint64_t chunk, uint8_t *out,
		     struct ferry_err *e)
{
	struct ferry_chunk rec;

	if (ferry_chunk_decode(img->table + chunk * FERRY_CHUNK_WIRE,
			       img->head.file_bytes, &rec))
		return damaged(img, chunk, 0, "lies outside the file", e);
	if (rec.stored_bytes)
		return load(img, c, chunk, &rec, out, e);
	memset(out, 0, FERRY_CHUNK_BYTES);
	return 0;
}

const uint8_t *ferry_image_chunk(const struct ferry_image *img,
				 struct ferry_image_cache *c, uint64_t chunk,
				 struct ferry_err *e)
{
	if (c->which == chunk)
		return c->chunk;
	c->which = UINT64_MAX;
	if (ferry_image_read(img, c, chunk, c->chunk, e))
		return NULL;
	c->which = chunk;
	return c->chunk;
}

int ferry_image_verify(const struct ferry_image *img,
		       void (*progress)(void *arg, uint64_t chunk), void *arg,
		       struct ferry_err *e)
{
	struct ferry_image_cache c;
	int rc = ferry_image_cache_init(&c, e);

	for (uint64_t i = 0; !rc && i < img->chunks; i++) {
		rc = ferry_image_chunk(img, &c, i, e) ? 0 : -1;
		if (progress && !(i % 256))
			progress(arg, i);
	}
	ferry_image_cache_fini(&c);
	return rc;
}
