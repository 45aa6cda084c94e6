/* SPDX-License-Identifier: MIT */
/*
 * ELF kernels with a PVH entry: a note XEN_ELFNOTE_PHYS32_ENTRY names the
 * physical address to enter at (Xen's docs/misc/pvh).  Any vmlinux built with
 * CONFIG_PVH has it.  32-bit and 64-bit files; segments go where p_paddr says.
 */
#include <elf.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "vmm/boot.h"
#include "vmm/layout.h"
#include "vmm/pvh.h"

#define NOTE_PHYS32_ENTRY	18u
#define NOTES_BYTES_MAX		(1u << 20)
#define SEGMENTS_MAX		128u

/* The same for both classes. */
struct segment {
	uint32_t	 type;
	uint64_t	 offset;
	uint64_t	 paddr;
	uint64_t	 file_bytes;
	uint64_t	 mem_bytes;
	uint64_t	 align;
};

struct table {
	uint64_t	 offset;
	unsigned	 count;
	bool		 wide;		/* ELF64 */
	struct segment	 seg[SEGMENTS_MAX];
};

static bool probe(const struct ferry_file *f)
{
	uint8_t ident[SELFMAG];

	return !ferry_file_read(f, 0, ident, sizeof(ident), NULL) &&
	       !memcmp(ident, ELFMAG, SELFMAG);
}

static int check_header(const Elf64_Ehdr *h, unsigned phentsize,
			unsigned phnum, size_t want, struct ferry_err *e)
{
	/* e_type, e_machine and e_version lie alike in both classes */
	if (h->e_ident[EI_DATA] != ELFDATA2LSB ||
	    (h->e_machine != EM_X86_64 && h->e_machine != EM_386))
		return ferry_err_set(e, FERRY_E_INVALID, 0,
				     "not for x86 (machine %u)", h->e_machine);
	if (h->e_type != ET_EXEC && h->e_type != ET_DYN)
		return ferry_err_set(e, FERRY_E_INVALID, 0,
				     "ELF type %u is not an executable",
				     h->e_type);
	if (phentsize != want)
		return ferry_err_set(e, FERRY_E_INVALID, 0,
				     "program headers of %u octets, not %zu",
				     phentsize, want);
	if (phnum == 0 || phnum > SEGMENTS_MAX)
		return ferry_err_set(e, FERRY_E_INVALID, 0,
				     "%u program headers, 1 to %u are allowed",
				     phnum, SEGMENTS_MAX);
	return 0;
}

static int read_header(const struct ferry_file *f, struct table *t,
		       struct ferry_err *e)
{
	union {
		Elf64_Ehdr wide;
		Elf32_Ehdr narrow;
	} h;

	_Static_assert(offsetof(Elf64_Ehdr, e_version) ==
		       offsetof(Elf32_Ehdr, e_version), "ELF headers");
	if (ferry_file_read(f, 0, &h.narrow, sizeof(h.narrow), e))
		return -1;
	t->wide = h.narrow.e_ident[EI_CLASS] == ELFCLASS64;
	if (!t->wide && h.narrow.e_ident[EI_CLASS] != ELFCLASS32)
		return ferry_err_set(e, FERRY_E_INVALID, 0, "ELF class %u",
				     h.narrow.e_ident[EI_CLASS]);
	if (t->wide && ferry_file_read(f, 0, &h.wide, sizeof(h.wide), e))
		return -1;
	t->offset = t->wide ? h.wide.e_phoff : h.narrow.e_phoff;
	t->count = t->wide ? h.wide.e_phnum : h.narrow.e_phnum;
	return check_header(&h.wide,
			    t->wide ? h.wide.e_phentsize :
				      h.narrow.e_phentsize, t->count,
			    t->wide ? sizeof(Elf64_Phdr) : sizeof(Elf32_Phdr),
			    e);
}

static int read_segment(const struct ferry_file *f, bool wide, uint64_t at,
			struct segment *s, struct ferry_err *e)
{
	Elf64_Phdr w;
	Elf32_Phdr n;

	if (wide) {
		if (ferry_file_read(f, at, &w, sizeof(w), e))
			return -1;
		*s = (struct segment){ w.p_type, w.p_offset, w.p_paddr,
				       w.p_filesz, w.p_memsz, w.p_align };
		return 0;
	}
	if (ferry_file_read(f, at, &n, sizeof(n), e))
		return -1;
	*s = (struct segment){ n.p_type, n.p_offset, n.p_paddr, n.p_filesz,
			       n.p_memsz, n.p_align };
	return 0;
}

static int read_table(const struct ferry_file *f, struct table *t,
		      struct ferry_err *e)
{
	size_t step;

	if (read_header(f, t, e))
		return -1;
	step = t->wide ? sizeof(Elf64_Phdr) : sizeof(Elf32_Phdr);
	/* the sum cannot wrap: the first header is inside the file or refused */
	for (unsigned i = 0; i < t->count; i++)
		if (read_segment(f, t->wide, t->offset + i * step, &t->seg[i],
				 e))
			return -1;
	return 0;
}

static uint64_t align_up(uint64_t n, uint64_t to)
{
	return (n + to - 1) & ~(to - 1);
}

/* Notes of one segment; true when the PVH entry is among them. */
static bool find_note(const uint8_t *p, uint64_t bytes, uint64_t align,
		      uint64_t *entry)
{
	uint64_t at = 0;
	Elf32_Nhdr h;

	while (bytes - at >= sizeof(h)) {
		uint64_t name, desc;

		memcpy(&h, p + at, sizeof(h));
		name = at + sizeof(h);
		desc = align_up(name + h.n_namesz, align);
		at = align_up(desc + h.n_descsz, align);
		if (desc > bytes || h.n_descsz > bytes - desc)
			return false;
		if (h.n_type == NOTE_PHYS32_ENTRY && h.n_namesz == 4 &&
		    !memcmp(p + name, "Xen", 4) &&
		    (h.n_descsz == 4 || h.n_descsz == 8)) {
			*entry = 0;
			memcpy(entry, p + desc, h.n_descsz);
			return true;
		}
		if (at > bytes)
			return false;
	}
	return false;
}

static int find_entry(const struct ferry_file *f, const struct table *t,
		      uint64_t *entry, struct ferry_err *e)
{
	for (unsigned i = 0; i < t->count; i++) {
		const struct segment *s = &t->seg[i];
		FERRY_AUTO_FREE uint8_t *notes = NULL;

		if (s->type != PT_NOTE)
			continue;
		if (s->file_bytes > NOTES_BYTES_MAX)
			return ferry_err_set(e, FERRY_E_INVALID, 0,
					     "notes of %" PRIu64 " octets",
					     s->file_bytes);
		notes = malloc(s->file_bytes + 1);
		if (!notes)
			return ferry_err_set(e, FERRY_E_NOMEM, ENOMEM,
					     "notes");
		if (ferry_file_read(f, s->offset, notes, s->file_bytes, e))
			return -1;
		if (find_note(notes, s->file_bytes, s->align == 8 ? 8 : 4,
			      entry))
			return 0;
	}
	return ferry_err_set(e, FERRY_E_INVALID, 0,
			     "no PVH entry: this ELF file is not a kernel, or "
			     "one built without CONFIG_PVH");
}

static bool overlaps(const struct segment *s, uint64_t start, uint64_t end)
{
	return s->paddr < end && s->paddr + s->mem_bytes > start;
}

static int load_segment(const struct ferry_file *f, struct ferry_ram *ram,
			unsigned i, const struct segment *s,
			struct ferry_err *e)
{
	char what[32];

	snprintf(what, sizeof(what), "segment %u", i);
	if (s->file_bytes > s->mem_bytes)
		return ferry_err_set(e, FERRY_E_INVALID, 0,
				     "%s has more octets in the file than in "
				     "memory", what);
	/* paddr + mem_bytes cannot wrap after this */
	if (!ferry_ram_at(ram, s->paddr, s->mem_bytes))
		return ferry_err_set(e, FERRY_E_INVALID, 0,
				     "%s does not fit: it needs %" PRIu64
				     " KiB at 0x%" PRIx64 ", the VM has %"
				     PRIu64 " MiB of RAM", what,
				     s->mem_bytes >> 10, s->paddr,
				     ram->bytes >> 20);
	if (overlaps(s, FERRY_GPA_GDT, FERRY_GPA_BOOT_END) ||
	    overlaps(s, FERRY_GPA_LOW_END, FERRY_GPA_KERNEL))
		return ferry_err_set(e, FERRY_E_INVALID, 0,
				     "%s at 0x%" PRIx64 " lies where boot data "
				     "or firmware tables go", what, s->paddr);
	if (ferry_ram_load(ram, s->paddr, f, s->offset, s->file_bytes, what, e))
		return -1;
	return ferry_ram_zero(ram, s->paddr + s->file_bytes,
			      s->mem_bytes - s->file_bytes, what, e);
}

static int place(const struct ferry_file *f, struct ferry_ram *ram,
		 struct ferry_image *image, struct ferry_err *e)
{
	bool entry_loaded = false;
	struct table t = { 0 };
	uint64_t entry = 0;

	if (read_table(f, &t, e) || find_entry(f, &t, &entry, e))
		return -1;
	for (unsigned i = 0; i < t.count; i++) {
		const struct segment *s = &t.seg[i];

		if (s->type != PT_LOAD || s->mem_bytes == 0)
			continue;
		if (load_segment(f, ram, i, s, e))
			return -1;
		if (entry - s->paddr < s->mem_bytes)
			entry_loaded = true;
		if (s->paddr + s->mem_bytes > image->end)
			image->end = s->paddr + s->mem_bytes;
	}
	if (!entry_loaded || entry > UINT32_MAX)
		return ferry_err_set(e, FERRY_E_INVALID, 0,
				     "the PVH entry 0x%" PRIx64 " is in no "
				     "loaded segment below 4 GiB", entry);
	image->entry = (uint32_t)entry;
	image->initrd_limit = UINT64_MAX;
	image->cmdline_max = FERRY_CMDLINE_MAX;
	return 0;
}

const struct ferry_boot_format ferry_boot_elf = {
	.name = "ELF",
	.probe = probe,
	.place = place,
	.hand_over = ferry_pvh_hand_over,
};
