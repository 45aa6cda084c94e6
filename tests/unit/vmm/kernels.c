/* SPDX-License-Identifier: MIT */
/* Loading kernels: what is put where, and files that lie. */
#include "pvh_elf.h"

#include <ferry/vm.h>

#include "fake_ferry.h"
#include "vmm/boot.h"
#include "vmm/layout.h"

#define RAM_BYTES	(64ull << 20)

struct loaded {
	struct ferry_ram	 ram;
	struct ferry_boot	 boot;
	struct ferry_entry	 entry;
};

static int load(struct loaded *l, const void *kernel, size_t bytes,
		const char *initrd, const char *cmdline, struct ferry_err *e)
{
	char path[32];
	FERRY_AUTO_FD fd = memory_file(kernel, bytes, path);
	int err;

	memset(l, 0, sizeof(*l));
	assert_ok(ferry_ram_init(&l->ram, RAM_BYTES, FERRY_RAM_ANONYMOUS,
				 NULL, e));
	if (ferry_boot_open(&l->boot, path, initrd, cmdline, 2, 16, e))
		return -1;
	err = ferry_boot_load(&l->boot, &l->ram, &l->entry, e);
	ferry_boot_close(&l->boot);
	return err;
}

static void unload(struct loaded *l)
{
	ferry_ram_fini(&l->ram);
}

static const void *at(const struct loaded *l, uint64_t gpa)
{
	return ferry_ram_at(&l->ram, gpa, 1);
}

static uint64_t number(const struct loaded *l, uint64_t gpa, size_t octets)
{
	uint64_t n = 0;

	memcpy(&n, at(l, gpa), octets);
	return n;
}

/* ---- PVH -------------------------------------------------------------- */

static void an_elf_kernel_lies_where_it_says_and_its_bss_is_zero(void **state)
{
	struct pvh_elf k;
	struct loaded l;
	struct ferry_err e;

	(void)state;
	pvh_elf_init(&k, "code", 4);
	k.code[PVH_CODE_MAX - 1] = 7;
	assert_ok(load(&l, &k, sizeof(k), NULL, NULL, &e));
	assert_memory_equal(at(&l, PVH_LOAD), k.code, PVH_CODE_MAX);
	assert_int_equal(number(&l, PVH_LOAD + PVH_CODE_MAX, 8), 0);
	assert_int_equal(l.entry.eip, PVH_LOAD);
	assert_int_equal(l.entry.ebx, FERRY_GPA_START_INFO);
	unload(&l);
}

static void the_start_info_tells_command_line_memory_and_initrd(void **state)
{
	char initrd[32];
	FERRY_AUTO_FD fd = memory_file("INITRD", 6, initrd);
	uint64_t info = FERRY_GPA_START_INFO, module;
	struct pvh_elf k;
	struct loaded l;
	struct ferry_err e;

	(void)state;
	pvh_elf_init(&k, "", 0);
	assert_ok(load(&l, &k, sizeof(k), initrd, "hello=1", &e));
	assert_int_equal(number(&l, info, 4), 0x336ec578);
	assert_int_equal(number(&l, info + 4, 4), 1);
	assert_int_equal(number(&l, info + 12, 4), 1);
	assert_string_equal(at(&l, number(&l, info + 24, 8)), "hello=1");

	module = number(&l, info + 16, 8);
	assert_int_equal(number(&l, module + 8, 8), 6);
	assert_memory_equal(at(&l, number(&l, module, 8)), "INITRD", 6);
	assert_int_equal(number(&l, module, 8) % 4096, 0);

	/* entry 3 of the memory map is RAM from 1 MiB to the end */
	assert_int_equal(number(&l, info + 48, 4), 5);
	assert_int_equal(number(&l, number(&l, info + 40, 8) + 3 * 24, 8),
			 1 << 20);
	assert_int_equal(number(&l, number(&l, info + 40, 8) + 3 * 24 + 8, 8),
			 RAM_BYTES - (1 << 20));
	unload(&l);
}

static unsigned sum(const uint8_t *p, size_t n)
{
	unsigned s = 0;

	while (n--)
		s += *p++;
	return s & 0xff;
}

static void every_acpi_table_is_found_and_sums_to_zero(void **state)
{
	uint64_t rsdp, xsdt;
	struct pvh_elf k;
	struct loaded l;
	struct ferry_err e;

	(void)state;
	pvh_elf_init(&k, "", 0);
	assert_ok(load(&l, &k, sizeof(k), NULL, NULL, &e));
	rsdp = number(&l, FERRY_GPA_START_INFO + 32, 8);
	assert_memory_equal(at(&l, rsdp), "RSD PTR ", 8);
	assert_int_equal(sum(at(&l, rsdp), 20), 0);
	assert_int_equal(sum(at(&l, rsdp), 36), 0);
	xsdt = number(&l, rsdp + 24, 8);
	assert_memory_equal(at(&l, xsdt), "XSDT", 4);
	assert_int_equal(number(&l, xsdt + 4, 4), 36 + 2 * 8);
	assert_int_equal(sum(at(&l, xsdt), 52), 0);

	for (unsigned i = 0; i < 2; i++) {
		uint64_t t = number(&l, xsdt + 36 + 8 * i, 8);

		assert_memory_equal(at(&l, t), i ? "APIC" : "FACP", 4);
		assert_int_equal(sum(at(&l, t), number(&l, t + 4, 4)), 0);
		if (i == 1)	/* two vCPUs of 8 octets, then the IOAPIC */
			assert_int_equal(number(&l, t + 44 + 16, 1), 1);
	}
	unload(&l);
}

static void a_32_bit_elf_kernel_loads_too(void **state)
{
	struct {
		Elf32_Ehdr	head;
		Elf32_Phdr	load, note;
		Elf32_Nhdr	note_head;
		char		name[4];
		uint32_t	entry;
		uint8_t		code[16];
	} k = {
		.head = { .e_type = ET_EXEC, .e_machine = EM_386,
			  .e_phoff = sizeof(Elf32_Ehdr),
			  .e_phentsize = sizeof(Elf32_Phdr), .e_phnum = 2 },
		.note_head = { 4, 4, 18 }, .name = "Xen",
		.entry = 0x200004, .code = "narrow",
	};
	struct loaded l;
	struct ferry_err e;

	(void)state;
	memcpy(k.head.e_ident, ELFMAG, SELFMAG);
	k.head.e_ident[EI_CLASS] = ELFCLASS32;
	k.head.e_ident[EI_DATA] = ELFDATA2LSB;
	k.load = (Elf32_Phdr){
		.p_type = PT_LOAD, .p_paddr = 0x200000, .p_filesz = 16,
		.p_memsz = 16,
		.p_offset = (Elf32_Off)((char *)k.code - (char *)&k) };
	k.note = (Elf32_Phdr){
		.p_type = PT_NOTE, .p_filesz = 20, .p_align = 4,
		.p_offset = (Elf32_Off)((char *)&k.note_head - (char *)&k) };
	assert_ok(load(&l, &k, sizeof(k), NULL, NULL, &e));
	assert_string_equal(at(&l, 0x200000), "narrow");
	assert_int_equal(l.entry.eip, 0x200004);
	unload(&l);
}

/* Each spoils one field. */
#define F(f)	offsetof(struct pvh_elf, f), sizeof(((struct pvh_elf *)0)->f)

static const struct {
	const char	*why;
	size_t		 offset, octets;
	uint64_t	 value;
	const char	*sentence;
} bad_elf[] = {
	{ "not a kernel at all", F(head.e_ident[0]), 0, "not a kernel" },
	{ "no such class", F(head.e_ident[EI_CLASS]), 3, "ELF class 3" },
	{ "big-endian", F(head.e_ident[EI_DATA]), 2, "not for x86" },
	{ "for another CPU", F(head.e_machine), EM_AARCH64, "not for x86" },
	{ "an object file", F(head.e_type), ET_REL, "not an executable" },
	{ "no program headers", F(head.e_phnum), 0, "0 program headers" },
	{ "65535 of them", F(head.e_phnum), 65535, "65535 program headers" },
	{ "one past the file", F(head.e_phnum), 128, "past the end" },
	{ "headers too small", F(head.e_phentsize), 8, "of 8 octets" },
	{ "headers too large", F(head.e_phentsize), 65535, "of 65535 octets" },
	{ "headers past the end", F(head.e_phoff), 1 << 20, "past the end" },
	{ "headers wrap", F(head.e_phoff), UINT64_MAX - 8, "past the end" },
	{ "no note", F(note.p_type), PT_NULL, "no PVH entry" },
	{ "note of another kind", F(note_head.n_type), 17, "no PVH entry" },
	{ "note of another maker", F(note_name[0]), 'Y', "no PVH entry" },
	{ "entry of 5 octets", F(note_head.n_descsz), 5, "no PVH entry" },
	{ "entry of 4 GiB", F(note_head.n_descsz), UINT32_MAX, "no PVH entry" },
	{ "name of 4 GiB", F(note_head.n_namesz), UINT32_MAX, "no PVH entry" },
	{ "notes past the end", F(note.p_offset), 1 << 30, "past the end" },
	{ "notes wrap", F(note.p_offset), UINT64_MAX, "past the end" },
	{ "notes of 16 EiB", F(note.p_filesz), UINT64_MAX, "notes of" },
	{ "notes cut short", F(note.p_filesz), 13, "no PVH entry" },
	{ "entry outside", F(entry), 0x90000, "in no loaded segment" },
	{ "nothing loaded", F(load.p_memsz), 0, "in no loaded segment" },
	{ "code past the end", F(load.p_offset), 1 << 20, "past the end" },
	{ "code wraps", F(load.p_offset), UINT64_MAX - 1, "past the end" },
	{ "more file than memory", F(load.p_filesz), 1 << 13, "more octets" },
	{ "larger than RAM", F(load.p_memsz), RAM_BYTES, "does not fit" },
	{ "memory wraps", F(load.p_memsz), UINT64_MAX, "does not fit" },
	{ "at the top of all", F(load.p_paddr), UINT64_MAX - 9, "not fit" },
	{ "past RAM", F(load.p_paddr), RAM_BYTES - 4096, "in no loaded" },
	{ "in the hole", F(load.p_paddr), 0xd0000000, "does not fit" },
	{ "over the boot data", F(load.p_paddr), 0x6800, "boot data" },
	{ "over the ACPI tables", F(load.p_paddr), 0xef800, "boot data" },
};

static void elf_files_that_lie_are_refused_with_a_sentence(void **state)
{
	(void)state;
	for (size_t i = 0; i < FERRY_LEN(bad_elf); i++) {
		struct pvh_elf k;
		struct loaded l;
		struct ferry_err e;

		pvh_elf_init(&k, "", 0);
		memcpy((char *)&k + bad_elf[i].offset, &bad_elf[i].value,
		       bad_elf[i].octets);
		print_message("  %s\n", bad_elf[i].why);
		assert_refused(load(&l, &k, sizeof(k), NULL, NULL, &e), &e,
			       FERRY_E_INVALID, bad_elf[i].sentence);
		unload(&l);
	}
}

static void an_elf_file_cut_anywhere_is_refused(void **state)
{
	struct pvh_elf k;

	(void)state;
	pvh_elf_init(&k, "", 0);
	for (size_t n = 0; n < sizeof(k); n += n < 300 ? 1 : 97) {
		struct loaded l;
		struct ferry_err e;

		assert_int_equal(load(&l, &k, n, NULL, NULL, &e), -1);
		assert_true(e.msg[0]);
		unload(&l);
	}
}

/* ---- bzImage ---------------------------------------------------------- */

#define SETUP_SECTS	3u
#define CODE_AT		((SETUP_SECTS + 1) * 512)

struct bzimage {
	uint8_t		octet[CODE_AT + 4096];
};

static void poke(struct bzimage *b, size_t offset, uint64_t value,
		 size_t octets)
{
	memcpy(b->octet + offset, &value, octets);
}

static void bzimage_init(struct bzimage *b)
{
	memset(b, 0, sizeof(*b));
	poke(b, 0x1f1, SETUP_SECTS, 1);
	poke(b, 0x1fe, 0xaa55, 2);
	poke(b, 0x201, 0x268 - 0x202, 1);
	poke(b, 0x202, 0x53726448, 4);
	poke(b, 0x206, 0x020f, 2);
	poke(b, 0x211, 1, 1);
	poke(b, 0x22c, 0x7fffffff, 4);
	poke(b, 0x238, 255, 4);
	poke(b, 0x258, 0x1000000, 8);
	poke(b, 0x260, 2 << 20, 4);
	poke(b, 0x264, 0xdeadbeef, 4);	/* newer than what we know */
	memcpy(b->octet + CODE_AT, "linux", 5);
}

static void a_bzimage_is_loaded_and_told_where_things_are(void **state)
{
	const uint64_t page = FERRY_GPA_BOOT_PARAMS;
	char initrd[32];
	FERRY_AUTO_FD fd = memory_file("INITRD", 6, initrd);
	struct bzimage b;
	struct loaded l;
	struct ferry_err e;

	(void)state;
	bzimage_init(&b);
	assert_ok(load(&l, &b, sizeof(b), initrd, "quiet", &e));
	assert_string_equal(at(&l, 0x1000000), "linux");
	assert_int_equal(l.entry.eip, 0x1000000);
	assert_int_equal(l.entry.esi, page);
	assert_int_equal(number(&l, page + 0x210, 1), 0xff);
	assert_string_equal(at(&l, number(&l, page + 0x228, 4)), "quiet");
	assert_memory_equal(at(&l, number(&l, page + 0x218, 4)), "INITRD", 6);
	assert_int_equal(number(&l, page + 0x21c, 4), 6);
	assert_int_equal(number(&l, page + 0x264, 4), 0xdeadbeef);
	assert_memory_equal(at(&l, number(&l, page + 0x70, 8)), "RSD PTR ", 8);
	assert_int_equal(number(&l, page + 0x1e8, 1), 5);
	assert_int_equal(number(&l, page + 0x2d0 + 3 * 20, 8), 1 << 20);
	unload(&l);
}

static void an_initrd_goes_no_higher_than_the_kernel_wants(void **state)
{
	char initrd[32];
	FERRY_AUTO_FD fd = memory_file("INITRD", 6, initrd);
	struct bzimage b;
	struct loaded l;
	struct ferry_err e;

	(void)state;
	bzimage_init(&b);
	poke(&b, 0x22c, 0x1ffffff, 4);
	assert_ok(load(&l, &b, sizeof(b), initrd, NULL, &e));
	assert_int_equal(number(&l, FERRY_GPA_BOOT_PARAMS + 0x218, 4),
			 0x2000000 - 4096);
	unload(&l);
}

static const struct {
	const char	*why;
	size_t		 offset, octets;
	uint64_t	 value;
	int		 code;
	const char	*sentence;
} bad_bzimage[] = {
	{ "no boot flag", 0x1fe, 2, 0, FERRY_E_INVALID, "not a kernel" },
	{ "no magic", 0x202, 4, 0, FERRY_E_INVALID, "not a kernel" },
	{ "too old", 0x206, 2, 0x0209, FERRY_E_UNSUPPORTED, "protocol 2.9" },
	{ "a zImage", 0x211, 1, 0, FERRY_E_UNSUPPORTED, "zImage" },
	{ "only set-up code", 0x1f1, 1, 64, FERRY_E_INVALID, "cut short" },
	{ "below 1 MiB", 0x258, 8, 0x90000, FERRY_E_INVALID, "preferred" },
	{ "above 4 GiB", 0x258, 8, 1ull << 32, FERRY_E_INVALID, "preferred" },
	{ "not on a page", 0x258, 8, 0x1000001, FERRY_E_INVALID, "preferred" },
	{ "address wraps", 0x258, 8, ~0xfffull, FERRY_E_INVALID, "preferred" },
	{ "above RAM", 0x258, 8, 0x8000000, FERRY_E_INVALID, "too large" },
	{ "larger than RAM", 0x260, 4, 49 << 20, FERRY_E_INVALID,
	  "it needs 65 MiB" },
	{ "4 GiB to unpack", 0x260, 4, 0xffffffff, FERRY_E_INVALID,
	  "too large" },
	{ "short command line", 0x238, 4, 3, FERRY_E_INVALID,
	  "the command line has 5 octets, this kernel takes 3" },
	{ "initrd below kernel", 0x22c, 4, 0x100000, FERRY_E_INVALID,
	  "room for 0 KiB" },
};

static void bzimages_that_lie_are_refused_with_a_sentence(void **state)
{
	char initrd[32];
	FERRY_AUTO_FD fd = memory_file("INITRD", 6, initrd);

	(void)state;
	for (size_t i = 0; i < FERRY_LEN(bad_bzimage); i++) {
		struct bzimage b;
		struct loaded l;
		struct ferry_err e;

		bzimage_init(&b);
		poke(&b, bad_bzimage[i].offset, bad_bzimage[i].value,
		     bad_bzimage[i].octets);
		print_message("  %s\n", bad_bzimage[i].why);
		assert_refused(load(&l, &b, sizeof(b), initrd, "quiet", &e),
			       &e, bad_bzimage[i].code,
			       bad_bzimage[i].sentence);
		unload(&l);
	}
}

/* The header says how long it is; any length must stay inside its page. */
static void any_header_length_is_taken(void **state)
{
	(void)state;
	for (unsigned n = 0; n < 256; n++) {
		struct bzimage b;
		struct loaded l;
		struct ferry_err e;

		bzimage_init(&b);
		poke(&b, 0x201, n, 1);
		assert_ok(load(&l, &b, sizeof(b), NULL, NULL, &e));
		assert_int_equal(number(&l, FERRY_GPA_BOOT_PARAMS + 0x1e8, 1),
				 5);
		unload(&l);
	}
}

/* ---- both -------------------------------------------------------------- */

static void files_that_are_no_files_are_refused(void **state)
{
	static const struct {
		const char *kernel, *initrd, *sentence;
		int code;
	} bad[] = {
		{ "/nonexistent", NULL, "kernel: open /nonexistent: No such",
		  FERRY_E_IO },
		{ "/tmp", NULL, "kernel: /tmp: not a regular file",
		  FERRY_E_INVALID },
		{ "/dev/null", NULL, "not a regular file", FERRY_E_INVALID },
		{ "/proc/self/exe", "/nonexistent", "initrd: open",
		  FERRY_E_IO },
	};

	(void)state;
	for (size_t i = 0; i < FERRY_LEN(bad); i++) {
		struct ferry_boot b;
		struct ferry_err e;

		assert_refused(ferry_boot_open(&b, bad[i].kernel,
					       bad[i].initrd, NULL, 1, 0,
					       &e),
			       &e, bad[i].code, bad[i].sentence);
		assert_int_equal(b.kernel.fd, -1);
	}
}

static void an_initrd_that_does_not_fit_is_refused_with_numbers(void **state)
{
	char path[32];
	FERRY_AUTO_FD fd = memory_file("", 0, path);
	struct pvh_elf k;
	struct loaded l;
	struct ferry_err e;

	(void)state;
	pvh_elf_init(&k, "", 0);
	assert_refused(load(&l, &k, sizeof(k), path, NULL, &e), &e,
		       FERRY_E_INVALID, "is empty");
	unload(&l);
	assert_ok(ftruncate(fd, 70 << 20));
	assert_refused(load(&l, &k, sizeof(k), path, NULL, &e), &e,
		       FERRY_E_INVALID, "has 71680 KiB, there is room for");
	unload(&l);
}

static void a_command_line_of_a_page_is_refused(void **state)
{
	struct pvh_elf k;
	struct loaded l;
	struct ferry_err e;
	char line[4097];

	(void)state;
	pvh_elf_init(&k, "", 0);
	memset(line, 'x', sizeof(line));
	line[4095] = '\0';
	assert_ok(load(&l, &k, sizeof(k), NULL, line, &e));
	unload(&l);
	line[4095] = 'x';
	line[4096] = '\0';
	assert_refused(load(&l, &k, sizeof(k), NULL, line, &e), &e,
		       FERRY_E_INVALID, "4096 octets");
	unload(&l);
}

static void the_engine_is_told_of_all_that_loading_writes(void **state)
{
	struct ferry_vm *vm = fake_vm_new();
	struct pvh_elf k;
	struct ferry_boot b;
	struct ferry_entry entry;
	struct ferry_ram ram;
	struct ferry_err e;
	char path[32];
	int fd;

	(void)state;
	pvh_elf_init(&k, "", 0);
	fd = memory_file(&k, sizeof(k), path);
	assert_ok(ferry_ram_init(&ram, RAM_BYTES, FERRY_RAM_ANONYMOUS, NULL,
				 &e));
	assert_ok(ferry_boot_open(&b, path, NULL, "x", 1, 0, &e));
	ram.vm = vm;
	assert_ok(ferry_boot_load(&b, &ram, &entry, &e));
	/* kernel and bss, "x", GDT, ACPI, start info */
	assert_true(vm->dirty_bytes >= 2 * PVH_CODE_MAX + 2 + 40 + 2048 + 56);
	ferry_boot_close(&b);
	ferry_ram_fini(&ram);
	fake_vm_free(vm);
	close(fd);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(
			an_elf_kernel_lies_where_it_says_and_its_bss_is_zero),
		cmocka_unit_test(
			the_start_info_tells_command_line_memory_and_initrd),
		cmocka_unit_test(every_acpi_table_is_found_and_sums_to_zero),
		cmocka_unit_test(a_32_bit_elf_kernel_loads_too),
		cmocka_unit_test(
			elf_files_that_lie_are_refused_with_a_sentence),
		cmocka_unit_test(an_elf_file_cut_anywhere_is_refused),
		cmocka_unit_test(a_bzimage_is_loaded_and_told_where_things_are),
		cmocka_unit_test(
			an_initrd_goes_no_higher_than_the_kernel_wants),
		cmocka_unit_test(bzimages_that_lie_are_refused_with_a_sentence),
		cmocka_unit_test(any_header_length_is_taken),
		cmocka_unit_test(files_that_are_no_files_are_refused),
		cmocka_unit_test(
			an_initrd_that_does_not_fit_is_refused_with_numbers),
		cmocka_unit_test(a_command_line_of_a_page_is_refused),
		cmocka_unit_test(the_engine_is_told_of_all_that_loading_writes),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
