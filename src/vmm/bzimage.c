/* SPDX-License-Identifier: MIT */
/*
 * Linux bzImage, by the kernel's Documentation/x86/boot.rst: 32-bit entry,
 * %esi points to the boot parameters.  Protocol 2.10 (Linux 2.6.31) or newer,
 * which says how much memory the kernel needs to unpack itself.
 */
#include <inttypes.h>
#include <linux/types.h>
#include <string.h>

#include "vmm/acpi.h"
#include "vmm/boot.h"
#include "vmm/layout.h"

#define SETUP_AT	0x1f1u		/* setup header in file and page */
#define HEADER_AT	0x202u		/* "HdrS"; its length is counted from */
#define E820_COUNT_AT	0x1e8u		/* the rest: offsets in the page */
#define E820_AT		0x2d0u
#define RSDP_AT		0x070u
#define MAGIC		0x53726448u	/* "HdrS" */
#define PROTOCOL_MIN	0x020au
#define LOADED_HIGH	1u
#define LOADER_UNKNOWN	0xffu
#define VIDEO_NORMAL	0xffffu

/* From offset 0x1f1 on; little-endian like this host. */
struct setup {
	uint8_t		setup_sects;
	uint16_t	root_flags;
	uint32_t	syssize;
	uint16_t	ram_size;
	uint16_t	vid_mode;
	uint16_t	root_dev;
	uint16_t	boot_flag;
	uint8_t		jump;
	uint8_t		header_len;	/* header ends at 0x202 + this */
	uint32_t	magic;
	uint16_t	version;
	uint32_t	realmode_swtch;
	uint16_t	start_sys;
	uint16_t	kernel_version;
	uint8_t		type_of_loader;
	uint8_t		loadflags;
	uint16_t	setup_move_size;
	uint32_t	code32_start;
	uint32_t	ramdisk_image;
	uint32_t	ramdisk_size;
	uint32_t	bootsect_kludge;
	uint16_t	heap_end_ptr;
	uint8_t		ext_loader_ver;
	uint8_t		ext_loader_type;
	uint32_t	cmd_line_ptr;
	uint32_t	initrd_addr_max;
	uint32_t	kernel_alignment;
	uint8_t		relocatable;
	uint8_t		min_alignment;
	uint16_t	xloadflags;
	uint32_t	cmdline_size;
	uint32_t	hardware_subarch;
	uint64_t	hardware_subarch_data;
	uint32_t	payload_offset;
	uint32_t	payload_length;
	uint64_t	setup_data;
	uint64_t	pref_address;
	uint32_t	init_size;
} __attribute__((packed));

struct e820 {
	uint64_t	addr;
	uint64_t	bytes;
	uint32_t	type;
} __attribute__((packed));

_Static_assert(offsetof(struct setup, magic) == HEADER_AT - SETUP_AT, "HdrS");
_Static_assert(offsetof(struct setup, pref_address) == 0x258 - SETUP_AT, "2.10");
_Static_assert(sizeof(struct setup) == 0x264 - SETUP_AT, "init_size is last");

static int read_setup(const struct ferry_file *f, struct setup *s,
		      struct ferry_err *e)
{
	return ferry_file_read(f, SETUP_AT, s, sizeof(*s), e);
}

static bool probe(const struct ferry_file *f)
{
	struct setup s;

	return !read_setup(f, &s, NULL) && s.boot_flag == 0xaa55 &&
	       s.magic == MAGIC;
}

static int check_setup(const struct setup *s, const struct ferry_file *f,
		       uint64_t code_at, struct ferry_err *e)
{
	if (s->version < PROTOCOL_MIN)
		return ferry_err_set(e, FERRY_E_UNSUPPORTED, 0,
				     "boot protocol %u.%u is older than 2.10",
				     s->version >> 8, s->version & 0xff);
	if (!(s->loadflags & LOADED_HIGH))
		return ferry_err_set(e, FERRY_E_UNSUPPORTED, 0,
				     "a zImage, which loads below 1 MiB");
	if (code_at >= f->bytes)
		return ferry_err_set(e, FERRY_E_INVALID, 0,
				     "cut short: %" PRIu64 " octets, the code "
				     "begins at %" PRIu64, f->bytes, code_at);
	if (s->pref_address < FERRY_GPA_KERNEL ||
	    s->pref_address > UINT32_MAX || s->pref_address % 4096)
		return ferry_err_set(e, FERRY_E_INVALID, 0,
				     "preferred address 0x%" PRIx64,
				     (uint64_t)s->pref_address);
	return 0;
}

static uint64_t code_offset(const struct setup *s)
{
	return ((s->setup_sects ? s->setup_sects : 4u) + 1ul) * 512u;
}

/* At its preferred address always: a kernel that may be moved would move
 * itself there. */
static int place(const struct ferry_file *f, struct ferry_ram *ram,
		 struct ferry_image *image, struct ferry_err *e)
{
	uint64_t code_at, bytes, need;
	struct setup s;

	if (read_setup(f, &s, e))
		return -1;
	code_at = code_offset(&s);
	if (check_setup(&s, f, code_at, e))
		return -1;
	bytes = f->bytes - code_at;
	need = bytes > s.init_size ? bytes : s.init_size;
	if (s.pref_address + need > ferry_ram_low_bytes(ram))
		return ferry_err_set(e, FERRY_E_INVALID, 0,
				     "too large: it needs %" PRIu64 " MiB of "
				     "RAM to unpack itself, the VM has %" PRIu64
				     " MiB", (s.pref_address + need +
					      (1u << 20) - 1) >> 20,
				     ram->bytes >> 20);
	image->entry = (uint32_t)s.pref_address;
	image->end = s.pref_address + need;
	image->initrd_limit = s.initrd_addr_max + 1ull;
	image->cmdline_max = s.cmdline_size;
	return ferry_ram_load(ram, s.pref_address, f, code_at, bytes, "code",
			      e);
}

static void fill_setup(struct setup *s, const struct ferry_image *image)
{
	s->vid_mode = VIDEO_NORMAL;
	s->type_of_loader = LOADER_UNKNOWN;
	s->code32_start = image->entry;
	s->ramdisk_image = (uint32_t)image->initrd_gpa;
	s->ramdisk_size = (uint32_t)image->initrd_bytes;
	s->cmd_line_ptr = (uint32_t)FERRY_GPA_CMDLINE;
	s->setup_data = 0;
}

static void fill_e820(uint8_t page[4096], uint64_t ram_bytes)
{
	struct ferry_e820 map[FERRY_E820_MAX];
	size_t n = ferry_layout_e820(ram_bytes, map);

	page[E820_COUNT_AT] = (uint8_t)n;
	for (size_t i = 0; i < n; i++) {
		struct e820 entry = { map[i].addr, map[i].bytes, map[i].type };

		memcpy(page + E820_AT + i * sizeof(entry), &entry,
		       sizeof(entry));
	}
}

static int hand_over(const struct ferry_boot *b, struct ferry_ram *ram,
		     const struct ferry_image *image,
		     struct ferry_entry *entry, struct ferry_err *e)
{
	const uint64_t rsdp = FERRY_GPA_ACPI;
	uint8_t page[4096] = { 0 };
	size_t header_bytes;
	struct setup s;

	if (read_setup(&b->kernel, &s, e))
		return -1;
	/* The header may be longer than the part of it that we know.  By its
	 * one octet of length it ends inside the page; where it runs into the
	 * e820 map, that is written after it. */
	header_bytes = HEADER_AT - SETUP_AT + s.header_len;
	if (header_bytes < sizeof(s))
		header_bytes = sizeof(s);
	if (ferry_file_read(&b->kernel, SETUP_AT, page + SETUP_AT,
			    header_bytes, e))
		return -1;
	fill_setup(&s, image);
	memcpy(page + SETUP_AT, &s, sizeof(s));
	memcpy(page + RSDP_AT, &rsdp, sizeof(rsdp));
	fill_e820(page, ram->bytes);
	*entry = (struct ferry_entry){ .eip = image->entry,
				       .esi = FERRY_GPA_BOOT_PARAMS };
	return ferry_ram_write(ram, FERRY_GPA_BOOT_PARAMS, page, sizeof(page),
			       "boot parameters", e);
}

const struct ferry_boot_format ferry_boot_bzimage = {
	.name = "Linux",
	.probe = probe,
	.place = place,
	.hand_over = hand_over,
};
