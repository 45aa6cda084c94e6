/* SPDX-License-Identifier: MIT */
/*
 * Blocks of guest memory: checked, copied, found again.
 *
 * Threads: filled before the engine starts; lookups by any.
 * Limits: FERRY_BLOCKS_MAX blocks; lookups are linear, as a VM has a handful.
 */
#include "mem/mem.h"

#include <stdlib.h>
#include <string.h>

#include "mem/backing.h"

static int check_name(const struct ferry_mem *m, const char *name,
		      struct ferry_err *e)
{
	size_t n = name ? strlen(name) : 0;

	if (n == 0 || n > FERRY_NAME_MAX)
		return ferry_err_set(e, FERRY_E_INVALID, 0,
				     "block %u: name of %zu octets (1 to %u)",
				     m->blocks, n, FERRY_NAME_MAX);
	if (ferry_mem_by_name(m, name))
		return ferry_err_set(e, FERRY_E_INVALID, 0,
				     "block %s: there is one of this name",
				     name);
	return 0;
}

static int check_size(const struct ferry_mem_block *b, struct ferry_err *e)
{
	if (b->page_bytes != FERRY_PAGE_BYTES &&
	    b->page_bytes != FERRY_HUGE_BYTES)
		return ferry_err_set(e, FERRY_E_INVALID, 0,
				     "block %s: pages of %u octets (4096 or 2097152)",
				     b->name, b->page_bytes);
	if (b->bytes == 0 || b->bytes % b->page_bytes ||
	    b->bytes > FERRY_BLOCK_BYTES_MAX)
		return ferry_err_set(e, FERRY_E_INVALID, 0,
				     "block %s: %llu octets are not 1 to 2^46 in whole pages of %u",
				     b->name, (unsigned long long)b->bytes,
				     b->page_bytes);
	return 0;
}

static int check_address(const struct ferry_mem_block *b, struct ferry_err *e)
{
	uint64_t end;

	if (!b->host || (uintptr_t)b->host % b->page_bytes ||
	    __builtin_add_overflow((uintptr_t)b->host, b->bytes, &end))
		return ferry_err_set(e, FERRY_E_INVALID, 0,
				     "block %s: address %p is not aligned to %u",
				     b->name, (void *)b->host, b->page_bytes);
	return 0;
}

static int check_overlap(const struct ferry_mem *m,
			 const struct ferry_mem_block *b, struct ferry_err *e)
{
	for (uint32_t i = 0; i < m->blocks; i++) {
		const struct ferry_mem_block *o = &m->block[i];

		if (o->host && b->host < o->host + o->bytes &&
		    o->host < b->host + b->bytes)
			return ferry_err_set(e, FERRY_E_INVALID, 0,
					     "block %s: overlaps block %s",
					     b->name, o->name);
	}
	return 0;
}

/* Room for all there can ever be: pointers to blocks stay valid. */
static int make_room(struct ferry_mem *m, struct ferry_err *e)
{
	if (m->blocks >= FERRY_BLOCKS_MAX)
		return ferry_err_set(e, FERRY_E_INVALID, 0,
				     "more than %u blocks", FERRY_BLOCKS_MAX);
	if (!m->block)
		m->block = calloc(FERRY_BLOCKS_MAX, sizeof(*m->block));
	if (!m->block)
		return ferry_err_set(e, FERRY_E_NOMEM, errno,
				     "table of blocks");
	return 0;
}

int ferry_mem_add(struct ferry_mem *m, const char *name, void *host,
		  uint64_t bytes, uint32_t page_bytes, uint64_t gpa, int fd,
		  uint64_t fd_offset, struct ferry_err *e)
{
	struct ferry_mem_block b = {
		.host = host,
		.bytes = bytes,
		.pages = bytes / FERRY_PAGE_BYTES,
		.page_bytes = page_bytes,
		.host_pages = page_bytes / FERRY_PAGE_BYTES,
		.gpa = gpa,
		.fd = fd < 0 ? -1 : fd,
		.fd_offset = fd < 0 ? 0 : fd_offset,
		.index = m->blocks,
	};

	if (make_room(m, e) || check_name(m, name, e))
		return -1;
	strcpy(b.name, name);
	if (check_size(&b, e) || check_address(&b, e) ||
	    check_overlap(m, &b, e) || ferry_backing_check(&b, e))
		return -1;

	m->block[m->blocks++] = b;
	m->pages += b.pages;
	return 0;
}

/* A block without an address. */
static int add_elsewhere(struct ferry_mem *m, const char *name,
			 struct ferry_mem_block b, struct ferry_err *e)
{
	b.pages = b.bytes / FERRY_PAGE_BYTES;
	b.host_pages = b.page_bytes / FERRY_PAGE_BYTES;
	b.index = m->blocks;
	if (make_room(m, e) || check_name(m, name, e))
		return -1;
	strcpy(b.name, name);
	if (check_size(&b, e))
		return -1;
	m->block[m->blocks++] = b;
	m->pages += b.pages;
	return 0;
}

int ferry_mem_add_stored(struct ferry_mem *m, const char *name, uint64_t bytes,
			 uint32_t page_bytes, uint64_t gpa,
			 const struct ferry_mem_store *store,
			 struct ferry_err *e)
{
	struct ferry_mem_block b = {
		.bytes = bytes, .page_bytes = page_bytes, .gpa = gpa,
		.fd = -1, .store = store,
	};

	return add_elsewhere(m, name, b, e);
}

int ferry_mem_add_file(struct ferry_mem *m, const char *name, uint64_t bytes,
		       uint32_t page_bytes, uint64_t gpa, int fd,
		       uint64_t fd_offset, struct ferry_err *e)
{
	struct ferry_mem_block b = {
		.bytes = bytes, .page_bytes = page_bytes, .gpa = gpa,
		.fd = fd, .fd_offset = fd_offset, .in_file = true,
	};

	return add_elsewhere(m, name, b, e);
}

void ferry_mem_fini(struct ferry_mem *m)
{
	free(m->block);
	*m = (struct ferry_mem){ 0 };
}

struct ferry_mem_block *ferry_mem_by_name(const struct ferry_mem *m,
					  const char *name)
{
	for (uint32_t i = 0; i < m->blocks; i++)
		if (!strcmp(m->block[i].name, name))
			return &m->block[i];
	return NULL;
}

struct ferry_mem_block *ferry_mem_by_addr(const struct ferry_mem *m,
					  const void *addr)
{
	for (uint32_t i = 0; i < m->blocks; i++) {
		struct ferry_mem_block *b = &m->block[i];

		if (b->host &&
		    (uintptr_t)addr - (uintptr_t)b->host < b->bytes)
			return b;
	}
	return NULL;
}

/* 16 octets at any address. */
typedef uint64_t vec __attribute__((vector_size(16), aligned(1), may_alias));

static inline bool any_bit(vec v)
{
	return v[0] | v[1];
}

/*
 * On the path of every page: most that are not zero are told by their first
 * octets.  The guest may write meanwhile; whatever is seen then, dirty tracking
 * tells the page again.  So the race is meant, and hidden from TSAN.
 */
__attribute__((no_sanitize("thread")))
bool ferry_is_zero(const void *data, size_t bytes)
{
	const uint8_t *p = data, *end = p + bytes;

	for (; end - p >= 128; p += 128) {
		const vec *v = (const vec *)p;

		if (any_bit((v[0] | v[1] | v[2] | v[3]) |
			    (v[4] | v[5] | v[6] | v[7])))
			return false;
	}
	for (; p < end; p++)
		if (*p)
			return false;
	return true;
}
