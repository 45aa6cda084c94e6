/* SPDX-License-Identifier: MIT */
/*
 * One side of a migration between QEMUs as it stands: what it is, and how it is
 * set.
 */
#ifndef FERRY_TOOLS_VIEW_H
#define FERRY_TOOLS_VIEW_H

#include "base/cleanup.h"
#include "peer.h"

struct ferry_view {
	const char	*name;
	enum ferry_peer_kind kind;
	unsigned	 version;	/* of QEMU: 702 for 7.2 */
	bool		 waits;		/* for a VM (inmigrate) */
	bool		 listens;	/* and somebody may connect already */
	char		 state[24];	/* query-status */
	char		 blocked[160];	/* why it cannot migrate now, or "" */

	/* of a QEMU; zero or empty when it does not say */
	char		 machine[64];	/* "pc-i440fx-7.2" */
	uint64_t	 ram_bytes;
	size_t		 vcpus;
	struct json_object *caps;	/* name -> boolean */
	struct json_object *params;	/* query-migrate-parameters */
};

#define FERRY_AUTO_VIEW	FERRY_AUTO_(ferry_view_fini) struct ferry_view

/* Look at a side.  fini is right afterwards, whatever happened. */
FERRY_CHECKED int ferry_view_init(struct ferry_view *v, struct ferry_peer *p,
				  struct ferry_err *e);
void ferry_view_fini(struct ferry_view *v);

/* Look at the settings once more. */
FERRY_CHECKED int ferry_view_settings(struct ferry_view *v,
				      struct ferry_peer *p,
				      struct ferry_err *e);

/* One that the QEMU does not have is off. */
bool ferry_view_cap(const struct ferry_view *v, const char *name);
bool ferry_view_has_cap(const struct ferry_view *v, const char *name);
const char *ferry_view_word(const struct ferry_view *v, const char *name);

#endif
