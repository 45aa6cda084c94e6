/* SPDX-License-Identifier: MIT */
/*
 * The list of devices, and the growing buffer that they save into.
 */
#include "dev/registry.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int ferry_registry_add(struct ferry_registry *r, const char *name,
		       uint32_t instance, uint32_t version,
		       const struct ferry_device_ops *ops, void *opaque,
		       struct ferry_err *e)
{
	struct ferry_dev *grown;

	for (uint32_t i = 0; i < r->devs; i++)
		if (strcmp(r->dev[i].name, name) == 0 &&
		    r->dev[i].instance == instance)
			return ferry_err_set(e, FERRY_E_INVALID, 0,
					     "device %s/%" PRIu32
					     " is there twice", name,
					     instance);
	if (r->devs == FERRY_SECTIONS_MAX)
		return ferry_err_set(e, FERRY_E_INVALID, 0,
				     "device %s: more than %u devices", name,
				     FERRY_SECTIONS_MAX);

	grown = realloc(r->dev, (r->devs + 1) * sizeof(*r->dev));
	if (!grown)
		return ferry_err_set(e, FERRY_E_NOMEM, errno, "device %s",
				     name);
	r->dev = grown;
	r->dev[r->devs] = (struct ferry_dev){
		.instance = instance, .version = version, .ops = *ops,
		.opaque = opaque,
	};
	snprintf(r->dev[r->devs].name, sizeof(r->dev->name), "%s", name);
	r->devs++;
	return 0;
}

void ferry_registry_fini(struct ferry_registry *r)
{
	free(r->dev);
	*r = (struct ferry_registry){ 0 };
}

void ferry_save_fini(struct ferry_save *s)
{
	free(s->data);
	*s = (struct ferry_save){ 0 };
}

static int grow(struct ferry_save *s, size_t want)
{
	size_t size = s->size ? s->size : 16384;
	uint8_t *data;

	while (size < want)
		size *= 2;
	data = realloc(s->data, size);
	if (!data)
		return ENOMEM;
	s->data = data;
	s->size = size;
	return 0;
}

uint8_t *ferry_save_room(struct ferry_save *s, size_t n)
{
	uint8_t *at;

	if (!s->failed && n > FERRY_PACKAGE_BYTES_MAX - s->bytes)
		s->failed = EFBIG;
	if (!s->failed && s->size - s->bytes < n)
		s->failed = grow(s, s->bytes + n);
	if (s->failed)
		return NULL;
	at = s->data + s->bytes;
	s->bytes += n;
	return at;
}

void ferry_save_bytes(struct ferry_save *out, const void *data, size_t bytes)
{
	uint8_t *at = ferry_save_room(out, bytes);

	if (at && bytes)
		memcpy(at, data, bytes);
}
