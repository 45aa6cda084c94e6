/* SPDX-License-Identifier: MIT */
/*
 * The library's version.
 */
#include <ferry/version.h>

#define TEXT_(n) #n
#define TEXT(n) TEXT_(n)

const char *ferry_version(void)
{
	return TEXT(FERRY_VERSION_MAJOR) "." TEXT(FERRY_VERSION_MINOR) "."
	       TEXT(FERRY_VERSION_MICRO);
}
