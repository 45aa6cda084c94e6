/* SPDX-License-Identifier: MIT */
/*
 * What is the same for every kernel format: which one it is, where initrd and
 * command line go, the GDT, the ACPI tables.  See boot.h.
 */
#include "vmm/boot.h"

#include <inttypes.h>
#include <string.h>

#include "base/cleanup.h"
#include "vmm/acpi.h"
#include "vmm/layout.h"

static const struct ferry_boot_format *const formats[] = {
	&ferry_boot_elf,
	&ferry_boot_bzimage,
};

int ferry_boot_open(struct ferry_boot *b, const char *kernel,
		    const char *initrd, const char *cmdline, unsigned vcpus,
		    unsigned virtio, struct ferry_err *e)
{
	*b = (struct ferry_boot){
		.kernel = FERRY_FILE_NONE,
		.initrd = FERRY_FILE_NONE,
		.cmdline = cmdline ? cmdline : "",
		.vcpus = vcpus,
		.virtio = virtio,
	};
	if (ferry_file_open(&b->kernel, kernel, e))
		return ferry_err_wrap(e, "kernel");
	if (initrd && ferry_file_open(&b->initrd, initrd, e)) {
		ferry_boot_close(b);
		return ferry_err_wrap(e, "initrd");
	}
	return 0;
}

void ferry_boot_close(struct ferry_boot *b)
{
	ferry_file_close(&b->kernel);
	ferry_file_close(&b->initrd);
}

static const struct ferry_boot_format *find_format(const struct ferry_file *f)
{
	for (size_t i = 0; i < FERRY_LEN(formats); i++)
		if (formats[i]->probe(f))
			return formats[i];
	return NULL;
}

/* As high as it may be: out of the way of a kernel that grows. */
static int place_initrd(const struct ferry_boot *b, struct ferry_ram *ram,
			struct ferry_image *image, struct ferry_err *e)
{
	uint64_t top = ferry_ram_low_bytes(ram);
	uint64_t gpa;

	if (b->initrd.fd < 0)
		return 0;
	if (b->initrd.bytes == 0)
		return ferry_err_set(e, FERRY_E_INVALID, 0,
				     "initrd %s is empty", b->initrd.path);
	if (top > image->initrd_limit)
		top = image->initrd_limit;
	if (image->end > top || b->initrd.bytes > top - image->end ||
	    (gpa = (top - b->initrd.bytes) & ~0xfffull) < image->end)
		return ferry_err_set(e, FERRY_E_INVALID, 0,
				     "initrd %s has %" PRIu64 " KiB, there is "
				     "room for %" PRIu64 " KiB between kernel "
				     "and end of RAM", b->initrd.path,
				     b->initrd.bytes >> 10,
				     image->end > top ? 0 :
				     (top - image->end) >> 10);
	image->initrd_gpa = gpa;
	image->initrd_bytes = b->initrd.bytes;
	return ferry_ram_load(ram, gpa, &b->initrd, 0, b->initrd.bytes,
			      "initrd", e);
}

static int place_cmdline(const struct ferry_boot *b, struct ferry_ram *ram,
			 const struct ferry_image *image, struct ferry_err *e)
{
	size_t n = strlen(b->cmdline);

	if (n > image->cmdline_max || n > FERRY_CMDLINE_MAX)
		return ferry_err_set(e, FERRY_E_INVALID, 0,
				     "the command line has %zu octets, this "
				     "kernel takes %" PRIu64, n,
				     image->cmdline_max < FERRY_CMDLINE_MAX ?
				     image->cmdline_max :
				     (uint64_t)FERRY_CMDLINE_MAX);
	return ferry_ram_write(ram, FERRY_GPA_CMDLINE, b->cmdline, n + 1,
			       "command line", e);
}

/* Flat 4 GiB code and data where Linux wants them (0x10, 0x18), and a TSS. */
static int place_gdt(struct ferry_ram *ram, struct ferry_err *e)
{
	static const uint64_t gdt[] = {
		0, 0,
		0x00cf9b000000ffff,	/* 0x10: code, 32-bit */
		0x00cf93000000ffff,	/* 0x18: data */
		0x00008b0000000067,	/* 0x20: TSS, 32-bit, busy */
	};

	return ferry_ram_write(ram, FERRY_GPA_GDT, gdt, sizeof(gdt), "GDT", e);
}

int ferry_boot_check(const struct ferry_boot *b, struct ferry_err *e)
{
	if (find_format(&b->kernel))
		return 0;
	return ferry_err_set(e, FERRY_E_INVALID, 0,
			     "%s is not a kernel: neither an ELF file nor a "
			     "Linux bzImage", b->kernel.path);
}

int ferry_boot_load(const struct ferry_boot *b, struct ferry_ram *ram,
		    struct ferry_entry *entry, struct ferry_err *e)
{
	const struct ferry_boot_format *format = find_format(&b->kernel);
	struct ferry_image image = { 0 };

	if (ferry_boot_check(b, e))
		return -1;
	if (format->place(&b->kernel, ram, &image, e))
		return ferry_err_wrap(e, "%s kernel %s", format->name,
				      b->kernel.path);
	if (place_initrd(b, ram, &image, e) ||
	    place_cmdline(b, ram, &image, e) || place_gdt(ram, e) ||
	    ferry_acpi_write(ram, b->vcpus, b->virtio, e))
		return -1;
	return format->hand_over(b, ram, &image, entry, e);
}
