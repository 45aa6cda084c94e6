/* SPDX-License-Identifier: MIT */
/*
 * How a connection between two ferries opens: channel header, hello.  First
 * octet: offer or answer.  The hello is compared with a good one.
 */
#include "fuzz.h"

#include <ferry/vm.h>

#include "wire/channel.h"
#include "wire/hello.h"
#include "wire/kind.h"

static int offer_decode(struct ferry_rd *r, void *out, struct ferry_err *e)
{
	return ferry_channel_decode(r, false, out, e);
}

static int answer_decode(struct ferry_rd *r, void *out, struct ferry_err *e)
{
	return ferry_channel_decode(r, true, out, e);
}

static void encode(struct ferry_wr *w, const void *in)
{
	ferry_channel_encode(w, in);
}

/* Not canonical: a later version's header may be longer. */
static const struct fuzz_codec codecs[] = {
	{ sizeof(struct ferry_channel_head), false, offer_decode, encode },
	{ sizeof(struct ferry_channel_head), false, answer_decode, encode },
};

static void good(struct ferry_hello *h, bool answer)
{
	*h = (struct ferry_hello){
		.name = "db1", .has_channels = true, .data = 4, .urgent = 1,
		.has_verdict = answer, .verdict = answer ? 5 : 0,
		.verdict_text = "does not fit", .software = "ferry",
	};
	FUZZ_CHECK(!ferry_hello_add_block(h, "ram", 1 << 30, 4096, 0, NULL));
	FUZZ_CHECK(!ferry_hello_add_block(h, "rom", 1 << 21, FERRY_HUGE_BYTES,
					  1 << 30, NULL));
	FUZZ_CHECK(!ferry_hello_add_fact(h, "vcpus", FERRY_FACT_EQUAL, "2", 1,
					 NULL));
	FUZZ_CHECK(!ferry_hello_add_fact(h, "cpu", FERRY_FACT_SUBSET,
					 "sse2 avx avx2", 13, NULL));
}

static void check_message(const struct ferry_err *e)
{
	FUZZ_CHECK(e->code && e->msg[0]);
	for (const char *p = e->msg; *p; p++)
		FUZZ_CHECK((unsigned char)*p >= 0x20 && *p != 0x7f);
}

/* Fits itself; written and read again it is the same; compared with another
 * it gives a sentence. */
static void use(const struct ferry_hello *h, bool answer)
{
	FERRY_AUTO_FREE uint8_t *buf = malloc(ferry_hello_bytes(h));
	struct ferry_wr w = ferry_wr_over(buf, ferry_hello_bytes(h));
	struct ferry_hello other, again;
	struct ferry_err e = { 0 };
	struct ferry_rd r;

	FUZZ_CHECK(!ferry_hello_check(h, h, NULL));
	ferry_hello_encode(&w, h);
	FUZZ_CHECK(!w.bad && !ferry_wr_left(&w));
	r = ferry_rd_over(buf + 4, ferry_wr_used(&w) - 4);
	FUZZ_CHECK(!ferry_hello_decode(&r, answer, &again, NULL));
	FUZZ_CHECK(!ferry_hello_check(h, &again, NULL));
	FUZZ_CHECK(ferry_hello_bytes(&again) == ferry_hello_bytes(h));
	ferry_hello_fini(&again);

	good(&other, answer);
	if (ferry_hello_check(h, &other, &e))
		check_message(&e);
	if (ferry_hello_check(&other, h, &e))
		check_message(&e);
	if (ferry_hello_verdict(h, &e))
		check_message(&e);
	ferry_hello_fini(&other);
}

static void opening(const uint8_t *data, size_t bytes, bool answer)
{
	struct ferry_rd r = ferry_rd_over(data, bytes);
	struct ferry_err e = { 0 };
	struct ferry_hello h;
	uint32_t n;

	if (ferry_hello_head_decode(&r, &n, &e) != FERRY_DECODE_DONE ||
	    n > ferry_rd_left(&r))
		return;
	r.end = r.p + n;
	if (!ferry_hello_decode(&r, answer, &h, &e)) {
		use(&h, answer);
		ferry_hello_fini(&h);
	} else {
		check_message(&e);
		FUZZ_CHECK(!h.block && !h.fact);
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
	struct ferry_channel_head h;
	uint64_t taken;
	bool answer;
	size_t n;

	if (bytes < 5)
		return 0;
	answer = data[0] & 1;
	n = fuzz_stream(&codecs[answer], data + 1, bytes - 1, &h);
	if (!n)
		return 0;
	FUZZ_CHECK((ferry_conn_kind(data + 1) == FERRY_CONN_FERRY) ==
		   !answer);
	if (!ferry_channel_take(&h, FERRY_FEATURES_KNOWN, &taken, NULL))
		FUZZ_CHECK(!(taken & ~FERRY_FEATURES_KNOWN));
	opening(data + 1 + n, bytes - 1 - n, answer);
	return 0;
}

void fuzz_seeds(void (*emit)(const void *data, size_t bytes))
{
	for (uint16_t type = 1; type <= 4; type++) {
		for (unsigned answer = 0; answer < 2; answer++) {
			struct ferry_channel_head head = {
				.answer = answer, .type = type,
				.session = { 1, 2, 3 },
				.features = FERRY_FEATURES_KNOWN,
				.mandatory = answer ? 0 : 1,
			};
			uint8_t buf[1024];
			struct ferry_wr w = ferry_wr_over(buf, sizeof(buf));
			struct ferry_hello h;

			ferry_wr_u8(&w, (uint8_t)answer);
			ferry_channel_encode(&w, &head);
			if (type == FERRY_CHANNEL_MAIN) {
				good(&h, answer);
				ferry_hello_encode(&w, &h);
				ferry_hello_fini(&h);
			}
			emit(buf, ferry_wr_used(&w));
		}
	}
}
