/* SPDX-License-Identifier: MIT */
/*
 * The main stream's frame: decode from what is buffered, ask for what lacks.
 */
#include "recv/stream.h"

static int file_header(void *arg, struct ferry_rd *rd, struct ferry_err *e)
{
	(void)arg;
	return ferry_file_header_decode(rd, e);
}

static int config(void *arg, struct ferry_rd *rd, struct ferry_err *e)
{
	return ferry_config_decode(rd, arg, e);
}

static int section(void *arg, struct ferry_rd *rd, struct ferry_err *e)
{
	return ferry_section_decode(rd, arg, e);
}

static int footer(void *arg, struct ferry_rd *rd, struct ferry_err *e)
{
	const uint32_t *id = arg;

	return ferry_footer_decode(rd, *id, e);
}

int ferry_stream_open(struct ferry_inbuf *in, struct ferry_config *c,
		      struct ferry_err *e)
{
	if (ferry_inbuf_decode(in, file_header, NULL, e))
		return -1;
	return ferry_inbuf_decode(in, config, c, e);
}

int ferry_stream_section(struct ferry_inbuf *in, struct ferry_section *s,
			 struct ferry_err *e)
{
	return ferry_inbuf_decode(in, section, s, e);
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
	return ferry_inbuf_decode(in, footer, &id, e);
}
