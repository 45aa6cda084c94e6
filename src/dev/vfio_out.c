/* SPDX-License-Identifier: MIT */
/*
 * A VFIO device at the source.
 *
 *	BEGIN		RUNNING -> PRE_COPY, where it can
 *	QUIESCE		-> PRE_COPY_P2P or RUNNING_P2P, where it can
 *	STOP		-> STOP_COPY (the transfer goes on) or STOP
 *	save		STOP -> STOP_COPY where nothing was open; read to the end
 *	END		-> STOP
 *	CANCEL		to where it stood before; behind QUIESCE only so far
 *			that it stands, for others may stand as well:
 *	PREPARE		-> RUNNING_P2P
 *	RUN		-> RUNNING
 */
#include "dev/vfio.h"

#include "dev/vfio_abi.h"
#include "dev/vfio_word.h"

#define AT_ONCE	16	/* reads in one iterate() */

/* ---- steps ---------------------------------------------------------------- */

static bool has_transfer(const struct ferry_vfio *v)
{
	return v->port.data_fd >= 0;
}

static int check_state(uint32_t state, struct ferry_err *e)
{
	if (state == VFIO_DEVICE_STATE_RUNNING ||
	    state == VFIO_DEVICE_STATE_RUNNING_P2P ||
	    state == VFIO_DEVICE_STATE_STOP)
		return 0;
	return ferry_err_set(e, FERRY_E_STATE, 0, "it is in VFIO state %s, "
			     "where no migration can begin: bring it to "
			     "RUNNING", ferry_vfio_state_name(state));
}

int ferry_vfio_out_begin(struct ferry_vfio *v, struct ferry_err *e)
{
	uint32_t now;

	v->role = FERRY_VFIO_IDLE;	/* nothing to bring back yet */
	v->began = v->first = v->stands = false;
	v->octets = 0;
	if (ferry_vfio_get(&v->port, &now, e) || check_state(now, e))
		return -1;
	v->role = FERRY_VFIO_OUT;
	v->before = now;
	if (now != VFIO_DEVICE_STATE_RUNNING ||
	    !ferry_vfio_can(v, VFIO_MIGRATION_PRE_COPY))
		return 0;
	return ferry_vfio_open(&v->port, VFIO_DEVICE_STATE_PRE_COPY, e);
}

int ferry_vfio_out_quiesce(struct ferry_vfio *v, struct ferry_err *e)
{
	v->stands = true;
	if (!ferry_vfio_can(v, VFIO_MIGRATION_P2P) ||
	    v->before != VFIO_DEVICE_STATE_RUNNING)
		return 0;
	return ferry_vfio_set(&v->port, has_transfer(v) ?
			      VFIO_DEVICE_STATE_PRE_COPY_P2P :
			      VFIO_DEVICE_STATE_RUNNING_P2P, e);
}

int ferry_vfio_out_stop(struct ferry_vfio *v, struct ferry_err *e)
{
	return ferry_vfio_set(&v->port, has_transfer(v) ?
			      VFIO_DEVICE_STATE_STOP_COPY :
			      VFIO_DEVICE_STATE_STOP, e);
}

/* The VM is the target's: whatever this says, the device stands. */
int ferry_vfio_out_end(struct ferry_vfio *v, struct ferry_err *e)
{
	return ferry_vfio_close(&v->port, VFIO_DEVICE_STATE_STOP, e);
}

static int settle(struct ferry_vfio *v, uint32_t state, struct ferry_err *e)
{
	bool was_reset = false;
	int rc = ferry_vfio_settle(&v->port, state, &was_reset, e);

	return was_reset ? ferry_vfio_lost(v, e) : rc;
}

/* Where it waits for PREPARE, others standing perhaps. */
static uint32_t still(const struct ferry_vfio *v)
{
	uint32_t now;

	if (ferry_vfio_get(&v->port, &now, NULL))
		return VFIO_DEVICE_STATE_STOP;
	switch (now) {
	case VFIO_DEVICE_STATE_RUNNING:
	case VFIO_DEVICE_STATE_PRE_COPY:
		return VFIO_DEVICE_STATE_RUNNING;
	case VFIO_DEVICE_STATE_RUNNING_P2P:
	case VFIO_DEVICE_STATE_PRE_COPY_P2P:
		return VFIO_DEVICE_STATE_RUNNING_P2P;
	default:
		return VFIO_DEVICE_STATE_STOP;
	}
}

int ferry_vfio_out_cancel(struct ferry_vfio *v, struct ferry_err *e)
{
	return settle(v, v->stands ? still(v) : v->before, e);
}

int ferry_vfio_out_prepare(struct ferry_vfio *v, struct ferry_err *e)
{
	if (!ferry_vfio_can(v, VFIO_MIGRATION_P2P) ||
	    v->before != VFIO_DEVICE_STATE_RUNNING)
		return 0;
	return settle(v, VFIO_DEVICE_STATE_RUNNING_P2P, e);
}

int ferry_vfio_out_run(struct ferry_vfio *v, struct ferry_err *e)
{
	return settle(v, v->before, e);
}

/* ---- data ----------------------------------------------------------------- */

int ferry_vfio_out_pending(void *opaque, struct ferry_bulk_pending *p,
			   struct ferry_err *e)
{
	const struct ferry_vfio *v = opaque;
	struct ferry_vfio_left left;

	(void)e;
	(void)!ferry_vfio_left(&v->port, &left);
	p->initial_bytes = left.initial_bytes;
	p->dirty_bytes = left.dirty_bytes;
	p->stop_bytes = left.stop_bytes;
	return 0;
}

static int say(struct ferry_bulk *out, uint32_t kind, uint64_t value,
	       unsigned flags, struct ferry_err *e)
{
	const struct ferry_vfio_word w = { .kind = kind, .value = value };
	uint8_t octets[FERRY_VFIO_WORD_WIRE];
	struct ferry_wr wr = ferry_wr_over(octets, sizeof(octets));

	ferry_vfio_word_encode(&wr, &w);
	return ferry_bulk_write(out, octets, sizeof(octets),
				FERRY_BULK_CONFIG | flags, e);
}

static int say_begin(struct ferry_vfio *v, struct ferry_bulk *out,
		     struct ferry_err *e)
{
	if (v->began)
		return 0;
	v->began = true;
	return say(out, FERRY_VFIO_WORD_BEGIN, has_transfer(v), 0, e);
}

static int say_first(struct ferry_vfio *v, struct ferry_bulk *out,
		     struct ferry_err *e)
{
	if (v->first)
		return 0;
	v->first = true;
	return say(out, FERRY_VFIO_WORD_FIRST, 0, FERRY_BULK_INITIAL, e);
}

/* *n: as ferry_vfio_read() has it. */
static int hand_on(struct ferry_vfio *v, struct ferry_bulk *out, uint32_t ms,
		   ssize_t *n, struct ferry_err *e)
{
	*n = ferry_vfio_read(&v->port, ferry_bulk_fd(out), ms, v->chunk,
			     v->chunk_bytes);
	if (*n <= 0)
		return 0;
	v->octets += (uint64_t)*n;
	return ferry_bulk_write(out, v->chunk, (size_t)*n, 0, e);
}

/* Has what is needed first been read? */
static int look_for_first(struct ferry_vfio *v, struct ferry_bulk *out,
			  struct ferry_err *e)
{
	struct ferry_vfio_left left;

	if (v->first || ferry_vfio_left(&v->port, &left) || left.initial_bytes)
		return 0;
	return say_first(v, out, e);
}

/* What read() says instead of octets while the VM runs. */
static int stop_reading(struct ferry_vfio *v, struct ferry_bulk *out,
			ssize_t n, struct ferry_err *e)
{
	switch (n) {
	case -ENOMSG:
		return say_first(v, out, e);
	case 0:
	case -ETIMEDOUT:
	case -ECANCELED:
		return 0;
	default:
		return ferry_vfio_wrong(&v->port, "read its state", (int)n, e);
	}
}

int ferry_vfio_out_iterate(void *opaque, struct ferry_bulk *out,
			   struct ferry_err *e)
{
	struct ferry_vfio *v = opaque;
	ssize_t n;

	if (say_begin(v, out, e))
		return -1;
	if (!has_transfer(v))
		return 0;
	for (unsigned i = 0; i < AT_ONCE; i++) {
		if (hand_on(v, out, 0, &n, e))
			return -1;
		if (n <= 0)
			return stop_reading(v, out, n, e);
		if (look_for_first(v, out, e))
			return -1;
	}
	return 1;
}

int ferry_vfio_out_save(void *opaque, struct ferry_bulk *out,
			struct ferry_err *e)
{
	struct ferry_vfio *v = opaque;
	ssize_t n;

	if (say_begin(v, out, e))
		return -1;
	if (!has_transfer(v) &&
	    ferry_vfio_open(&v->port, VFIO_DEVICE_STATE_STOP_COPY, e))
		return -1;
	do {
		if (hand_on(v, out, v->port.silent_ms, &n, e))
			return -1;
	} while (n > 0);
	if (n)
		return ferry_vfio_wrong(&v->port, "read its state", (int)n, e);
	return say(out, FERRY_VFIO_WORD_END, v->octets, 0, e);
}
