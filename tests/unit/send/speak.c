/* SPDX-License-Identifier: MIT */
/*
 * What the source says on main: all of it is decoded here by the codec that a
 * target uses, and fits the limits that a command has.
 */
#include "help.h"

#include "send/speak.h"
#include "wire/config.h"
#include "wire/package.h"
#include "wire/ramlist.h"
#include "wire/ranges.h"

struct rig {
	struct ferry_mem mem;
	struct sink	sink;
	struct ferry_chan *chan;
	struct ferry_speaker speak;
	struct ferry_rd	rd;
	struct ferry_err e;
};

static void rig_init(struct rig *r, enum ferry_dialect dialect)
{
	*r = (struct rig){ 0 };
	made_up_block(&r->mem, "ram", 1024, PAGE);
	made_up_block(&r->mem, "huge", 2 * HUGE_PAGES, HUGE);
	r->chan = sink_open(&r->sink, "main");
	ferry_speaker_init(&r->speak, &r->mem);
	r->speak.chan = r->chan;
	r->speak.dialect = dialect;
}

static void listen(struct rig *r)
{
	r->chan->ops->shutdown(r->chan);
	sink_wait(&r->sink);
	r->rd = ferry_rd_over(r->sink.data, r->sink.bytes);
}

static void rig_fini(struct rig *r)
{
	ferry_chan_close(r->chan);
	ferry_speaker_fini(&r->speak);
	sink_fini(&r->sink);
	free(r->mem.block);
}

static struct ferry_section section(struct rig *r)
{
	struct ferry_section s = { 0 };

	if (ferry_section_decode(&r->rd, &s, &r->e) != FERRY_DECODE_DONE)
		fail_msg("section: %s", r->e.msg);
	return s;
}

/* The next command, legal in this dialect; its payload in *in. */
static void command(struct rig *r, enum ferry_command want,
		    struct ferry_rd *in)
{
	struct ferry_section s = section(r);

	assert_int_equal(s.type, FERRY_SECTION_COMMAND);
	assert_int_equal(s.command, want);
	if (ferry_command_check(&s, r->speak.dialect, &r->e))
		fail_msg("%s", r->e.msg);
	*in = ferry_rd_over(ferry_rd_bytes(&r->rd, s.bytes), s.bytes);
	assert_false(r->rd.bad);
}

static void footer(struct rig *r, uint32_t id)
{
	if (ferry_footer_decode(&r->rd, id, &r->e) != FERRY_DECODE_DONE)
		fail_msg("footer: %s", r->e.msg);
}

static void nothing_more(struct rig *r)
{
	assert_int_equal(ferry_rd_left(&r->rd), 0);
}

/* ---- openings and commands ---------------------------------------------- */

static void a_stream_opens_with_the_name_of_the_vm(void **state)
{
	char longest[FERRY_MACHINE_NAME_MAX + 1];
	const char *const names[] = { "x", "pc-q35-8.1", longest };

	(void)state;
	memset(longest, 'l', FERRY_MACHINE_NAME_MAX);
	longest[FERRY_MACHINE_NAME_MAX] = '\0';
	for (size_t i = 0; i < FERRY_LEN(names); i++) {
		struct ferry_config c;
		struct rig r;

		rig_init(&r, FERRY_DIALECT_FERRY);
		assert_ok(ferry_speak_open(&r.speak, names[i], &r.e));
		assert_ok(ferry_speak_eof(&r.speak, &r.e));
		listen(&r);
		assert_int_equal(ferry_file_header_decode(&r.rd, &r.e),
				 FERRY_DECODE_DONE);
		assert_int_equal(ferry_config_decode(&r.rd, &c, &r.e),
				 FERRY_DECODE_DONE);
		assert_string_equal(c.machine, names[i]);
		assert_int_equal(section(&r).type, FERRY_SECTION_EOF);
		nothing_more(&r);
		rig_fini(&r);
	}
}

static void commands_are_commands(void **state)
{
	struct ferry_rd in;
	struct rig r;
	uint32_t v;

	(void)state;
	rig_init(&r, FERRY_DIALECT_FERRY);
	assert_ok(ferry_speak(&r.speak, FERRY_COMMAND_OPEN_RETURN_PATH, &r.e));
	assert_ok(ferry_speak_u32(&r.speak, FERRY_COMMAND_PING, 17, &r.e));
	assert_ok(ferry_speak_u32(&r.speak, FERRY_COMMAND_FINISH, 3, &r.e));
	listen(&r);
	command(&r, FERRY_COMMAND_OPEN_RETURN_PATH, &in);
	command(&r, FERRY_COMMAND_PING, &in);
	assert_ok(ferry_command_u32_decode(&in, FERRY_COMMAND_PING, &v, &r.e));
	assert_int_equal(v, 17);
	command(&r, FERRY_COMMAND_FINISH, &in);
	assert_ok(ferry_command_u32_decode(&in, FERRY_COMMAND_FINISH, &v,
					   &r.e));
	assert_int_equal(v, 3);
	nothing_more(&r);
	rig_fini(&r);
}

static void advise_tells_all_page_sizes(void **state)
{
	struct ferry_advise a;
	struct ferry_rd in;
	struct rig r;

	(void)state;
	rig_init(&r, FERRY_DIALECT_QEMU);
	assert_ok(ferry_speak_advise(&r.speak, &r.e));
	assert_true(r.speak.advised);
	listen(&r);
	command(&r, FERRY_COMMAND_POSTCOPY_ADVISE, &in);
	assert_ok(ferry_advise_decode(&in, &a, &r.e));
	assert_true(a.ram);
	assert_int_equal(a.page_sizes, PAGE | HUGE);
	rig_fini(&r);
}

/* ---- the block list ----------------------------------------------------- */

static uint32_t huge_if_named_so(void *arg, const char *name)
{
	(void)arg;
	return strcmp(name, "huge") ? PAGE : (uint32_t)HUGE;
}

static void expect_list(struct rig *r, bool advised)
{
	struct ferry_section s = section(r);
	struct ferry_ram_record rec;
	struct ferry_ramlist list;

	assert_int_equal(s.type, FERRY_SECTION_START);
	assert_int_equal(s.id, FERRY_RAM_SECTION_ID);
	assert_int_equal(s.version, FERRY_RAM_SECTION_VERSION);
	assert_string_equal(s.name, FERRY_RAM_SECTION_NAME);
	assert_int_equal(ferry_ram_decode(&r->rd, FERRY_RAM_IN_PRECOPY, &rec,
					  &r->e), FERRY_DECODE_DONE);
	assert_int_equal(rec.kind, FERRY_RAM_MEM_SIZE);
	assert_int_equal(rec.addr, r->mem.pages * PAGE);
	assert_ok(ferry_ramlist_init(&list, rec.addr, &r->e));
	list.page_bytes = advised ? huge_if_named_so : NULL;
	for (uint32_t i = 0; i < r->mem.blocks; i++) {
		struct ferry_ramlist_block b;

		if (ferry_ramlist_decode(&r->rd, &list, &b, &r->e) !=
		    FERRY_DECODE_DONE)
			fail_msg("block %u: %s", i, r->e.msg);
		assert_string_equal(b.name, r->mem.block[i].name);
		assert_int_equal(b.bytes, r->mem.block[i].bytes);
		if (advised)
			assert_int_equal(b.page_bytes,
					 r->mem.block[i].page_bytes);
	}
	assert_true(ferry_ramlist_done(&list));
	assert_int_equal(ferry_ram_decode(&r->rd, FERRY_RAM_IN_PRECOPY, &rec,
					  &r->e), FERRY_DECODE_DONE);
	assert_int_equal(rec.kind, FERRY_RAM_EOS);
	footer(r, FERRY_RAM_SECTION_ID);
	nothing_more(r);
}

static void the_block_list_has_every_block(void **state)
{
	(void)state;
	for (int advised = 0; advised < 2; advised++) {
		struct rig r;

		rig_init(&r, FERRY_DIALECT_FERRY);
		r.speak.advised = advised;
		assert_ok(ferry_speak_ram_start(&r.speak, &r.e));
		listen(&r);
		expect_list(&r, advised);
		rig_fini(&r);
	}
}

static void the_longest_block_list_fits(void **state)
{
	struct rig r;

	(void)state;
	rig_init(&r, FERRY_DIALECT_FERRY);
	while (r.mem.blocks < FERRY_BLOCKS_MAX) {
		char name[FERRY_NAME_MAX + 1];

		memset(name, 'a', FERRY_NAME_MAX);
		name[FERRY_NAME_MAX] = '\0';
		name[0] = (char)('0' + r.mem.blocks % 16);
		name[1] = (char)('0' + r.mem.blocks / 16);
		made_up_block(&r.mem, name, 1, PAGE);
	}
	r.speak.advised = true;
	assert_ok(ferry_speak_ram_start(&r.speak, &r.e));
	listen(&r);
	expect_list(&r, true);
	rig_fini(&r);
}

static void parts_open_and_close(void **state)
{
	(void)state;
	for (int last = 0; last < 2; last++) {
		struct ferry_ram_record rec;
		struct ferry_section s;
		struct rig r;

		rig_init(&r, FERRY_DIALECT_QEMU);
		assert_ok(ferry_speak_ram_open(&r.speak, last, &r.e));
		assert_ok(ferry_speak_ram_close(&r.speak, &r.e));
		listen(&r);
		s = section(&r);
		assert_int_equal(s.type, last ? FERRY_SECTION_END :
						FERRY_SECTION_PART);
		assert_int_equal(s.id, FERRY_RAM_SECTION_ID);
		assert_int_equal(ferry_ram_decode(&r.rd, FERRY_RAM_IN_PRECOPY,
						  &rec, &r.e),
				 FERRY_DECODE_DONE);
		assert_int_equal(rec.kind, FERRY_RAM_EOS);
		footer(&r, FERRY_RAM_SECTION_ID);
		nothing_more(&r);
		rig_fini(&r);
	}
}

/* ---- ranges ------------------------------------------------------------- */

/* Said for the pages of the first block whose bit is `value`: every command is
 * legal, none names more ranges than `most`, together they are the map. */
static unsigned expect_ranges(struct rig *r, enum ferry_command what,
			      const struct ferry_bitmap *map, bool value,
			      size_t most)
{
	struct ferry_block_shape shape = {
		r->mem.block[0].name, r->mem.block[0].bytes, PAGE,
	};
	struct ferry_bitmap said = { 0 };
	unsigned commands = 0;

	assert_ok(ferry_bitmap_init(&said, map->bits, NULL));
	while (ferry_rd_left(&r->rd)) {
		struct ferry_ranges g;
		struct ferry_span s;
		struct ferry_rd in;

		command(r, what, &in);
		commands++;
		assert_ok(ferry_ranges_decode(&in, (uint16_t)what, &g, &r->e));
		assert_string_equal(g.name, shape.name);
		assert_in_range(g.count, 1, most);
		if (ferry_ranges_check_in(&g, &shape, &r->e))
			fail_msg("%s", r->e.msg);
		while (ferry_ranges_next(&g, &s))
			assert_int_equal(ferry_bitmap_set_range(&said,
				s.start / PAGE, s.bytes / PAGE),
				s.bytes / PAGE);
	}
	for (uint64_t p = 0; p < map->bits; p++)
		assert_int_equal(ferry_bitmap_test(&said, p),
				 ferry_bitmap_test(map, p) == value);
	ferry_bitmap_fini(&said);
	return commands;
}

static void all_set(struct ferry_bitmap *m)
{
	ferry_bitmap_set_range(m, 0, m->bits);
}

static void none_set(struct ferry_bitmap *m)
{
	(void)m;
}

static void every_other(struct ferry_bitmap *m)
{
	for (uint64_t p = 0; p < m->bits; p += 2)
		ferry_bitmap_set(m, p);
}

static void both_ends(struct ferry_bitmap *m)
{
	ferry_bitmap_set(m, 0);
	ferry_bitmap_set(m, m->bits - 1);
}

static const struct {
	const char *why;
	void (*fill)(struct ferry_bitmap *m);
	unsigned set_qemu, set_ferry, clear_ferry;	/* commands */
} maps[] = {
	{ "all", all_set, 1, 1, 0 },
	{ "none", none_set, 0, 0, 1 },
	/* 10000 ranges: 12 fit QEMU's, 4095 ours */
	{ "every other", every_other, 834, 3, 3 },
	{ "both ends", both_ends, 1, 1, 1 },
};

static void ranges_fit_their_commands(void **state)
{
	(void)state;
	for (size_t i = 0; i < FERRY_LEN(maps); i++)
		for (int way = 0; way < 3; way++) {
			enum ferry_command what = way == 2 ?
				FERRY_COMMAND_ZERO_RANGES :
				FERRY_COMMAND_RAM_DISCARD;
			unsigned want[] = { maps[i].set_qemu,
					    maps[i].set_ferry,
					    maps[i].clear_ferry };
			struct ferry_bitmap map = { 0 };
			struct rig r;

			rig_init(&r, way ? FERRY_DIALECT_FERRY :
					   FERRY_DIALECT_QEMU);
			r.mem.block[0].pages = 20000;
			r.mem.block[0].bytes = 20000 * PAGE;
			assert_ok(ferry_bitmap_init(&map, 20000, NULL));
			maps[i].fill(&map);
			assert_ok(ferry_speak_ranges(&r.speak, what,
						     &r.mem.block[0], &map,
						     way != 2, &r.e));
			listen(&r);
			assert_int_equal(expect_ranges(&r, what, &map,
				way != 2, way ? 4095 : FERRY_RANGES_QEMU),
				want[way]);
			ferry_bitmap_fini(&map);
			rig_fini(&r);
		}
}

static void the_longest_name_leaves_room_for_ranges(void **state)
{
	struct ferry_bitmap map = { 0 };
	struct rig r;

	(void)state;
	rig_init(&r, FERRY_DIALECT_FERRY);
	memset(r.mem.block[0].name, 'n', FERRY_NAME_MAX);
	r.mem.block[0].pages = 20000;
	r.mem.block[0].bytes = 20000 * PAGE;
	assert_ok(ferry_bitmap_init(&map, 20000, NULL));
	every_other(&map);
	assert_ok(ferry_speak_ranges(&r.speak, FERRY_COMMAND_RAM_DISCARD,
				     &r.mem.block[0], &map, true, &r.e));
	listen(&r);
	expect_ranges(&r, FERRY_COMMAND_RAM_DISCARD, &map, true, 4079);
	ferry_bitmap_fini(&map);
	rig_fini(&r);
}

/* ---- the package, and other ends ---------------------------------------- */

/* One section, as ferry_dev_save_all() makes it. */
static size_t a_device(uint8_t *at, size_t size)
{
	struct ferry_section s = { .type = FERRY_SECTION_FULL, .id = 2,
				   .version = 1, .name = "nic" };
	struct ferry_wr w = ferry_wr_over(at, size);

	ferry_section_encode(&w, &s);
	ferry_body_encode(&w, 3);
	ferry_wr_bytes(&w, "abc", 3);
	ferry_footer_encode(&w, 2);
	assert_false(w.bad);
	return ferry_wr_used(&w);
}

static void a_package_holds_the_devices_and_what_goes_around(void **state)
{
	uint8_t dev[64];
	size_t n = a_device(dev, sizeof(dev));

	(void)state;
	for (int way = 0; way < 3; way++) {
		/* A QEMU gets packages in postcopy only. */
		bool qemu = way == 2, postcopy = way > 0;
		struct ferry_package p;
		struct ferry_rd in;
		struct rig r;
		uint32_t bytes;

		rig_init(&r, qemu ? FERRY_DIALECT_QEMU : FERRY_DIALECT_FERRY);
		assert_ok(ferry_speak_package(&r.speak, postcopy, dev, n,
					      &r.e));
		listen(&r);
		command(&r, FERRY_COMMAND_PACKAGED, &in);
		assert_ok(ferry_command_u32_decode(&in, FERRY_COMMAND_PACKAGED,
						   &bytes, &r.e));
		assert_int_equal(ferry_rd_left(&r.rd), bytes);
		if (ferry_package_peel(r.rd.p, bytes, r.speak.dialect, &p,
				       &r.e))
			fail_msg("%s", r.e.msg);
		assert_int_equal(p.listen, postcopy);
		assert_int_equal(p.device_bytes, n);
		assert_memory_equal(p.devices, dev, n);
		rig_fini(&r);
	}
}

static void a_package_of_more_than_64_MiB_is_not_sent(void **state)
{
	uint8_t *much = calloc(1, FERRY_PACKAGE_BYTES_MAX);
	struct rig r;

	(void)state;
	assert_non_null(much);
	rig_init(&r, FERRY_DIALECT_FERRY);
	assert_int_equal(ferry_speak_package(&r.speak, true, much,
					     FERRY_PACKAGE_BYTES_MAX, &r.e),
			 -1);
	assert_says(&r.e, FERRY_E_DEVICE, "is more than 64 MiB");
	listen(&r);
	nothing_more(&r);
	rig_fini(&r);
	free(much);
}

static void precopy_ends_with_devices_eof_and_a_description(void **state)
{
	uint8_t dev[64];
	size_t n = a_device(dev, sizeof(dev));
	struct ferry_section s;
	struct rig r;

	(void)state;
	rig_init(&r, FERRY_DIALECT_QEMU);
	assert_ok(ferry_speak_end(&r.speak, dev, n, &r.e));
	listen(&r);
	assert_memory_equal(ferry_rd_bytes(&r.rd, n), dev, n);
	assert_int_equal(section(&r).type, FERRY_SECTION_EOF);
	s = section(&r);
	assert_int_equal(s.type, FERRY_SECTION_VMDESCRIPTION);
	assert_int_equal(s.bytes, 0);
	nothing_more(&r);
	rig_fini(&r);
}

static void aborting_says_why_to_a_ferry_only(void **state)
{
	char much[2000];

	(void)state;
	memset(much, 'y', sizeof(much));
	much[sizeof(much) - 1] = '\0';
	for (int ferry = 0; ferry < 2; ferry++) {
		char why[FERRY_REASON_BYTES_MAX + 1];
		struct ferry_rd in;
		struct rig r;

		rig_init(&r, ferry ? FERRY_DIALECT_FERRY : FERRY_DIALECT_QEMU);
		ferry_speak_abort(&r.speak, "too slow");
		ferry_speak_abort(&r.speak, much);
		listen(&r);
		if (ferry) {
			command(&r, FERRY_COMMAND_ABORT, &in);
			assert_ok(ferry_abort_decode(&in, why, &r.e));
			assert_string_equal(why, "too slow");
			command(&r, FERRY_COMMAND_ABORT, &in);
			assert_ok(ferry_abort_decode(&in, why, &r.e));
			assert_int_equal(strlen(why), FERRY_REASON_BYTES_MAX);
		}
		nothing_more(&r);
		rig_fini(&r);
	}
}

static void a_broken_channel_is_an_error_of_every_call(void **state)
{
	struct ferry_bitmap map = { 0 };
	struct rig r;

	(void)state;
	rig_init(&r, FERRY_DIALECT_FERRY);
	r.chan->ops->shutdown(r.chan);
	assert_ok(ferry_bitmap_init(&map, 1024, NULL));
	all_set(&map);
	assert_int_equal(ferry_speak_open(&r.speak, "x", &r.e), -1);
	assert_says(&r.e, r.e.code, "channel main: write");
	assert_int_equal(ferry_speak_ram_start(&r.speak, &r.e), -1);
	assert_int_equal(ferry_speak_ranges(&r.speak,
					    FERRY_COMMAND_RAM_DISCARD,
					    &r.mem.block[0], &map, true, &r.e),
			 -1);
	assert_int_equal(ferry_speak_package(&r.speak, false, "", 0, &r.e),
			 -1);
	assert_int_equal(ferry_speak_end(&r.speak, "", 0, &r.e), -1);
	ferry_speak_abort(&r.speak, "nobody hears it");
	ferry_bitmap_fini(&map);
	rig_fini(&r);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_stream_opens_with_the_name_of_the_vm),
		cmocka_unit_test(commands_are_commands),
		cmocka_unit_test(advise_tells_all_page_sizes),
		cmocka_unit_test(the_block_list_has_every_block),
		cmocka_unit_test(the_longest_block_list_fits),
		cmocka_unit_test(parts_open_and_close),
		cmocka_unit_test(ranges_fit_their_commands),
		cmocka_unit_test(the_longest_name_leaves_room_for_ranges),
		cmocka_unit_test(
			a_package_holds_the_devices_and_what_goes_around),
		cmocka_unit_test(a_package_of_more_than_64_MiB_is_not_sent),
		cmocka_unit_test(
			precopy_ends_with_devices_eof_and_a_description),
		cmocka_unit_test(aborting_says_why_to_a_ferry_only),
		cmocka_unit_test(a_broken_channel_is_an_error_of_every_call),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
