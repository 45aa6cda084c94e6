/* SPDX-License-Identifier: MIT */
/*
 * Magic numbers of connections.
 */
#include "wire/kind.h"

#include <stddef.h>

#include "base/cursor.h"
#include "wire/channel.h"
#include "wire/config.h"
#include "wire/multifd.h"

static const struct {
	uint32_t		magic;
	enum ferry_conn_kind	kind;
} kinds[] = {
	{ FERRY_CHANNEL_MAGIC, FERRY_CONN_FERRY },
	{ FERRY_FILE_MAGIC, FERRY_CONN_QEMU_MAIN },
	{ FERRY_MULTIFD_MAGIC, FERRY_CONN_QEMU_MULTIFD },
	{ 0x08000a00u, FERRY_CONN_QEMU_RECOVERY },
};

enum ferry_conn_kind ferry_conn_kind(const uint8_t first[4])
{
	struct ferry_rd r = ferry_rd_over(first, 4);
	uint32_t magic = ferry_rd_be32(&r);

	for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++)
		if (kinds[i].magic == magic)
			return kinds[i].kind;
	return FERRY_CONN_UNKNOWN;
}
