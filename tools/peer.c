/* SPDX-License-Identifier: MIT */
/*
 * Who is at the other end of a QMP socket is told by its version.
 */
#include "peer.h"

#include <stdio.h>
#include <string.h>

#include "names.h"
#include "shape.h"

/* What ferry run calls itself: "ferry-0.1.0". */
#define OURS	"ferry-"

static int identify(struct ferry_peer *p, struct ferry_err *e)
{
	FERRY_AUTO_JSON *v = NULL;
	const struct json_object *n;

	if (!strncmp(ferry_qmp_client_package(p->qmp), OURS, strlen(OURS))) {
		snprintf(p->software, sizeof(p->software), "ferry run");
		return 0;
	}
	if (ferry_peer_call(p, "query-version", NULL, &v, e))
		return -1;
	n = ferry_json_obj(v, "qemu");
	if (!n)
		return ferry_err_set(e, FERRY_E_PROTO, 0, "%s is neither "
				     "ferry run nor a QEMU", p->name);
	p->kind = FERRY_PEER_QEMU;
	p->version = (unsigned)ferry_json_u64(n, "major", 0) * 100 +
		     (unsigned)ferry_json_u64(n, "minor", 0);
	snprintf(p->software, sizeof(p->software), "QEMU %u.%u.%u",
		 p->version / 100, p->version % 100,
		 (unsigned)ferry_json_u64(n, "micro", 0));
	return 0;
}

int ferry_peer_open(struct ferry_peer *p, const char *vm, struct ferry_err *e)
{
	struct ferry_err why = { 0 };

	*p = (struct ferry_peer){
		.name = vm, .patience_ms = FERRY_QMP_TIMEOUT_MS,
	};
	p->qmp = ferry_names_open(vm, p->patience_ms, &why);
	if (p->qmp)
		return identify(p, e);
	if (why.code == FERRY_E_TIMEOUT)
		return ferry_err_set(e, why.code, 0, "%s does not greet: is "
				     "another client connected to its QMP "
				     "socket? (QEMU serves one at a time)",
				     vm);
	if (why.code == FERRY_E_IO && !why.sys)	/* it is there, but stopped */
		ferry_err_wrap(&why, "%s", vm);
	if (e)
		*e = why;
	return -1;
}

void ferry_peer_close(struct ferry_peer *p)
{
	ferry_qmp_client_close(p->qmp);
	p->qmp = NULL;
}

int ferry_peer_call(struct ferry_peer *p, const char *command,
		    struct json_object *args, struct json_object **ret,
		    struct ferry_err *e)
{
	if (!ferry_qmp_client_call(p->qmp, command, args, p->patience_ms,
				   ret, e))
		return 0;
	if (p->kind == FERRY_PEER_QEMU && e->code == FERRY_E_PEER)
		return ferry_err_wrap(e, "%s: %s: %s says", p->name, command,
				      p->software);
	return ferry_err_wrap(e, "%s", p->name);
}

int ferry_peer_look(struct ferry_peer *p, struct json_object **migration,
		    struct json_object **vm, struct ferry_err *e)
{
	*migration = *vm = NULL;
	if (ferry_peer_call(p, "query-migrate", NULL, migration, e) ||
	    ferry_peer_call(p, "query-status", NULL, vm, e)) {
		json_object_put(*migration);
		*migration = NULL;
		return -1;
	}
	if (p->kind == FERRY_PEER_QEMU)
		ferry_shape_qemu(*migration, ferry_json_str(*vm, "status"),
				 p->software);
	return 0;
}
