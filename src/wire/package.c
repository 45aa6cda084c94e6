/* SPDX-License-Identifier: MIT */
/*
 * LISTEN | FULL ... FULL | PING ... | RUN: peeled from both ends.
 */
#include "wire/package.h"

#include <string.h>

#include "wire/command.h"

/* Is this a command with so many octets of payload? */
static bool is_command(const uint8_t *p, uint16_t command, uint16_t payload)
{
	const uint8_t head[FERRY_COMMAND_HEAD_WIRE] = {
		FERRY_SECTION_COMMAND,
		(uint8_t)(command >> 8), (uint8_t)command,
		(uint8_t)(payload >> 8), (uint8_t)payload,
	};

	return !memcmp(p, head, sizeof(head));
}

static bool peel_front(struct ferry_package *p, uint16_t command)
{
	if (p->device_bytes < FERRY_COMMAND_WIRE ||
	    !is_command(p->devices, command, 0))
		return false;
	p->devices += FERRY_COMMAND_WIRE;
	p->device_bytes -= FERRY_COMMAND_WIRE;
	return true;
}

static bool peel_back(struct ferry_package *p, uint16_t command,
		      uint32_t *value)
{
	size_t n = value ? FERRY_COMMAND_U32_WIRE : FERRY_COMMAND_WIRE;
	const uint8_t *at;
	struct ferry_rd r;

	if (p->device_bytes < n)
		return false;
	at = p->devices + p->device_bytes - n;
	if (!is_command(at, command, value ? 4 : 0))
		return false;
	p->device_bytes -= n;
	if (value) {
		r = ferry_rd_over(at + FERRY_COMMAND_HEAD_WIRE, 4);
		*value = ferry_rd_be32(&r);
	}
	return true;
}

/* PINGs come off last first; put them in order. */
static int peel_pings(struct ferry_package *p, struct ferry_err *e)
{
	uint32_t value = 0;

	while (peel_back(p, FERRY_COMMAND_PING, &value)) {
		if (p->pings == FERRY_PACKAGE_PINGS_MAX)
			return ferry_err_set(e, FERRY_E_PROTO, 0,
					     "PACKAGED: more than %u PINGs",
					     FERRY_PACKAGE_PINGS_MAX);
		memmove(p->ping + 1, p->ping, p->pings * sizeof(p->ping[0]));
		p->ping[0] = value;
		p->pings++;
	}
	return 0;
}

int ferry_package_peel(const void *data, size_t bytes, enum ferry_dialect peer,
		       struct ferry_package *p, struct ferry_err *e)
{
	*p = (struct ferry_package){ .devices = data, .device_bytes = bytes };

	p->listen = peel_front(p, FERRY_COMMAND_POSTCOPY_LISTEN);
	if (peer == FERRY_DIALECT_FERRY)
		return 0;

	if (!p->listen)
		return ferry_err_set(e, FERRY_E_PROTO, 0,
				     "PACKAGED: does not begin with LISTEN");
	if (!peel_back(p, FERRY_COMMAND_POSTCOPY_RUN, NULL))
		return ferry_err_set(e, FERRY_E_PROTO, 0,
				     "PACKAGED: does not end with RUN");
	return peel_pings(p, e);
}
