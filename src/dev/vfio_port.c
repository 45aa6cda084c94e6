/* SPDX-License-Identifier: MIT */
/*
 * What a VFIO device can, and the states that it is moved through.
 *
 *	RUNNING -- PRE_COPY		with PRE_COPY: a transfer is open in
 *	   |          |			the right column and in STOP_COPY
 *	RUNNING_P2P - PRE_COPY_P2P	with P2P
 *	   |          |
 *	  STOP ---- STOP_COPY
 *	   |
 *	RESUMING			a transfer the other way
 *
 * The kernel takes ways of several steps by itself.  A change that fails may
 * leave the device anywhere on its way, or in ERROR, which only a reset ends.
 */
#include "dev/vfio_port.h"

#include <assert.h>
#include <inttypes.h>
#include <string.h>

#include "base/cleanup.h"
#include "dev/vfio_abi.h"

#define HEAD_BYTES	sizeof(struct vfio_device_feature)
#define DATA_BYTES_MAX	32u	/* of the features that are used here */

int ferry_vfio_feature(const struct ferry_vfio_port *p, uint32_t flags,
		       void *data, size_t bytes)
{
	_Alignas(8) uint8_t all[HEAD_BYTES + DATA_BYTES_MAX] = { 0 };
	struct vfio_device_feature head = {
		.argsz = (uint32_t)(HEAD_BYTES + bytes), .flags = flags,
	};
	int rc;

	assert(bytes <= DATA_BYTES_MAX);
	memcpy(all, &head, HEAD_BYTES);
	if (bytes)
		memcpy(all + HEAD_BYTES, data, bytes);
	rc = p->sys->ioctl(p->sys_arg, p->fd, VFIO_DEVICE_FEATURE, all);
	if (rc < 0)
		return rc;
	if (bytes)
		memcpy(data, all + HEAD_BYTES, bytes);
	return 0;
}

static bool has_feature(const struct ferry_vfio_port *p, uint32_t how)
{
	return !ferry_vfio_feature(p, VFIO_DEVICE_FEATURE_PROBE | how, NULL,
				   0);
}

int ferry_vfio_port_init(struct ferry_vfio_port *p, struct ferry_err *e)
{
	struct vfio_device_feature_migration m = { 0 };
	int rc;

	p->data_fd = -1;
	if (!has_feature(p, VFIO_DEVICE_FEATURE_GET |
			    VFIO_DEVICE_FEATURE_SET |
			    VFIO_DEVICE_FEATURE_MIG_DEVICE_STATE))
		return ferry_err_set(e, FERRY_E_UNSUPPORTED, 0, "its kernel "
				     "driver cannot migrate it: one of its "
				     "vendor's may, such as mlx5_vfio_pci");
	rc = ferry_vfio_feature(p, VFIO_DEVICE_FEATURE_GET |
				   VFIO_DEVICE_FEATURE_MIGRATION, &m,
				sizeof(m));
	if (rc)
		return ferry_err_set(e, FERRY_E_UNSUPPORTED, -rc,
				     "ask what its driver can");
	if (!(m.flags & VFIO_MIGRATION_STOP_COPY))
		return ferry_err_set(e, FERRY_E_UNSUPPORTED, 0, "its driver "
				     "has no STOP_COPY (flags 0x%" PRIx64 ")",
				     (uint64_t)m.flags);
	p->can = m.flags;
	p->tells_size = has_feature(p, VFIO_DEVICE_FEATURE_GET |
				       VFIO_DEVICE_FEATURE_MIG_DATA_SIZE);
	p->logs_dma = has_feature(p, VFIO_DEVICE_FEATURE_SET |
				     VFIO_DEVICE_FEATURE_DMA_LOGGING_START);
	return 0;
}

static void drop_data(struct ferry_vfio_port *p)
{
	if (p->data_fd >= 0)
		p->sys->close(p->sys_arg, p->data_fd);
	p->data_fd = -1;
}

void ferry_vfio_port_fini(struct ferry_vfio_port *p)
{
	drop_data(p);
}

/* ---- states --------------------------------------------------------------- */

const char *ferry_vfio_state_name(uint32_t state)
{
	static const char *const name[] = {
		[VFIO_DEVICE_STATE_ERROR] = "ERROR",
		[VFIO_DEVICE_STATE_STOP] = "STOP",
		[VFIO_DEVICE_STATE_RUNNING] = "RUNNING",
		[VFIO_DEVICE_STATE_STOP_COPY] = "STOP_COPY",
		[VFIO_DEVICE_STATE_RESUMING] = "RESUMING",
		[VFIO_DEVICE_STATE_RUNNING_P2P] = "RUNNING_P2P",
		[VFIO_DEVICE_STATE_PRE_COPY] = "PRE_COPY",
		[VFIO_DEVICE_STATE_PRE_COPY_P2P] = "PRE_COPY_P2P",
	};

	return state < FERRY_LEN(name) ? name[state] : "a state unknown here";
}

static int get(const struct ferry_vfio_port *p, uint32_t *state)
{
	struct vfio_device_feature_mig_state s = { .data_fd = -1 };
	int rc = ferry_vfio_feature(p, VFIO_DEVICE_FEATURE_GET |
				       VFIO_DEVICE_FEATURE_MIG_DEVICE_STATE,
				    &s, sizeof(s));

	*state = rc ? VFIO_DEVICE_STATE_ERROR : s.device_state;
	return rc;
}

int ferry_vfio_get(const struct ferry_vfio_port *p, uint32_t *state,
		   struct ferry_err *e)
{
	int rc = get(p, state);

	return rc ? ferry_err_set(e, FERRY_E_DEVICE, -rc,
				  "ask for its VFIO state") : 0;
}

static int set(struct ferry_vfio_port *p, uint32_t state)
{
	struct vfio_device_feature_mig_state s = {
		.device_state = state, .data_fd = -1,
	};
	int rc = ferry_vfio_feature(p, VFIO_DEVICE_FEATURE_SET |
				       VFIO_DEVICE_FEATURE_MIG_DEVICE_STATE,
				    &s, sizeof(s));

	if (rc || s.data_fd < 0)
		return rc;
	drop_data(p);
	p->data_fd = s.data_fd;
	return 0;
}

int ferry_vfio_set(struct ferry_vfio_port *p, uint32_t state,
		   struct ferry_err *e)
{
	int rc = set(p, state);
	uint32_t now;

	if (!rc)
		return 0;
	(void)!get(p, &now);
	return ferry_err_set(e, FERRY_E_DEVICE, -rc, "bring it to VFIO state "
			     "%s (it is in %s)", ferry_vfio_state_name(state),
			     ferry_vfio_state_name(now));
}

int ferry_vfio_open(struct ferry_vfio_port *p, uint32_t state,
		    struct ferry_err *e)
{
	drop_data(p);
	if (ferry_vfio_set(p, state, e))
		return -1;
	if (p->data_fd < 0)
		return ferry_err_set(e, FERRY_E_DEVICE, 0, "its driver gave "
				     "no descriptor with VFIO state %s",
				     ferry_vfio_state_name(state));
	return 0;
}

int ferry_vfio_close(struct ferry_vfio_port *p, uint32_t state,
		     struct ferry_err *e)
{
	int rc = ferry_vfio_set(p, state, e);

	drop_data(p);
	return rc;
}

int ferry_vfio_reset(struct ferry_vfio_port *p, struct ferry_err *e)
{
	int rc = p->sys->ioctl(p->sys_arg, p->fd, VFIO_DEVICE_RESET, NULL);

	drop_data(p);
	return rc < 0 ? ferry_err_set(e, FERRY_E_DEVICE, -rc, "reset it") : 0;
}

static bool is_at(const struct ferry_vfio_port *p, uint32_t state)
{
	uint32_t now;

	return !get(p, &now) && now == state;
}

static bool is_running(const struct ferry_vfio_port *p)
{
	uint32_t now;

	if (get(p, &now))
		return false;
	return now == VFIO_DEVICE_STATE_RUNNING ||
	       now == VFIO_DEVICE_STATE_RUNNING_P2P ||
	       now == VFIO_DEVICE_STATE_PRE_COPY ||
	       now == VFIO_DEVICE_STATE_PRE_COPY_P2P;
}

int ferry_vfio_settle(struct ferry_vfio_port *p, uint32_t state,
		      bool *was_reset, struct ferry_err *e)
{
	bool there = is_at(p, state) || !set(p, state) ||
		     (!set(p, VFIO_DEVICE_STATE_STOP) && !set(p, state));

	drop_data(p);
	if (there)
		return 0;
	if (is_running(p))
		return ferry_err_set(e, FERRY_E_DEVICE, 0, "it runs, and "
				     "cannot be brought to VFIO state %s",
				     ferry_vfio_state_name(state));
	if (ferry_vfio_reset(p, e))
		return -1;
	*was_reset = true;
	return is_at(p, state) ? 0 : ferry_vfio_set(p, state, e);
}
