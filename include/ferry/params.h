/* SPDX-License-Identifier: MIT */
/*
 * Parameters: what the user wants of a migration, by name.
 *
 * The names, units and defaults stand in one table inside the library, which
 * serves this API, QMP (migrate-set-capabilities, migrate-set-parameters) and
 * the command line alike; walk it with ferry_param_info().  Names without
 * the x-ferry- prefix are QEMU's and mean what they mean there.
 */
#ifndef FERRY_PARAMS_H
#define FERRY_PARAMS_H

#include <stddef.h>
#include <stdint.h>

#include <ferry/err.h>

#ifdef __cplusplus
extern "C" {
#endif

struct ferry_params;

enum ferry_param_type {
	FERRY_PARAM_BOOL,	/* "on"/"off", "true"/"false"; 0 or 1 */
	FERRY_PARAM_UINT,	/* decimal; bytes/s also with k M G T */
	FERRY_PARAM_CHOICE,	/* one of `choices`; its index */
	FERRY_PARAM_TEXT,	/* any, up to 1023 octets; "" by default */
};

/* Made by the library: `size` says which fields it knows. */
struct ferry_param_info {
	uint32_t size;
	enum ferry_param_type type;
	const char *name;
	const char *unit;	/* "bytes/s", "ms", "pages", ... or "" */
	const char *const *choices;	/* CHOICE: NULL-terminated, else NULL */
	uint64_t def, min, max;
	int is_capability;	/* QMP lists it as a capability */
	int while_running;	/* may be changed during a migration */
	const char *help;	/* one sentence */
};

/* Row i of the table, or NULL past its end.  Static. */
const struct ferry_param_info *ferry_param_info(size_t i);

/* All at their defaults.  NULL when memory is out.  Owned by the caller. */
struct ferry_params *ferry_params_new(void);
void ferry_params_free(struct ferry_params *p);

/* Fails with FERRY_E_INVALID for an unknown name or a value out of range; the
 * message lists what is allowed.  Not thread-safe on one object. */
int ferry_params_set(struct ferry_params *p, const char *name,
		     const char *value, struct ferry_err *e);
int ferry_params_set_uint(struct ferry_params *p, const char *name,
			  uint64_t value, struct ferry_err *e);

/* The value (a bool as 0 or 1, a choice as its index; a text has none). */
int ferry_params_get(const struct ferry_params *p, const char *name,
		     uint64_t *value, struct ferry_err *e);

/* The same, of any type, as ferry_params_set() takes it. */
int ferry_params_get_text(const struct ferry_params *p, const char *name,
			  char *buf, size_t bytes, struct ferry_err *e);

#ifdef __cplusplus
}
#endif
#endif
