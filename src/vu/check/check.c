/* SPDX-License-Identifier: MIT */
/*
 * See check.h.
 */
#include "vu/check/check.h"

#include "base/cleanup.h"
#include "vu/check/rows.h"

static const struct ferry_vc_group *const groups[] = {
	&ferry_vc_handshake, &ferry_vc_rings, &ferry_vc_log,
	&ferry_vc_postcopy, &ferry_vc_state_rows, &ferry_vc_bad,
};

static const struct ferry_vc_row *row_at(size_t n)
{
	for (size_t i = 0; i < FERRY_LEN(groups); i++) {
		if (n < groups[i]->n)
			return &groups[i]->row[n];
		n -= groups[i]->n;
	}
	return NULL;
}

const struct ferry_vu_check *ferry_vu_check_at(size_t n)
{
	const struct ferry_vc_row *row = row_at(n);

	return row ? &row->check : NULL;
}

static int run(const struct ferry_vc_row *row, struct ferry_vc *c)
{
	int rc;

	if (row->asks && c->how->device == FERRY_VU_ANY) {
		ferry_err_set(&c->err, FERRY_E_INVALID, 0,
			      "say which device it is: --device net or blk");
		return FERRY_VC_UNTRIED;
	}
	rc = ferry_vc_guest_init(&c->guest, &c->err);
	if (!rc)
		rc = ferry_vc_connect(c);
	if (!rc) {
		rc = row->run(c);
		ferry_vc_hang_up(c);
	}
	ferry_vc_guest_fini(&c->guest);
	return rc;
}

enum ferry_vu_verdict ferry_vu_check_run(size_t n,
					 const struct ferry_vu_check_how *how,
					 struct ferry_err *why)
{
	struct ferry_vc c = { .how = how, .row = row_at(n) };
	int rc = run(c.row, &c);

	*why = c.err;
	switch (rc) {
	case 0:
		*why = (struct ferry_err){ 0 };
		return FERRY_VU_PASS;
	case FERRY_VC_NOT_OFFERED:
		return FERRY_VU_NOT_OFFERED;
	case FERRY_VC_UNTRIED:
		return FERRY_VU_UNTRIED;
	}
	return FERRY_VU_FAIL;
}

const char *ferry_vu_verdict_name(enum ferry_vu_verdict verdict)
{
	static const char *const names[FERRY_VU_VERDICTS] = {
		"pass", "FAIL", "not offered", "not tried",
	};

	return names[verdict];
}
