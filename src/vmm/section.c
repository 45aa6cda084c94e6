/* SPDX-License-Identifier: MIT */
/* See section.h. */
#include "vmm/section.h"

#include <stdlib.h>

#include "base/cleanup.h"

bool ferry_section_ill_sized(const struct ferry_rd *r, struct ferry_err *e)
{
	if (r->bad)
		ferry_err_set(e, FERRY_E_DEVICE, 0, "state is cut short");
	else if (ferry_rd_left(r))
		ferry_err_set(e, FERRY_E_DEVICE, 0,
			      "state is %zu octets too long",
			      ferry_rd_left(r));
	else
		return false;
	return true;
}

/* Into a buffer of the caller's that takes any section. */
static int save(const struct ferry_piece *p, struct ferry_wr *w,
		struct ferry_err *e)
{
	if (p->section->save(p->section, p->object, w, e))
		return -1;
	if (w->bad)
		return ferry_err_set(e, FERRY_E_DEVICE, 0,
				     "state is larger than %u octets",
				     FERRY_SECTION_BYTES_MAX);
	return 0;
}

static int engine_save(void *opaque, struct ferry_save *out,
		       struct ferry_err *e)
{
	const struct ferry_piece *p = opaque;
	FERRY_AUTO_FREE uint8_t *buf = malloc(FERRY_SECTION_BYTES_MAX);
	struct ferry_wr w;

	if (!buf)
		return ferry_err_set(e, FERRY_E_NOMEM, ENOMEM, "%s",
				     p->section->name);
	w = ferry_wr_over(buf, FERRY_SECTION_BYTES_MAX);
	if (save(p, &w, e))
		return ferry_err_wrap(e, "%s %u", p->section->name,
				      p->instance);
	ferry_save_bytes(out, buf, ferry_wr_used(&w));
	return 0;
}

static int engine_load(void *opaque, uint32_t version, const void *data,
		       size_t bytes, struct ferry_err *e)
{
	const struct ferry_piece *p = opaque;
	struct ferry_rd r = ferry_rd_over(data, bytes);

	if (version != p->section->version)
		return ferry_err_set(e, FERRY_E_MISMATCH, 0,
				     "%s %u: version %u, this monitor reads %u",
				     p->section->name, p->instance, version,
				     p->section->version);
	if (p->section->load(p->section, p->object, &r, e))
		return ferry_err_wrap(e, "%s %u", p->section->name,
				      p->instance);
	return 0;
}

int ferry_piece_register(struct ferry_piece *p, struct ferry_vm *vm,
			 struct ferry_err *e)
{
	struct ferry_device_ops ops = FERRY_DEVICE_OPS_INIT;

	ops.save = engine_save;
	ops.load = engine_load;
	return ferry_vm_add_device(vm, p->section->name, p->instance,
				   p->section->version, &ops, p, e);
}

int ferry_piece_snapshot(struct ferry_piece *p, struct ferry_err *e)
{
	FERRY_AUTO_FREE uint8_t *buf = malloc(FERRY_SECTION_BYTES_MAX);
	struct ferry_wr w;
	uint8_t *kept;

	if (!buf)
		return ferry_err_set(e, FERRY_E_NOMEM, ENOMEM, "%s",
				     p->section->name);
	w = ferry_wr_over(buf, FERRY_SECTION_BYTES_MAX);
	if (save(p, &w, e))
		return ferry_err_wrap(e, "%s %u at power-on",
				      p->section->name, p->instance);
	kept = realloc(buf, ferry_wr_used(&w) + 1);
	if (!kept)
		return ferry_err_set(e, FERRY_E_NOMEM, ENOMEM, "%s",
				     p->section->name);
	buf = NULL;
	ferry_piece_fini(p);
	p->power_on = kept;
	p->power_on_bytes = ferry_wr_used(&w);
	return 0;
}

int ferry_piece_restore(struct ferry_piece *p, struct ferry_err *e)
{
	struct ferry_rd r = ferry_rd_over(p->power_on, p->power_on_bytes);

	if (p->section->load(p->section, p->object, &r, e))
		return ferry_err_wrap(e, "%s %u to power-on",
				      p->section->name, p->instance);
	return 0;
}

void ferry_piece_fini(struct ferry_piece *p)
{
	free(p->power_on);
	p->power_on = NULL;
}
