/* SPDX-License-Identifier: MIT */
/*
 * In the Linux guest: asks a Redis server and knows what it must answer.
 *
 *	askredis SOCKET
 *
 * Writes values, reads those of long ago, counts a counter up.  Each second
 *
 *	REDIS n bad
 *
 * n: questions so far; bad: answers that were not the expected ones.
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#define KEYS		4096
#define VALUE_BYTES	600
#define STEPS		50	/* a second, of three questions each */

static uint32_t version[KEYS];		/* of each value, 0: none yet */

static void make_value(char *value, unsigned key)
{
	unsigned x = key * 2654435761u + version[key];

	for (unsigned i = 0; i < VALUE_BYTES; i++, x = x * 1103515245 + 12345)
		value[i] = (char)('a' + (x >> 16) % 26);
	value[VALUE_BYTES] = '\0';
}

/* The server's answer to line, up to the \r\n that ends the wanted one. */
static int answers(FILE *in, FILE *out, const char *line, const char *wanted)
{
	char got[VALUE_BYTES + 32] = "";
	size_t bytes = strlen(wanted);

	fputs(line, out);
	fflush(out);
	if (fread(got, 1, bytes, in) == bytes && !memcmp(got, wanted, bytes))
		return 1;
	dprintf(STDOUT_FILENO, "BAD redis: %.20s... got %.40s... not "
		"%.40s...\n", line, got, wanted);
	return 0;
}

static int put(FILE *in, FILE *out, unsigned key)
{
	char value[VALUE_BYTES + 1], line[VALUE_BYTES + 64];

	version[key]++;
	make_value(value, key);
	snprintf(line, sizeof(line), "SET key:%u %s\r\n", key, value);
	return answers(in, out, line, "+OK\r\n");
}

static int get(FILE *in, FILE *out, unsigned key)
{
	char value[VALUE_BYTES + 1], line[64], wanted[VALUE_BYTES + 32];

	snprintf(line, sizeof(line), "GET key:%u\r\n", key);
	if (!version[key])
		return answers(in, out, line, "$-1\r\n");
	make_value(value, key);
	snprintf(wanted, sizeof(wanted), "$%d\r\n%s\r\n", VALUE_BYTES, value);
	return answers(in, out, line, wanted);
}

static int count(FILE *in, FILE *out, unsigned long n)
{
	char wanted[32];

	snprintf(wanted, sizeof(wanted), ":%lu\r\n", n);
	return answers(in, out, "INCR counter\r\n", wanted);
}

static int reach(const char *path)
{
	static const struct timespec nap = { .tv_nsec = 200000000 };
	struct sockaddr_un sa = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM, 0);

	strncpy(sa.sun_path, path, sizeof(sa.sun_path) - 1);
	while (connect(fd, (struct sockaddr *)&sa, sizeof(sa)))
		nanosleep(&nap, NULL);
	return fd;
}

int main(int argc, char **argv)
{
	static const struct timespec nap = { .tv_nsec = 1000000000 / STEPS };
	unsigned long n = 0, bad = 0;
	FILE *in, *out;
	int fd;

	if (argc != 2)
		return 2;
	fd = reach(argv[1]);
	in = fdopen(fd, "r");
	out = fdopen(dup(fd), "w");
	for (unsigned long step = 1; in && out && !bad; step++) {
		bad += !put(in, out, (unsigned)(step * 7 % KEYS));
		bad += !get(in, out, (unsigned)(step * 5 % KEYS));
		bad += !count(in, out, step);
		n += 3;
		if (step % STEPS == 0 || bad)
			dprintf(STDOUT_FILENO, "REDIS %lu %lu\n", n, bad);
		nanosleep(&nap, NULL);
	}
	return 1;
}
