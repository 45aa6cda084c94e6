/* SPDX-License-Identifier: MIT */
/*
 * File header and CONFIGURATION.
 *
 *   | 07 | be32 n | n octets of machine name | subsection ... |
 *   subsection: | 05 | str8 name | be32 version = 1 | payload |
 */
#include "wire/config.h"

#include <inttypes.h>

#include "wire/section.h"
#include "wire/text.h"

static const struct {
	uint32_t	bit;
	const char	*name;
} capabilities[] = {
	{ FERRY_CONFIG_X_IGNORE_SHARED, "x-ignore-shared" },
	{ FERRY_CONFIG_MAPPED_RAM, "mapped-ram" },
};

#define CAPABILITIES	(sizeof(capabilities) / sizeof(capabilities[0]))

static uint32_t capability_bit(const char *name)
{
	for (size_t i = 0; i < CAPABILITIES; i++)
		if (!strcmp(capabilities[i].name, name))
			return capabilities[i].bit;
	return 0;
}

static bool page_bits_there(const struct ferry_config *c)
{
	return c->page_bits;
}

static int page_bits_decode(struct ferry_rd *r, struct ferry_config *c,
			    struct ferry_err *e)
{
	c->page_bits = ferry_rd_be32(r);
	if (!r->bad && c->page_bits != FERRY_PAGE_SHIFT)
		return ferry_err_set(e, FERRY_E_PROTO, 0,
				     "CONFIGURATION: target pages of %" PRIu32
				     " bits", c->page_bits);
	return 0;
}

static void page_bits_encode(struct ferry_wr *w, const struct ferry_config *c)
{
	ferry_wr_be32(w, c->page_bits);
}

static bool capabilities_there(const struct ferry_config *c)
{
	return c->capabilities;
}

/* | be32 count | count * str8 name | */
static int capabilities_decode(struct ferry_rd *r, struct ferry_config *c,
			       struct ferry_err *e)
{
	uint32_t count = ferry_rd_be32(r);

	if (!r->bad && (!count || count > FERRY_CAPABILITIES_MAX))
		return ferry_err_set(e, FERRY_E_PROTO, 0,
				     "CONFIGURATION: %" PRIu32
				     " capabilities", count);

	for (uint32_t i = 0; i < count && !r->bad; i++) {
		char name[FERRY_NAME_MAX + 1];
		uint32_t bit;

		bit = ferry_text_read_name(r, name) ? capability_bit(name) : 0;
		if (!r->bad && (!bit || c->capabilities & bit))
			return ferry_err_set(e, FERRY_E_PROTO, 0,
					     "CONFIGURATION: capability \"%s\""
					     " is unknown or stated twice",
					     FERRY_SHOW(name));
		c->capabilities |= bit;
	}
	return 0;
}

static void capabilities_encode(struct ferry_wr *w,
				const struct ferry_config *c)
{
	ferry_wr_be32(w, (uint32_t)__builtin_popcount(c->capabilities));
	for (size_t i = 0; i < CAPABILITIES; i++)
		if (c->capabilities & capabilities[i].bit)
			ferry_wr_str8(w, capabilities[i].name);
}

static bool uuid_there(const struct ferry_config *c)
{
	return c->has_uuid;
}

static int uuid_decode(struct ferry_rd *r, struct ferry_config *c,
		       struct ferry_err *e)
{
	const uint8_t *at = ferry_rd_bytes(r, sizeof(c->uuid));

	(void)e;
	if (!at)
		return 0;
	c->has_uuid = true;
	memcpy(c->uuid, at, sizeof(c->uuid));
	return 0;
}

static void uuid_encode(struct ferry_wr *w, const struct ferry_config *c)
{
	ferry_wr_bytes(w, c->uuid, sizeof(c->uuid));
}

struct subsection {
	const char	*name;
	bool		(*there)(const struct ferry_config *c);
	int		(*decode)(struct ferry_rd *r, struct ferry_config *c,
				  struct ferry_err *e);
	void		(*encode)(struct ferry_wr *w,
				  const struct ferry_config *c);
};

static const struct subsection subsections[] = {
	{ "configuration/target-page-bits",
	  page_bits_there, page_bits_decode, page_bits_encode },
	{ "configuration/capabilities",
	  capabilities_there, capabilities_decode, capabilities_encode },
	{ "configuration/uuid", uuid_there, uuid_decode, uuid_encode },
};

#define SUBSECTIONS	(sizeof(subsections) / sizeof(subsections[0]))

/* Behind the octet 0x05. */
static int subsection_decode(struct ferry_rd *r, struct ferry_config *c,
			     struct ferry_err *e)
{
	char name[FERRY_NAME_MAX + 1];
	uint32_t version;

	if (!ferry_text_read_name(r, name))
		return ferry_err_set(e, FERRY_E_PROTO, 0,
				     "CONFIGURATION: a subsection's name is"
				     " empty or holds NUL");
	version = ferry_rd_be32(r);
	if (r->bad)
		return 0;

	for (size_t i = 0; i < SUBSECTIONS; i++)
		if (!strcmp(subsections[i].name, name) && version == 1 &&
		    !subsections[i].there(c))
			return subsections[i].decode(r, c, e);
	return ferry_err_set(e, FERRY_E_PROTO, 0,
			     "CONFIGURATION: subsection \"%s\" version %" PRIu32
			     " is unknown or sent twice", FERRY_SHOW(name),
			     version);
}

static int machine_decode(struct ferry_rd *r, struct ferry_config *c,
			  struct ferry_err *e)
{
	uint8_t type = ferry_rd_u8(r);
	uint32_t n = ferry_rd_be32(r);
	const uint8_t *at;

	if (r->bad)
		return 0;
	if (type != FERRY_SECTION_CONFIGURATION)
		return ferry_err_set(e, FERRY_E_PROTO, 0,
				     "CONFIGURATION is missing: the stream goes"
				     " on with 0x%02x", type);
	if (!n || n > FERRY_MACHINE_NAME_MAX)
		return ferry_err_set(e, FERRY_E_PROTO, 0,
				     "CONFIGURATION: machine name of %" PRIu32
				     " octets", n);
	at = ferry_rd_bytes(r, n);
	if (!at)
		return 0;
	memcpy(c->machine, at, n);
	c->machine[n] = '\0';
	if (strlen(c->machine) != n)
		return ferry_err_set(e, FERRY_E_PROTO, 0,
				     "CONFIGURATION: NUL in the machine name");
	return 0;
}

int ferry_config_decode(struct ferry_rd *r, struct ferry_config *c,
			struct ferry_err *e)
{
	struct ferry_rd from = *r;
	int rc;

	*c = (struct ferry_config){ 0 };
	rc = machine_decode(r, c, e);
	while (!rc && !r->bad) {
		struct ferry_rd ahead = *r;

		if (ferry_rd_u8(r) == FERRY_SECTION_SUBSECTION) {
			rc = subsection_decode(r, c, e);
		} else if (!r->bad) {
			*r = ahead;
			break;
		}
	}
	return ferry_decode_end(r, from, rc);
}

void ferry_config_encode(struct ferry_wr *w, const struct ferry_config *c)
{
	size_t n = strlen(c->machine);

	ferry_wr_u8(w, FERRY_SECTION_CONFIGURATION);
	ferry_wr_be32(w, (uint32_t)n);
	ferry_wr_bytes(w, c->machine, n);

	for (size_t i = 0; i < SUBSECTIONS; i++) {
		if (!subsections[i].there(c))
			continue;
		ferry_wr_u8(w, FERRY_SECTION_SUBSECTION);
		ferry_wr_str8(w, subsections[i].name);
		ferry_wr_be32(w, 1);
		subsections[i].encode(w, c);
	}
}

size_t ferry_config_bytes(const struct ferry_config *c)
{
	/* The longest there can be; cheaper than a second walk. */
	uint8_t most[1 + 4 + FERRY_MACHINE_NAME_MAX + SUBSECTIONS * 64 + 64];
	struct ferry_wr w = ferry_wr_over(most, sizeof(most));

	ferry_config_encode(&w, c);
	return ferry_wr_used(&w);
}

int ferry_file_header_decode(struct ferry_rd *r, struct ferry_err *e)
{
	struct ferry_rd from = *r;
	uint32_t magic = ferry_rd_be32(r);
	bool no_magic = r->bad;
	uint32_t version = ferry_rd_be32(r);
	int rc = 0;

	if (!no_magic && magic != FERRY_FILE_MAGIC)
		rc = ferry_err_set(e, FERRY_E_PROTO, 0,
				   "not a migration stream: it begins with"
				   " 0x%08" PRIx32, magic);
	else if (!r->bad && version != FERRY_FILE_VERSION)
		rc = ferry_err_set(e, FERRY_E_PROTO, 0,
				   "migration stream of version %" PRIu32
				   ", 3 is spoken here", version);
	return ferry_decode_end(r, from, rc);
}

void ferry_file_header_encode(struct ferry_wr *w)
{
	ferry_wr_be32(w, FERRY_FILE_MAGIC);
	ferry_wr_be32(w, FERRY_FILE_VERSION);
}
