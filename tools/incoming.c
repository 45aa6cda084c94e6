/* SPDX-License-Identifier: MIT */
/*
 * migrate-incoming, and the address that came of it.
 */
#include "incoming.h"

#include <stdio.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "shape.h"

#define LISTEN_MS	5000
#define LOOK_MS		20

/* Since then a QEMU whose incoming migration fails may stay, and say why. */
#define STAYS		901

static int write_inet(const struct json_object *a, char *uri, size_t bytes)
{
	const char *host = ferry_json_str(a, "host");
	const char *port = ferry_json_str(a, "port");

	if (!host || !port)
		return -1;
	return snprintf(uri, bytes, strchr(host, ':') ? "tcp:[%s]:%s" :
			"tcp:%s:%s", host, port);
}

/* A SocketAddress as a URI; false when it is none that we can say. */
static bool write_uri(const struct json_object *a, char *uri, size_t bytes)
{
	const char *type = ferry_json_str(a, "type");
	const char *path = ferry_json_str(a, "path");
	int n = -1;

	if (type && !strcmp(type, "inet"))
		n = write_inet(a, uri, bytes);
	else if (type && !strcmp(type, "unix") && path)
		n = snprintf(uri, bytes, "unix:%s", path);
	return n > 0 && (size_t)n < bytes;
}

static struct json_object *first_address(const struct json_object *m)
{
	struct json_object *list = NULL;

	json_object_object_get_ex(m, "socket-address", &list);
	if (!json_object_is_type(list, json_type_array) ||
	    !json_object_array_length(list))
		return NULL;
	return json_object_array_get_idx(list, 0);
}

static int check_reachable(const struct ferry_peer *t, const char *uri,
			   struct ferry_err *e)
{
	static const char *const everywhere[] = {
		"tcp:0.0.0.0:", "tcp:[::]:",
	};

	for (size_t i = 0; i < FERRY_LEN(everywhere); i++)
		if (!strncmp(uri, everywhere[i], strlen(everywhere[i])))
			return ferry_err_set(e, FERRY_E_INVALID, 0, "%s "
					     "listens at %s, which is every "
					     "address of its host: say one by "
					     "which it can be reached", t->name,
					     uri);
	return 0;
}

static int begin(struct ferry_peer *t, const char *listen,
		 struct ferry_err *e)
{
	struct json_object *args = json_object_new_object();

	ferry_json_add_str(args, "uri", listen);
	if (t->kind == FERRY_PEER_FERRY || t->version >= STAYS)
		ferry_json_add_bool(args, "exit-on-error", false);
	return ferry_peer_call(t, "migrate-incoming", args, NULL, e);
}

/* 1 and the address; 0: not yet. */
static int look(struct ferry_peer *t, char *uri, size_t bytes,
		struct ferry_err *e)
{
	FERRY_AUTO_JSON *m = NULL;
	FERRY_AUTO_JSON *vm = NULL;
	const char *why;

	if (ferry_peer_look(t, &m, &vm, e))
		return -1;
	why = ferry_json_str(m, "error-desc");
	if (why)
		return ferry_err_set(e, FERRY_E_PEER, 0, "%s: %s", t->name,
				     why);
	if (!ferry_shape_listens(m))
		return 0;
	if (!write_uri(first_address(m), uri, bytes))
		return ferry_err_set(e, FERRY_E_UNSUPPORTED, 0, "%s does not "
				     "listen at a tcp: or unix: address; if "
				     "it was told to and could not, start it "
				     "again", t->name);
	return check_reachable(t, uri, e) ? -1 : 1;
}

static int wait_address(struct ferry_peer *t, char *uri, size_t bytes,
			struct ferry_err *e)
{
	uint64_t until = ferry_now_ns() + LISTEN_MS * FERRY_NS_PER_MS;
	int rc;

	while (!(rc = look(t, uri, bytes, e))) {
		struct json_object *event = NULL;

		if (ferry_now_ns() > until)
			return ferry_err_set(e, FERRY_E_TIMEOUT, 0, "%s does "
					     "not say where it listens",
					     t->name);
		if (ferry_qmp_client_event(t->qmp, LOOK_MS, &event, e) < 0)
			return ferry_err_wrap(e, "%s", t->name);
		json_object_put(event);
	}
	return rc < 0 ? -1 : 0;
}

int ferry_incoming(struct ferry_peer *t, const char *listen, char *uri,
		   size_t bytes, struct ferry_err *e)
{
	int rc = look(t, uri, bytes, e);

	if (rc < 0)
		return -1;
	if (rc && listen)
		return ferry_err_set(e, FERRY_E_STATE, 0, "%s listens at %s "
				     "already", t->name, uri);
	if (rc)
		return 0;
	if (!listen)
		listen = FERRY_INCOMING_URI;
	if (check_reachable(t, listen, e) || begin(t, listen, e))
		return -1;
	return wait_address(t, uri, bytes, e);
}
