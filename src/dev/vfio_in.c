/* SPDX-License-Identifier: MIT */
/*
 * A VFIO device at the target.
 *
 *	load_begin	RUNNING -> RESUMING
 *	load_buffer	written as it comes
 *	load_end	-> STOP, where the driver checks what it was given
 *	PREPARE		-> RUNNING_P2P, where it can
 *	RUN		-> RUNNING
 *	CANCEL		reset: what has begun in RESUMING ends in no other way
 *
 * What is data is the driver's to check.  That all of it has come, and in
 * its place, is checked here.
 */
#include "dev/vfio.h"

#include <inttypes.h>

#include "dev/vfio_abi.h"
#include "dev/vfio_word.h"

int ferry_vfio_in_begin(void *opaque, struct ferry_bulk *in, uint32_t version,
			struct ferry_err *e)
{
	struct ferry_vfio *v = opaque;
	uint32_t now;

	(void)in;
	(void)version;
	v->role = FERRY_VFIO_IDLE;
	v->began = v->first = v->holds = v->ended = false;
	v->octets = 0;
	if (ferry_vfio_get(&v->port, &now, e))
		return -1;
	if (now != VFIO_DEVICE_STATE_RUNNING && now != VFIO_DEVICE_STATE_STOP)
		return ferry_err_set(e, FERRY_E_STATE, 0, "it is in VFIO "
				     "state %s, where no state can be loaded: "
				     "reset it", ferry_vfio_state_name(now));
	v->before = now;
	v->role = FERRY_VFIO_IN;
	return ferry_vfio_open(&v->port, VFIO_DEVICE_STATE_RESUMING, e);
}

static int hear(struct ferry_vfio *v, const struct ferry_vfio_word *w,
		struct ferry_err *e)
{
	if (v->began == (w->kind == FERRY_VFIO_WORD_BEGIN))
		return ferry_err_set(e, FERRY_E_PROTO, 0, "word %" PRIu32
				     " out of turn", w->kind);
	switch ((enum ferry_vfio_word_kind)w->kind) {
	case FERRY_VFIO_WORD_BEGIN:
		v->began = true;
		v->holds = w->value;
		return 0;
	case FERRY_VFIO_WORD_FIRST:
		v->first = true;
		return 0;
	case FERRY_VFIO_WORD_END:
		v->ended = true;
	}
	if (w->value == v->octets)
		return 0;
	return ferry_err_set(e, FERRY_E_PROTO, 0, "%" PRIu64 " octets of state "
			     "have come, and the source says %" PRIu64,
			     v->octets, w->value);
}

int ferry_vfio_in_buffer(void *opaque, struct ferry_bulk *in, uint64_t index,
			 unsigned flags, const void *data, size_t bytes,
			 struct ferry_err *e)
{
	struct ferry_vfio *v = opaque;
	struct ferry_vfio_word w;
	int rc;

	(void)index;
	if (v->ended)
		return ferry_err_set(e, FERRY_E_PROTO, 0, "more behind the "
				     "end of its state");
	if (flags & FERRY_BULK_CONFIG)
		return ferry_vfio_word_decode(data, bytes, &w, e) ||
		       hear(v, &w, e) ? -1 : 0;
	if (!v->began)
		return ferry_err_set(e, FERRY_E_PROTO, 0, "state before its "
				     "first word");
	v->octets += bytes;
	rc = ferry_vfio_write(&v->port, ferry_bulk_fd(in), data, bytes);
	return rc ? ferry_vfio_wrong(&v->port, "write its state", rc, e) : 0;
}

int ferry_vfio_in_ready(void *opaque)
{
	const struct ferry_vfio *v = opaque;

	return v->began && (!v->holds || v->first);
}

int ferry_vfio_in_end(void *opaque, struct ferry_bulk *in, struct ferry_err *e)
{
	struct ferry_vfio *v = opaque;

	(void)in;
	if (!v->ended)
		return ferry_err_set(e, FERRY_E_PROTO, 0, "its state ends "
				     "early, after %" PRIu64 " octets",
				     v->octets);
	return ferry_vfio_close(&v->port, VFIO_DEVICE_STATE_STOP, e);
}

int ferry_vfio_in_prepare(struct ferry_vfio *v, struct ferry_err *e)
{
	if (!ferry_vfio_can(v, VFIO_MIGRATION_P2P))
		return 0;
	return ferry_vfio_set(&v->port, VFIO_DEVICE_STATE_RUNNING_P2P, e);
}

int ferry_vfio_in_run(struct ferry_vfio *v, struct ferry_err *e)
{
	return ferry_vfio_set(&v->port, VFIO_DEVICE_STATE_RUNNING, e);
}

/* The next source finds it as this one did. */
int ferry_vfio_in_cancel(struct ferry_vfio *v, struct ferry_err *e)
{
	if (ferry_vfio_reset(&v->port, e))
		return -1;
	if (v->was_reset)
		v->was_reset(v->opaque);
	if (v->before == VFIO_DEVICE_STATE_RUNNING)
		return 0;
	return ferry_vfio_set(&v->port, v->before, e);
}
