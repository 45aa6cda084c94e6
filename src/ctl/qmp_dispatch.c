/* SPDX-License-Identifier: MIT */
/*
 * The way of a request: form, negotiation, command table, arguments; then
 * either run at once (exec-oob) or wait for the dispatcher; then the reply.
 *
 * An error of form waits in the queue too: replies to ordinary requests keep
 * their order.
 */
#include <assert.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/time.h>

#include "base/cleanup.h"
#include "ctl/qmp_server_priv.h"

#define NO_COMMAND	"CommandNotFound"

void ferry_qmp_item_free(struct ferry_qmp_item *item)
{
	json_object_put(item->request);
	json_object_put(item->reply);
	free(item);
}

/* ---- replies ------------------------------------------------------------- */

static struct ferry_qmp_conn *find_locked(struct ferry_qmp_server *s,
					  uint64_t id)
{
	for (size_t i = 0; i < FERRY_QMP_CLIENTS_MAX; i++) {
		if (s->conn[i] && s->conn[i]->id == id)
			return s->conn[i];
	}
	return NULL;
}

static struct json_object *run(const struct ferry_qmp_item *item)
{
	struct json_object *none = NULL, *ret = NULL, *reply;
	struct json_object *args = item->args;
	struct ferry_err e = { 0 };
	int rc;

	assert(item->cmd);	/* what has none was answered at once */
	if (!args)
		args = none = json_object_new_object();
	rc = item->cmd->run(item->opaque, args, &ret, &e);
	json_object_put(none);
	if (rc)
		return ferry_qmp_error("GenericError", e.msg);

	reply = json_object_new_object();
	json_object_object_add(reply, "return",
			       ret ? ret : json_object_new_object());
	return reply;
}

/* Run it, unless its reply is made already, and answer. */
static void finish(struct ferry_qmp_server *s, struct ferry_qmp_item *item,
		   bool was_queued)
{
	struct ferry_qmp_conn *c;

	if (!item->reply)
		item->reply = run(item);
	if (item->id)
		json_object_object_add(item->reply, "id",
				       json_object_get(item->id));

	pthread_mutex_lock(&s->lock);
	c = find_locked(s, item->conn);
	if (c) {
		ferry_qmp_conn_put_locked(c, ferry_json_text(item->reply));
		c->queued -= was_queued;
	}
	pthread_mutex_unlock(&s->lock);
	ferry_qmp_server_wake(s);
	ferry_qmp_item_free(item);
}

void ferry_qmp_server_dispatch(struct ferry_qmp_server *s)
{
	struct ferry_qmp_item *item;
	eventfd_t count;

	if (eventfd_read(s->work_fd, &count))
		return;
	pthread_mutex_lock(&s->lock);
	item = s->first;
	s->first = item->next;
	if (!s->first)
		s->last = &s->first;
	pthread_mutex_unlock(&s->lock);
	finish(s, item, true);
}

static void enqueue(struct ferry_qmp_server *s, struct ferry_qmp_conn *c,
		    struct ferry_qmp_item *item)
{
	pthread_mutex_lock(&s->lock);
	*s->last = item;
	s->last = &item->next;
	c->queued++;
	pthread_mutex_unlock(&s->lock);
	eventfd_write(s->work_fd, 1);
}

/* ---- the server's own commands ------------------------------------------- */

static struct json_object *version(const struct ferry_qmp_config *config)
{
	struct json_object *o = json_object_new_object();
	struct json_object *v = json_object_new_object();

	ferry_json_add_u64(v, "major", config->major);
	ferry_json_add_u64(v, "minor", config->minor);
	ferry_json_add_u64(v, "micro", config->micro);
	json_object_object_add(o, "qemu", v);	/* clients look for this key */
	ferry_json_add_str(o, "package", config->package);
	return o;
}

struct json_object *ferry_qmp_greeting(const struct ferry_qmp_config *config)
{
	struct json_object *o = json_object_new_object();
	struct json_object *in = json_object_new_object();
	struct json_object *caps = json_object_new_array();

	json_object_array_add(caps, json_object_new_string("oob"));
	json_object_object_add(in, "version", version(config));
	json_object_object_add(in, "capabilities", caps);
	json_object_object_add(o, "QMP", in);
	return o;
}

static int run_query_version(void *opaque, struct json_object *args,
			     struct json_object **ret, struct ferry_err *e)
{
	struct ferry_qmp_server *s = opaque;

	(void)args, (void)e;
	*ret = version(&s->config);
	return 0;
}

static void list(struct json_object *all, const struct ferry_qmp_command *cmd,
		 size_t n)
{
	for (size_t i = 0; i < n; i++) {
		struct json_object *o = json_object_new_object();

		ferry_json_add_str(o, "name", cmd[i].name);
		json_object_array_add(all, o);
	}
}

static int run_query_commands(void *opaque, struct json_object *args,
			      struct json_object **ret, struct ferry_err *e);

/* Negotiation is done where it is read; here it comes too late. */
static int run_capabilities(void *opaque, struct json_object *args,
			    struct json_object **ret, struct ferry_err *e)
{
	(void)opaque, (void)args, (void)ret;
	return ferry_err_set(e, FERRY_E_STATE, 0,
			     "Capabilities negotiation is already complete");
}

static const struct ferry_qmp_command own[] = {
	{ "qmp_capabilities", run_capabilities, 0,
	  { { "enable", FERRY_QMP_ARRAY, true } } },
	{ "query-commands", run_query_commands, FERRY_QMP_OOB, {} },
	{ "query-version", run_query_version, FERRY_QMP_OOB, {} },
};

static int run_query_commands(void *opaque, struct json_object *args,
			      struct json_object **ret, struct ferry_err *e)
{
	struct ferry_qmp_server *s = opaque;

	(void)args, (void)e;
	*ret = json_object_new_array();
	list(*ret, own, FERRY_LEN(own));
	list(*ret, s->config.commands, s->config.n);
	return 0;
}

/* ---- requests ------------------------------------------------------------ */

static const struct ferry_qmp_command *
find_row(const struct ferry_qmp_command *cmd, size_t n, const char *name)
{
	for (size_t i = 0; i < n; i++) {
		if (!strcmp(cmd[i].name, name))
			return &cmd[i];
	}
	return NULL;
}

static void find_command(struct ferry_qmp_server *s,
			 struct ferry_qmp_item *item, const char *name)
{
	item->cmd = find_row(own, FERRY_LEN(own), name);
	item->opaque = s;
	if (item->cmd)
		return;
	item->cmd = find_row(s->config.commands, s->config.n, name);
	item->opaque = s->config.opaque;
}

static int negotiate(struct ferry_qmp_server *s, struct ferry_qmp_conn *c,
		     const struct ferry_qmp_request *r, struct ferry_err *e)
{
	struct json_object *enable = NULL;
	bool oob = false;

	if (ferry_qmp_check_args(&own[0], r->args, e))
		return -1;
	json_object_object_get_ex(r->args, "enable", &enable);
	for (size_t i = 0; enable && i < json_object_array_length(enable); i++) {
		struct json_object *v = json_object_array_get_idx(enable, i);
		const char *cap = json_object_get_string(v);

		if (!cap || strcmp(cap, "oob"))
			return ferry_err_set(e, FERRY_E_INVALID, 0, "Parameter "
				"'enable' does not accept value '%s'",
				cap ? cap : "null");
		oob = true;
	}
	pthread_mutex_lock(&s->lock);
	c->negotiated = true;
	c->oob = oob;
	pthread_mutex_unlock(&s->lock);
	return 0;
}

/* Before negotiation: only that is accepted, and answered at once. */
static struct json_object *answer_stranger(struct ferry_qmp_server *s,
					   struct ferry_qmp_conn *c,
					   const struct ferry_qmp_request *r)
{
	struct json_object *ok;
	struct ferry_err e;

	if (strcmp(r->command, own[0].name))
		return ferry_qmp_error(NO_COMMAND, "Expecting capabilities "
				"negotiation with 'qmp_capabilities'");
	if (negotiate(s, c, r, &e))
		return ferry_qmp_error("GenericError", e.msg);
	ok = json_object_new_object();
	json_object_object_add(ok, "return", json_object_new_object());
	return ok;
}

/* Fill in what to run, or the error that answers it. */
static void resolve(struct ferry_qmp_server *s, struct ferry_qmp_item *item,
		    const struct ferry_qmp_request *r)
{
	char text[120];
	struct ferry_err e;

	find_command(s, item, r->command);
	if (!item->cmd) {
		snprintf(text, sizeof(text), "The command %.64s has not been "
			 "found", r->command);
		item->reply = ferry_qmp_error(NO_COMMAND, text);
	} else if (item->cmd == &own[0]) {
		item->reply = ferry_qmp_error(NO_COMMAND, "Capabilities "
			"negotiation is already complete, command ignored");
	} else if (r->oob && !(item->cmd->flags & FERRY_QMP_OOB)) {
		snprintf(text, sizeof(text), "The command %.64s does not "
			 "support OOB", r->command);
		item->reply = ferry_qmp_error("GenericError", text);
	} else if (ferry_qmp_check_args(item->cmd, r->args, &e)) {
		item->reply = ferry_qmp_error("GenericError", e.msg);
	}
}

void ferry_qmp_server_take(struct ferry_qmp_server *s,
			   struct ferry_qmp_conn *c, struct json_object *value,
			   const struct ferry_err *why)
{
	struct ferry_qmp_item *item = calloc(1, sizeof(*item));
	struct ferry_qmp_request r = { 0 };
	bool negotiated = c->negotiated;
	struct ferry_err e;

	if (!item) {
		json_object_put(value);
		return;
	}
	item->conn = c->id;
	item->request = value;
	if (why || ferry_qmp_request_split(value, c->oob, &r, &e))
		item->reply = ferry_qmp_error("GenericError",
					      why ? why->msg : e.msg);
	else if (!negotiated)
		item->reply = answer_stranger(s, c, &r);
	else
		resolve(s, item, &r);
	item->args = r.args;
	item->id = r.id;

	if (r.oob || !negotiated)
		finish(s, item, false);
	else
		enqueue(s, c, item);
}

/* ---- events -------------------------------------------------------------- */

static struct json_object *timestamp(void)
{
	struct json_object *o = json_object_new_object();
	struct timeval now;

	gettimeofday(&now, NULL);
	ferry_json_add_u64(o, "seconds", (uint64_t)now.tv_sec);
	ferry_json_add_u64(o, "microseconds", (uint64_t)now.tv_usec);
	return o;
}

void ferry_qmp_server_event(struct ferry_qmp_server *s, const char *name,
			    struct json_object *data)
{
	FERRY_AUTO_JSON *o = json_object_new_object();
	const char *text;

	json_object_object_add(o, "timestamp", timestamp());
	ferry_json_add_str(o, "event", name);
	if (data)
		json_object_object_add(o, "data", data);
	text = ferry_json_text(o);

	pthread_mutex_lock(&s->lock);
	for (size_t i = 0; i < FERRY_QMP_CLIENTS_MAX; i++) {
		if (s->conn[i] && s->conn[i]->negotiated)
			ferry_qmp_conn_put_locked(s->conn[i], text);
	}
	pthread_mutex_unlock(&s->lock);
	ferry_qmp_server_wake(s);
}
