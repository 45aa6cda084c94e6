/* SPDX-License-Identifier: MIT */
/*
 * Filling a struct ferry_vm, with every argument checked once, here.
 */
#include "mig/vm.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "wire/section.h"

static int check_name(const char *what, const char *name, struct ferry_err *e)
{
	if (!name || !*name || strlen(name) > FERRY_NAME_MAX)
		return ferry_err_set(e, FERRY_E_INVALID, 0,
				     "%s name must have 1 to 255 octets",
				     what);
	return 0;
}

static int check_open(const struct ferry_vm *vm, struct ferry_err *e)
{
	if (vm->sealed)
		return ferry_err_set(e, FERRY_E_STATE, 0,
				     "VM %s: it was used by a migration and "
				     "cannot be changed any more", vm->name);
	return 0;
}

static int check_size(const char *what, uint32_t got, size_t least,
		      struct ferry_err *e)
{
	if (got < least)
		return ferry_err_set(e, FERRY_E_INVALID, 0,
				     "%s.size is %" PRIu32 ", not %zu: use "
				     "its _INIT macro", what, got, least);
	return 0;
}

static int check_ops(const struct ferry_vm_ops *ops, struct ferry_err *e)
{
	if (check_size("struct ferry_vm_ops", ops->size,
		       offsetof(struct ferry_vm_ops, run_until), e))
		return -1;
	if (!ops->stop || !ops->resume || !ops->start || !ops->throttle ||
	    !ops->running)
		return ferry_err_set(e, FERRY_E_INVALID, 0,
				     "struct ferry_vm_ops has an empty slot");
	return 0;
}

struct ferry_vm *ferry_vm_new(const char *name, const struct ferry_vm_ops *ops,
			      void *opaque, struct ferry_err *e)
{
	struct ferry_vm *vm;

	if (check_name("VM", name, e) || check_ops(ops, e))
		return NULL;

	vm = calloc(1, sizeof(*vm));
	if (!vm) {
		ferry_err_set(e, FERRY_E_NOMEM, errno, "VM %s", name);
		return NULL;
	}
	snprintf(vm->name, sizeof(vm->name), "%s", name);
	memcpy(&vm->ops, ops, ops->size < sizeof(*ops) ? ops->size :
	       sizeof(*ops));
	vm->opaque = opaque;
	return vm;
}

/* ---- a VM that adopts ---------------------------------------------------------- */

static int does_not_stop(void *opaque, struct ferry_err *e)
{
	(void)opaque;
	return ferry_err_set(e, FERRY_E_STATE, 0, "it does not run here");
}

static void does_nothing(void *opaque)
{
	(void)opaque;
}

static int does_not_start(void *opaque, int running, struct ferry_err *e)
{
	(void)running;
	return does_not_stop(opaque, e);
}

static void cannot_throttle(void *opaque, unsigned percent)
{
	(void)opaque;
	(void)percent;
}

static int never_runs(void *opaque)
{
	(void)opaque;
	return 0;
}

struct ferry_vm *ferry_vm_new_adopting(const struct ferry_adopt_ops *ops,
				       void *opaque,
				       const struct ferry_adopt_how *how,
				       struct ferry_err *e)
{
	static const struct ferry_vm_ops none = {
		.size = sizeof(none), .stop = does_not_stop,
		.resume = does_nothing, .start = does_not_start,
		.throttle = cannot_throttle, .running = never_runs,
	};
	struct ferry_vm *vm = ferry_vm_new("parked", &none, opaque, e);

	if (vm) {
		vm->adopt = ops;
		vm->how = *how;
		vm->sealed = true;	/* nothing of the embedder's */
	}
	return vm;
}

static void forget_facts(struct ferry_vm *vm)
{
	for (unsigned i = 0; i < vm->facts; i++)
		free(vm->fact[i].value);
	vm->facts = 0;
}

void ferry_vm_adopt_name(struct ferry_vm *vm, const char *name)
{
	forget_facts(vm);
	ferry_mem_fini(&vm->mem);
	snprintf(vm->name, sizeof(vm->name), "%s", name);
}

void ferry_vm_free(struct ferry_vm *vm)
{
	if (!vm)
		return;
	for (unsigned i = 0; i < vm->trackers; i++)
		vm->dirty[i]->ops->free(vm->dirty[i]);
	forget_facts(vm);
	ferry_registry_fini(&vm->devices);
	ferry_bulk_list_fini(&vm->bulk);
	ferry_mem_fini(&vm->mem);
	free(vm);
}

int ferry_vm_add_block(struct ferry_vm *vm, const struct ferry_block *b,
		       struct ferry_err *e)
{
	if (check_open(vm, e) ||
	    check_size("struct ferry_block", b->size, sizeof(*b), e) ||
	    check_name("block", b->name, e))
		return -1;
	return ferry_mem_add(&vm->mem, b->name, b->addr, b->bytes,
			     b->page_bytes, b->gpa, b->fd, b->fd_offset, e);
}

int ferry_vm_add_stored(struct ferry_vm *vm, const char *name, uint64_t bytes,
			uint32_t page_bytes, uint64_t gpa,
			const struct ferry_mem_store *store,
			struct ferry_err *e)
{
	return check_open(vm, e) ||
	       ferry_mem_add_stored(&vm->mem, name, bytes, page_bytes, gpa,
				    store, e) ? -1 : 0;
}

void ferry_vm_set_state(struct ferry_vm *vm, const void *state, size_t bytes)
{
	vm->state = state;
	vm->state_bytes = bytes;
}

static int add_tracker(struct ferry_vm *vm, struct ferry_dirty *d,
		       struct ferry_err *e)
{
	if (!d)
		return -1;
	if (vm->trackers == FERRY_VM_DIRTY_MAX - 1) {	/* one is ours */
		d->ops->free(d);
		return ferry_err_set(e, FERRY_E_INVALID, 0,
				     "VM %s: more than %d trackers", vm->name,
				     FERRY_VM_DIRTY_MAX - 1);
	}
	vm->dirty[vm->trackers++] = d;
	return 0;
}

int ferry_vm_track_kvm(struct ferry_vm *vm, int vm_fd,
		       const struct ferry_kvm_slot *slots, size_t n,
		       struct ferry_err *e)
{
	if (check_open(vm, e))
		return -1;
	for (size_t i = 0; i < n; i++)
		if (check_size("struct ferry_kvm_slot", slots[i].size,
			       sizeof(*slots), e))
			return -1;
	return add_tracker(vm, ferry_dirty_kvm(&vm->mem, vm_fd, slots, n, e),
			   e);
}

int ferry_vm_track_process(struct ferry_vm *vm, struct ferry_err *e)
{
	if (check_open(vm, e))
		return -1;
	return add_tracker(vm, ferry_dirty_process(&vm->mem, e), e);
}

int ferry_vm_track_log(struct ferry_vm *vm, const struct ferry_track_ops *ops,
		       void *opaque, struct ferry_err *e)
{
	if (check_open(vm, e) ||
	    check_size("struct ferry_track_ops", ops->size, sizeof(*ops), e))
		return -1;
	if (!ops->start || !ops->collect || !ops->stop)
		return ferry_err_set(e, FERRY_E_INVALID, 0, "VM %s: an empty "
				     "slot in the ops of a log", vm->name);
	return add_tracker(vm, ferry_dirty_log(ops, opaque, e), e);
}

void ferry_vm_mark_dirty(struct ferry_vm *vm, const void *addr, uint64_t bytes)
{
	struct ferry_dirty *told = atomic_load(&vm->told);

	if (told)
		ferry_dirty_told_mark(told, addr, bytes);
}

int ferry_vm_add_device(struct ferry_vm *vm, const char *name,
			uint32_t instance, uint32_t version,
			const struct ferry_device_ops *ops, void *opaque,
			struct ferry_err *e)
{
	if (check_open(vm, e) || check_name("device", name, e) ||
	    check_size("struct ferry_device_ops", ops->size, sizeof(*ops), e))
		return -1;
	if (strncmp(name, "ferry.", 6) == 0)
		return ferry_err_set(e, FERRY_E_INVALID, 0,
				     "device %s: names in ferry. are taken",
				     name);
	if (!ops->save || !ops->load)
		return ferry_err_set(e, FERRY_E_INVALID, 0,
				     "device %s: an empty slot in its ops",
				     name);
	if (vm->devices.devs == FERRY_SECTIONS_MAX - 1)	/* one is ours */
		return ferry_err_set(e, FERRY_E_INVALID, 0,
				     "device %s: more than %u devices", name,
				     FERRY_SECTIONS_MAX - 1);
	return ferry_registry_add(&vm->devices, name, instance, version, ops,
				  opaque, e);
}

static bool has_empty_slot(const struct ferry_bulk_ops *o)
{
	return !o->step || !o->pending || !o->iterate || !o->save ||
	       !o->load_begin || !o->load_buffer || !o->ready || !o->load_end;
}

int ferry_vm_add_bulk(struct ferry_vm *vm, const char *name, uint32_t instance,
		      uint32_t version, const struct ferry_bulk_ops *ops,
		      void *opaque, struct ferry_err *e)
{
	struct ferry_bulk_dev dev = {
		.instance = instance, .version = version, .opaque = opaque,
	};

	if (check_open(vm, e) || check_name("bulk device", name, e) ||
	    check_size("struct ferry_bulk_ops", ops->size, sizeof(*ops), e))
		return -1;
	if (strncmp(name, "ferry.", 6) == 0)
		return ferry_err_set(e, FERRY_E_INVALID, 0,
				     "bulk device %s: names in ferry. are "
				     "taken", name);
	if (has_empty_slot(ops))
		return ferry_err_set(e, FERRY_E_INVALID, 0,
				     "bulk device %s: an empty slot in its "
				     "ops", name);
	dev.ops = *ops;
	snprintf(dev.name, sizeof(dev.name), "%s", name);
	return ferry_bulk_list_add(&vm->bulk, &dev, e);
}

static int check_fact(const struct ferry_vm *vm, const char *name,
		      enum ferry_fact_rule rule, const char *value,
		      struct ferry_err *e)
{
	if (check_name("fact", name, e))
		return -1;
	if (strncmp(name, "ferry.", 6) == 0)
		return ferry_err_set(e, FERRY_E_INVALID, 0,
				     "fact %s: names in ferry. are taken",
				     name);
	if (rule != FERRY_FACT_EQUAL && rule != FERRY_FACT_SUBSET)
		return ferry_err_set(e, FERRY_E_INVALID, 0,
				     "fact %s: no rule %d", name, (int)rule);
	if (!value || strlen(value) > FERRY_FACT_BYTES_MAX)
		return ferry_err_set(e, FERRY_E_INVALID, 0,
				     "fact %s: value of more than %u octets",
				     name, FERRY_FACT_BYTES_MAX);
	if (vm->facts == FERRY_FACTS_MAX)
		return ferry_err_set(e, FERRY_E_INVALID, 0,
				     "fact %s: more than %u facts", name,
				     FERRY_FACTS_MAX);
	for (unsigned i = 0; i < vm->facts; i++)
		if (strcmp(vm->fact[i].name, name) == 0)
			return ferry_err_set(e, FERRY_E_INVALID, 0,
					     "fact %s is stated twice", name);
	return 0;
}

int ferry_vm_adopt_fact(struct ferry_vm *vm, const char *name,
			enum ferry_fact_rule rule, const char *value,
			struct ferry_err *e)
{
	struct ferry_fact_copy *f = &vm->fact[vm->facts];

	if (check_fact(vm, name, rule, value, e))
		return -1;
	f->value = strdup(value);
	if (!f->value)
		return ferry_err_set(e, FERRY_E_NOMEM, errno, "fact %s", name);
	snprintf(f->name, sizeof(f->name), "%s", name);
	f->rule = rule;
	vm->facts++;
	return 0;
}

int ferry_vm_add_fact(struct ferry_vm *vm, const char *name,
		      enum ferry_fact_rule rule, const char *value,
		      struct ferry_err *e)
{
	if (check_open(vm, e))
		return -1;
	return ferry_vm_adopt_fact(vm, name, rule, value, e);
}

/* The engine's own section: did the VM run? */
static int save_running(void *opaque, struct ferry_save *out,
			struct ferry_err *e)
{
	struct ferry_vm *vm = opaque;
	uint8_t running = vm->was_running;

	(void)e;
	ferry_save_bytes(out, &running, 1);
	return 0;
}

static int load_running(void *opaque, uint32_t version, const void *data,
			size_t bytes, struct ferry_err *e)
{
	struct ferry_vm *vm = opaque;
	const uint8_t *running = data;

	(void)version;
	if (bytes != 1 || *running > 1)
		return ferry_err_set(e, FERRY_E_PROTO, 0,
				     "neither running nor stopped");
	vm->was_running = *running;
	return 0;
}

static int add_own_device(struct ferry_vm *vm, struct ferry_err *e)
{
	static const struct ferry_device_ops ops = {
		.size = sizeof(ops),
		.save = save_running, .load = load_running,
	};

	return ferry_registry_add(&vm->devices, FERRY_RUN_SECTION_NAME, 0, 1,
				  &ops, vm, e);
}

/* The first loan: nothing may be added from now on, so that what was made
 * for the blocks (bitmaps) stays right. */
static int seal(struct ferry_vm *vm, struct ferry_err *e)
{
	struct ferry_dirty *told;

	if (vm->sealed)
		return 0;
	if (!vm->mem.blocks)
		return ferry_err_set(e, FERRY_E_INVALID, 0,
				     "VM %s has no memory", vm->name);
	told = ferry_dirty_told(&vm->mem, e);
	if (!told)
		return -1;
	if (add_own_device(vm, e)) {
		told->ops->free(told);
		return -1;
	}
	vm->dirty[vm->trackers++] = told;
	atomic_store(&vm->told, told);
	vm->sealed = true;
	return 0;
}

int ferry_vm_lend(struct ferry_vm *vm, struct ferry_err *e)
{
	bool free_before = false;

	if (!atomic_compare_exchange_strong(&vm->in_use, &free_before, true))
		return ferry_err_set(e, FERRY_E_STATE, 0,
				     "VM %s is part of a migration already",
				     vm->name);
	if (seal(vm, e)) {
		atomic_store(&vm->in_use, false);
		return -1;
	}
	return 0;
}

void ferry_vm_return(struct ferry_vm *vm)
{
	atomic_store(&vm->in_use, false);
}
