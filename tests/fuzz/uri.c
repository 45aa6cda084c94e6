/* SPDX-License-Identifier: MIT */
/* Addresses: one that is understood says itself again, and means the same. */
#include "fuzz.h"

#include "chan/uri.h"

static void same(const struct ferry_uri *a, const struct ferry_uri *b)
{
	FUZZ_CHECK(a->kind == b->kind && a->fd == b->fd &&
		   a->offset == b->offset && !strcmp(a->host, b->host) &&
		   !strcmp(a->port, b->port) && !strcmp(a->path, b->path));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
	FERRY_AUTO_FREE char *text = malloc(bytes + 1);
	struct ferry_uri u = { 0 }, again = { 0 };
	struct ferry_err e = { 0 };
	char said[8192];

	FUZZ_CHECK(text);
	if (bytes)
		memcpy(text, data, bytes);
	text[bytes] = 0;
	if (ferry_uri_parse(&u, text, &e)) {
		FUZZ_CHECK(e.code && e.msg[0]);
		return 0;
	}
	if (u.kind == FERRY_URI_FD || u.kind == FERRY_URI_FILE)
		return 0;	/* what it says depends on what is there */
	(void)ferry_uri_features(&u);
	ferry_uri_format(&u, said, sizeof(said));
	FUZZ_CHECK(!ferry_uri_parse(&again, said, &e));
	same(&u, &again);
	return 0;
}

void fuzz_seeds(void (*emit)(const void *data, size_t bytes))
{
	static const char *const texts[] = {
		"tcp:host.example:4444", "tcp::0", "tcp:[::1]:65535",
		"tcp:127.0.0.1:1", "unix:/run/ferry.sock", "fd:3", "fd:-1",
		"file:/tmp/x,offset=4096", "file:/tmp/a,b", "tcp:[::1", "x:y",
	};

	for (size_t i = 0; i < FERRY_LEN(texts); i++)
		emit(texts[i], strlen(texts[i]));
}
