/* SPDX-License-Identifier: MIT */
/*
 * The words of --vhost-user-net and --vhost-user-blk: a socket, and what
 * follows from a table.  Pure.
 */
#include "vmm/vhost_device.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"

static const char *option_of(uint32_t id)
{
	return id == FERRY_VIRTIO_ID_NET ? "--vhost-user-net" :
					   "--vhost-user-blk";
}

static bool parse_queues(struct ferry_vhost_config *c, const char *text)
{
	const unsigned long max = c->id == FERRY_VIRTIO_ID_NET ?
				  FERRY_VHOST_NET_PAIRS_MAX :
				  FERRY_VHOST_BLK_QUEUES_MAX;
	char *end;
	unsigned long n = strtoul(text, &end, 10);

	if (text[0] < '0' || text[0] > '9' || *end || n < 1 || n > max)
		return false;
	c->queues = (unsigned)n;
	return true;
}

static int nibble(char c)
{
	static const char digits[] = "0123456789abcdef";
	const char *at = c ? strchr(digits, tolower((unsigned char)c)) : NULL;

	return at ? (int)(at - digits) : -1;
}

/* Six pairs of digits.  One that a station can have: not a group's, not none. */
static bool parse_mac(struct ferry_vhost_config *c, const char *text)
{
	static const uint8_t none[sizeof(c->mac)];

	if (strlen(text) != 3 * sizeof(c->mac) - 1)
		return false;
	for (size_t i = 0; i < sizeof(c->mac); i++, text += 3) {
		const int high = nibble(text[0]), low = nibble(text[1]);

		if (high < 0 || low < 0 || (text[2] && text[2] != ':'))
			return false;
		c->mac[i] = (uint8_t)(high << 4 | low);
	}
	return !(c->mac[0] & 1) && memcmp(c->mac, none, sizeof(none));
}

static bool parse_packed(struct ferry_vhost_config *c, const char *text)
{
	c->packed = !strcmp(text, "on");
	return c->packed || !strcmp(text, "off");
}

static const struct {
	const char	*name;
	uint32_t	 id;		/* of one kind only; 0: any */
	bool		 (*parse)(struct ferry_vhost_config *c,
				  const char *text);
	const char	*wanted;
} rows[] = {
	{ "queues=", 0, parse_queues, "a number that it can have" },
	{ "mac=", FERRY_VIRTIO_ID_NET, parse_mac,
	  "a MAC address such as 02:00:00:00:00:01" },
	{ "packed=", 0, parse_packed, "on or off" },
};

static int set(struct ferry_vhost_config *c, const char *pair,
	       struct ferry_err *e)
{
	for (size_t i = 0; i < FERRY_LEN(rows); i++) {
		const size_t n = strlen(rows[i].name);

		if (strncmp(pair, rows[i].name, n) ||
		    (rows[i].id && rows[i].id != c->id))
			continue;
		if (rows[i].parse(c, pair + n))
			return 0;
		return ferry_err_set(e, FERRY_E_INVALID, 0, "%s %s: '%.64s': "
				     "what follows the = is not %s",
				     option_of(c->id), c->path, pair,
				     rows[i].wanted);
	}
	return ferry_err_set(e, FERRY_E_INVALID, 0, "%s %s: '%.64s' is none "
			     "of queues=, packed=%s", option_of(c->id),
			     c->path, pair,
			     c->id == FERRY_VIRTIO_ID_NET ? ", mac=" : "");
}

int ferry_vhost_config_parse(const struct ferry_vhost_words *w, unsigned slot,
			     struct ferry_vhost_config *c, struct ferry_err *e)
{
	FERRY_AUTO_FREE char *copy = strdup(w->text);
	char *rest = copy, *path;

	*c = (struct ferry_vhost_config){
		.id = w->id, .queues = 1,
		.mac = { 0x02, 0x66, 0x72, 0x72, 0x79, (uint8_t)slot },
	};
	if (!copy)
		return ferry_err_set(e, FERRY_E_NOMEM, errno, "%s",
				     option_of(w->id));
	path = strsep(&rest, ",");
	if (!*path || strlen(path) >= sizeof(c->path))
		return ferry_err_set(e, FERRY_E_INVALID, 0, "%s: '%.120s' is "
				     "no path of a unix socket: 1 to %zu "
				     "octets", option_of(w->id), path,
				     sizeof(c->path) - 1);
	memcpy(c->path, path, strlen(path) + 1);
	while (rest)
		if (set(c, strsep(&rest, ","), e))
			return -1;
	return 0;
}

int ferry_vhost_devices_check(const struct ferry_vhost_words *w, size_t n,
			      struct ferry_err *e)
{
	struct ferry_vhost_config c[FERRY_VIRTIO_DEVICES_MAX];

	if (n > FERRY_VIRTIO_DEVICES_MAX)
		return ferry_err_set(e, FERRY_E_INVALID, 0, "more than %u "
				     "vhost-user devices",
				     FERRY_VIRTIO_DEVICES_MAX);
	for (unsigned i = 0; i < n; i++) {
		if (ferry_vhost_config_parse(&w[i], i, &c[i], e))
			return -1;
		for (unsigned k = 0; k < i; k++)
			if (!strcmp(c[i].path, c[k].path))
				return ferry_err_set(e, FERRY_E_INVALID, 0,
						     "%s: the socket %s is "
						     "there twice",
						     option_of(c[i].id),
						     c[i].path);
	}
	return 0;
}
