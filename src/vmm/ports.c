/* SPDX-License-Identifier: MIT */
/* See ports.h. */
#include "vmm/ports.h"

#include <assert.h>
#include <string.h>

void ferry_ports_add(struct ferry_ports *p, const struct ferry_port_range *r)
{
	assert(p->count < FERRY_PORT_RANGES_MAX);
	p->range[p->count++] = *r;
}

static const struct ferry_port_range *find(const struct ferry_ports *p,
					   uint16_t port)
{
	for (size_t i = 0; i < p->count; i++)
		if (port >= p->range[i].first && port <= p->range[i].last)
			return &p->range[i];
	return NULL;
}

enum ferry_act ferry_ports_in(const struct ferry_ports *p, uint16_t port,
			      unsigned size, void *data)
{
	const struct ferry_port_range *r = find(p, port);
	uint32_t value = ~0u;

	if (r)
		value = r->read(r->opaque, (unsigned)(port - r->first), size);
	memcpy(data, &value, size);	/* little-endian, as the guest */
	return FERRY_ACT_GO_ON;
}

enum ferry_act ferry_ports_out(const struct ferry_ports *p, uint16_t port,
			       unsigned size, const void *data)
{
	const struct ferry_port_range *r = find(p, port);
	uint32_t value = 0;

	memcpy(&value, data, size);
	if (!r)
		return FERRY_ACT_GO_ON;
	return r->write(r->opaque, (unsigned)(port - r->first), size, value);
}
