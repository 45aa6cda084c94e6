/* SPDX-License-Identifier: MIT */
/*
 * What the target says of bulk devices, and what there is to be told of them.
 */
#include "dev/bulk_out.h"

#include <inttypes.h>

#include "base/clock.h"

static struct ferry_bulk_saver *saver_of(struct ferry_bulk_out *out,
					 uint32_t device, struct ferry_err *e)
{
	if (out->ops && device < out->list->devs)
		return &out->saver[device];
	ferry_err_set(e, FERRY_E_PROTO, 0, "the target speaks of bulk device %"
		      PRIu32 ", which there is not", device);
	return NULL;
}

static int refuse(const struct ferry_bulk_saver *s, const char *what,
		  struct ferry_err *e)
{
	return ferry_err_set(e, FERRY_E_PROTO, 0, "bulk device %s/%" PRIu32
			     ": the target %s", s->dev->name,
			     s->dev->instance, what);
}

static void unlock_changed(struct ferry_bulk_out *out)
{
	pthread_cond_broadcast(&out->changed);
	pthread_mutex_unlock(&out->lock);
	out->ops->changed(out->arg);
}

int ferry_bulk_out_credit(struct ferry_bulk_out *out, uint32_t device,
			  uint64_t limit, struct ferry_err *e)
{
	struct ferry_bulk_saver *s = saver_of(out, device, e);
	int rc = 0;

	if (!s)
		return -1;
	pthread_mutex_lock(&out->lock);
	if (limit < s->limit)
		rc = refuse(s, "takes back what it has granted", e);
	else
		s->limit = limit;
	pthread_cond_broadcast(&out->changed);
	pthread_mutex_unlock(&out->lock);
	return rc;
}

int ferry_bulk_out_ready(struct ferry_bulk_out *out, uint32_t device,
			 struct ferry_err *e)
{
	struct ferry_bulk_saver *s = saver_of(out, device, e);
	int rc = 0;

	if (!s)
		return -1;
	pthread_mutex_lock(&out->lock);
	if (s->stats.ready)
		rc = refuse(s, "is ready twice", e);
	s->stats.ready = 1;
	unlock_changed(out);
	return rc;
}

int ferry_bulk_out_loaded(struct ferry_bulk_out *out, uint32_t device,
			  uint64_t busy_ns, struct ferry_err *e)
{
	struct ferry_bulk_saver *s = saver_of(out, device, e);
	int rc = 0;

	if (!s)
		return -1;
	pthread_mutex_lock(&out->lock);
	if (s->stats.state != FERRY_BULK_STATE_SAVING &&
	    s->stats.state != FERRY_BULK_STATE_SAVED) {
		rc = refuse(s, "has loaded what was not saved", e);
	} else {
		s->stats.state = FERRY_BULK_STATE_LOADED;
		s->stats.load_ns = busy_ns;
		s->stats.path_ns = ferry_now_ns() - out->stopped_ns;
	}
	unlock_changed(out);
	return rc;
}

static uint64_t longest_ns(const struct ferry_bulk_out *out)
{
	uint64_t ns = 0;

	for (uint32_t i = 0; i < out->list->devs; i++)
		if (out->saver[i].stats.path_ns > ns)
			ns = out->saver[i].stats.path_ns;
	return ns;
}

int ferry_bulk_out_stats(struct ferry_bulk_out *out, unsigned index,
			 struct ferry_bulk_stats *s)
{
	struct ferry_bulk_stats all;

	if (!out->ops || index >= out->list->devs)
		return -1;
	pthread_mutex_lock(&out->lock);
	all = out->saver[index].stats;
	all.longest = all.path_ns && all.path_ns == longest_ns(out);
	pthread_mutex_unlock(&out->lock);
	ferry_bulk_name_stats(&out->list->dev[index], &all, s);
	return 0;
}
