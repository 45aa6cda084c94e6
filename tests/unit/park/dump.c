/* SPDX-License-Identifier: MIT */
/* What `ferry dump` makes of streams, captures and images, whole and broken. */
#include "parked.h"

#include <fcntl.h>

#include "streams.h"

/* Writes down what it is told. */
struct notes {
	FILE	*file;
	char	*text;
	size_t	 bytes;
	uint64_t octets;		/* of all records */
};

static void note_begin(void *arg, const struct ferry_dump_where *w,
		       const char *record, const char *what)
{
	fprintf(((struct notes *)arg)->file, "%d%s%u@%llx %s %s", w->conn,
		w->back ? "<" : ">", w->depth, (unsigned long long)w->offset,
		record, what ? what : "-");
}

static void note_number(void *arg, const char *key, uint64_t value)
{
	fprintf(((struct notes *)arg)->file, " %s=%llu", key ? key : "",
		(unsigned long long)value);
}

static void note_text(void *arg, const char *key, const char *value)
{
	fprintf(((struct notes *)arg)->file, " %s=%s", key ? key : "", value);
}

static void note_list(void *arg, const char *key)
{
	fprintf(((struct notes *)arg)->file, " %s[", key ? key : "");
}

static void note_list_end(void *arg)
{
	fputc(']', ((struct notes *)arg)->file);
}

static void note_end(void *arg, uint64_t bytes, uint64_t times)
{
	struct notes *n = arg;

	n->octets += bytes;
	fprintf(n->file, " (%llu, %llu)\n", (unsigned long long)bytes,
		(unsigned long long)times);
}

static const struct ferry_dump_ops notes_ops = {
	note_begin, note_number, note_number, note_text, note_list,
	note_list_end, note_end,
};

static void notes_init(struct notes *n)
{
	*n = (struct notes){ 0 };
	n->file = open_memstream(&n->text, &n->bytes);
	assert_non_null(n->file);
}

static void notes_fini(struct notes *n)
{
	fclose(n->file);
	free(n->text);
}

/* Feeds n octets in pieces; what it said is in notes. */
static int dump(const uint8_t *data, size_t n, size_t piece,
		enum ferry_dump_kind kind, struct notes *notes,
		struct ferry_dump_where *fault, struct ferry_err *e)
{
	const struct ferry_dump_params p = {
		.ops = &notes_ops, .arg = notes, .kind = kind,
	};
	struct ferry_dump *d = ferry_dump_new(&p, e);
	int rc = 0;

	assert_non_null(d);
	for (size_t at = 0; !rc && at < n; at += piece)
		rc = ferry_dump_feed(d, data + at,
				     n - at < piece ? n - at : piece, e);
	if (!rc)
		rc = ferry_dump_finish(d, e);
	if (fault)
		*fault = ferry_dump_fault(d);
	ferry_dump_free(d);
	fflush(notes->file);
	return rc;
}

static uint8_t *made(stream_fn *make, size_t *n)
{
	uint8_t *data = malloc(STREAM_MAX);
	struct ferry_wr w = ferry_wr_over(data, STREAM_MAX);

	assert_non_null(data);
	make(&w);
	assert_false(w.bad);
	*n = ferry_wr_used(&w);
	return data;
}

static void a_stream_says_the_same_in_whatever_pieces_it_comes(void **state)
{
	static const size_t pieces[] = { 1, 7, 4096 };

	(void)state;
	for (size_t i = 0; i < FERRY_LEN(stream_rows); i++) {
		const struct stream_row *row = &stream_rows[i];
		struct notes whole, part;
		struct ferry_err e = { 0 };
		size_t n;
		FERRY_AUTO_FREE uint8_t *data = made(row->make, &n);

		notes_init(&whole);
		if (dump(data, n, n, row->kind, &whole, NULL, &e))
			fail_msg("%s: %s", row->name, e.msg);
		for (size_t k = 0; k < FERRY_LEN(pieces); k++) {
			notes_init(&part);
			if (dump(data, n, pieces[k], row->kind, &part, NULL,
				 &e))
				fail_msg("%s: %s", row->name, e.msg);
			assert_string_equal(part.text, whole.text);
			notes_fini(&part);
		}
		notes_fini(&whole);
	}
}

/* Captures have heads of their own, and mapped-ram has gaps. */
static void each_octet_belongs_to_one_record(void **state)
{
	(void)state;
	for (size_t i = 0; i < FERRY_LEN(stream_rows); i++) {
		const struct stream_row *row = &stream_rows[i];
		struct notes notes;
		struct ferry_err e = { 0 };
		size_t n;
		FERRY_AUTO_FREE uint8_t *data = made(row->make, &n);

		if (strstr(row->name, "capture") || row->make == stream_mapped)
			continue;
		notes_init(&notes);
		assert_ok(dump(data, n, n, row->kind, &notes, NULL, &e));
		if (notes.octets != n)
			fail_msg("%s: %llu of %zu octets", row->name,
				 (unsigned long long)notes.octets, n);
		notes_fini(&notes);
	}
}

static void a_stream_that_is_cut_is_refused_and_says_where(void **state)
{
	(void)state;
	for (size_t i = 0; i < FERRY_LEN(stream_rows); i++) {
		const struct stream_row *row = &stream_rows[i];
		size_t n;
		FERRY_AUTO_FREE uint8_t *data = made(row->make, &n);

		for (size_t cut = 0; cut < n; cut++) {
			FERRY_AUTO_FREE uint8_t *part = malloc(cut ? cut : 1);
			struct ferry_dump_where at = { .offset = UINT64_MAX };
			struct ferry_err e = { 0 };
			struct notes notes;
			int rc;

			/* Inside of a page all octets are alike. */
			if (cut > 64 && cut % 61 && data[cut] == data[cut - 1])
				continue;
			memcpy(part, data, cut);
			notes_init(&notes);
			rc = dump(part, cut, cut ? cut : 1, row->kind, &notes,
				  &at, &e);
			notes_fini(&notes);
			if (!rc && row->may_end)
				continue;
			if (!rc)
				fail_msg("%s: cut at %zu: not refused",
					 row->name, cut);
			if (!strstr(e.msg, "0x") || at.offset > cut)
				fail_msg("%s: cut at %zu: %s", row->name, cut,
					 e.msg);
		}
	}
}

/* text: a line that must be among what was told. */
static void assert_told(stream_fn *make, enum ferry_dump_kind kind,
			const char *text)
{
	struct ferry_err e = { 0 };
	struct notes notes;
	size_t n;
	FERRY_AUTO_FREE uint8_t *data = made(make, &n);

	notes_init(&notes);
	assert_ok(dump(data, n, n, kind, &notes, NULL, &e));
	if (!strstr(notes.text, text))
		fail_msg("'%s' is not in:\n%s", text, notes.text);
	notes_fini(&notes);
}

static void what_is_told_is_what_was_said(void **state)
{
	static const struct {
		stream_fn *make;
		enum ferry_dump_kind kind;
		const char *line;
	} rows[] = {
		{ stream_precopy, 0, "CONFIGURATION - machine=pc-q35-7.2 (" },
		{ stream_precopy, 0, "COMMAND PING value=1 (9, 1)" },
		{ stream_precopy, 0, "RAM PAGE block=ram addr=0 pages=2 "
				     "(8212, 2)" },
		{ stream_precopy, 0, "RAM ZERO block=ram addr=8192 pages=1" },
		{ stream_precopy, 0, "RAM XBZRLE block=ram addr=0 pages=1" },
		{ stream_precopy, 0, "name=timer instance=0 version=1 body=35"
				     " sized=description" },
		{ stream_precopy, 0, "name=cpu instance=0 version=1 body=40"
				     " sized=description" },
		{ stream_precopy, 0, "VMDESCRIPTION - devices=2" },
		{ stream_bare, 0, "name=virtio-mem instance=0 version=1 body=6"
				  " sized=footer" },
		{ stream_bare, 0, "END - section=5 body=9 sized=footer" },
		{ stream_bare, 0, "name=cpu instance=0 version=1 body=40"
				  " sized=footer" },
		{ stream_postcopy, 0, "BLOCK - name=huge size=4194304 "
				      "page=2097152" },
		{ stream_postcopy, 0, "COMMAND RAM_DISCARD block=huge ranges[ "
				      "[ =0 =2097152] [ =2097152 =2097152]] "
				      "pages=1024" },
		{ stream_postcopy, 0, "-1>1@" },	/* depth */
		{ stream_postcopy, 0, "COMMAND PING value=3" },
		{ stream_mapped, 0, "BITMAP - block=ram set=3" },
		{ stream_mapped, 0, "@1000 PAGES - block=ram (65536" },
		{ stream_multifd, 0, "INIT - channel=1" },
		{ stream_multifd, 0, "PACKET - number=5 method=zlib block=ram "
				     "normal=2 zero=0 payload=77" },
		{ stream_multifd, 0, "PACKET DEVICE_STATE name=vfio" },
		{ stream_multifd, 0, "PACKET SYNC number=5" },
		{ stream_return, FERRY_DUMP_RETURN,
		  "REPLY REQ_PAGES block=ram addr=8192 size=4096" },
		{ stream_return, FERRY_DUMP_RETURN,
		  "RECEIVED_MAP - block=ram set=65 (40" },
		{ stream_ferry, 0, "CHANNEL main index=0 session=010203" },
		{ stream_ferry, 0, "=40] mandatory[ =commit]" },
		{ stream_ferry, 0, "HELLO - name=db1 software=ferry data=2" },
		{ stream_ferry, 0, "name=cpu instance=0 version=1 body=44 "
				   "sized=itself" },
		{ stream_ferry, 0, "COMMAND FINISH value=2" },
		{ stream_abort, 0, "ABORT reason=changed my mind" },
		{ stream_bulk, 0, "PACKET BULK device=1 index=3 flags=1 "
				    "payload=9 (33" },
		{ stream_bulk, 0, "PACKET BULK_LAST device=1 index=4" },
		{ stream_ferry_return, 0, "REPLY BULK_CREDIT device=1 "
					  "limit=32" },
		{ stream_ferry_return, 0, "REPLY BULK_LOADED device=1 "
					  "busy_ns=77" },
		{ stream_ferry_return, 0, "REPLY REASON reason=no \"room\"\\" },
		{ stream_ferry_return, 0, "HELLO - name=db1 software=ferry "
					  "verdict=ok reason= " },
		{ stream_capture, 0, "1>0@0 INIT" },
		{ stream_capture_ferry, 0, "0<0@0 ANSWER main" },
		{ stream_capture_recovery, 0, "0>0@2bc CUT - why=it ends" },
		{ stream_capture_recovery, 0, "2>0@0 COMMAND RECV_BITMAP" },
	};

	(void)state;
	for (size_t i = 0; i < FERRY_LEN(rows); i++)
		assert_told(rows[i].make, rows[i].kind, rows[i].line);
}

/* ---- streams that lie ---------------------------------------------- */

static void trailing(struct ferry_wr *w)
{
	stream_precopy(w);
	ferry_wr_u8(w, 0);
}

static void behind_postcopy(struct ferry_wr *w)
{
	stream_postcopy(w);
	ferry_wr_u8(w, 0);
}

static void continue_first(struct ferry_wr *w)
{
	stream_page(w, NULL, 0);
}

static void unknown_block(struct ferry_wr *w)
{
	stream_head(w, 0);
	stream_start(w, false, false);
	stream_part(w, FERRY_SECTION_PART);
	stream_page(w, "vga", 0);
}

static void past_the_end(struct ferry_wr *w)
{
	stream_head(w, 0);
	stream_start(w, false, false);
	stream_part(w, FERRY_SECTION_PART);
	stream_page(w, "ram", RAM_BYTES);
}

static void part_of_nothing(struct ferry_wr *w)
{
	stream_head(w, 0);
	stream_part(w, FERRY_SECTION_PART);
	stream_part_end(w);
}

static void started_twice(struct ferry_wr *w)
{
	stream_head(w, 0);
	stream_start(w, false, false);
	stream_start(w, false, false);
}

static void wrong_footer(struct ferry_wr *w)
{
	stream_head(w, 0);
	stream_start(w, false, false);
	w->p[-1]++;
	ferry_wr_zeroes(w, 16);
}

static void eof_too_soon(struct ferry_wr *w)
{
	stream_head(w, 0);
	ferry_wr_zeroes(w, 16);
}

static void bad_json(struct ferry_wr *w)
{
	stream_head(w, 0);
	stream_start(w, false, false);
	stream_part(w, FERRY_SECTION_END);
	stream_part_end(w);
	stream_end(w, "{\"devices\": [}");
}

static void no_description(struct ferry_wr *w)
{
	stream_head(w, 0);
	stream_start(w, false, false);
	stream_part(w, FERRY_SECTION_END);
	stream_part_end(w);
	ferry_wr_u8(w, FERRY_SECTION_EOF);
}

static void ferry_command_from_qemu(struct ferry_wr *w)
{
	stream_head(w, 0);
	ferry_command_u32_encode(w, FERRY_COMMAND_FINISH, 1);
	ferry_wr_zeroes(w, 16);
}

static void package_in_package(struct ferry_wr *w)
{
	stream_head(w, 0);
	ferry_command_u32_encode(w, FERRY_COMMAND_PACKAGED, 9);
	ferry_command_u32_encode(w, FERRY_COMMAND_PACKAGED, 9);
}

static void bitmap_backward(struct ferry_wr *w)
{
	size_t at;

	stream_head(w, FERRY_CONFIG_MAPPED_RAM);
	at = ferry_wr_used(w);
	stream_start(w, false, true);
	/* START 17, MEM_SIZE 8, name 4, size 8, version 4, page 8. */
	memset(w->start + at + 17 + 8 + 4 + 8 + 4 + 8, 0, 8);
}

static void request_without_a_block(struct ferry_wr *w)
{
	stream_reply(w, &(struct ferry_rp){ .type = FERRY_RP_REQ_PAGES,
					    .span = { 0, 4096 } });
	ferry_wr_zeroes(w, 16);
}

static void behind_shut(struct ferry_wr *w)
{
	stream_return(w);
	ferry_wr_u8(w, 0);
}

static void a_png(struct ferry_wr *w)
{
	ferry_wr_bytes(w, "\x89PNG\r\n\x1a\n and so on and on", 24);
}

static void nothing(struct ferry_wr *w)
{
	(void)w;
}

static void cut_capture(struct ferry_wr *w)
{
	capture_cut(w, 3, TO_TARGET, stream_precopy, 4000);
}

static void bad_capture(struct ferry_wr *w)
{
	stream_capture(w);
	ferry_wr_be64(w, 0);
	ferry_wr_be64(w, UINT64_MAX);
}

static void zeroes(struct ferry_wr *w)
{
	ferry_wr_zeroes(w, 4000);
}

/* As a disk leaves it that went down in the middle. */
static void capture_then_zeroes(struct ferry_wr *w)
{
	stream_capture(w);
	ferry_wr_zeroes(w, 4000);
}

static void image_in_a_pipe(struct ferry_wr *w)
{
	ferry_wr_bytes(w, "FERRYIMG", 8);
	ferry_wr_zeroes(w, 100);
}

static void a_stream_that_lies_is_refused_with_a_sentence(void **state)
{
	static const struct {
		stream_fn *make;
		enum ferry_dump_kind kind;
		const char *says;
	} rows[] = {
		/* The description is not at the end then: told by footers. */
		{ trailing, 0, "1 octets behind the end" },
		{ behind_postcopy, 0, "there is more behind the end" },
		{ continue_first, FERRY_DUMP_PREEMPT, "0x0: RAM: CONTINUE" },
		{ unknown_block, 0, "\"vga\" is not in the list" },
		{ past_the_end, 0, "is past its end" },
		{ part_of_nothing, 0, "which has not started" },
		{ started_twice, 0, "it has started" },
		{ wrong_footer, 0, "footer of section 8" },
		{ eof_too_soon, 0, "EOF before the RAM section" },
		{ bad_json, 0, "malformed at its octet 13" },
		{ no_description, 0, "VMDESCRIPTION must come" },
		{ ferry_command_from_qemu, 0, "FINISH is not for this peer" },
		{ package_in_package, 0, "a package inside" },
		{ bitmap_backward, 0, "lies before its header" },
		{ request_without_a_block, FERRY_DUMP_RETURN,
		  "before a block was named" },
		{ behind_shut, FERRY_DUMP_RETURN, "more behind the end" },
		{ a_png, 0, "0x0: not a migration" },
		{ zeroes, 0, "image of a parked VM: it begins with 0x0" },
		{ zeroes, FERRY_DUMP_CAPTURE, "0x0: the capture: this is no "
					      "record" },
		{ capture_then_zeroes, 0, "this is no record" },
		{ nothing, 0, "0x0: there is nothing: no stream, no capture" },
		{ cut_capture, 0, "connection 3, to the target, 0xfa0: it "
				  "ends inside of: " },
		{ bad_capture, 0, "this is no record" },
		{ image_in_a_pipe, 0, "read from a file" },
	};

	(void)state;
	for (size_t i = 0; i < FERRY_LEN(rows); i++) {
		struct ferry_err e = { 0 };
		struct notes notes;
		size_t n;
		FERRY_AUTO_FREE uint8_t *data = made(rows[i].make, &n);

		notes_init(&notes);
		if (!dump(data, n, n ? n : 1, rows[i].kind, &notes, NULL, &e))
			fail_msg("row %zu: not refused:\n%s", i, notes.text);
		if (!strstr(e.msg, rows[i].says))
			fail_msg("row %zu: '%s', not '%s'", i, e.msg,
				 rows[i].says);
		notes_fini(&notes);
	}
}

static void what_has_to_be_kept_is_bounded(void **state)
{
	static uint8_t zeroes[1u << 20];
	struct ferry_dump_params p = { .ops = &notes_ops };
	struct ferry_err e = { 0 };
	struct ferry_dump *d;
	struct notes notes;
	size_t n, kept = 0;
	FERRY_AUTO_FREE uint8_t *data = made(no_description, &n);
	int rc;

	(void)state;
	notes_init(&notes);
	p.arg = &notes;
	d = ferry_dump_new(&p, &e);
	assert_non_null(d);
	for (rc = ferry_dump_feed(d, data, n, &e); !rc; kept++)
		rc = ferry_dump_feed(d, zeroes, sizeof(zeroes), &e);
	assert_int_equal(kept, (FERRY_DUMP_KEPT_MAX >> 20));
	assert_non_null(strstr(e.msg, "would have to be kept"));
	ferry_dump_free(d);
	notes_fini(&notes);
}

static void who_can_seek_may_jump_over_pages(void **state)
{
	struct ferry_dump_params p = { .ops = &notes_ops };
	struct ferry_err e = { 0 };
	struct notes read, jumped;
	struct ferry_dump *d;
	uint64_t jumps = 0;
	size_t n;
	FERRY_AUTO_FREE uint8_t *data = made(stream_mapped, &n);

	(void)state;
	notes_init(&read);
	assert_ok(dump(data, n, n, FERRY_DUMP_AUTO, &read, NULL, &e));
	notes_init(&jumped);
	p.arg = &jumped;
	d = ferry_dump_new(&p, &e);
	assert_non_null(d);
	for (size_t at = 0; at < n;) {
		uint64_t skip = ferry_dump_skippable(d);

		jumps += skip;
		ferry_dump_skip(d, skip);
		at += skip;
		assert_ok(ferry_dump_feed(d, data + at, 1, &e));
		at++;
	}
	assert_ok(ferry_dump_finish(d, &e));
	ferry_dump_free(d);
	fflush(jumped.file);
	assert_true(jumps >= RAM_BYTES);
	assert_string_equal(jumped.text, read.text);
	notes_fini(&read);
	notes_fini(&jumped);
}

/* ---- images -------------------------------------------------------- */

/* The image of parked.h, with device state that is some. */
static void make_image(struct parked *p)
{
	uint8_t sections[256];
	struct ferry_wr w = ferry_wr_over(sections, sizeof(sections));
	struct ferry_image_vm vm = parked_vm();
	struct ferry_err e = { 0 };

	stream_device(&w, 8, "timer", TIMER_BYTES, false);
	stream_device(&w, 9, "cpu", 40, false);
	vm.sections = sections;
	vm.sections_bytes = ferry_wr_used(&w);
	vm.vmdesc = stream_vmdesc;
	vm.vmdesc_bytes = strlen(stream_vmdesc);
	parked_folder(p);
	parked_begin(p, 0);
	parked_fill(p);
	assert_ok(ferry_image_writer_seal(&p->w, &p->map, &vm, &e));
	parked_end(p);
}

static int dump_image(const char *path, bool verify, struct notes *notes,
		      struct ferry_err *e)
{
	int rc;

	notes_init(notes);
	rc = ferry_dump_image(path, &notes_ops, notes, verify, e);
	fflush(notes->file);
	return rc;
}

static void an_image_is_listed(void **state)
{
	static const char *const lines[] = {
		"IMAGE - version=1", "PIECE state",
		"VM - name=pc-i440fx-7.2 source=qemu",
		"facts[ [ =vcpus =1 =2]]",
		"BLOCK - name=pc.ram size=819200",
		"BLOCK - name=empty size=131072 address=2097152 zero=2",
		"name=timer instance=0 version=1 body=35 sized=description",
		"VMDESCRIPTION - devices=2", "VERIFIED - chunks=16",
	};
	struct ferry_err e = { 0 };
	struct parked p;
	struct notes notes;

	(void)state;
	make_image(&p);
	assert_ok(dump_image(p.path, true, &notes, &e));
	for (size_t i = 0; i < FERRY_LEN(lines); i++)
		if (!strstr(notes.text, lines[i]))
			fail_msg("'%s' is not in:\n%s", lines[i], notes.text);
	notes_fini(&notes);
	parked_remove(&p);
}

static void a_damaged_image_is_found_by_those_who_verify(void **state)
{
	struct ferry_err e = { 0 };
	struct parked p;
	struct notes notes;
	uint8_t octet;
	int fd;

	(void)state;
	make_image(&p);
	fd = open(p.path, O_RDWR);
	assert_true(fd >= 0);
	assert_int_equal(pread(fd, &octet, 1, FERRY_CHUNK_BYTES), 1);
	octet ^= 1;
	assert_int_equal(pwrite(fd, &octet, 1, FERRY_CHUNK_BYTES), 1);
	close(fd);

	assert_ok(dump_image(p.path, false, &notes, &e));
	notes_fini(&notes);
	assert_int_equal(dump_image(p.path, true, &notes, &e), -1);
	assert_non_null(strstr(e.msg, "pc.ram at 0x0 does not match"));
	notes_fini(&notes);
	parked_remove(&p);
}

static void an_image_whose_state_is_none_is_refused(void **state)
{
	struct ferry_err e = { 0 };
	struct parked p;
	struct notes notes;

	(void)state;
	parked_make(&p, 0);	/* "sections" */
	assert_int_equal(dump_image(p.path, false, &notes, &e), -1);
	assert_non_null(strstr(e.msg, "no section begins with 0x73"));
	notes_fini(&notes);
	parked_remove(&p);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(
		    a_stream_says_the_same_in_whatever_pieces_it_comes),
		cmocka_unit_test(each_octet_belongs_to_one_record),
		cmocka_unit_test(
		    a_stream_that_is_cut_is_refused_and_says_where),
		cmocka_unit_test(what_is_told_is_what_was_said),
		cmocka_unit_test(a_stream_that_lies_is_refused_with_a_sentence),
		cmocka_unit_test(what_has_to_be_kept_is_bounded),
		cmocka_unit_test(who_can_seek_may_jump_over_pages),
		cmocka_unit_test(an_image_is_listed),
		cmocka_unit_test(a_damaged_image_is_found_by_those_who_verify),
		cmocka_unit_test(an_image_whose_state_is_none_is_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
