/* SPDX-License-Identifier: MIT */
/*
 * vhost-user messages, one after the other: header, then the payload in the
 * form that its request or its reply has.
 */
#include "fuzz.h"

#include "vu/msg/msg.h"

static void check_payload(struct ferry_vu_msg *m, const uint8_t *payload,
			  enum ferry_vu_form form)
{
	uint8_t again[FERRY_VU_PAYLOAD_MAX + 8] = { 0 };
	struct ferry_err e = { 0 };
	size_t n;

	if (ferry_vu_payload_decode(payload, form, m, &e)) {
		FUZZ_CHECK(e.code == FERRY_E_PROTO && e.msg[0]);
		return;
	}
	if (form == FERRY_VU_CONFIG && !m->h.bytes)
		return;
	n = ferry_vu_payload_encode(again, form, m);
	FUZZ_CHECK(n == m->h.bytes ||
		   (form == FERRY_VU_INFLIGHT && m->h.bytes == 20));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
	while (bytes >= FERRY_VU_HEADER_BYTES) {
		uint8_t payload[FERRY_VU_PAYLOAD_MAX];
		const struct ferry_vu_row *row;
		struct ferry_vu_msg m = { 0 };

		if (ferry_vu_header_decode(data, &m.h, NULL))
			return 0;
		data += FERRY_VU_HEADER_BYTES;
		bytes -= FERRY_VU_HEADER_BYTES;
		if (bytes < m.h.bytes)
			return 0;
		memset(payload, 0, sizeof(payload));
		memcpy(payload, data, m.h.bytes);
		data += m.h.bytes;
		bytes -= m.h.bytes;
		row = ferry_vu_row(m.h.request);
		if (row)
			check_payload(&m, payload,
				      m.h.flags & FERRY_VU_REPLY ? row->reply :
				      row->form);
	}
	return 0;
}

void fuzz_seeds(void (*emit)(const void *data, size_t bytes))
{
	for (uint32_t request = 1; request < 64; request++) {
		const struct ferry_vu_row *row = ferry_vu_row(request);
		uint8_t octets[FERRY_VU_HEADER_BYTES + FERRY_VU_PAYLOAD_MAX];
		struct ferry_vu_msg m = { .h = { request, 1, 0 } };

		if (!row)
			continue;
		if (row->form == FERRY_VU_MEM)
			m.mem = (struct ferry_vu_mem){ 2, {
				{ 0, 1 << 20, 1 << 30, 0 },
				{ 1 << 21, 1 << 20, 1u << 31, 1 << 20 },
			} };
		m.h.bytes = (uint32_t)ferry_vu_payload_encode(
			octets + FERRY_VU_HEADER_BYTES, row->form, &m);
		ferry_vu_header_encode(octets, &m.h);
		emit(octets, FERRY_VU_HEADER_BYTES + m.h.bytes);
	}
}
