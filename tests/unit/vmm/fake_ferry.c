/* SPDX-License-Identifier: MIT */
/* See fake_ferry.h. */
#include "fake_ferry.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct ferry_save {
	struct fake_state *to;
};

struct ferry_vm *fake_vm_new(void)
{
	return calloc(1, sizeof(struct ferry_vm));
}

void fake_vm_free(struct ferry_vm *vm)
{
	free(vm);
}

int ferry_vm_add_block(struct ferry_vm *vm, const struct ferry_block *block,
		       struct ferry_err *e)
{
	(void)e;
	vm->block = *block;
	return 0;
}

int ferry_vm_track_kvm(struct ferry_vm *vm, int vm_fd,
		       const struct ferry_kvm_slot *slots, size_t n,
		       struct ferry_err *e)
{
	(void)vm_fd;
	(void)e;
	memcpy(vm->slots, slots, n * sizeof(slots[0]));
	vm->slot_count = n;
	return 0;
}

void ferry_vm_mark_dirty(struct ferry_vm *vm, const void *addr, uint64_t bytes)
{
	(void)addr;
	vm->dirty_bytes += bytes;
}

int ferry_vm_add_device(struct ferry_vm *vm, const char *name,
			uint32_t instance, uint32_t version,
			const struct ferry_device_ops *ops, void *opaque,
			struct ferry_err *e)
{
	struct fake_device *d = &vm->device[vm->device_count++];

	(void)e;
	snprintf(d->name, sizeof(d->name), "%s", name);
	d->instance = instance;
	d->version = version;
	d->ops = *ops;
	d->opaque = opaque;
	return 0;
}

int ferry_vm_add_fact(struct ferry_vm *vm, const char *name,
		      enum ferry_fact_rule rule, const char *value,
		      struct ferry_err *e)
{
	struct fake_fact *f = &vm->fact[vm->fact_count++];

	(void)e;
	snprintf(f->name, sizeof(f->name), "%s", name);
	snprintf(f->value, sizeof(f->value), "%s", value);
	f->rule = rule;
	return 0;
}

void ferry_save_bytes(struct ferry_save *out, const void *data, size_t bytes)
{
	struct fake_state *s = out->to;

	s->data = realloc(s->data, s->bytes + bytes + 1);
	memcpy(s->data + s->bytes, data, bytes);
	s->bytes += bytes;
}

int fake_save(const struct fake_device *d, struct fake_state *s,
	      struct ferry_err *e)
{
	struct ferry_save out = { s };

	s->data = NULL;
	s->bytes = 0;
	return d->ops.save(d->opaque, &out, e);
}

int fake_load(const struct fake_device *d, const struct fake_state *s,
	      struct ferry_err *e)
{
	return d->ops.load(d->opaque, d->version, s->data, s->bytes, e);
}

const struct fake_device *fake_device(const struct ferry_vm *vm,
				      const char *name, uint32_t instance)
{
	for (size_t i = 0; i < vm->device_count; i++)
		if (!strcmp(vm->device[i].name, name) &&
		    vm->device[i].instance == instance)
			return &vm->device[i];
	return NULL;
}

const char *fake_fact(const struct ferry_vm *vm, const char *name)
{
	for (size_t i = 0; i < vm->fact_count; i++)
		if (!strcmp(vm->fact[i].name, name))
			return vm->fact[i].value;
	return NULL;
}

int fake_migrate(const struct ferry_vm *from, struct ferry_vm *to,
		 struct ferry_err *e)
{
	memcpy(to->block.addr, from->block.addr, from->block.bytes);
	for (size_t i = 0; i < from->device_count; i++) {
		const struct fake_device *d = &from->device[i];
		const struct fake_device *t = fake_device(to, d->name,
							  d->instance);
		struct fake_state s;
		int err;

		if (fake_save(d, &s, e))
			return -1;
		err = fake_load(t, &s, e);
		free(s.data);
		if (err)
			return -1;
	}
	return 0;
}
