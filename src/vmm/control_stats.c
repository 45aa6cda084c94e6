/* SPDX-License-Identifier: MIT */
/*
 * Statistics in the shape and units of QEMU's query-migrate: times in ms,
 * pages of 4 KiB, Mbit/s; faults (x-ferry-faults) in us.  Pure.
 */
#include <stdio.h>
#include <string.h>

#include <ferry/bulk.h>

#include "base/clock.h"
#include "base/limits.h"
#include "vmm/control_priv.h"

static void add_ms(struct json_object *o, const char *key, uint64_t ns)
{
	ferry_json_add_u64(o, key, (ns + FERRY_NS_PER_MS / 2) /
				   FERRY_NS_PER_MS);
}

static void add_us(struct json_object *o, const char *key, uint64_t ns)
{
	ferry_json_add_decimal(o, key, (double)ns / (double)FERRY_NS_PER_US);
}

static struct json_object *ram(const struct ferry_stats *st)
{
	struct json_object *o = json_object_new_object();

	ferry_json_add_u64(o, "transferred", st->sent_bytes);
	ferry_json_add_u64(o, "remaining", st->remaining_bytes);
	ferry_json_add_u64(o, "total", st->memory_bytes);
	ferry_json_add_u64(o, "duplicate", st->zero_pages);
	ferry_json_add_u64(o, "normal", st->normal_pages);
	ferry_json_add_u64(o, "normal-bytes",
			   st->normal_pages * FERRY_PAGE_BYTES);
	ferry_json_add_u64(o, "dirty-pages-rate", st->dirty_pages_per_s);
	ferry_json_add_decimal(o, "mbps",
			       (double)st->rate_bytes_per_s * 8 / 1e6);
	ferry_json_add_u64(o, "dirty-sync-count", st->passes);
	ferry_json_add_u64(o, "postcopy-requests", st->requests);
	ferry_json_add_u64(o, "page-size", FERRY_PAGE_BYTES);
	ferry_json_add_u64(o, "multifd-bytes", 0);
	ferry_json_add_u64(o, "pages-per-second",
			   st->rate_bytes_per_s / FERRY_PAGE_BYTES);
	ferry_json_add_u64(o, "precopy-bytes", st->precopy_bytes);
	ferry_json_add_u64(o, "downtime-bytes", st->pause_bytes);
	ferry_json_add_u64(o, "postcopy-bytes", st->postcopy_bytes);
	/* Who was never connected owes nobody anything, and has sent nothing. */
	ferry_json_add_u64(o, "x-ferry-distinct",
			   st->sent_bytes ? st->distinct_bytes : 0);
	ferry_json_add_u64(o, "x-ferry-requested-pages", st->request_pages);
	return o;
}

/* hist[i]: faults that took up to FERRY_HIST_FIRST_NS << i. */
static void add_waits(struct json_object *o, const struct ferry_stats *st)
{
	struct json_object *hist = json_object_new_array();

	for (size_t i = 0; i < FERRY_HIST_BUCKETS; i++)
		json_object_array_add(hist,
			json_object_new_uint64(st->fault_hist[i]));
	add_us(o, "sum-us", st->fault_sum_ns);
	add_us(o, "p50-us", ferry_hist_percentile_ns(st->fault_hist, 50));
	add_us(o, "p99-us", ferry_hist_percentile_ns(st->fault_hist, 99));
	add_us(o, "max-us", st->fault_max_ns);
	ferry_json_add_u64(o, "waiting", st->waiting);
	add_us(o, "waiting-us", st->waiting_ns);
	json_object_object_add(o, "hist", hist);
}

/* How long a fault took only the target knows. */
static struct json_object *faults(const struct ferry_stats *st, bool target)
{
	struct json_object *o = json_object_new_object();

	ferry_json_add_u64(o, "count", st->requests);
	if (target) {
		ferry_json_add_u64(o, "dropped", st->dropped_pages);
		add_waits(o, st);
	}
	if (st->fault_p99_ns)
		add_us(o, "target-p99-us", st->fault_p99_ns);
	if (st->push_limit)
		ferry_json_add_u64(o, "push-limit", st->push_limit);
	return o;
}

static struct json_object *inet_address(const char *host_port)
{
	struct json_object *o = json_object_new_object();
	const char *colon = strrchr(host_port, ':');
	int n = colon ? (int)(colon - host_port) : (int)strlen(host_port);
	bool v6 = host_port[0] == '[' && n >= 2;
	char host[256];

	snprintf(host, sizeof(host), "%.*s", v6 ? n - 2 : n, host_port + v6);
	ferry_json_add_str(o, "port", colon ? colon + 1 : "");
	ferry_json_add_bool(o, v6 ? "ipv6" : "ipv4", true);
	ferry_json_add_str(o, "host", host);
	ferry_json_add_str(o, "type", "inet");
	return o;
}

static struct json_object *plain_address(const char *type, const char *key,
					 const char *value)
{
	struct json_object *o = json_object_new_object();

	ferry_json_add_str(o, key, value);
	ferry_json_add_str(o, "type", type);
	return o;
}

/* A SocketAddress as QEMU's, or NULL for what is none (file:). */
static struct json_object *socket_address(const char *uri)
{
	if (!strncmp(uri, "tcp:", 4))
		return inet_address(uri + 4);
	if (!strncmp(uri, "unix:", 5))
		return plain_address("unix", "path", uri + 5);
	if (!strncmp(uri, "fd:", 3))
		return plain_address("fd", "str", uri + 3);
	return NULL;
}

static void add_addresses(struct json_object *o, const char *uri)
{
	struct json_object *address = socket_address(uri);
	struct json_object *list;

	if (uri[0])
		ferry_json_add_str(o, "x-ferry-uri", uri);
	if (!address)
		return;
	list = json_object_new_array();
	json_object_array_add(list, address);
	json_object_object_add(o, "socket-address", list);
}

/* The pause is known once it is over; before, only what it may be. */
static void add_pause(struct json_object *o, const struct ferry_stats *st)
{
	if (st->pause_ns) {
		add_ms(o, "downtime", st->pause_ns);
		add_us(o, "x-ferry-pause-us", st->pause_ns);
	} else if (st->expected_pause_ns)
		add_ms(o, "expected-downtime", st->expected_pause_ns);
}

/* That there was a link to be found again; how long a page was waited for is
 * among the faults. */
static void add_recovery(struct json_object *o, const struct ferry_stats *st)
{
	struct json_object *r;
	uint64_t now = ferry_now_ns();

	if (!st->last_pause_ns)
		return;
	r = json_object_new_object();
	ferry_json_add_u64(r, "count", st->recoveries);
	ferry_json_add_u64(r, "attempts", st->recover_attempts);
	add_us(r, "apart-us", st->apart_ns);
	add_ms(r, "lost-ms-ago", now - st->last_pause_ns);
	ferry_json_add_bool(r, "seeking", st->seeking);
	json_object_object_add(o, "x-ferry-recovery", r);
}

/* How long the VM may run at the target, or until it is known not to. */
static void add_lease(struct json_object *o, const struct ferry_stats *st)
{
	struct json_object *l;

	if (!st->lease_ns)
		return;
	l = json_object_new_object();
	add_ms(l, "length-ms", st->lease_ns);
	add_ms(l, "left-ms", st->lease_left_ns);
	ferry_json_add_bool(l, "out", st->lease_out);
	json_object_object_add(o, "x-ferry-lease", l);
}

static void add_verified(struct json_object *o, enum ferry_verified is)
{
	static const char *const names[] = {
		[FERRY_VERIFIED_RIGHT] = "right",
		[FERRY_VERIFIED_WRONG] = "wrong",
	};

	if (is == FERRY_VERIFIED_RIGHT || is == FERRY_VERIFIED_WRONG)
		ferry_json_add_str(o, "x-ferry-verified", names[is]);
}

static struct json_object *bulk_device(const struct ferry_bulk_stats *st)
{
	struct json_object *o = json_object_new_object();

	ferry_json_add_str(o, "name", st->name);
	ferry_json_add_u64(o, "instance", st->instance);
	ferry_json_add_str(o, "state", ferry_bulk_state_name(st->state));
	ferry_json_add_bool(o, "ready", st->ready);
	ferry_json_add_u64(o, "precopy-bytes", st->precopy_bytes);
	ferry_json_add_u64(o, "downtime-bytes", st->pause_bytes);
	ferry_json_add_u64(o, "pending-bytes", st->pending_bytes);
	add_us(o, "save-us", st->save_ns);
	add_us(o, "send-us", st->send_ns);
	add_us(o, "load-us", st->load_ns);
	add_us(o, "path-us", st->path_ns);
	ferry_json_add_bool(o, "longest", st->longest);
	return o;
}

/* The first that keeps the VM from being stopped. */
static void add_held(struct json_object *o, const struct ferry_bulk_stats *st)
{
	char name[sizeof(st->name) + 12];

	if (st->ready || json_object_object_get_ex(o, "x-ferry-waits-for",
						   NULL))
		return;
	snprintf(name, sizeof(name), "%s/%u", st->name, st->instance);
	ferry_json_add_str(o, "x-ferry-waits-for", name);
}

void ferry_control_add_bulk(struct json_object *o, struct ferry_source *source,
			    struct ferry_target *target,
			    enum ferry_state state)
{
	struct ferry_bulk_stats st = FERRY_BULK_STATS_INIT;
	struct json_object *list = json_object_new_array();

	for (unsigned i = 0; !(source ? ferry_source_bulk(source, i, &st) :
			       ferry_target_bulk(target, i, &st)); i++) {
		json_object_array_add(list, bulk_device(&st));
		if (source && state == FERRY_STATE_ACTIVE)
			add_held(o, &st);
	}
	if (json_object_array_length(list))
		json_object_object_add(o, "x-ferry-bulk", list);
	else
		json_object_put(list);
}

struct json_object *ferry_control_stats(const struct ferry_stats *st,
					bool target, const char *uri)
{
	struct json_object *o = json_object_new_object();

	ferry_json_add_str(o, "status", ferry_state_name(st->state));
	add_ms(o, "total-time", st->total_ns);
	add_ms(o, "setup-time", st->setup_ns);
	add_pause(o, st);
	json_object_object_add(o, "ram", ram(st));
	if (st->throttle_percent)
		ferry_json_add_u64(o, "cpu-throttle-percentage",
				   st->throttle_percent);
	if (st->error[0])
		ferry_json_add_str(o, "error-desc", st->error);
	if (target)
		add_addresses(o, uri);

	ferry_json_add_str(o, "x-ferry-role", target ? "target" : "source");
	ferry_json_add_str(o, "x-ferry-where", ferry_where_name(st->where));
	ferry_json_add_str(o, "x-ferry-safe", ferry_safe_name(st->safe));
	if (!target)
		ferry_json_add_str(o, "x-ferry-rollback",
				   ferry_rollback_name(st->rollback));
	if (st->freed)
		ferry_json_add_bool(o, "x-ferry-freed", true);
	add_verified(o, st->verified);
	add_lease(o, st);
	add_recovery(o, st);
	if (st->lost_channels)
		ferry_json_add_u64(o, "x-ferry-lost-channels",
				   st->lost_channels);
	if (target || st->requests)
		json_object_object_add(o, "x-ferry-faults", faults(st, target));
	return o;
}

void ferry_control_add_channel(struct json_object *list,
			       const struct ferry_channel_stats *st)
{
	static const char *const packing[] = {
		[FERRY_PACKING_NONE] = "none", [FERRY_PACKING_ZLIB] = "zlib",
		[FERRY_PACKING_ZSTD] = "zstd",
	};
	struct json_object *o = json_object_new_object();

	ferry_json_add_str(o, "type", st->kind == FERRY_CHANNEL_KIND_URGENT ?
			   "urgent" : "data");
	ferry_json_add_u64(o, "index", st->index);
	ferry_json_add_u64(o, "bytes", st->bytes);
	ferry_json_add_u64(o, "normal", st->normal_pages);
	ferry_json_add_u64(o, "duplicate", st->zero_pages);
	add_us(o, "blocked-us", st->blocked_ns);
	ferry_json_add_str(o, "compression", packing[st->packing]);
	ferry_json_add_u64(o, "compressed-from", st->packed_from_bytes);
	ferry_json_add_u64(o, "compressed-to", st->packed_to_bytes);
	json_object_array_add(list, o);
}
