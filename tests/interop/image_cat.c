/* SPDX-License-Identifier: MIT */
/*
 * image-cat IMAGE: what is in it.  image-cat IMAGE BLOCK: that block's memory.
 * With --state or --vmdesc for BLOCK: that.
 */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "park/image.h"

static int list(const struct ferry_image *img)
{
	const struct ferry_image_index *x = &img->index;

	printf("machine %s\ndialect %u\nsections %" PRIu32 "\nvmdesc %" PRIu32
	       "\n", x->vm.name, x->dialect, x->sections_bytes,
	       x->vmdesc_bytes);
	for (size_t i = 0; i < x->vm.blocks; i++)
		printf("block %s %" PRIu64 " %" PRIu32 "\n",
		       x->vm.block[i].name, x->vm.block[i].bytes,
		       x->vm.block[i].page_bytes);
	for (size_t i = 0; i < x->vm.facts; i++)
		printf("fact %s %s\n", x->vm.fact[i].name,
		       x->vm.fact[i].value);
	return 0;
}

static int cat_state(const struct ferry_image *img, bool vmdesc)
{
	const struct ferry_image_index *x = &img->index;
	size_t n = vmdesc ? x->vmdesc_bytes : x->sections_bytes;

	return fwrite(img->state + (vmdesc ? x->sections_bytes : 0), 1, n,
		      stdout) != n;
}

static int cat_block(const struct ferry_image *img, size_t block,
		     struct ferry_err *e)
{
	uint64_t first = img->index.first_chunk[block];
	uint64_t left = img->index.vm.block[block].bytes;
	struct ferry_image_cache cache;
	int rc = ferry_image_cache_init(&cache, e);

	for (uint64_t i = first; !rc && left; i++) {
		size_t n = left < FERRY_CHUNK_BYTES ? left : FERRY_CHUNK_BYTES;
		const uint8_t *data = ferry_image_chunk(img, &cache, i, e);

		rc = !data || fwrite(data, 1, n, stdout) != n;
		left -= n;
	}
	ferry_image_cache_fini(&cache);
	return rc;
}

static int cat(const struct ferry_image *img, const char *what,
	       struct ferry_err *e)
{
	if (!strcmp(what, "--state") || !strcmp(what, "--vmdesc"))
		return cat_state(img, what[2] == 'v');
	for (size_t i = 0; i < img->index.vm.blocks; i++)
		if (!strcmp(img->index.vm.block[i].name, what))
			return cat_block(img, i, e);
	return ferry_err_set(e, FERRY_E_INVALID, 0, "no block %s", what);
}

int main(int argc, char **argv)
{
	struct ferry_err e = { 0 };
	struct ferry_image img;
	int rc;

	if (argc < 2 || ferry_image_open(&img, argv[1], &e)) {
		fprintf(stderr, "image-cat: %s\n", e.msg);
		return 1;
	}
	rc = argc > 2 ? cat(&img, argv[2], &e) : list(&img);
	if (rc)
		fprintf(stderr, "image-cat: %s\n", e.msg);
	ferry_image_close(&img);
	return rc || fflush(stdout) ? 1 : 0;
}
