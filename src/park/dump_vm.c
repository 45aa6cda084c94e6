/* SPDX-License-Identifier: MIT */
/*
 * What the streams of one migration say about its VM, as far as reading the
 * rest needs it.
 */
#include "park/dump_priv.h"

#include "wire/text.h"

void ferry_dump_vm_reset(struct ferry_dump_vm *vm)
{
	struct ferry_dump_block *block = vm->block;

	*vm = (struct ferry_dump_vm){ .block = block };
}

const struct ferry_dump_block *
ferry_dump_block_find(const struct ferry_dump_vm *vm, const char *name)
{
	for (uint32_t i = 0; i < vm->blocks; i++)
		if (!strcmp(vm->block[i].name, name))
			return &vm->block[i];
	return NULL;
}

int ferry_dump_block_known(const struct ferry_dump_vm *vm, const char *name,
			   const struct ferry_dump_block **b,
			   struct ferry_err *e)
{
	*b = ferry_dump_block_find(vm, name);
	if (*b || !vm->listed)
		return 0;
	return ferry_err_set(e, FERRY_E_PROTO, 0,
			     "memory block \"%s\" is not in the list",
			     FERRY_SHOW(name));
}

struct ferry_dump_iterable *ferry_dump_iterable_find(struct ferry_dump_vm *vm,
						     uint32_t id)
{
	for (uint32_t i = 0; i < vm->iterables; i++)
		if (vm->iterable[i].id == id)
			return &vm->iterable[i];
	return NULL;
}
