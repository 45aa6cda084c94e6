/* SPDX-License-Identifier: MIT */
/*
 * The edit distance with swaps, as a table: cost[i][j] makes the first j letters
 * of b of the first i of a.
 */
#include "near.h"

#include <string.h>

#define LETTERS_MAX	24u

static unsigned least(unsigned a, unsigned b)
{
	return a < b ? a : b;
}

unsigned ferry_near(const char *a, const char *b)
{
	unsigned cost[LETTERS_MAX + 1][LETTERS_MAX + 1] = { 0 };
	size_t n = strlen(a), m = strlen(b);

	if (n > LETTERS_MAX || m > LETTERS_MAX)
		return LETTERS_MAX;
	for (unsigned i = 0; i <= n; i++)
		for (unsigned j = 0; j <= m; j++) {
			unsigned *c = &cost[i][j];

			if (!i || !j) {
				*c = i + j;
				continue;
			}
			*c = least(cost[i - 1][j], cost[i][j - 1]) + 1;
			*c = least(*c, cost[i - 1][j - 1] +
				       (a[i - 1] != b[j - 1]));
			if (i > 1 && j > 1 && a[i - 1] == b[j - 2] &&
			    a[i - 2] == b[j - 1])
				*c = least(*c, cost[i - 2][j - 2] + 1);
		}
	return cost[n][m];
}
