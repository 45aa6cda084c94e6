/* SPDX-License-Identifier: MIT */
/* Records of an image that lie: right by their hash, wrong in what they say. */
#include "parked.h"

#include "park/hash.h"

#define FILE_BYTES	(1u << 20)

static struct ferry_image_head good(void)
{
	return (struct ferry_image_head){
		.file_bytes = FILE_BYTES,
		.table = { 0x10000, 10 * FERRY_CHUNK_WIRE, 0 },
		.state = { 0x20000, 100, 0 },
		.index = { 0x30000, 100, 0 },
	};
}

static int try(const struct ferry_image_head *h, struct ferry_err *e)
{
	struct ferry_image_head got;
	uint8_t page[FERRY_IMAGE_HEAD_BYTES];

	ferry_image_head_encode(page, h);
	return ferry_image_head_decode(page, FILE_BYTES, &got, e);
}

static void a_head_that_lies_is_refused(void **state)
{
	static const struct {
		size_t at;
		uint64_t value;
		const char *says;
	} rows[] = {
#define FIELD(f) offsetof(struct ferry_image_head, f)
		{ FIELD(table.offset), 0, "chunk table" },
		{ FIELD(table.offset), FILE_BYTES, "chunk table" },
		{ FIELD(table.offset), UINT64_MAX, "chunk table" },
		{ FIELD(table.bytes), UINT64_MAX, "chunk table" },
		{ FIELD(table.bytes), 19, "chunk table" },
		{ FIELD(state.offset), FERRY_IMAGE_HEAD_BYTES - 1, "state" },
		{ FIELD(state.bytes), FILE_BYTES, "state" },
		{ FIELD(index.offset), FILE_BYTES - 99, "index" },
		{ FIELD(index.bytes), FERRY_INDEX_BYTES_MAX + 1, "index" },
		{ FIELD(file_bytes), FILE_BYTES + 1, "should have 1048577" },
#undef FIELD
	};
	struct ferry_image_head h = good();
	struct ferry_err e = { 0 };

	(void)state;
	assert_ok(try(&h, &e));
	for (size_t i = 0; i < FERRY_LEN(rows); i++) {
		h = good();
		memcpy((uint8_t *)&h + rows[i].at, &rows[i].value, 8);
		assert_int_equal(try(&h, &e), -1);
		if (!strstr(e.msg, rows[i].says))
			fail_msg("row %zu: '%s'", i, e.msg);
	}
	h = good();
	h.flags = 4;
	assert_int_equal(try(&h, &e), -1);
	assert_non_null(strstr(e.msg, "flags 0x4"));
}

static void device_state_in_parts_is_told_by_a_flag(void **state)
{
	static const struct ferry_piece bad[] = {
		{ 0, FERRY_KEPT_WIRE, 0 },
		{ 0x40000, 0, 0 },
		{ 0x40000, FERRY_KEPT_WIRE + 1, 0 },
		{ FILE_BYTES - 1, FERRY_KEPT_WIRE, 0 },
		{ 0x40000, UINT64_MAX, 0 },
		{ 0x40000, (uint64_t)FERRY_KEPT_WIRE *
			   (FERRY_KEPT_RECORDS_MAX + 1ull), 0 },
	};
	struct ferry_image_head h = good();
	struct ferry_err e = { 0 };

	(void)state;
	h.flags = FERRY_IMAGE_KEPT;
	h.kept = (struct ferry_piece){ 0x40000, 3 * FERRY_KEPT_WIRE, 0 };
	assert_ok(try(&h, &e));
	for (size_t i = 0; i < FERRY_LEN(bad); i++) {
		h.kept = bad[i];
		assert_int_equal(try(&h, &e), -1);
		assert_non_null(strstr(e.msg, "device state in parts"));
	}
	h.flags = 4;
	assert_int_equal(try(&h, &e), -1);
	assert_non_null(strstr(e.msg, "does not know (flags 0x4)"));
}

static void a_record_of_device_state_lies_in_the_file(void **state)
{
	static const struct ferry_kept_place good = {
		{ FERRY_KEPT_PACKET, 63, FERRY_KEPT_PIECE_BYTES }, 4096, 7,
	};
	static const struct ferry_kept_place bad[] = {
		{ { 0, 0, 1 }, 4096, 0 },
		{ { FERRY_KEPT_MORE + 1, 0, 1 }, 4096, 0 },
		{ { FERRY_KEPT_PACKET, 64, 1 }, 4096, 0 },
		{ { FERRY_KEPT_PACKET, 0, FERRY_KEPT_PIECE_BYTES + 1 }, 4096,
		  0 },
		{ { FERRY_KEPT_PACKET, 0, 1 }, 4095, 0 },
		{ { FERRY_KEPT_PACKET, 0, 2 }, 2 * FILE_BYTES - 1, 0 },
		{ { FERRY_KEPT_PACKET, 0, 2 }, UINT64_MAX, 0 },
	};
	uint8_t wire[FERRY_KEPT_WIRE];
	struct ferry_kept_place got;

	(void)state;
	memset(&got, 0, sizeof(got));	/* padding, too */
	ferry_kept_encode(wire, &good);
	assert_int_equal(ferry_kept_decode(wire, 2 * FILE_BYTES, &got), 0);
	assert_memory_equal(&got, &good, sizeof(got));
	for (size_t i = 0; i < FERRY_LEN(bad); i++) {
		ferry_kept_encode(wire, &bad[i]);
		assert_int_equal(ferry_kept_decode(wire, 2 * FILE_BYTES, &got),
				 -EBADMSG);
	}
}

static void another_version_is_named(void **state)
{
	struct ferry_image_head h = good();
	uint8_t page[FERRY_IMAGE_HEAD_BYTES];
	struct ferry_err e = { 0 };

	(void)state;
	ferry_image_head_encode(page, &h);
	page[11] = 2;
	assert_int_equal(ferry_image_head_decode(page, FILE_BYTES, &h, &e),
			 -1);
	assert_non_null(strstr(e.msg, "is of version 2; this ferry reads"));
}

static void a_chunk_lies_in_the_file(void **state)
{
	static const struct { uint64_t offset; uint32_t bytes; int rc; }
	rows[] = {
		{ 0, 0, 0 }, { UINT64_MAX, 0, 0 },
		{ 4096, FERRY_CHUNK_BYTES, 0 },
		{ 4096, FERRY_CHUNK_BYTES + 1, -EBADMSG },
		{ 4095, 1, -EBADMSG },
		{ FILE_BYTES - 1, 1, 0 }, { FILE_BYTES, 1, -EBADMSG },
		{ FILE_BYTES - 1, 2, -EBADMSG },
		{ UINT64_MAX, 1, -EBADMSG },
	};

	(void)state;
	for (size_t i = 0; i < FERRY_LEN(rows); i++) {
		struct ferry_chunk c = { rows[i].offset, rows[i].bytes, 7 };
		uint8_t wire[FERRY_CHUNK_WIRE];

		ferry_chunk_encode(wire, &c);
		assert_int_equal(ferry_chunk_decode(wire, FILE_BYTES, &c),
				 rows[i].rc);
		assert_int_equal(c.hash, 7);
	}
}

/* ---- index --------------------------------------------------------------- */

struct indexed {
	struct ferry_image_index x;
	uint8_t		data[4096];
	size_t		bytes;
};

/* 32 chunks and 1. */
static void index_of(struct indexed *i, uint64_t rom_bytes)
{
	struct ferry_err e = { 0 };

	memset(i, 0, sizeof(*i));
	i->x.dialect = FERRY_DIALECT_QEMU;
	i->x.sections_bytes = 5;
	strcpy(i->x.vm.name, "pc");
	assert_ok(ferry_hello_add_block(&i->x.vm, "ram", FERRY_HUGE_BYTES,
					FERRY_HUGE_BYTES, 0, &e));
	assert_ok(ferry_hello_add_block(&i->x.vm, "rom", rom_bytes, PAGE, 0,
					&e));
}

static void write_index(struct indexed *i)
{
	struct ferry_wr w = ferry_wr_over(i->data, sizeof(i->data));

	ferry_image_index_encode(&w, &i->x);
	i->bytes = ferry_wr_used(&w);
	assert_int_equal(i->bytes, ferry_image_index_bytes(&i->x));
	ferry_hello_fini(&i->x.vm);
}

static int read_index(struct indexed *i, size_t bytes, struct ferry_err *e)
{
	struct ferry_image_index got;
	int rc = ferry_image_index_decode(i->data, bytes, 33, &got, e);

	if (!rc)
		ferry_hello_fini(&got.vm);
	return rc;
}

static void an_index_that_lies_is_refused(void **state)
{
	enum { NOTHING, ROM, DIALECT, STATE, DESC, NAME };
	static const struct {
		int what;
		uint32_t value;
		const char *says;
	} rows[] = {
		{ NOTHING, 0, NULL },
		{ ROM, FERRY_CHUNK_BYTES, NULL },
		{ ROM, FERRY_CHUNK_BYTES + PAGE, "table is too short" },
		{ ROM, 0, "memory block \"rom\" of 0 octets" },
		{ ROM, 4097, "memory block \"rom\" of 4097 octets" },
		{ DIALECT, 0, "kind of the source" },
		{ DIALECT, 3, "kind of the source" },
		{ STATE, FERRY_PACKAGE_BYTES_MAX + 1, "device state" },
		{ DESC, FERRY_VMDESC_BYTES_MAX + 1, "device state" },
		{ NAME, 0, "hello: bad or second VM name" },
	};
	struct ferry_err e = { 0 };
	struct indexed i;

	(void)state;
	for (size_t r = 0; r < FERRY_LEN(rows); r++) {
		uint32_t value = rows[r].value;
		int rc;

		index_of(&i, rows[r].what == ROM ? value : 3 * PAGE);
		if (rows[r].what == DIALECT)
			i.x.dialect = (uint8_t)value;
		if (rows[r].what == STATE)
			i.x.sections_bytes = value;
		if (rows[r].what == DESC)
			i.x.vmdesc_bytes = value;
		if (rows[r].what == NAME)
			i.x.vm.name[0] = '\0';
		write_index(&i);
		rc = read_index(&i, i.bytes, &e);
		if (rc != (rows[r].says ? -1 : 0) ||
		    (rc && !strstr(e.msg, rows[r].says)))
			fail_msg("row %zu: %d, '%s'", r, rc, e.msg);
	}
}

static void an_index_for_more_chunks_than_there_are_blocks(void **state)
{
	struct ferry_image_index got;
	struct ferry_err e = { 0 };
	struct indexed i;

	(void)state;
	index_of(&i, 3 * PAGE);
	write_index(&i);
	assert_int_equal(ferry_image_index_decode(i.data, i.bytes, 34, &got,
						  &e), -1);
	assert_non_null(strstr(e.msg, "table is too long"));
}

static void an_index_of_any_other_length_is_refused(void **state)
{
	struct ferry_err e = { 0 };
	struct indexed i;

	(void)state;
	index_of(&i, 3 * PAGE);
	write_index(&i);
	for (size_t n = 0; n < i.bytes + 20; n++)
		assert_int_equal(read_index(&i, n, &e), n == i.bytes ? 0 : -1);
}

static void a_chunk_is_found_in_its_block(void **state)
{
	static const struct { uint64_t chunk; struct ferry_chunk_place want; }
	rows[] = {
		{ 0, { 0, 0, 16 } }, { 1, { 0, 16, 16 } },
		{ 31, { 0, 496, 16 } }, { 32, { 1, 0, 3 } },
	};
	struct ferry_image_index got;
	struct ferry_err e = { 0 };
	struct indexed i;

	(void)state;
	index_of(&i, 3 * PAGE);
	write_index(&i);
	assert_ok(ferry_image_index_decode(i.data, i.bytes, 33, &got, &e));
	for (size_t r = 0; r < FERRY_LEN(rows); r++) {
		struct ferry_chunk_place p = ferry_chunk_find(&got,
							      rows[r].chunk);

		assert_int_equal(p.block, rows[r].want.block);
		assert_int_equal(p.page, rows[r].want.page);
		assert_int_equal(p.pages, rows[r].want.pages);
	}
	ferry_hello_fini(&got.vm);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_head_that_lies_is_refused),
		cmocka_unit_test(another_version_is_named),
		cmocka_unit_test(device_state_in_parts_is_told_by_a_flag),
		cmocka_unit_test(a_record_of_device_state_lies_in_the_file),
		cmocka_unit_test(a_chunk_lies_in_the_file),
		cmocka_unit_test(an_index_that_lies_is_refused),
		cmocka_unit_test(an_index_for_more_chunks_than_there_are_blocks),
		cmocka_unit_test(an_index_of_any_other_length_is_refused),
		cmocka_unit_test(a_chunk_is_found_in_its_block),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
