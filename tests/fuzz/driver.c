/* SPDX-License-Identifier: MIT */
/*
 * A fuzz target as a plain program:
 *
 *   fuzz-X [--corpus FILE] --runs N [--seed S]
 *				N mutations of its seeds, the same each time
 *   fuzz-X [--corpus FILE] --write DIR
 *				write its seeds there, for libFuzzer
 *   fuzz-X --pack DIR FILE	what is in DIR becomes a corpus
 *   fuzz-X FILE|DIR ...		run these inputs (a crash)
 *
 * A corpus is one file of inputs, | be32 octets | those |, that are seeds as
 * well; the shortest come first.
 */
#include <dirent.h>
#include <stdio.h>
#include <sys/stat.h>

#include "fuzz.h"

#define SEEDS_MAX	4096
#define CORPUS_MAX	(64u << 10)	/* what is longer is not kept */
#define INPUT_MAX	(256u * 1024)

struct octets {
	uint8_t	*data;
	size_t	 bytes;
};

/* The seeds, and a generator; a program has one set. */
static struct octets seed[SEEDS_MAX];
static size_t seeds;
static uint64_t state = 1;

static void keep(const void *data, size_t bytes)
{
	struct octets *o = &seed[seeds];

	FUZZ_CHECK(seeds < SEEDS_MAX && bytes <= INPUT_MAX);
	o->data = malloc(bytes ? bytes : 1);
	FUZZ_CHECK(o->data);
	if (bytes)
		memcpy(o->data, data, bytes);
	o->bytes = bytes;
	seeds++;
}

/* xorshift64*: the same numbers everywhere. */
static size_t below(size_t n)
{
	state ^= state >> 12;
	state ^= state << 25;
	state ^= state >> 27;
	return n ? (size_t)(state * 0x2545f4914f6cdd1d >> 16) % n : 0;
}

static void flip(uint8_t *d, size_t *n)
{
	if (*n)
		d[below(*n)] ^= (uint8_t)(1u << below(8));
}

static void interesting(uint8_t *d, size_t *n)
{
	static const uint8_t values[] = {
		0, 1, 0x0f, 0x10, 0x7f, 0x80, 0xfe, 0xff,
	};
	size_t at = below(*n), run = 1 + below(8);

	for (size_t i = at; i < *n && i < at + run; i++)
		d[i] = values[below(sizeof(values))];
}

static void cut(uint8_t *d, size_t *n)
{
	(void)d;
	*n = below(*n + 1);
}

static void drop(uint8_t *d, size_t *n)
{
	size_t at = below(*n), run = below(16);

	if (run > *n - at)
		run = *n - at;
	memmove(d + at, d + at + run, *n - at - run);
	*n -= run;
}

static void repeat(uint8_t *d, size_t *n)
{
	size_t at = below(*n), run = below(64);

	if (run > *n - at)
		run = *n - at;
	if (run > INPUT_MAX - *n)
		run = INPUT_MAX - *n;
	memmove(d + at + run, d + at, *n - at);
	*n += run;
}

static void splice(uint8_t *d, size_t *n)
{
	const struct octets *o = &seed[below(seeds)];
	size_t at = below(*n), from = below(o->bytes);
	size_t run = below(o->bytes - from + 1);

	if (run > INPUT_MAX - at)
		run = INPUT_MAX - at;
	if (run)
		memcpy(d + at, o->data + from, run);
	if (at + run > *n)
		*n = at + run;
}

static void mutate(uint8_t *d, size_t *n)
{
	static void (*const ways[])(uint8_t *d, size_t *n) = {
		flip, flip, interesting, interesting, cut, drop, repeat,
		splice,
	};

	for (size_t i = 0, times = 1 + below(6); i < times; i++)
		ways[below(sizeof(ways) / sizeof(ways[0]))](d, n);
}

static void one(const uint8_t *data, size_t n)
{
	FERRY_AUTO_FREE uint8_t *exact = malloc(n ? n : 1);

	FUZZ_CHECK(exact);
	if (n)
		memcpy(exact, data, n);
	LLVMFuzzerTestOneInput(exact, n);
}

static int run_mutations(unsigned long runs)
{
	FERRY_AUTO_FREE uint8_t *buf = malloc(INPUT_MAX);

	FUZZ_CHECK(buf && seeds);
	for (size_t i = 0; i < seeds; i++)
		one(seed[i].data, seed[i].bytes);
	for (unsigned long i = 0; i < runs; i++) {
		const struct octets *o = &seed[below(seeds)];
		size_t n = o->bytes;

		memcpy(buf, o->data, n);
		mutate(buf, &n);
		one(buf, n);
	}
	printf("%zu seeds, %lu mutations\n", seeds, runs);
	return 0;
}

static int write_seeds(const char *dir)
{
	for (size_t i = 0; i < seeds; i++) {
		char path[4096];
		FERRY_AUTO_FILE f = NULL;

		snprintf(path, sizeof(path), "%s/seed-%03zu", dir, i);
		f = fopen(path, "wb");
		if (!f || fwrite(seed[i].data, 1, seed[i].bytes, f) !=
							seed[i].bytes) {
			perror(path);
			return 1;
		}
	}
	return 0;
}

static int read_corpus(const char *path)
{
	FERRY_AUTO_FREE uint8_t *buf = malloc(CORPUS_MAX);
	FERRY_AUTO_FILE f = fopen(path, "rb");
	struct ferry_rd r;

	if (!f || !buf) {
		perror(path);
		return 1;
	}
	r = ferry_rd_over(buf, fread(buf, 1, CORPUS_MAX, f));
	while (ferry_rd_left(&r)) {
		size_t n = ferry_rd_be32(&r);

		FUZZ_CHECK(n <= ferry_rd_left(&r));
		keep(ferry_rd_bytes(&r, n), n);
	}
	return 0;
}

static int run_file(const char *path, void (*use)(const void *data, size_t n))
{
	FERRY_AUTO_FREE uint8_t *buf = malloc(INPUT_MAX);
	FERRY_AUTO_FILE f = fopen(path, "rb");

	if (!f || !buf) {
		perror(path);
		return 1;
	}
	use(buf, fread(buf, 1, INPUT_MAX, f));
	return 0;
}

static int run_path(const char *path, void (*use)(const void *data, size_t n))
{
	struct dirent *entry;
	struct stat st;
	int rc = 0;
	DIR *dir;

	if (stat(path, &st) || !S_ISDIR(st.st_mode))
		return run_file(path, use);
	dir = opendir(path);
	if (!dir) {
		perror(path);
		return 1;
	}
	while ((entry = readdir(dir)) != NULL) {
		char file[4096];

		snprintf(file, sizeof(file), "%s/%s", path, entry->d_name);
		if (entry->d_name[0] != '.')
			rc |= run_file(file, use);
	}
	closedir(dir);
	return rc;
}

static int shorter(const void *a, const void *b)
{
	const struct octets *x = a, *y = b;

	if (x->bytes != y->bytes)
		return x->bytes < y->bytes ? -1 : 1;
	return x->bytes ? memcmp(x->data, y->data, x->bytes) : 0;
}

static int pack(const char *dir, const char *path)
{
	FERRY_AUTO_FILE f = fopen(path, "wb");
	bool ok = f != NULL;
	size_t all = 0;

	if (run_path(dir, keep))
		return 1;
	qsort(seed, seeds, sizeof(seed[0]), shorter);
	for (size_t i = 0; ok && i < seeds; i++) {
		uint8_t head[4];
		struct ferry_wr w = ferry_wr_over(head, sizeof(head));

		all += sizeof(head) + seed[i].bytes;
		if (all > CORPUS_MAX)
			break;
		ferry_wr_be32(&w, (uint32_t)seed[i].bytes);
		ok = fwrite(head, 1, sizeof(head), f) == sizeof(head) &&
		     fwrite(seed[i].data, 1, seed[i].bytes, f) ==
			     seed[i].bytes;
	}
	if (!ok)
		perror(path);
	return !ok;
}

static void run_one(const void *data, size_t n)
{
	one(data, n);
}

int main(int argc, char **argv)
{
	int rc = 0;

	if (argc == 4 && !strcmp(argv[1], "--pack"))
		return pack(argv[2], argv[3]);
	fuzz_seeds(keep);
	if (argc > 2 && !strcmp(argv[1], "--corpus")) {
		rc = read_corpus(argv[2]);
		argc -= 2;
		argv += 2;
	}
	if (rc) {
		/* it was said */
	} else if (argc == 3 && !strcmp(argv[1], "--write")) {
		rc = write_seeds(argv[2]);
	} else if ((argc == 3 || (argc == 5 && !strcmp(argv[3], "--seed"))) &&
		   !strcmp(argv[1], "--runs")) {
		if (argc == 5)
			state = strtoull(argv[4], NULL, 0) | 1;
		rc = run_mutations(strtoul(argv[2], NULL, 0));
	} else {
		for (int i = 1; i < argc; i++)
			rc |= run_path(argv[i], run_one);
	}
	for (size_t i = 0; i < seeds; i++)
		free(seed[i].data);
	return rc;
}
