/* SPDX-License-Identifier: MIT */
#ifndef FERRY_VERSION_H
#define FERRY_VERSION_H

#ifdef __cplusplus
extern "C" {
#endif

#define FERRY_VERSION_MAJOR	0
#define FERRY_VERSION_MINOR	1
#define FERRY_VERSION_MICRO	0

/* "0.1.0" of the library that is loaded; a static string. */
const char *ferry_version(void);

#ifdef __cplusplus
}
#endif
#endif
