/* SPDX-License-Identifier: MIT */
/*
 * What the engine asks of vhost-user devices: whether they can be moved, and
 * in postcopy that their backends wait for pages.  See <ferry/foreign.h>.
 *
 * A backend gets to know the memory when its driver's device is started, which
 * is behind listen(); its userfaultfd goes to the engine in the middle of that.
 * One that dies, and is started again, brings another one.
 *
 * Threads: the engine's; take and drop: as of the front-end's faults, gone.
 * Locks:   `lock`, inside of the front-end's.  Nothing waits under it.
 */
#include "vmm/vhost_device.h"

#include <ferry/foreign.h>

#include "vmm/vhost_priv.h"

/* ---- may it be moved? --------------------------------------------------- */

/* A state that is left behind would be a device that has forgotten things: who
 * has one is known to the engine since the beginning. */
static int can_leave(struct ferry_vhost_device *d, struct ferry_err *e)
{
	struct ferry_vhost_fe_info info = FERRY_VHOST_FE_INFO_INIT;

	ferry_vhost_fe_info(d->fe, &info);
	if (!info.state != !d->has_state)
		return ferry_err_set(e, FERRY_E_UNSUPPORTED, 0, "%s: the "
				     "backend at %s %s a state of its own "
				     "(DEVICE_STATE), the one before it was "
				     "otherwise: the VM cannot be migrated "
				     "while it has this device",
				     d->virtio.name, d->config.path,
				     info.state ? "has" : "has not");
	return ferry_vhost_fe_can(d->fe, FERRY_VHOST_FE_CAN_LOG, e);
}

/* It would come to a device that is away, from one that may be there. */
static int can_start(struct ferry_vhost_device *d, struct ferry_err *e)
{
	struct ferry_vhost_fe_info info = FERRY_VHOST_FE_INFO_INIT;

	ferry_vhost_fe_info(d->fe, &info);
	if (!info.connected)
		return ferry_err_set(e, FERRY_E_STATE, 0, "%s: its backend at "
				     "%s is away: start it again first",
				     d->virtio.name, d->config.path);
	return ferry_vhost_fe_can(d->fe, FERRY_VHOST_FE_CAN_START, e);
}

static int can(void *opaque, enum ferry_foreign_ability what,
	       struct ferry_err *e)
{
	struct ferry_vhost_devices *all = opaque;

	for (unsigned i = 0; i < all->count; i++) {
		struct ferry_vhost_device *d = &all->device[i];

		if (what == FERRY_FOREIGN_LOG ? can_leave(d, e) :
		    what == FERRY_FOREIGN_START ? can_start(d, e) :
		    ferry_vhost_fe_can(d->fe, FERRY_VHOST_FE_CAN_FAULT, e))
			return -1;
	}
	return 0;
}

/* ---- pages that backends wait for --------------------------------------- */

static void set_target(struct ferry_vhost_devices *all, struct ferry_target *t)
{
	pthread_mutex_lock(&all->lock);
	all->target = t;
	for (unsigned i = 0; i < all->count; i++)
		all->device[i].uffd = 0;
	pthread_mutex_unlock(&all->lock);
}

static int listen_all(void *opaque, struct ferry_target *t,
		      struct ferry_err *e)
{
	struct ferry_vhost_devices *all = opaque;

	set_target(all, t);
	for (unsigned i = 0; i < all->count; i++) {
		all->device[i].used = true;
		if (ferry_vhost_fe_postcopy_listen(all->device[i].fe, e))
			return -1;
	}
	return 0;
}

/* Not whole: their backends must not go on, and are not to be waited for. */
static void end_all(void *opaque, int whole)
{
	struct ferry_vhost_devices *all = opaque;

	for (unsigned i = 0; i < all->count; i++) {
		struct ferry_vhost_device *d = &all->device[i];
		struct ferry_err e = { 0 };

		if (!whole)
			ferry_vhost_fe_postcopy_abandon(d->fe);
		else if (ferry_vhost_fe_postcopy_end(d->fe, &e))
			all->say(all->opaque, e.msg);
	}
	set_target(all, NULL);
}

static void drop_locked(struct ferry_vhost_device *d)
{
	if (d->all->target && d->uffd)
		ferry_target_remove_uffd(d->all->target, d->uffd);
	d->uffd = 0;
}

/* What a backend left behind that did not get so far is dropped. */
static int take_locked(struct ferry_vhost_device *d, int uffd,
		       const struct ferry_uffd_range *range, size_t n,
		       struct ferry_err *e)
{
	int number;

	if (!d->all->target)
		return ferry_err_set(e, FERRY_E_STATE, 0, "%s: its backend "
				     "asks for pages, and no migration brings "
				     "any", d->virtio.name);
	drop_locked(d);
	number = ferry_target_add_uffd(d->all->target, uffd, d->virtio.name,
				       range, n, e);
	if (number < 0)
		return -1;
	d->uffd = number;
	return 0;
}

int ferry_vhost_faults_take(struct ferry_vhost_device *d, int uffd,
			    const struct ferry_vhost_fault_range *range,
			    size_t n, struct ferry_err *e)
{
	struct ferry_uffd_range r[FERRY_UFFD_RANGES_MAX];
	int rc;

	if (n > FERRY_UFFD_RANGES_MAX)
		return ferry_err_set(e, FERRY_E_INVALID, 0, "%s: %zu ranges "
				     "of memory", d->virtio.name, n);
	for (size_t i = 0; i < n; i++)
		r[i] = (struct ferry_uffd_range){
			range[i].addr, range[i].bytes, range[i].host };
	pthread_mutex_lock(&d->all->lock);
	rc = take_locked(d, uffd, r, n, e);
	pthread_mutex_unlock(&d->all->lock);
	return rc;
}

void ferry_vhost_faults_drop(struct ferry_vhost_device *d)
{
	pthread_mutex_lock(&d->all->lock);
	drop_locked(d);
	pthread_mutex_unlock(&d->all->lock);
}

int ferry_vhost_foreign_describe(struct ferry_vhost_devices *all,
				 struct ferry_vm *vm, struct ferry_err *e)
{
	struct ferry_foreign_ops ops = FERRY_FOREIGN_OPS_INIT;

	ops.can = can;
	ops.listen = listen_all;
	ops.end = end_all;
	return ferry_vm_set_foreign(vm, &ops, all, e);
}
