/* SPDX-License-Identifier: MIT */
/*
 * The main stream's frame: decode from what is buffered, ask for what lacks.
 */
#include "recv/stream.h"

/* Decode at the head of the buffer until it is done or wrong. */
#define DECODE(in, call, e)						\
	({								\
		size_t need_ = 1;					\
		int rc_ = FERRY_DECODE_MORE;				\
									\
		while (rc_ == FERRY_DECODE_MORE) {			\
			const uint8_t *at_ = ferry_inbuf_need(in, need_, e); \
			struct ferry_rd rd;				\
									\
			if (!at_) {					\
				rc_ = FERRY_DECODE_WRONG;		\
				break;					\
			}						\
			rd = ferry_rd_over(at_, ferry_inbuf_have(in));	\
			rc_ = (call);					\
			if (rc_ == FERRY_DECODE_DONE)			\
				ferry_inbuf_consume(in,			\
						    (size_t)(rd.p - at_)); \
			else						\
				need_ = ferry_inbuf_have(in) + rd.lack;	\
		}							\
		rc_ == FERRY_DECODE_DONE ? 0 : -1;			\
	})

int ferry_stream_open(struct ferry_inbuf *in, struct ferry_config *c,
		      struct ferry_err *e)
{
	if (DECODE(in, ferry_file_header_decode(&rd, e), e))
		return -1;
	return DECODE(in, ferry_config_decode(&rd, c, e), e);
}

int ferry_stream_section(struct ferry_inbuf *in, struct ferry_section *s,
			 struct ferry_err *e)
{
	return DECODE(in, ferry_section_decode(&rd, s, e), e);
}

int ferry_stream_payload(struct ferry_inbuf *in, size_t n, struct ferry_rd *rd,
			 struct ferry_err *e)
{
	static const uint8_t nothing[1];
	const uint8_t *at = nothing;

	if (n) {
		at = ferry_inbuf_need(in, n, e);
		if (!at)
			return -1;
		ferry_inbuf_consume(in, n);
	}
	*rd = ferry_rd_over(at, n);
	return 0;
}

int ferry_stream_footer(struct ferry_inbuf *in, uint32_t id,
			struct ferry_err *e)
{
	return DECODE(in, ferry_footer_decode(&rd, id, e), e);
}
