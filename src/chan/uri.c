/* SPDX-License-Identifier: MIT */
/*
 * Parsing addresses.  Strict: what is not understood is refused with the
 * sentence that says how to write it.
 */
#include "chan/uri.h"

#include <ctype.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/un.h>

#include "base/cleanup.h"
#include "chan/stream.h"

#define PORT_MAX	65535
#define OFFSET_OPTION	",offset="

/* Digits only, all of them, at most `most`. */
static bool parse_number(const char *text, uint64_t most, uint64_t *value)
{
	uint64_t v = 0;

	if (!*text)
		return false;
	for (; *text; text++) {
		if (!isdigit((unsigned char)*text))
			return false;
		if (__builtin_mul_overflow(v, 10, &v) ||
		    __builtin_add_overflow(v, (uint64_t)(*text - '0'), &v) ||
		    v > most)
			return false;
	}
	*value = v;
	return true;
}

static bool is_host_char(char c, bool in_brackets)
{
	return isalnum((unsigned char)c) || c == '-' || c == '.' || c == '_' ||
	       (in_brackets && (c == ':' || c == '%'));
}

static int take_host(struct ferry_uri *u, const char *host, size_t n,
		     bool in_brackets, struct ferry_err *e)
{
	if (n >= sizeof(u->host))
		return ferry_err_set(e, FERRY_E_INVALID, 0,
				     "host of %zu octets, at most %zu are "
				     "allowed", n, sizeof(u->host) - 1);
	for (size_t i = 0; i < n; i++)
		if (!is_host_char(host[i], in_brackets))
			return ferry_err_set(e, FERRY_E_INVALID, 0,
					     "'%c' does not belong in a host%s",
					     isprint((unsigned char)host[i]) ?
					     host[i] : '?',
					     host[i] == ':' ?
					     " (put IPv6 in brackets)" : "");
	memcpy(u->host, host, n);
	u->host[n] = '\0';
	return 0;
}

static int take_port(struct ferry_uri *u, const char *port,
		     struct ferry_err *e)
{
	uint64_t value;

	if (!*port)
		return ferry_err_set(e, FERRY_E_INVALID, 0, "no port");
	if (!parse_number(port, PORT_MAX, &value))
		return ferry_err_set(e, FERRY_E_INVALID, 0,
				     "port '%.32s' is not a number up to %d",
				     port, PORT_MAX);
	snprintf(u->port, sizeof(u->port), "%" PRIu64, value);
	return 0;
}

static int parse_bracketed(struct ferry_uri *u, const char *rest,
			   struct ferry_err *e)
{
	const char *close = strchr(rest, ']');

	if (!close)
		return ferry_err_set(e, FERRY_E_INVALID, 0,
				     "'[' without ']'");
	if (close == rest + 1)
		return ferry_err_set(e, FERRY_E_INVALID, 0,
				     "nothing between the brackets");
	if (close[1] != ':')
		return ferry_err_set(e, FERRY_E_INVALID, 0,
				     "no :PORT behind ']'");
	if (take_host(u, rest + 1, (size_t)(close - rest) - 1, true, e))
		return -1;
	return take_port(u, close + 2, e);
}

static int parse_tcp(struct ferry_uri *u, const char *rest,
		     struct ferry_err *e)
{
	const char *colon = strrchr(rest, ':');

	if (*rest == '[')
		return parse_bracketed(u, rest, e);
	if (!colon)
		return ferry_err_set(e, FERRY_E_INVALID, 0,
				     "no port: write tcp:HOST:PORT");
	if (take_host(u, rest, (size_t)(colon - rest), false, e))
		return -1;
	return take_port(u, colon + 1, e);
}

static int take_path(struct ferry_uri *u, const char *path, size_t n,
		     size_t size, struct ferry_err *e)
{
	if (!n)
		return ferry_err_set(e, FERRY_E_INVALID, 0, "no path");
	if (n >= size)
		return ferry_err_set(e, FERRY_E_INVALID, 0,
				     "path of %zu octets, at most %zu are "
				     "allowed", n, size - 1);
	memcpy(u->path, path, n);
	u->path[n] = '\0';
	return 0;
}

static int parse_unix(struct ferry_uri *u, const char *rest,
		      struct ferry_err *e)
{
	return take_path(u, rest, strlen(rest),
			 sizeof(((struct sockaddr_un *)0)->sun_path), e);
}

static int parse_fd(struct ferry_uri *u, const char *rest,
		    struct ferry_err *e)
{
	uint64_t value;

	if (!parse_number(rest, INT_MAX, &value))
		return ferry_err_set(e, FERRY_E_INVALID, 0,
				     "'%.32s' is not the number of an fd",
				     rest);
	u->fd = (int)value;
	if (fcntl(u->fd, F_GETFD) < 0)
		return ferry_err_set(e, FERRY_E_INVALID, 0,
				     "fd %d is not open", u->fd);
	return 0;
}

static int parse_file(struct ferry_uri *u, const char *rest,
		      struct ferry_err *e)
{
	const char *option = strstr(rest, OFFSET_OPTION);
	size_t n = option ? (size_t)(option - rest) : strlen(rest);

	if (option && !parse_number(option + strlen(OFFSET_OPTION), INT64_MAX,
				    &u->offset))
		return ferry_err_set(e, FERRY_E_INVALID, 0,
				     "offset '%.32s' is not a number of octets",
				     option + strlen(OFFSET_OPTION));
	return take_path(u, rest, n, sizeof(u->path), e);
}

static void format_tcp(const struct ferry_uri *u, char *buf, size_t bytes)
{
	snprintf(buf, bytes, strpbrk(u->host, ":%") ? "tcp:[%s]:%s" :
						      "tcp:%s:%s",
		 u->host, u->port);
}

static void format_unix(const struct ferry_uri *u, char *buf, size_t bytes)
{
	snprintf(buf, bytes, "unix:%s", u->path);
}

static void format_fd(const struct ferry_uri *u, char *buf, size_t bytes)
{
	snprintf(buf, bytes, "fd:%d", u->fd);
}

static void format_file(const struct ferry_uri *u, char *buf, size_t bytes)
{
	if (u->offset)
		snprintf(buf, bytes, "file:%s" OFFSET_OPTION "%" PRIu64,
			 u->path, u->offset);
	else
		snprintf(buf, bytes, "file:%s", u->path);
}

#define STREAM_FEATURES (FERRY_CHAN_READ | FERRY_CHAN_WRITE | \
			 FERRY_CHAN_TWO_WAY | FERRY_CHAN_MORE)

static unsigned stream_features(const struct ferry_uri *u)
{
	(void)u;
	return STREAM_FEATURES;
}

static unsigned fd_features(const struct ferry_uri *u)
{
	unsigned features = 0;

	return ferry_fd_kind(u->fd, &features, NULL) ? features : 0;
}

static unsigned file_features(const struct ferry_uri *u)
{
	unsigned features = FERRY_CHAN_READ | FERRY_CHAN_WRITE;
	struct stat st;

	if (stat(u->path, &st) || S_ISREG(st.st_mode) || S_ISBLK(st.st_mode))
		features |= FERRY_CHAN_SEEK;
	return features;
}

static const struct {
	const char *prefix;
	const char *shape;
	int (*parse)(struct ferry_uri *u, const char *rest,
		     struct ferry_err *e);
	void (*format)(const struct ferry_uri *u, char *buf, size_t bytes);
	unsigned (*features)(const struct ferry_uri *u);
} schemes[] = {
	[FERRY_URI_TCP]	 = { "tcp:",  "tcp:HOST:PORT",
			     parse_tcp, format_tcp, stream_features },
	[FERRY_URI_UNIX] = { "unix:", "unix:PATH",
			     parse_unix, format_unix, stream_features },
	[FERRY_URI_FD]	 = { "fd:",   "fd:NUMBER",
			     parse_fd, format_fd, fd_features },
	[FERRY_URI_FILE] = { "file:", "file:PATH[,offset=OCTETS]",
			     parse_file, format_file, file_features },
};

static int unknown(const char *text, struct ferry_err *e)
{
	char known[128] = "";
	size_t n = 0;

	for (size_t i = 0; i < FERRY_LEN(schemes); i++)
		n += (size_t)snprintf(known + n, sizeof(known) - n, "%s%s",
				      i ? ", " : "", schemes[i].shape);
	return ferry_err_set(e, FERRY_E_INVALID, 0,
			     "address '%.64s' is none of %s", text, known);
}

int ferry_uri_parse(struct ferry_uri *u, const char *text,
		    struct ferry_err *e)
{
	*u = (struct ferry_uri){ .fd = -1 };
	for (size_t i = 0; i < FERRY_LEN(schemes); i++) {
		size_t n = strlen(schemes[i].prefix);

		if (strncmp(text, schemes[i].prefix, n) != 0)
			continue;
		u->kind = (enum ferry_uri_kind)i;
		if (schemes[i].parse(u, text + n, e))
			return ferry_err_wrap(e, "address '%.64s'", text);
		return 0;
	}
	return unknown(text, e);
}

void ferry_uri_format(const struct ferry_uri *u, char *buf, size_t bytes)
{
	schemes[u->kind].format(u, buf, bytes);
}

unsigned ferry_uri_features(const struct ferry_uri *u)
{
	return schemes[u->kind].features(u);
}

const char *ferry_uri_host(const struct ferry_uri *u)
{
	if (u->kind != FERRY_URI_TCP)
		return "";
	return *u->host ? u->host : "127.0.0.1";
}

bool ferry_uri_is_local(const struct ferry_uri *u)
{
	return u->kind != FERRY_URI_TCP || !strncmp(u->host, "127.", 4) ||
	       !strcmp(u->host, "::1") || !strcmp(u->host, "localhost");
}
