/* SPDX-License-Identifier: MIT */
/* cmocka and what it needs to be included before it. */
#ifndef FERRY_TESTS_CTL_CM_H
#define FERRY_TESTS_CTL_CM_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#endif
