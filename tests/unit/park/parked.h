/* SPDX-License-Identifier: MIT */
/* A small VM that is parked into an image, for tests. */
#ifndef PARKED_H
#define PARKED_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/cleanup.h"
#include "mem/mem.h"
#include "park/image.h"
#include "park/writer.h"
#include "wire/dialect.h"

#define PAGE		FERRY_PAGE_BYTES
#define PARKED_BLOCKS	3

#define assert_ok(call)							\
	do {								\
		if (call)						\
			fail_msg("%s: %s", #call, e.msg);		\
	} while (0)

struct parked {
	char		 dir[64];
	char		 path[96];
	struct ferry_image_writer w;
	struct ferry_mem mem;
	struct ferry_map map;
	uint64_t	 offset[PARKED_BLOCKS];
};

/* "rom" ends in the middle of a chunk. */
static const struct { const char *name; uint64_t pages; } parked_block[] = {
	{ "pc.ram", 200 }, { "rom", 5 }, { "empty", 32 },
};

/* What a page holds: some compress well, some not at all, some are zero. */
static inline void parked_page(uint8_t page[PAGE], unsigned block, uint64_t n)
{
	uint64_t x = (block + 1) * 1000003 + n;

	memset(page, 0, PAGE);
	if (block == 2 || n % 7 == 3 || n / 16 == 5)
		return;
	for (unsigned i = 0; i < PAGE; i++) {
		x = x * 6364136223846793005u + 1442695040888963407u;
		page[i] = (uint8_t)(n % 3 ? n + 1 : x >> 56);
	}
}

static inline void parked_folder(struct parked *p)
{
	*p = (struct parked){ .dir = "/tmp/ferry-park-XXXXXX" };
	assert_non_null(mkdtemp(p->dir));
	snprintf(p->path, sizeof(p->path), "%s/vm", p->dir);
}

static inline void parked_begin(struct parked *p, int zstd_level)
{
	struct ferry_err e = { 0 };

	assert_ok(ferry_image_writer_open(&p->w, p->path, zstd_level, &e));
	for (unsigned b = 0; b < PARKED_BLOCKS; b++) {
		uint64_t bytes = parked_block[b].pages * PAGE;
		struct ferry_mem_block *m;

		assert_ok(ferry_image_writer_block(&p->w, parked_block[b].name,
						   bytes, PAGE, b << 20,
						   &p->offset[b], &e));
		m = realloc(p->mem.block, (b + 1) * sizeof(*m));
		assert_non_null(m);
		p->mem.block = m;
		p->mem.block[b] = (struct ferry_mem_block){
			.bytes = bytes, .pages = parked_block[b].pages,
			.page_bytes = PAGE, .host_pages = 1, .index = b,
		};
		p->mem.blocks = b + 1;
		p->mem.pages += parked_block[b].pages;
	}
	{
		char two[] = "2";
		struct ferry_hello_fact fact = {
			.name = "vcpus", .rule = 1, .value = two,
		};

		assert_ok(ferry_image_writer_fact(&p->w, &fact, &e));
	}
	assert_ok(ferry_map_init(&p->map, &p->mem, &e));
}

static inline void parked_fill(struct parked *p)
{
	uint8_t page[PAGE];

	for (unsigned b = 0; b < PARKED_BLOCKS; b++) {
		for (uint64_t n = 0; n < parked_block[b].pages; n++) {
			parked_page(page, b, n);
			if (ferry_is_zero(page, PAGE)) {
				ferry_map_set_zero(&p->map, b, n, 1);
				continue;
			}
			assert_int_equal(pwrite(p->w.memory_fd, page, PAGE,
						(off_t)(p->offset[b] +
							n * PAGE)), PAGE);
			ferry_map_set_here(&p->map, b, n, 1);
		}
	}
}

static const uint8_t parked_uuid[16] = { 1, 2, 3, 16 };

static inline struct ferry_image_vm parked_vm(void)
{
	return (struct ferry_image_vm){
		.machine = "pc-i440fx-7.2", .dialect = FERRY_DIALECT_QEMU,
		.uuid = parked_uuid, .sections = "sections",
		.sections_bytes = 8, .vmdesc = "{}", .vmdesc_bytes = 2,
	};
}

static inline void parked_end(struct parked *p)
{
	ferry_map_fini(&p->map);
	free(p->mem.block);
	ferry_image_writer_fini(&p->w);
}

/* A whole image at p->path. */
static inline void parked_make(struct parked *p, int zstd_level)
{
	struct ferry_image_vm vm = parked_vm();
	struct ferry_err e = { 0 };

	parked_folder(p);
	parked_begin(p, zstd_level);
	parked_fill(p);
	assert_ok(ferry_image_writer_seal(&p->w, &p->map, &vm, &e));
	parked_end(p);
}

static inline void parked_remove(struct parked *p)
{
	unlink(p->path);
	assert_int_equal(rmdir(p->dir), 0);
}

#endif
