/* SPDX-License-Identifier: MIT */
/*
 * Compares what the embedder says about a block with fstat() and
 * /proc/self/maps.  Any thread; once per block.
 */
#include "mem/backing.h"

#include <fcntl.h>
#include <inttypes.h>
#include <linux/magic.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/vfs.h>

#include "base/cleanup.h"

/* One line of /proc/self/maps. */
struct mapping {
	uint64_t	start;
	uint64_t	end;
	uint64_t	offset;
	uint64_t	inode;
	char		perms[5];
	char		path[32];	/* its beginning */
};

static int bad(struct ferry_err *e, const struct ferry_mem_block *b,
	       const char *what, uint64_t at)
{
	return ferry_err_set(e, FERRY_E_INVALID, 0,
			     "block %s: address 0x%" PRIx64 " %s", b->name, at,
			     what);
}

static int check_length(const struct ferry_mem_block *b,
			const struct stat *st, struct ferry_err *e)
{
	uint64_t end;

	if (b->fd_offset % b->page_bytes ||
	    __builtin_add_overflow(b->fd_offset, b->bytes, &end) ||
	    end > INT64_MAX)
		return ferry_err_set(e, FERRY_E_INVALID, 0,
				     "block %s: offset %" PRIu64
				     " in fd %d is not aligned to %u", b->name,
				     b->fd_offset, b->fd, b->page_bytes);
	if (S_ISREG(st->st_mode) && end > (uint64_t)st->st_size)
		return ferry_err_set(e, FERRY_E_INVALID, 0,
				     "block %s: fd %d has %lld octets, %" PRIu64
				     " are needed", b->name, b->fd,
				     (long long)st->st_size, end);
	return 0;
}

static int check_file(const struct ferry_mem_block *b, struct stat *st,
		      bool *in_memory, struct ferry_err *e)
{
	struct statfs fs;
	uint32_t page = FERRY_PAGE_BYTES;

	if (fstat(b->fd, st) || fstatfs(b->fd, &fs))
		return ferry_err_set(e, FERRY_E_INVALID, errno,
				     "block %s: fd %d", b->name, b->fd);
	if ((fcntl(b->fd, F_GETFL) & O_ACCMODE) != O_RDWR)
		return ferry_err_set(e, FERRY_E_INVALID, 0,
				     "block %s: fd %d is not open for reading and writing",
				     b->name, b->fd);
	if (fs.f_type == HUGETLBFS_MAGIC)
		page = (uint32_t)fs.f_bsize;
	if (page != b->page_bytes)
		return ferry_err_set(e, FERRY_E_INVALID, 0,
				     "block %s: pages of %u octets, but fd %d has pages of %u",
				     b->name, b->page_bytes, b->fd, page);

	/* Other file systems may show another inode in maps than in stat. */
	*in_memory = fs.f_type == HUGETLBFS_MAGIC || fs.f_type == TMPFS_MAGIC;
	return check_length(b, st, e);
}

static int check_shared(const struct ferry_mem_block *b,
			const struct mapping *m, uint64_t at,
			const struct stat *st, bool in_memory,
			struct ferry_err *e)
{
	uint64_t want = b->fd_offset + (at - (uintptr_t)b->host);

	if (m->perms[3] != 's')
		return bad(e, b, "is mapped private, but an fd is given", at);
	if (in_memory && m->inode != st->st_ino)
		return bad(e, b, "is not a mapping of the fd given", at);
	if (m->offset + (at - m->start) != want)
		return bad(e, b, "maps another offset of the fd", at);
	return 0;
}

static int check_private(const struct ferry_mem_block *b,
			 const struct mapping *m, uint64_t at,
			 struct ferry_err *e)
{
	bool huge = !strncmp(m->path, "/anon_hugepage", 14);

	if (m->perms[3] != 'p')
		return bad(e, b, "is mapped shared, but no fd is given", at);
	if (m->inode != 0 && !huge)
		return bad(e, b, "is a private mapping of a file: only "
			   "anonymous memory can do without an fd", at);
	if (huge != (b->page_bytes != FERRY_PAGE_BYTES))
		return bad(e, b, "has pages of another size", at);
	return 0;
}

static bool parse(const char *line, struct mapping *m)
{
	m->path[0] = '\0';
	return sscanf(line, "%" SCNx64 "-%" SCNx64 " %4s %" SCNx64
		      " %*s %" SCNu64 " %31s", &m->start, &m->end, m->perms,
		      &m->offset, &m->inode, m->path) >= 5;
}

int ferry_backing_check(const struct ferry_mem_block *b, struct ferry_err *e)
{
	uint64_t at = (uintptr_t)b->host, end = at + b->bytes;
	FERRY_AUTO_FILE maps = NULL;
	FERRY_AUTO_FREE char *line = NULL;
	struct stat st = { 0 };
	struct mapping m;
	bool in_memory = false;
	size_t room = 0;

	if (b->fd >= 0 && check_file(b, &st, &in_memory, e))
		return -1;
	maps = fopen("/proc/self/maps", "re");
	if (!maps)
		return 0;

	while (at < end && getline(&line, &room, maps) > 0) {
		if (!parse(line, &m) || m.end <= at)
			continue;
		if (m.start > at)
			break;
		if (b->fd >= 0 ?
		    check_shared(b, &m, at, &st, in_memory, e) :
		    check_private(b, &m, at, e))
			return -1;
		at = m.end;
	}
	return at >= end ? 0 : bad(e, b, "is not mapped", at);
}
