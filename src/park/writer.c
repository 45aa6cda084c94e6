/* SPDX-License-Identifier: MIT */
/*
 * The file of an image from its first octet to its name.
 */
#include "park/writer.h"

#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <time.h>

#include "base/cleanup.h"
#include "mem/mem.h"
#include "park/hash.h"
#include "park/seal.h"

#define UNDECIDED	".undecided"

/* ---- the part file -------------------------------------------------------- */

static int name_it(struct ferry_image_writer *w, const char *path,
		   struct ferry_err *e)
{
	const char *slash = strrchr(path, '/');
	int dir = slash ? (int)(slash - path) : 0;

	if (!*path || strlen(path) + sizeof(UNDECIDED) > sizeof(w->aside))
		return ferry_err_set(e, FERRY_E_INVALID, 0, "'%.64s' cannot be "
				     "the name of an image", path);
	strcpy(w->path, path);
	strcat(strcpy(w->part, path), ".part");
	strcat(strcpy(w->aside, path), UNDECIDED);
	snprintf(w->dir, sizeof(w->dir), "%.*s", slash ? dir + 1 : 1,
		 slash ? path : ".");
	return 0;
}

/* The file we hold is the one of this name: its former owner has not renamed
 * or removed it between our open and our lock. */
static bool is_still_named(const struct ferry_image_writer *w, int fd)
{
	struct stat ours, named;

	return !fstat(fd, &ours) && !stat(w->part, &named) &&
	       ours.st_dev == named.st_dev && ours.st_ino == named.st_ino;
}

/* -EAGAIN: the owner before us was just done with it. */
static int lock_part(struct ferry_image_writer *w, struct ferry_err *e)
{
	FERRY_AUTO_FD fd = open(w->part, O_RDWR | O_CREAT | O_CLOEXEC, 0600);

	if (fd < 0)
		return ferry_err_set(e, FERRY_E_IO, errno, "create %s",
				     w->part);
	if (flock(fd, LOCK_EX | LOCK_NB))
		return errno == EWOULDBLOCK ?
		       ferry_err_set(e, FERRY_E_STATE, 0, "another process is "
				     "parking a VM in %s; choose another name",
				     w->path) :
		       ferry_err_set(e, FERRY_E_IO, errno, "lock %s", w->part);
	if (!is_still_named(w, fd))
		return -EAGAIN;
	w->fd = ferry_steal_fd(&fd);
	return 0;
}

static int open_part(struct ferry_image_writer *w, struct ferry_err *e)
{
	int rc;

	do
		rc = lock_part(w, e);
	while (rc == -EAGAIN);
	if (rc)
		return -1;
	if (!access(w->path, F_OK))
		return ferry_err_set(e, FERRY_E_STATE, 0, "%s exists; remove "
				     "it or choose another name", w->path);
	if (!access(w->aside, F_OK))
		return ferry_err_set(e, FERRY_E_STATE, 0, "%s exists: if its "
				     "VM runs at the source remove it, else "
				     "rename it", w->aside);
	if (ftruncate(w->fd, 0))
		return ferry_err_set(e, FERRY_E_IO, errno, "empty %s",
				     w->part);
	return 0;
}

/* Memory that will be compressed lies in a file without a name, beside the
 * image: it may be large, and the page cache can write it out. */
static int open_scratch(struct ferry_image_writer *w, struct ferry_err *e)
{
	if (!w->zstd_level) {
		w->memory_fd = w->fd;
		return 0;
	}
	w->memory_fd = open(w->dir, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
	if (w->memory_fd < 0)
		return ferry_err_set(e, FERRY_E_IO, errno, "create a scratch "
				     "file in %s", w->dir);
	return 0;
}

int ferry_image_writer_open(struct ferry_image_writer *w, const char *path,
			    int zstd_level, struct ferry_err *e)
{
	*w = (struct ferry_image_writer){
		.fd = -1, .memory_fd = -1, .zstd_level = zstd_level,
		.end = FERRY_CHUNK_BYTES,
	};
	ferry_hash_prepare();
	ferry_kept_log_init(&w->kept);
	if (name_it(w, path, e) || open_part(w, e) || open_scratch(w, e)) {
		ferry_image_writer_fini(w);
		return -1;
	}
	return 0;
}

void ferry_image_writer_fini(struct ferry_image_writer *w)
{
	if (w->memory_fd >= 0 && w->memory_fd != w->fd)
		close(w->memory_fd);
	if (w->fd >= 0) {
		/* While the lock is held.  One that was not forced under its
		 * name does not count. */
		unlink(w->name ? w->name : w->part);
		close(w->fd);
	}
	w->fd = w->memory_fd = -1;
	for (size_t i = 0; i < w->index.vm.blocks; i++) {
		free(w->noted[i]);
		w->noted[i] = NULL;
	}
	ferry_hello_fini(&w->index.vm);
	ferry_kept_log_fini(&w->kept);
}

/* The kernel gives what is never noted no memory. */
static int make_notes(struct ferry_image_writer *w, uint64_t chunks,
		      struct ferry_err *e)
{
	size_t block = w->index.vm.blocks - 1;

	w->noted[block] = calloc(chunks, sizeof(*w->noted[block]));
	return w->noted[block] ? 0 : ferry_err_set(e, FERRY_E_NOMEM, errno,
						   "hashes of chunks");
}

/* Zeroes are for the seal to find. */
static uint64_t hash_of_chunk(const uint8_t *data)
{
	return ferry_is_zero(data, FERRY_CHUNK_BYTES) ? 0 :
	       ferry_hash(data, FERRY_CHUNK_BYTES);
}

/* Whoever writes a part of a chunk makes its hash unknown. */
void ferry_image_writer_note(struct ferry_image_writer *w, uint32_t block,
			     uint64_t first, uint64_t pages,
			     const uint8_t *data)
{
	uint64_t end = first + pages, next;

	for (uint64_t at = first; at < end && !w->zstd_level; at = next) {
		uint64_t chunk = at / FERRY_CHUNK_PAGES, hash = 0;

		next = (chunk + 1) * FERRY_CHUNK_PAGES;
		if (data && at % FERRY_CHUNK_PAGES == 0 && next <= end)
			hash = hash_of_chunk(data + (at - first) *
					     FERRY_PAGE_BYTES);
		atomic_store_explicit(&w->noted[block][chunk], hash,
				      memory_order_relaxed);
	}
}

int ferry_image_writer_block(struct ferry_image_writer *w, const char *name,
			     uint64_t bytes, uint32_t page_bytes, uint64_t gpa,
			     uint64_t *offset, struct ferry_err *e)
{
	uint64_t chunks = ferry_chunks_of(bytes);
	struct ferry_hello *vm = &w->index.vm;

	if (chunks > FERRY_IMAGE_CHUNKS_MAX - w->chunks)
		return ferry_err_set(e, FERRY_E_UNSUPPORTED, 0, "block %s of "
				     "%" PRIu64 " octets does not fit into an "
				     "image", name, bytes);
	if (ferry_hello_add_block(vm, name, bytes, page_bytes, gpa, e))
		return -1;
	if (make_notes(w, chunks, e))
		return -1;
	w->index.first_chunk[vm->blocks - 1] = w->chunks;
	*offset = w->end;
	if (ftruncate(w->memory_fd, (off_t)(w->end + bytes)))
		return ferry_err_set(e, FERRY_E_IO, errno, "make room for "
				     "block %s in %s", name, w->part);
	w->chunks += chunks;
	w->end += chunks * FERRY_CHUNK_BYTES;
	return 0;
}

int ferry_image_writer_keep(struct ferry_image_writer *w,
			    const struct ferry_kept *k, const void *data,
			    struct ferry_err *e)
{
	return ferry_kept_log_add(&w->kept, w->dir, k, data, e);
}

int ferry_image_writer_fact(struct ferry_image_writer *w,
			    const struct ferry_hello_fact *fact,
			    struct ferry_err *e)
{
	return ferry_hello_add_fact(&w->index.vm, fact->name, fact->rule,
				    fact->value, strlen(fact->value), e);
}

/* ---- what comes behind the memory, and before it --------------------------- */

static int put(struct ferry_image_writer *w, const void *data, size_t bytes,
	       uint64_t offset, struct ferry_err *e)
{
	const uint8_t *p = data;

	while (bytes) {
		ssize_t n = pwrite(w->fd, p, bytes, (off_t)offset);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return ferry_err_set(e, FERRY_E_IO, errno, "write %s",
					     w->part);
		p += n;
		offset += (uint64_t)n;
		bytes -= (size_t)n;
	}
	return 0;
}

static int put_piece(struct ferry_image_writer *w, const void *data,
		     size_t bytes, struct ferry_piece *p, struct ferry_err *e)
{
	*p = (struct ferry_piece){
		.offset = w->end, .bytes = bytes,
		.hash = ferry_hash(data, bytes),
	};
	w->end += bytes;
	return put(w, data, bytes, p->offset, e);
}

static int put_state(struct ferry_image_writer *w,
		     const struct ferry_image_vm *vm, struct ferry_err *e)
{
	size_t bytes = vm->sections_bytes + vm->vmdesc_bytes;
	FERRY_AUTO_FREE uint8_t *both = malloc(bytes ? bytes : 1);

	if (!both)
		return ferry_err_set(e, FERRY_E_NOMEM, errno, "device state");
	if (vm->sections_bytes)
		memcpy(both, vm->sections, vm->sections_bytes);
	if (vm->vmdesc_bytes)
		memcpy(both + vm->sections_bytes, vm->vmdesc,
		       vm->vmdesc_bytes);
	return put_piece(w, both, bytes, &w->head.state, e);
}

/* The octets, and where they are. */
static int put_kept(struct ferry_image_writer *w, struct ferry_err *e)
{
	struct ferry_kept_log *l = &w->kept;
	FERRY_AUTO_FREE uint8_t *table = NULL;
	uint64_t offset = w->end;

	if (!l->n)
		return 0;
	table = ferry_kept_log_table(l, offset, e);
	if (!table || ferry_kept_log_copy(l, w->fd, offset, e))
		return -1;
	w->end += l->bytes;
	w->head.flags |= FERRY_IMAGE_KEPT;
	return put_piece(w, table, (size_t)l->n * FERRY_KEPT_WIRE,
			 &w->head.kept, e);
}

static int put_index(struct ferry_image_writer *w,
		     const struct ferry_image_vm *vm, struct ferry_err *e)
{
	struct ferry_image_index *x = &w->index;
	FERRY_AUTO_FREE uint8_t *data = NULL;
	struct ferry_wr wr;
	size_t bytes;

	snprintf(x->vm.name, sizeof(x->vm.name), "%s", vm->machine);
	x->dialect = vm->dialect;
	x->has_uuid = vm->uuid != NULL;
	if (vm->uuid)
		memcpy(x->uuid, vm->uuid, sizeof(x->uuid));
	x->sections_bytes = (uint32_t)vm->sections_bytes;
	x->vmdesc_bytes = (uint32_t)vm->vmdesc_bytes;
	bytes = ferry_image_index_bytes(x);
	data = malloc(bytes);
	if (!data)
		return ferry_err_set(e, FERRY_E_NOMEM, errno, "index");
	wr = ferry_wr_over(data, bytes);
	ferry_image_index_encode(&wr, x);
	return put_piece(w, data, bytes, &w->head.index, e);
}

static int put_head(struct ferry_image_writer *w, struct ferry_err *e)
{
	struct ferry_image_head *h = &w->head;
	uint8_t page[FERRY_IMAGE_HEAD_BYTES];

	h->file_bytes = w->file_bytes;
	h->created_s = (uint64_t)time(NULL);
	if (getrandom(h->id, sizeof(h->id), 0) != sizeof(h->id))
		return ferry_err_set(e, FERRY_E_IO, errno, "random octets");
	ferry_image_head_encode(page, h);
	return put(w, page, sizeof(page), 0, e);
}

/* ---- for good ---------------------------------------------------------------- */

static int force(struct ferry_image_writer *w, struct ferry_err *e)
{
	if (fsync(w->fd))
		return ferry_err_set(e, FERRY_E_IO, errno, "force %s to the "
				     "disk", w->part);
	return 0;
}

static int rename_to(struct ferry_image_writer *w, const char *from,
		     const char *to, struct ferry_err *e)
{
	int rc = renameat2(AT_FDCWD, from, AT_FDCWD, to, RENAME_NOREPLACE);

	/* Not every file system can: then the look at the beginning is all
	 * there is. */
	if (rc && errno == EINVAL)
		rc = rename(from, to);
	if (rc)
		return ferry_err_set(e, FERRY_E_IO, errno, "rename %s to %s",
				     from, to);
	w->name = to;
	return 0;
}

static int force_name(struct ferry_image_writer *w, struct ferry_err *e)
{
	FERRY_AUTO_FD dir = open(w->dir, O_DIRECTORY | O_RDONLY | O_CLOEXEC);

	if (dir < 0 || fsync(dir))
		return ferry_err_set(e, FERRY_E_IO, errno, "force the name of "
				     "%s to the disk", w->name);
	return 0;
}

static int give_name(struct ferry_image_writer *w, const char *name,
		     struct ferry_err *e)
{
	if (!w->name && rename_to(w, w->part, name, e))
		return -1;
	return force_name(w, e);
}

static int put_rest(struct ferry_image_writer *w, const struct ferry_map *map,
		    const struct ferry_image_vm *vm, struct ferry_err *e)
{
	static const uint8_t no_head[FERRY_IMAGE_HEAD_BYTES];
	size_t table_bytes = w->chunks * FERRY_CHUNK_WIRE;
	FERRY_AUTO_FREE uint8_t *table = malloc(table_bytes ? table_bytes : 1);

	if (!table)
		return ferry_err_set(e, FERRY_E_NOMEM, errno, "chunk table");
	if (ferry_seal_chunks(w, map, table, e) ||
	    put_piece(w, table, table_bytes, &w->head.table, e) ||
	    put_state(w, vm, e) || put_kept(w, e) || put_index(w, vm, e) ||
	    put(w, no_head, sizeof(no_head), 0, e))
		return -1;
	w->file_bytes = w->end;
	if (ftruncate(w->fd, (off_t)w->file_bytes))
		return ferry_err_set(e, FERRY_E_IO, errno, "cut %s", w->part);
	return force(w, e);
}

int ferry_image_writer_prepare(struct ferry_image_writer *w,
			       const struct ferry_map *map,
			       const struct ferry_image_vm *vm,
			       struct ferry_err *e)
{
	uint64_t end = w->end;
	int rc = put_rest(w, map, vm, e);

	w->end = end;		/* of memory, for another try */
	return rc ? ferry_err_wrap(e, "image") : 0;
}

int ferry_image_writer_commit(struct ferry_image_writer *w, bool aside,
			      struct ferry_err *e)
{
	/* The head makes it an image: only when all else is on the disk. */
	if (put_head(w, e) || force(w, e) ||
	    give_name(w, aside ? w->aside : w->path, e))
		return ferry_err_wrap(e, "image");
	if (w->memory_fd != w->fd)
		close(w->memory_fd);
	close(w->fd);
	w->fd = w->memory_fd = -1;
	return 0;
}

int ferry_image_writer_settle(struct ferry_image_writer *w,
			      struct ferry_err *e)
{
	return rename_to(w, w->aside, w->path, e) || force_name(w, e) ?
	       ferry_err_wrap(e, "image") : 0;
}

void ferry_image_writer_revoke(struct ferry_image_writer *w)
{
	struct ferry_err ignored;

	unlink(w->aside);
	(void)!force_name(w, &ignored);
}

int ferry_image_writer_seal(struct ferry_image_writer *w,
			    const struct ferry_map *map,
			    const struct ferry_image_vm *vm,
			    struct ferry_err *e)
{
	return ferry_image_writer_prepare(w, map, vm, e) ||
	       ferry_image_writer_commit(w, false, e) ? -1 : 0;
}
