/* SPDX-License-Identifier: MIT */
/*
 * From the monitor's hands to C in ring 3, and everything of ring 0 there is.
 *
 * Some hypervisors emulate ring 0 one instruction at a time (2.5 us each) and
 * run ring 3 natively.  So the tables are built by the assembler, ring 0 is
 * about thirty instructions per vCPU, and then everything, page tables, port
 * I/O and the local APIC included, is done in ring 3: all pages belong to the
 * user, all ports are open, interrupts stay off.  (Ports are opened by the
 * bitmap of the TSS.  IOPL 3 would do on a processor, but not on KVM-PVM, which
 * loses it in iretq.)
 *
 * The ways in:
 *   pvh_entry	first vCPU, 32 bit protected mode, ebx = hvm_start_info
 *   ap_start	other vCPUs, real mode, from a copy at TRAMPOLINE
 *   trap_N	an exception: leads to trap_report() in ring 3, for good
 */
#include "layout.h"

#define CR0_PE_MP_ET_NE_WP_PG	0x80010033
#define CR4_PAE_OSFXSR_XMM	0x00000620
#define CR4_OSXSAVE		0x00040000
#define CPUID_1_XSAVE_AVX	0x14000000	/* in ecx */
#define XCR0_X87_SSE_AVX	0x00000007
#define MSR_EFER		0xc0000080
#define EFER_LME		0x100

#define PTE_P_W_U		0x07
#define PTE_LARGE		0x80
#define PTE_UNCACHED		0x18

	/* Where the loader finds pvh_entry: XEN_ELFNOTE_PHYS32_ENTRY. */
	.section .note.pvh, "a", @note
	.balign	4
	.long	4
	.long	8
	.long	18
	.asciz	"Xen"
	.quad	pvh_entry

	/* First in the image, so AT() is a constant for the assembler. */
	.section .boot, "awx", @progbits
boot:
#define AT(symbol)	(IMAGE_BASE + ((symbol) - boot))

	.balign	4096
pml4:	.quad	AT(pdpt) + PTE_P_W_U
	.fill	511, 8, 0

	/* The first 4 GiB; paging.c adds the memory above. */
	.globl	pdpt
pdpt:	.quad	AT(pd) + PTE_P_W_U
	.quad	AT(pd) + 0x1000 + PTE_P_W_U
	.quad	AT(pd) + 0x2000 + PTE_P_W_U
	.quad	AT(pd) + 0x3000 + PTE_P_W_U
	.fill	508, 8, 0

	/* The last 32 MiB hold the APICs, everything else may be memory. */
	.set	addr, 0
pd:	.rept	2048 - 16
	.quad	addr + PTE_P_W_U + PTE_LARGE
	.set	addr, addr + 0x200000
	.endr
	.rept	16
	.quad	addr + PTE_P_W_U + PTE_LARGE + PTE_UNCACHED
	.set	addr, addr + 0x200000
	.endr

	.balign	16
gdt:	.quad	0
	.quad	0x00cf9b000000ffff		/* SEL_CODE32 */
	.quad	0x00cf93000000ffff		/* SEL_DATA */
	.quad	0x00af9b000000ffff		/* SEL_CODE64 */
	.quad	0x00cff3000000ffff		/* SEL_USER_DATA */
	.quad	0x00affb000000ffff		/* SEL_USER_CODE */
	.set	i, 0
	.rept	CPUS_MAX
	.word	io_bitmap_end - tss - i * TSS_BYTES - 1
	.word	(AT(tss) + i * TSS_BYTES) & 0xffff
	.byte	((AT(tss) + i * TSS_BYTES) >> 16) & 0xff
	.byte	0x89, 0
	.byte	((AT(tss) + i * TSS_BYTES) >> 24) & 0xff
	.quad	0
	.set	i, i + 1
	.endr
gdt_end:

	.balign	16
idt:	.set	i, 0
	.rept	TRAPS
	.word	(AT(traps) + i * 16) & 0xffff
	.word	SEL_CODE64
	.byte	0, 0x8e
	.word	(AT(traps) + i * 16) >> 16
	.quad	0
	.set	i, i + 1
	.endr
idt_end:

	/* One per vCPU, for the stack that a trap out of ring 3 lands on. */
	.balign	TSS_BYTES
tss:	.set	i, 1
	.rept	CPUS_MAX
	.long	0
	.quad	trap_stacks + i * TRAP_STACK_BYTES
	.fill	90, 1, 0
	.word	io_bitmap - tss - (i - 1) * TSS_BYTES
	.fill	TSS_BYTES - 104, 1, 0
	.set	i, i + 1
	.endr
io_bitmap:					/* one for all, all clear */
	.fill	8192, 1, 0
	.byte	0xff				/* the processor wants it */
io_bitmap_end:

	.globl	avx_on
avx_on:	.long	0

gdt_ptr:
	.word	gdt_end - gdt - 1
	.long	AT(gdt)
idt_ptr:
	.word	idt_end - idt - 1
	.quad	AT(idt)

	.code32
	.globl	pvh_entry
pvh_entry:
	cli
	cld
	lgdt	gdt_ptr
	xorl	%edi, %edi			/* vCPU 0 */
	movl	$user_first, %esi

	/* All vCPUs.  edi: index; esi: where ring 3 begins; ebx: kept. */
long_mode:
	movl	$CR4_PAE_OSFXSR_XMM, %eax
	movl	%eax, %cr4
	movl	%ebx, %ebp
	movl	$1, %eax
	cpuid
	movl	%ebp, %ebx
	notl	%ecx
	testl	$CPUID_1_XSAVE_AVX, %ecx
	jnz	1f
	movl	$CR4_PAE_OSFXSR_XMM + CR4_OSXSAVE, %eax
	movl	%eax, %cr4
	movl	$XCR0_X87_SSE_AVX, %eax
	xorl	%ecx, %ecx
	xorl	%edx, %edx
	xsetbv
	movl	$1, AT(avx_on)
1:
	movl	$AT(pml4), %eax
	movl	%eax, %cr3
	movl	$MSR_EFER, %ecx
	rdmsr
	orl	$EFER_LME, %eax
	wrmsr
	movl	$CR0_PE_MP_ET_NE_WP_PG, %eax
	movl	%eax, %cr0
	ljmp	$SEL_CODE64, $AT(user_enter)

	.code64
user_enter:
	xorl	%eax, %eax
	movl	%eax, %ds
	movl	%eax, %es
	movl	%eax, %ss
	lidt	idt_ptr
	movl	%edi, %eax
	shll	$4, %eax
	addl	$SEL_TSS, %eax
	ltr	%ax
	leal	1(%rdi), %eax
	imull	$TRAP_STACK_BYTES, %eax, %ecx
	leaq	trap_stacks(%rcx), %rsp
	imull	$STACK_BYTES, %eax, %ecx
	leaq	stacks(%rcx), %rcx
	pushq	$SEL_USER_DATA
	pushq	%rcx
	pushq	$USER_FLAGS
	pushq	$SEL_USER_CODE
	pushq	%rsi
	iretq

	/* Exceptions end here: nothing is expected, nothing is repaired. */
	.balign	16
traps:	.set	i, 0
	.rept	TRAPS
	.balign	16
	.if	!(i == 8 || (i >= 10 && i <= 14) || i == 17 || i == 21 || \
		  i == 29 || i == 30)
	pushq	$0				/* no error code */
	.endif
	pushq	$i
	jmp	trap
	.set	i, i + 1
	.endr

	/* cpu_halt() comes by a #GP too; all else goes on in ring 3 with
	 * rdi = what happened (trap_report() in main.c). */
trap:
	cmpq	$cpu_halt, 16(%rsp)
	je	halt
	movq	%cr2, %rax
	pushq	%rax
	movq	%rsp, %rdi
	leaq	-512(%rsp), %rax		/* same page, out of our way */
	andq	$-16, %rax
	pushq	$SEL_USER_DATA
	pushq	%rax
	pushq	$USER_FLAGS
	pushq	$SEL_USER_CODE
	pushq	$user_trap
	iretq

halt:	cli
1:	hlt
	jmp	1b

	/* Copied to TRAMPOLINE: only offsets from its start are right. */
	.code16
	.globl	ap_start, ap_end
ap_start:
	cli
	cld
	movw	%cs, %ax
	movw	%ax, %ds
	lgdtl	ap_gdt_ptr - ap_start
	movl	%cr0, %eax
	orl	$1, %eax
	movl	%eax, %cr0
	ljmpl	$SEL_CODE32, $AT(ap_entry)
ap_gdt_ptr:
	.word	gdt_end - gdt - 1
	.long	AT(gdt)
ap_end:

	.code32
ap_entry:
	movl	$SEL_DATA, %eax
	movl	%eax, %ds
	movl	%eax, %es
	movl	%eax, %ss
	movl	ap_index, %edi
	movl	$user_other, %esi
	jmp	long_mode

	/* Ring 3 from here on.  Nobody else runs yet: clear .bss, natively. */
	.text
	.code64
user_first:
	movl	$bss_start, %edi
	movl	$bss_end, %ecx
	subl	%edi, %ecx
	shrl	$3, %ecx
	xorl	%eax, %eax
	rep stosq
	movl	%ebx, %edi
	call	guest_main
	jmp	cpu_halt

user_other:
	call	guest_other
	jmp	cpu_halt

user_trap:
	call	trap_report

	/* void cpu_halt(void): this vCPU never runs again. */
	.globl	cpu_halt
cpu_halt:
	hlt

	/* The canary in the vector registers; C here never uses them.
	 * void regs_fill(const uint64_t v[REGISTER_WORDS], bool avx);
	 * void regs_read(uint64_t v[REGISTER_WORDS], bool avx);
	 * ymm0 to ymm15, four words each; without AVX only the low two. */
	.globl	regs_fill, regs_read
regs_fill:
	testl	%esi, %esi
	jz	1f
	.irp	n, 0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15
	vmovdqu	32 * \n(%rdi), %ymm\n
	.endr
	ret
1:	.irp	n, 0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15
	movdqu	32 * \n(%rdi), %xmm\n
	.endr
	ret

regs_read:
	testl	%esi, %esi
	jz	1f
	.irp	n, 0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15
	vmovdqu	%ymm\n, 32 * \n(%rdi)
	.endr
	ret
1:	.irp	n, 0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15
	movdqu	%xmm\n, 32 * \n(%rdi)
	.endr
	ret

	/* What a starting vCPU is; written by smp.c, read in ap_entry. */
	.data
	.balign	4
	.globl	ap_index
ap_index:
	.long	0

	.bss
	.balign	4096
trap_stacks:
	.skip	CPUS_MAX * TRAP_STACK_BYTES
stacks:	.skip	CPUS_MAX * STACK_BYTES
	.globl	trap_stacks

	.section .note.GNU-stack, "", @progbits
