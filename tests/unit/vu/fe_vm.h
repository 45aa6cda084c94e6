/* SPDX-License-Identifier: MIT */
/*
 * A VM with one device, for tests of the front-end: the device's front-end is
 * ours, its backend one of ours, in this process or in a child that can be
 * killed; the guest's driver and memory are the rig's.
 */
#ifndef FERRY_TESTS_VU_FE_VM_H
#define FERRY_TESTS_VU_FE_VM_H

#include <stdatomic.h>

#include <ferry/vhost_fe.h>

#include "rig.h"

#define ENTRIES	64		/* of each ring */
#define PACKED	(1ull << 34)
#define STATE_BYTES	(300u << 10)

struct vm {
	struct rig	rig;
	struct ferry_vhost_fe *fe;
	struct ferry_vhost *backend;
	pid_t		child;
	char		path[64];
	uint64_t	features;
	uint32_t	request_ms;	/* for connect_fe(); 0: the default */
	uint64_t	state_bytes_max;	/* the same */
	/* What it heard of the device. */
	_Atomic unsigned gone, back, kept, changed;
	/* Postcopy; NULL: none. */
	int		(*faults)(void *opaque, int uffd,
				  const struct ferry_vhost_fault_range *range,
				  size_t n, struct ferry_err *e);
	void		*pages;		/* the test's */
};

/* What the backend in this process heard last. */
struct heard {
	_Atomic unsigned config, announced, mtu;
};

extern struct heard heard;
extern const struct ferry_vhost_ops echo;

void check(int rc, const struct ferry_err *e);
/* Until it is n. */
void await(_Atomic unsigned *what, unsigned n);

/* Memory and a path, no device. */
void new_vm(struct vm *m);
/* A backend in this process, that echoes. */
void make_backend_of(struct vm *m);
/* And a device with a backend in this process. */
void open_vm(struct vm *m, uint64_t features);
void close_vm(struct vm *m);
void connect_fe(struct vm *m, uint64_t features);

/*
 * A backend that can be killed: this program once more, from its beginning, as
 * there are threads by now, and a thread sanitizer wants none made in a fork.
 * main() calls be_the_backend() when it has an argument.
 */
void fork_backend(struct vm *m);
int be_the_backend(const char *path);
void kill_backend(struct vm *m);

struct ferry_vhost_region region_of(const struct vm *m);
/* Features, too. */
void give_memory(struct vm *m);
uint32_t first_base(const struct vm *m);
void start_queue(struct vm *m, unsigned i, uint32_t base);
int try_start(struct vm *m, unsigned i, uint32_t base, struct ferry_err *e);
/* All of it, so many queues. */
void start_vm(struct vm *m, unsigned queues);
/* There and back through queue i. */
void one_echo(struct vm *m, unsigned i);

#endif
