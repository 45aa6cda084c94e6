/* SPDX-License-Identifier: MIT */
/*
 * Other processes that share the VM's memory, as the embedder speaks for them:
 * whether they can be migrated, and in postcopy when pages begin to be missing,
 * and when none is any more.
 */
#include "mig/foreign.h"

#include "mig/target_impl.h"

/* ---- the VM --------------------------------------------------------------- */

int ferry_vm_set_foreign(struct ferry_vm *vm,
			 const struct ferry_foreign_ops *ops, void *opaque,
			 struct ferry_err *e)
{
	if (vm->sealed || vm->foreign.set)
		return ferry_err_set(e, FERRY_E_STATE, 0,
				     "VM %s: what speaks for other processes"
				     " is set once, before its first migration",
				     vm->name);
	if (ops->size < sizeof(*ops) || !ops->can || !ops->listen || !ops->end)
		return ferry_err_set(e, FERRY_E_INVALID, 0,
				     "struct ferry_foreign_ops has an empty"
				     " slot, or no size");
	vm->foreign = (struct ferry_vm_foreign){ true, *ops, opaque };
	return 0;
}

int ferry_foreign_can(const struct ferry_vm *vm,
		      enum ferry_foreign_ability what, struct ferry_err *e)
{
	const struct ferry_vm_foreign *o = &vm->foreign;

	return o->set ? o->ops.can(o->opaque, what, e) : 0;
}

/* ---- their faults --------------------------------------------------------- */

static void say(void *arg, const char *name, const char *what)
{
	struct ferry_target *t = arg;

	ferry_log(&t->status.log, FERRY_LOG_WARN, "faults of %s: %s", name,
		  what);
}

int ferry_foreign_begin(struct ferry_target *t, struct ferry_err *e)
{
	struct ferry_foreign *o = &t->in.foreign;

	o->say = say;
	o->arg = t;
	return ferry_foreign_init(o, e);
}

int ferry_foreign_listen(struct ferry_target *t, struct ferry_err *e)
{
	const struct ferry_vm_foreign *o = &t->vm->foreign;

	ferry_foreign_open(&t->in.foreign);
	if (!o->set)
		return 0;
	atomic_store(&t->in.foreign_waits, true);
	if (o->ops.listen(o->opaque, t, e))
		return ferry_err_wrap(e, "postcopy");
	return 0;
}

void ferry_foreign_end(struct ferry_target *t, bool whole)
{
	const struct ferry_vm_foreign *o = &t->vm->foreign;

	if (atomic_exchange(&t->in.foreign_waits, false))
		o->ops.end(o->opaque, whole);
}

int ferry_target_add_uffd(struct ferry_target *t, int fd, const char *name,
			  const struct ferry_uffd_range *range, size_t n,
			  struct ferry_err *e)
{
	return ferry_foreign_add(&t->in.foreign, &t->vm->mem, fd, name, range,
				 n, e);
}

void ferry_target_remove_uffd(struct ferry_target *t, int number)
{
	ferry_foreign_remove(&t->in.foreign, number);
}
