/* SPDX-License-Identifier: MIT */
/* See pvh.h. */
#include "vmm/pvh.h"

#include "vmm/acpi.h"
#include "vmm/layout.h"

#define START_MAGIC	0x336ec578u

/* The structs below are the guest's, little-endian like this host; they
 * follow each other in one page. */
struct start_info {
	uint32_t magic;
	uint32_t version;
	uint32_t flags;
	uint32_t modules;
	uint64_t modules_gpa;
	uint64_t cmdline_gpa;
	uint64_t rsdp_gpa;
	uint64_t map_gpa;
	uint32_t map_entries;
	uint32_t reserved;
};

struct module {
	uint64_t gpa;
	uint64_t bytes;
	uint64_t cmdline_gpa;
	uint64_t reserved;
};

struct map_entry {
	uint64_t gpa;
	uint64_t bytes;
	uint32_t type;
	uint32_t reserved;
};

struct page {
	struct start_info	info;
	struct module		initrd;
	struct map_entry	map[FERRY_E820_MAX];
};

_Static_assert(sizeof(struct start_info) == 56, "hvm_start_info v1");
_Static_assert(sizeof(struct module) == 32, "hvm_modlist_entry");
_Static_assert(sizeof(struct map_entry) == 24, "hvm_memmap_table_entry");
_Static_assert(sizeof(struct page) <=
	       FERRY_GPA_BOOT_PARAMS - FERRY_GPA_START_INFO, "one page");

int ferry_pvh_hand_over(const struct ferry_boot *b, struct ferry_ram *ram,
			const struct ferry_image *image,
			struct ferry_entry *entry, struct ferry_err *e)
{
	struct ferry_e820 e820[FERRY_E820_MAX];
	size_t n = ferry_layout_e820(ram->bytes, e820);
	struct page page = {
		.info = {
			.magic = START_MAGIC,
			.version = 1,
			.modules = image->initrd_gpa ? 1 : 0,
			.modules_gpa = FERRY_GPA_START_INFO +
				       offsetof(struct page, initrd),
			.cmdline_gpa = FERRY_GPA_CMDLINE,
			.rsdp_gpa = FERRY_GPA_ACPI,
			.map_gpa = FERRY_GPA_START_INFO +
				   offsetof(struct page, map),
			.map_entries = (uint32_t)n,
		},
		.initrd = { image->initrd_gpa, image->initrd_bytes, 0, 0 },
	};

	(void)b;
	for (size_t i = 0; i < n; i++)
		page.map[i] = (struct map_entry){ e820[i].addr, e820[i].bytes,
						  e820[i].type, 0 };
	*entry = (struct ferry_entry){ .eip = image->entry,
				       .ebx = FERRY_GPA_START_INFO };
	return ferry_ram_write(ram, FERRY_GPA_START_INFO, &page, sizeof(page),
			       "PVH start info", e);
}
