/* SPDX-License-Identifier: MIT */
/* See tiny.h. */
#include "tiny.h"

#include <fcntl.h>

#include "base/clock.h"
#include "base/thread.h"
#include "pvh_elf.h"

#define PATIENCE_NS	(60 * FERRY_NS_PER_S)

__asm__(
".pushsection .rodata\n"
".code32\n"
".macro say c\n"
"	movl	$0x3f8, %edx\n"
"	movb	$\\c, %al\n"
"	outb	%al, %dx\n"
".endm\n"
".macro power_off\n"
"	movl	$0x604, %edx\n"
"	movl	$0x2000, %eax\n"
"	outw	%ax, %dx\n"
"77:	hlt\n"
"	jmp	77b\n"
".endm\n"

"tiny_hello:\n"
"	say	'h'\n"
"	say	'i'\n"
"	power_off\n"
"tiny_hello_end:\n"

"tiny_resetter:\n"
"	say	'r'\n"
"	movl	$0x3ff, %edx\n"		/* leaves traces to be wiped */
"	movb	$0x5a, %al\n"
"	outb	%al, %dx\n"
"	movl	$0x175, %ecx\n"
"	movl	$0x7777, %eax\n"
"	xorl	%edx, %edx\n"
"	wrmsr\n"
"	movl	%eax, %dr0\n"
"	movb	$0x20, %al\n"
"	outb	%al, $0x21\n"
"	movl	$0xcf9, %edx\n"
"	movb	$6, %al\n"
"	outb	%al, %dx\n"
"	say	'?'\n"			/* goes on after its reset */
"	hlt\n"
"tiny_resetter_end:\n"

"tiny_faulter:\n"
"	ud2\n"				/* without an IDT */
"tiny_faulter_end:\n"

"tiny_counter:\n"
"	xorl	%ebx, %ebx\n"
"	movl	%ebx, 0x200000\n"
"	movl	%ebx, 0x201000\n"
"1:	cmpl	%ebx, 0x200000\n"
"	jne	2f\n"
"	incl	%ebx\n"
"	movl	%ebx, 0x200000\n"
"	testb	$0x1f, %bl\n"
"	jnz	3f\n"
"	outb	%al, $0xfe\n"
"3:	movb	$0, %al\n"		/* an input that is cut off leaves this */
"	inb	$0xfe, %al\n"
"	cmpb	$0xff, %al\n"
"	jne	2f\n"
"	cmpl	$0, 0x201000\n"
"	je	1b\n"
"	say	'D'\n"
"	power_off\n"
"2:	say	'X'\n"
"	power_off\n"
"tiny_counter_end:\n"

"tiny_echo:\n"
"	movl	$0x3fd, %edx\n"
"1:	inb	%dx, %al\n"
"	testb	$1, %al\n"
"	jz	1b\n"
"	movl	$0x3f8, %edx\n"
"	inb	%dx, %al\n"
"	incb	%al\n"
"	outb	%al, %dx\n"
"	jmp	tiny_echo\n"
"tiny_echo_end:\n"

".purgem say\n"
".purgem power_off\n"
".code64\n"
".popsection\n"
);

extern const uint8_t tiny_hello[], tiny_hello_end[];
extern const uint8_t tiny_resetter[], tiny_resetter_end[];
extern const uint8_t tiny_faulter[], tiny_faulter_end[];
extern const uint8_t tiny_counter[], tiny_counter_end[];
extern const uint8_t tiny_echo[], tiny_echo_end[];

static const struct {
	const uint8_t *code, *end;
} guests[] = {
	[TINY_HELLO]	= { tiny_hello, tiny_hello_end },
	[TINY_RESETTER]	= { tiny_resetter, tiny_resetter_end },
	[TINY_FAULTER]	= { tiny_faulter, tiny_faulter_end },
	[TINY_COUNTER]	= { tiny_counter, tiny_counter_end },
	[TINY_ECHO]	= { tiny_echo, tiny_echo_end },
};

void tiny_require_kvm(void)
{
	FERRY_AUTO_FD fd = open("/dev/kvm", O_RDWR | O_CLOEXEC);

	if (fd >= 0)
		return;
	printf("skipped: /dev/kvm: %s\n", strerror(errno));
	exit(77);
}

static void tell(struct tiny_vm *t, unsigned *counter)
{
	pthread_mutex_lock(&t->lock);
	++*counter;
	pthread_cond_signal(&t->told);
	pthread_mutex_unlock(&t->lock);
}

static void on_shutdown(void *opaque)
{
	tell(opaque, &((struct tiny_vm *)opaque)->shutdowns);
}

static void on_reset(void *opaque)
{
	tell(opaque, &((struct tiny_vm *)opaque)->resets);
}

static void on_panic(void *opaque, const char *text)
{
	struct tiny_vm *t = opaque;

	pthread_mutex_lock(&t->lock);
	snprintf(t->panic, sizeof(t->panic), "%s", text);
	pthread_mutex_unlock(&t->lock);
	tell(t, &t->panics);
}

static struct tiny_vm *make(const char *kernel, unsigned vcpus)
{
	struct tiny_vm *t = calloc(1, sizeof(*t));
	char where[80];
	struct ferry_err e;
	int fd;

	pthread_mutex_init(&t->lock, NULL);
	ferry_cond_init(&t->told);
	strcpy(t->serial, "/tmp/ferry-tiny-XXXXXX");
	fd = mkstemp(t->serial);
	assert_true(fd >= 0);
	close(fd);
	snprintf(where, sizeof(where), "file:%s", t->serial);
	t->config = (struct ferry_machine_config){
		.name = "tiny", .vcpus = vcpus, .ram_bytes = TINY_RAM_BYTES,
		.kernel = kernel, .serial = where,
		.on_shutdown = on_shutdown, .on_reset = on_reset,
		.on_panic = on_panic, .opaque = t,
	};
	t->m = ferry_machine_new(&t->config, &e);
	if (!t->m)
		fail_msg("%s", e.msg);
	t->config.kernel = t->config.serial = NULL;
	t->vm = fake_vm_new();
	assert_ok(ferry_machine_describe(t->m, t->vm, &e));
	return t;
}

struct tiny_vm *tiny_new(enum tiny guest, unsigned vcpus)
{
	struct pvh_elf k;
	struct tiny_vm *t;
	char path[32];
	int fd;

	pvh_elf_init(&k, guests[guest].code,
		     (size_t)(guests[guest].end - guests[guest].code));
	fd = memory_file(&k, sizeof(k), path);
	t = make(path, vcpus);
	close(fd);	/* the machine has opened it for itself */
	return t;
}

struct tiny_vm *tiny_new_empty(const struct tiny_vm *like)
{
	return make(NULL, like->config.vcpus);
}

void tiny_free(struct tiny_vm *t)
{
	ferry_machine_free(t->m);
	fake_vm_free(t->vm);
	unlink(t->serial);
	pthread_cond_destroy(&t->told);
	pthread_mutex_destroy(&t->lock);
	free(t);
}

void tiny_run(struct tiny_vm *t)
{
	struct ferry_err e;

	assert_ok(ferry_machine_run(t->m, &e));
	assert_true(ferry_machine_running(t->m));
}

void tiny_wait(struct tiny_vm *t, const unsigned *counter, unsigned n)
{
	uint64_t end = ferry_now_ns() + PATIENCE_NS;
	bool came = true;

	pthread_mutex_lock(&t->lock);
	while (*counter < n && came)
		came = ferry_cond_wait_until(&t->told, &t->lock, end);
	came = *counter == n;
	pthread_mutex_unlock(&t->lock);
	if (!came)
		fail_msg("%u of %u events came; %s", *counter, n, t->panic);
}

static uint32_t *word(const struct tiny_vm *t, uint32_t gpa)
{
	return (uint32_t *)((char *)t->vm->block.addr + gpa);
}

uint32_t tiny_count(const struct tiny_vm *t)
{
	return __atomic_load_n(word(t, TINY_COUNT_GPA), __ATOMIC_RELAXED);
}

void tiny_wait_count(const struct tiny_vm *t, uint32_t at_least)
{
	uint64_t end = ferry_now_ns() + PATIENCE_NS;

	while (tiny_count(t) < at_least) {
		if (ferry_now_ns() > end)
			fail_msg("stuck at %u; %s", tiny_count(t), t->panic);
		usleep(500);
	}
}

void tiny_end(const struct tiny_vm *t)
{
	__atomic_store_n(word(t, TINY_END_GPA), 1, __ATOMIC_RELAXED);
}

void tiny_expect_output(struct tiny_vm *t, const char *text)
{
	char buf[128] = "";
	FILE *f;

	ferry_machine_free(t->m);
	t->m = NULL;
	f = fopen(t->serial, "re");
	assert_non_null(f);
	if (!fgets(buf, sizeof(buf), f))
		buf[0] = '\0';
	fclose(f);
	assert_string_equal(buf, text);
}
