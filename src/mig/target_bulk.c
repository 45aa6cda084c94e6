/* SPDX-License-Identifier: MIT */
/*
 * Bulk devices at the target: what comes for them goes to them, and what they
 * have to say goes to the source.
 *
 * Threads: as target_impl.h says; ops by the devices' threads.
 */
#include "mig/target_impl.h"

static int grant(void *arg, uint32_t device, uint64_t limit,
		 struct ferry_err *e)
{
	struct ferry_target *t = arg;

	return ferry_answer_bulk(&t->in.answer, FERRY_RP_BULK_CREDIT, device,
				 limit, e);
}

static int ready(void *arg, uint32_t device, struct ferry_err *e)
{
	struct ferry_target *t = arg;

	return ferry_answer_bulk(&t->in.answer, FERRY_RP_BULK_READY, device, 0,
				 e);
}

static int loaded(void *arg, uint32_t device, uint64_t busy_ns,
		  struct ferry_err *e)
{
	struct ferry_target *t = arg;

	if (ferry_answer_bulk(&t->in.answer, FERRY_RP_BULK_LOADED, device,
			      busy_ns, e))
		return -1;
	ferry_status_event(&t->status, FERRY_EVENT_BULK, 0,
			   t->bulk.loader[device].dev->name);
	return 0;
}

static void failed(void *arg, const struct ferry_err *why)
{
	ferry_target_failed(arg, why);
}

static int room(void *arg, const struct ferry_bulk_packet *p, uint8_t **at,
		struct ferry_err *e)
{
	struct ferry_target *t = arg;

	return ferry_bulk_in_room(&t->bulk, p, at, e);
}

static void put(void *arg, const struct ferry_bulk_packet *p)
{
	struct ferry_target *t = arg;

	ferry_bulk_in_put(&t->bulk, p);
}

void ferry_target_bulk_init(struct ferry_target *t)
{
	static const struct ferry_bulk_in_ops ops = {
		grant, ready, loaded, failed,
	};

	ferry_bulk_in_init(&t->bulk, &t->vm->bulk, &ops, t);
	t->sink = (struct ferry_device_sink){ t, room, put };
}

int ferry_target_bulk_expect(struct ferry_target *t,
			     const struct ferry_hello *h, struct ferry_err *e)
{
	for (size_t i = 0; i < h->bulks; i++)
		if (ferry_bulk_in_add(&t->bulk, h->bulk[i].name,
				      h->bulk[i].instance, h->bulk[i].version,
				      e))
			return -1;
	return 0;
}

int ferry_target_bulk(struct ferry_target *t, unsigned index,
		      struct ferry_bulk_stats *out)
{
	return ferry_bulk_in_stats(&t->bulk, index, out);
}
