/* SPDX-License-Identifier: MIT */
/*
 * A target without a VM: it takes the shape of what comes.  What becomes of it
 * is target_keep.c's.
 *
 * Threads: the door, then the reader.
 */
#include "mig/target_impl.h"

#include <string.h>

#include "wire/ram.h"

static void lane_failed(void *target, const struct ferry_err *why)
{
	ferry_target_failed(target, why);
}

int ferry_adopt_init(struct ferry_target *t, struct ferry_err *e)
{
	const struct ferry_place_watch watch = {
		t->vm->adopt->wrote, t->vm->opaque,
	};
	struct ferry_lanes *l = &t->adopted.lanes;

	l->place = &t->in.place;
	l->failed = lane_failed;
	l->device = ferry_parts_packet;
	ferry_parts_init(t);
	l->arg = t;
	if (ferry_place_init_file(&t->in.place, &t->vm->mem, &t->in.map,
				  &watch, e))
		return -1;
	return ferry_lanes_init(l, t->vm->how.multifd, e);
}

void ferry_adopt_fini(struct ferry_target *t)
{
	ferry_preempt_stop(t);
	ferry_lanes_fini(&t->adopted.lanes);
	ferry_parts_fini(t);
}

/* ---- the shape of it ------------------------------------------------------------- */

/* The door. */
static int begin(struct ferry_target *t, const char *name,
		 enum ferry_dialect dialect, const uint8_t *uuid,
		 struct ferry_err *e)
{
	struct ferry_adoption *a = &t->adopted;

	pthread_mutex_lock(&t->lock);
	ferry_map_fini(&t->in.map);
	a->fitted = false;
	ferry_vm_adopt_name(t->vm, name);
	pthread_mutex_unlock(&t->lock);
	ferry_parts_forget(t);
	a->dialect = dialect;
	a->has_uuid = uuid != NULL;
	if (uuid)
		memcpy(a->uuid, uuid, sizeof(a->uuid));
	return t->vm->adopt->begin(t->vm->opaque, e);
}

static int take_block(struct ferry_target *t, const char *name, uint64_t bytes,
		      uint32_t page_bytes, uint64_t gpa, struct ferry_err *e)
{
	struct ferry_mem *mem = &t->vm->mem;
	struct ferry_mem_block *b;
	int rc;

	pthread_mutex_lock(&t->lock);
	rc = ferry_mem_add_file(mem, name, bytes, page_bytes, gpa, -1, 0, e);
	pthread_mutex_unlock(&t->lock);
	if (rc)
		return ferry_err_wrap(e, "the source");
	b = &mem->block[mem->blocks - 1];
	return t->vm->adopt->block(t->vm->opaque, b, &b->fd, &b->fd_offset, e);
}

/* All blocks are known: so is what is missing. */
static int fit(struct ferry_target *t, struct ferry_err *e)
{
	int rc;

	pthread_mutex_lock(&t->lock);
	rc = ferry_map_init(&t->in.map, &t->vm->mem, e);
	t->adopted.fitted = !rc;
	pthread_mutex_unlock(&t->lock);
	if (!rc)
		ferry_lanes_open(&t->adopted.lanes);
	return rc;
}

int ferry_adopt_qemu(struct ferry_target *t, const struct ferry_config *c,
		     struct ferry_err *e)
{
	if (c->capabilities)
		return ferry_err_set(e, FERRY_E_UNSUPPORTED, 0, "the source "
				     "has x-ignore-shared or mapped-ram set: "
				     "not all of its memory would come");
	return begin(t, c->machine, FERRY_DIALECT_QEMU,
		     c->has_uuid ? c->uuid : NULL, e);
}

int ferry_adopt_ferry(struct ferry_target *t, const struct ferry_hello *h,
		      struct ferry_err *e)
{
	if (begin(t, h->name, FERRY_DIALECT_FERRY, NULL, e))
		return -1;
	for (size_t i = 0; i < h->facts; i++)
		if (ferry_vm_adopt_fact(t->vm, h->fact[i].name, (enum
					ferry_fact_rule)h->fact[i].rule,
					h->fact[i].value, e))
			return -1;
	for (size_t i = 0; i < h->blocks; i++)
		if (take_block(t, h->block[i].name, h->block[i].bytes,
			       h->block[i].page_bytes, h->block[i].gpa, e))
			return -1;
	return fit(t, e);
}

/* ---- the RAM section of a QEMU; the reader ------------------------------------------ */

static int on_listed(void *target, const struct ferry_ramlist_block *lb,
		     struct ferry_err *e)
{
	struct ferry_target *t = target;

	if (t->dialect == FERRY_DIALECT_FERRY)
		return 0;
	if (!lb)
		return fit(t, e);
	return take_block(t, lb->name, lb->bytes, lb->page_bytes, lb->gpa, e);
}

/*
 * Where QEMU's channels come together: at MULTIFD_FLUSH, or, as there is none
 * in the first section, at each EOS.
 */
static int on_mark(void *target, uint32_t kind, struct ferry_err *e)
{
	uint32_t ms;
	struct ferry_target *t = target;
	struct ferry_adoption *a = &t->adopted;

	if (!t->vm->how.multifd || t->postcopy)
		return 0;
	if (kind == FERRY_RAM_MULTIFD_FLUSH)
		a->modern = true;
	else if (a->modern)
		return 0;
	else if (t->in.body.advised)
		return ferry_err_set(e, FERRY_E_UNSUPPORTED, 0, "a source "
				     "this old cannot have both multifd and "
				     "postcopy-ram set");
	ms = ferry_patience_ms(&t->params);
	return ferry_lanes_sync(&a->lanes, ms, e);
}

void ferry_adopt_hook(struct ferry_target *t)
{
	if (t->dialect != FERRY_DIALECT_QEMU)
		return;
	t->adopted.modern = false;
	t->in.body.gathers = true;
	t->in.body.hooks = (struct ferry_rambody_hooks){
		.adopt = on_listed, .mark = on_mark, .arg = t,
	};
}
