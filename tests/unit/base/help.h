/* SPDX-License-Identifier: MIT */
/* cmocka and what it wants before it. */
#ifndef TESTS_UNIT_BASE_HELP_H
#define TESTS_UNIT_BASE_HELP_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "base/cleanup.h"

#define assert_ok(rc)	assert_int_equal((rc), 0)

#endif
