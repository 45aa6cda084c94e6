/* SPDX-License-Identifier: MIT */
/*
 * Saving all devices into one piece, and loading them from it.  Each section
 * is a FULL section whose body opens with its size (docs/wire.md), so that
 * what nobody knows can be named.
 */
#include "dev/registry.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/cursor.h"
#include "wire/section.h"
#include "wire/text.h"

static int save_failed(const struct ferry_save *out, const char *name,
		       struct ferry_err *e)
{
	if (!out->failed)
		return 0;
	return ferry_err_set(e, FERRY_E_DEVICE, out->failed,
			     "save device %s: state of all devices is bounded "
			     "by %u MiB", name, FERRY_PACKAGE_BYTES_MAX >> 20);
}

static int save_one(const struct ferry_dev *d, uint32_t id,
		    struct ferry_save *out, struct ferry_err *e)
{
	struct ferry_section head = {
		.type = FERRY_SECTION_FULL, .id = id,
		.instance = d->instance, .version = d->version,
	};
	uint8_t octets[FERRY_SECTION_HEAD_MAX + FERRY_BODY_WIRE];
	struct ferry_wr w = ferry_wr_over(octets, sizeof(octets));
	size_t body_at;

	memcpy(head.name, d->name, sizeof(head.name));
	ferry_section_encode(&w, &head);
	ferry_body_encode(&w, 0);
	ferry_save_bytes(out, octets, ferry_wr_used(&w));
	body_at = out->bytes;

	if (d->ops.save(d->opaque, out, e))
		return ferry_err_wrap(e, "save device %s/%" PRIu32, d->name,
				      d->instance);
	if (save_failed(out, d->name, e))
		return -1;

	w = ferry_wr_over(out->data + body_at - FERRY_BODY_WIRE,
			  FERRY_BODY_WIRE);
	ferry_body_encode(&w, (uint32_t)(out->bytes - body_at));
	w = ferry_wr_over(octets, FERRY_FOOTER_WIRE);
	ferry_footer_encode(&w, id);
	ferry_save_bytes(out, octets, FERRY_FOOTER_WIRE);
	return save_failed(out, d->name, e);
}

int ferry_dev_save_all(const struct ferry_registry *r, uint32_t first_id,
		       struct ferry_save *out, struct ferry_err *e)
{
	for (uint32_t i = 0; i < r->devs; i++)
		if (save_one(&r->dev[i], first_id + i, out, e))
			return -1;
	return 0;
}

static int find(const struct ferry_registry *r,
		const struct ferry_section *head, uint32_t *index,
		struct ferry_err *e)
{
	for (uint32_t i = 0; i < r->devs; i++) {
		if (strcmp(r->dev[i].name, head->name) ||
		    r->dev[i].instance != head->instance)
			continue;
		if (head->version > r->dev[i].version)
			return ferry_err_set(e, FERRY_E_MISMATCH, 0,
					     "device %s/%" PRIu32 ": version %"
					     PRIu32 " is newer than the %"
					     PRIu32 " known here", head->name,
					     head->instance, head->version,
					     r->dev[i].version);
		*index = i;
		return 0;
	}
	return ferry_err_set(e, FERRY_E_MISMATCH, 0,
			     "device %s/%" PRIu32 ": there is none here",
			     FERRY_SHOW(head->name), head->instance);
}

/* The next section's head and body; the body is borrowed. */
static int next_section(struct ferry_rd *rd, struct ferry_section *head,
			struct ferry_rd *body, struct ferry_err *e)
{
	const uint8_t *at;
	uint32_t bytes = 0;
	int rc;

	rc = ferry_section_decode(rd, head, e);
	if (rc == FERRY_DECODE_DONE)
		rc = ferry_body_decode(rd, &bytes, e);
	if (rc == FERRY_DECODE_MORE)
		ferry_err_set(e, FERRY_E_PROTO, 0,
			      "device state ends inside a section");
	if (rc != FERRY_DECODE_DONE)
		return -1;
	if (head->type != FERRY_SECTION_FULL)
		return ferry_err_set(e, FERRY_E_PROTO, 0,
				     "device state: section %s is not FULL",
				     ferry_section_type_name(head->type));
	at = ferry_rd_bytes(rd, bytes);
	if (!at || ferry_footer_decode(rd, head->id, e) <= 0)
		return ferry_err_set(e, FERRY_E_PROTO, 0,
				     "device %s: section ends early or has "
				     "another's footer",
				     FERRY_SHOW(head->name));
	*body = ferry_rd_over(at, bytes);
	return 0;
}

static int load_one(const struct ferry_registry *r, struct ferry_rd *rd,
		    bool *seen, struct ferry_err *e)
{
	struct ferry_section head = { 0 };
	struct ferry_rd body = { 0 };
	const struct ferry_dev *d;
	uint32_t i = 0;

	if (next_section(rd, &head, &body, e) || find(r, &head, &i, e))
		return -1;
	d = &r->dev[i];
	if (seen[i])
		return ferry_err_set(e, FERRY_E_PROTO, 0,
				     "device %s/%" PRIu32 " was sent twice",
				     d->name, d->instance);
	seen[i] = true;
	if (d->ops.load(d->opaque, head.version, body.p,
			ferry_rd_left(&body), e))
		return ferry_err_wrap(e, "load device %s/%" PRIu32, d->name,
				      d->instance);
	return 0;
}

int ferry_dev_load_all(const struct ferry_registry *r, const uint8_t *data,
		       size_t bytes, struct ferry_err *e)
{
	FERRY_AUTO_FREE bool *seen = calloc(r->devs ? r->devs : 1,
					    sizeof(*seen));
	struct ferry_rd rd = ferry_rd_over(data, bytes);

	if (!seen)
		return ferry_err_set(e, FERRY_E_NOMEM, errno, "device state");
	while (ferry_rd_left(&rd))
		if (load_one(r, &rd, seen, e))
			return -1;

	for (uint32_t i = 0; i < r->devs; i++)
		if (!seen[i])
			return ferry_err_set(e, FERRY_E_MISMATCH, 0,
					     "device %s/%" PRIu32 ": the source "
					     "sent no state for it",
					     r->dev[i].name,
					     r->dev[i].instance);
	return 0;
}
