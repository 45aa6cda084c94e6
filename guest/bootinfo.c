/* SPDX-License-Identifier: MIT */
/*
 * Reads struct hvm_start_info as laid out in Xen's public start_info.h.  Only
 * the first 4 GiB are mapped yet: what points above is refused.
 */
#include "bootinfo.h"

#include <stddef.h>

#include "block.h"

#define START_MAGIC	0x336ec578u
#define MAPPED_BYTES	(4ull << 30)
#define MAP_RAM		1
#define MAP_ENTRIES_MAX	128
#define HOLE_START	0xc0000000ull
#define HOLE_END	0x100000000ull

struct start_info {
	uint32_t magic, version, flags, modules;
	uint64_t modules_at, cmdline_at, rsdp_at;
	uint64_t map_at;		/* from version 1 on */
	uint32_t map_entries, reserved;
};

struct map_entry {
	uint64_t start, bytes;
	uint32_t type, reserved;
};

_Static_assert(sizeof(struct start_info) == 56, "hvm_start_info");
_Static_assert(sizeof(struct map_entry) == 24, "hvm_memmap_table_entry");

static const void *mapped(uint64_t address, uint64_t bytes)
{
	if (address >= MAPPED_BYTES || bytes > MAPPED_BYTES - address)
		return NULL;
	return (const void *)address;
}

static void add_range(struct bootinfo *info, uint64_t start, uint64_t end)
{
	start = (start + PAGE_BYTES - 1) & ~(uint64_t)(PAGE_BYTES - 1);
	end &= ~(uint64_t)(PAGE_BYTES - 1);
	if (start < end && info->ranges < RANGES_MAX)
		info->ram[info->ranges++] = (struct range){ start, end };
}

static const char *read_map(struct bootinfo *info,
			    const struct start_info *start)
{
	const struct map_entry *map;
	uint64_t end;

	if (start->map_entries > MAP_ENTRIES_MAX)
		return "memory map is too long";
	map = mapped(start->map_at, start->map_entries * sizeof(*map));
	if (!map)
		return "memory map is above 4 GiB";
	for (uint32_t i = 0; i < start->map_entries; i++) {
		if (map[i].type != MAP_RAM)
			continue;
		if (__builtin_add_overflow(map[i].start, map[i].bytes, &end))
			return "memory map wraps around";
		add_range(info, map[i].start, end);
	}
	return NULL;
}

const char *bootinfo_read(struct bootinfo *info, uint64_t start_info)
{
	const struct start_info *start = mapped(start_info, sizeof(*start));
	const char *cmdline;
	size_t i = 0;

	if (!start || start->magic != START_MAGIC)
		return "ebx does not point to an hvm_start_info";
	cmdline = mapped(start->cmdline_at, sizeof(info->cmdline));
	if (!cmdline && start->cmdline_at)
		return "command line is above 4 GiB";
	for (; cmdline && start->cmdline_at && cmdline[i]; i++) {
		if (i == sizeof(info->cmdline) - 1)
			return "command line is longer than 1023 characters";
		info->cmdline[i] = cmdline[i];
	}
	info->cmdline[i] = '\0';
	info->ranges = 0;
	if (start->version < 1 || !start->map_at)
		return NULL;
	return read_map(info, start);
}

void bootinfo_assume_ram(struct bootinfo *info, uint64_t bytes)
{
	uint64_t low = bytes < HOLE_START ? bytes : HOLE_START;

	add_range(info, 0, low);
	add_range(info, HOLE_END, HOLE_END + (bytes - low));
}
