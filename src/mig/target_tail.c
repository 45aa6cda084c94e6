/* SPDX-License-Identifier: MIT */
/*
 * Device state that nobody knows: in a QEMU's precopy stream, what comes behind
 * the end of RAM.  Its sections say no lengths, so it is taken whole.  It ends
 * with EOF and a description,
 *
 *   ... 7e be32 id | 00 | 06 be32 n, n octets of JSON
 *
 * and as the source keeps the connection open until it is answered, that end
 * must be told by looking: the description ends with the last octet that has
 * come, is JSON, and names the sections before it, octet for octet.  Where it
 * does not, or is empty (n = 0), the octets before it are those of a footer,
 * and nothing follows for a while.
 *
 * Thread: the reader.
 */
#include "mig/target_impl.h"

#include <poll.h>
#include <string.h>

#include "base/clock.h"

#define END_WIRE	6u	/* 00 06 be32 */
#define QUIET_MS	1000

/* One object, from its first brace to its last, strings apart. */
static bool is_json(const uint8_t *p, size_t n)
{
	bool string = false, ended = false;
	unsigned depth = 0;

	for (size_t i = 0; i < n; i++) {
		bool blank = p[i] && strchr(" \t\r\n", p[i]);

		if (p[i] < ' ' && (string || !blank))
			return false;
		if (string && p[i] == '\\') {
			i++;
		} else if (p[i] == '"') {
			string = !string;
		} else if (!string && blank) {
			continue;
		} else if (ended || (!depth && p[i] != '{')) {
			return false;
		} else if (!string && strchr("{[", p[i]) && p[i]) {
			depth++;
		} else if (!string && strchr("}]", p[i]) && p[i]) {
			ended = --depth == 0;
		}
	}
	return ended && !string;
}

static bool is_end(const uint8_t *p, size_t left)
{
	uint64_t n = (uint64_t)p[2] << 24 | (uint64_t)p[3] << 16 |
		     (uint64_t)p[4] << 8 | p[5];

	return p[0] == FERRY_SECTION_EOF &&
	       p[1] == FERRY_SECTION_VMDESCRIPTION && n == left - END_WIRE;
}

/* Where the end begins; NULL when it has not come. */
static const uint8_t *find_end(const uint8_t *data, size_t bytes)
{
	size_t n = FERRY_FOOTER_WIRE + END_WIRE;

	if (bytes < n)
		return NULL;
	if (data[bytes - n] == FERRY_SECTION_FOOTER &&
	    is_end(data + bytes - END_WIRE, END_WIRE))
		return data + bytes - END_WIRE;
	/* Only a look at what can be one is long. */
	if (!memchr("} \t\r\n", data[bytes - 1], 5))
		return NULL;
	for (size_t i = FERRY_FOOTER_WIRE; i + END_WIRE < bytes; i++)
		if (is_end(data + i, bytes - i) &&
		    data[i - FERRY_FOOTER_WIRE] == FERRY_SECTION_FOOTER &&
		    is_json(data + i + END_WIRE, bytes - i - END_WIRE))
			return data + i;
	return NULL;
}

/* The next octets; 0: the source has closed its side. */
static int read_more(struct ferry_target *t, struct ferry_err *e)
{
	size_t n;

	if (!ferry_inbuf_need(&t->main_in, 1, e))
		return e->code == FERRY_E_CLOSED ? 0 : -1;
	n = ferry_inbuf_have(&t->main_in);
	ferry_save_bytes(&t->tail, t->main_in.data + t->main_in.start, n);
	ferry_inbuf_consume(&t->main_in, n);
	if (t->tail.failed)
		return ferry_err_set(e, FERRY_E_PROTO, t->tail.failed,
				     "device state");
	return 1;
}

/* What cannot be told by its octets is the end if nothing follows. */
static bool is_all(struct ferry_target *t, const uint8_t *end)
{
	const uint8_t *text = end + END_WIRE;
	size_t sections = (size_t)(end - t->tail.data);
	size_t n = t->tail.bytes - sections - END_WIRE;

	return t->vm->adopt->is_whole(t->vm->opaque, t->tail.data, sections,
				      text, n) ||
	       t->main->ops->wait(t->main, POLLIN, QUIET_MS) == 0;
}

/* Does it begin as sections do, and end as they do? */
static int check_sections(struct ferry_target *t, struct ferry_err *e)
{
	if (t->loader.device_bytes && *t->loader.devices ==
	    FERRY_SECTION_FULL)
		return 0;
	return ferry_err_set(e, FERRY_E_PROTO, 0, "what follows the end of "
			     "RAM is no device state");
}

int ferry_tail_read(struct ferry_target *t, struct ferry_err *e)
{
	const uint8_t *end = NULL;
	int more = 1;

	while (more > 0 && (!end || !is_all(t, end))) {
		more = read_more(t, e);
		if (more < 0)
			return ferry_err_wrap(e, "device state");
		end = find_end(t->tail.data, t->tail.bytes);
	}
	if (!end)
		return ferry_err_set(e, FERRY_E_CLOSED, 0, "the stream ended "
				     "in the midst of device state");
	t->loader.devices = t->tail.data;
	t->loader.device_bytes = (size_t)(end - t->tail.data);
	t->adopted.vmdesc = end + END_WIRE;
	t->adopted.vmdesc_bytes = t->tail.bytes - t->loader.device_bytes -
				  END_WIRE;
	return check_sections(t, e);
}
