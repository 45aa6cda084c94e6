/* SPDX-License-Identifier: MIT */
/* A PVH kernel out of a few instructions, as a file in memory. */
#ifndef TESTS_UNIT_VMM_PVH_ELF_H
#define TESTS_UNIT_VMM_PVH_ELF_H

#include <elf.h>

#include "help.h"

#define PVH_LOAD	0x100000u
#define PVH_CODE_MAX	2048u

/* Fields in the order of the file; tests spoil them one by one. */
struct pvh_elf {
	Elf64_Ehdr	head;
	Elf64_Phdr	load, note;
	Elf64_Nhdr	note_head;
	char		note_name[4];
	uint32_t	entry;
	uint8_t		code[PVH_CODE_MAX];
};

static inline void pvh_elf_init(struct pvh_elf *k, const void *code,
				size_t bytes)
{
	memset(k, 0, sizeof(*k));
	memcpy(k->head.e_ident, ELFMAG, SELFMAG);
	k->head.e_ident[EI_CLASS] = ELFCLASS64;
	k->head.e_ident[EI_DATA] = ELFDATA2LSB;
	k->head.e_type = ET_EXEC;
	k->head.e_machine = EM_X86_64;
	k->head.e_phoff = offsetof(struct pvh_elf, load);
	k->head.e_phentsize = sizeof(Elf64_Phdr);
	k->head.e_phnum = 2;
	k->load = (Elf64_Phdr){
		.p_type = PT_LOAD, .p_offset = offsetof(struct pvh_elf, code),
		.p_paddr = PVH_LOAD, .p_filesz = PVH_CODE_MAX,
		.p_memsz = 2 * PVH_CODE_MAX };
	k->note = (Elf64_Phdr){
		.p_type = PT_NOTE,
		.p_offset = offsetof(struct pvh_elf, note_head),
		.p_filesz = sizeof(Elf64_Nhdr) + 8, .p_align = 4 };
	k->note_head = (Elf64_Nhdr){ 4, 4, 18 };
	memcpy(k->note_name, "Xen", 4);
	k->entry = PVH_LOAD;
	assert_true(bytes <= sizeof(k->code));
	if (bytes)
		memcpy(k->code, code, bytes);
}

#endif
