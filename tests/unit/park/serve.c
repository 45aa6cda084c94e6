/* SPDX-License-Identifier: MIT */
/* An image is the source of migrations: to one, to several, when damaged. */
#include "parked.h"

#include <fcntl.h>
#include <sys/mman.h>

#include <ferry/ferry.h>

#include "dev/registry.h"
#include "park/serve.h"
#include "wire/section.h"

#define HOSTS		4
#define LIMIT_MS	60000

/* ---- the VM's one device --------------------------------------------------- */

static int save_greeting(void *opaque, struct ferry_save *out,
			 struct ferry_err *e)
{
	(void)opaque;
	(void)e;
	ferry_save_bytes(out, "hello", 5);
	return 0;
}

static int save_ran(void *opaque, struct ferry_save *out, struct ferry_err *e)
{
	(void)opaque;
	(void)e;
	ferry_save_bytes(out, "\1", 1);
	return 0;
}

static int load_greeting(void *opaque, uint32_t version, const void *data,
			 size_t bytes, struct ferry_err *e)
{
	(void)opaque;
	(void)version;
	if (bytes == 5 && !memcmp(data, "hello", 5))
		return 0;
	return ferry_err_set(e, FERRY_E_PROTO, 0, "another greeting");
}

/* An image of a VM that ran under a ferry. */
static void make_image(struct parked *p, int zstd_level)
{
	struct ferry_device_ops ops = {
		.size = sizeof(ops), .save = save_greeting,
		.load = load_greeting,
	};
	struct ferry_registry r = { 0 };
	struct ferry_save state = { 0 };
	struct ferry_image_vm vm = parked_vm();
	struct ferry_err e = { 0 };

	assert_ok(ferry_registry_add(&r, "greeting", 0, 1, &ops, NULL, &e));
	ops.save = save_ran;
	assert_ok(ferry_registry_add(&r, FERRY_RUN_SECTION_NAME, 0, 1, &ops,
				     NULL, &e));
	assert_ok(ferry_dev_save_all(&r, 2, &state, &e));
	ferry_registry_fini(&r);
	parked_folder(p);
	parked_begin(p, zstd_level);
	parked_fill(p);
	vm.dialect = FERRY_DIALECT_FERRY;
	vm.sections = state.data;
	vm.sections_bytes = state.bytes;
	assert_ok(ferry_image_writer_seal(&p->w, &p->map, &vm, &e));
	parked_end(p);
	ferry_save_fini(&state);
}

/* ---- a host that waits for it ------------------------------------------------ */

struct host {
	struct ferry_vm	*vm;
	struct ferry_target *target;
	uint8_t		*block[PARKED_BLOCKS];
	char		 uri[160];
	_Atomic int	 started;	/* 1 + whether it is to run */
};

static int no_stop(void *opaque, struct ferry_err *e)
{
	(void)opaque;
	(void)e;
	return 0;
}

static void no_resume(void *opaque)
{
	(void)opaque;
}

static int start(void *opaque, int running, struct ferry_err *e)
{
	struct host *h = opaque;

	(void)e;
	h->started = 1 + running;
	return 0;
}

static void no_throttle(void *opaque, unsigned percent)
{
	(void)opaque;
	(void)percent;
}

static int not_running(void *opaque)
{
	(void)opaque;
	return 0;
}

static const struct ferry_vm_ops vm_ops = {
	.size = sizeof(vm_ops), .stop = no_stop, .resume = no_resume,
	.start = start, .throttle = no_throttle, .running = not_running,
};

static void wait_at(struct host *h, const struct parked *p, unsigned i,
		    const char *vcpus)
{
	static const struct ferry_device_ops ops = {
		.size = sizeof(ops), .save = save_greeting,
		.load = load_greeting,
	};
	struct ferry_err e = { 0 };

	memset(h, 0, sizeof(*h));
	h->vm = ferry_vm_new("pc-i440fx-7.2", &vm_ops, h, &e);
	assert_non_null(h->vm);
	for (unsigned b = 0; b < PARKED_BLOCKS; b++) {
		struct ferry_block block = FERRY_BLOCK_INIT;

		block.name = parked_block[b].name;
		block.bytes = parked_block[b].pages * PAGE;
		block.gpa = b << 20;
		h->block[b] = mmap(NULL, block.bytes, PROT_READ | PROT_WRITE,
				   MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		assert_true(h->block[b] != MAP_FAILED);
		block.addr = h->block[b];
		assert_ok(ferry_vm_add_block(h->vm, &block, &e));
	}
	assert_ok(ferry_vm_add_device(h->vm, "greeting", 0, 1, &ops, h, &e));
	assert_ok(ferry_vm_add_fact(h->vm, "vcpus", FERRY_FACT_EQUAL, vcpus,
				    &e));
	h->target = ferry_target_new(h->vm, NULL, NULL, &e);
	assert_non_null(h->target);
	snprintf(h->uri, sizeof(h->uri), "unix:%s/host%u", p->dir, i);
	assert_ok(ferry_target_listen(h->target, h->uri, &e));
}

static void leave(struct host *h)
{
	ferry_target_free(h->target);
	ferry_vm_free(h->vm);
	for (unsigned b = 0; b < PARKED_BLOCKS; b++)
		munmap(h->block[b], parked_block[b].pages * PAGE);
}

static void assert_arrived(struct host *h)
{
	struct ferry_err e = { 0 };
	uint8_t want[PAGE];

	assert_ok(ferry_target_wait(h->target, LIMIT_MS, &e));
	assert_int_equal(h->started, 2);
	for (unsigned b = 0; b < PARKED_BLOCKS; b++) {
		for (uint64_t n = 0; n < parked_block[b].pages; n++) {
			parked_page(want, b, n);
			assert_memory_equal(h->block[b] + n * PAGE, want,
					    PAGE);
		}
	}
}

/* ---- serving ------------------------------------------------------------------- */

struct served {
	struct ferry_serve s;
	struct ferry_source *source;
};

static void serve(struct served *v, const struct ferry_image *img,
		  const struct host *h, const char *const (*set)[2])
{
	struct ferry_params *params = ferry_params_new();
	struct ferry_err e = { 0 };

	assert_non_null(params);
	for (; set && (*set)[0]; set++)
		assert_ok(ferry_params_set(params, (*set)[0], (*set)[1], &e));
	assert_ok(ferry_serve_init(&v->s, img, &e));
	v->source = ferry_source_new(v->s.vm, params, NULL, &e);
	assert_non_null(v->source);
	ferry_params_free(params);
	assert_ok(ferry_source_start(v->source, h->uri, &e));
}

static void end(struct served *v)
{
	ferry_source_free(v->source);
	ferry_serve_fini(&v->s);
}

static const char *const modes[][4][2] = {
	{ { "postcopy-ram", "off" } },
	{ { "x-ferry-precopy-passes", "0" } },
	{ { "x-ferry-precopy-passes", "0" }, { "postcopy-preempt", "off" } },
	{ { "x-ferry-precopy-passes", "1" }, { "multifd-channels", "3" } },
	{ { "x-ferry-peer", "qemu" }, { "postcopy-ram", "off" } },
	{ { "x-ferry-peer", "qemu" }, { "x-ferry-precopy-passes", "0" } },
	{ { "x-ferry-precopy-passes", "0" },
	  { "x-ferry-background-push", "on" },
	  { "x-ferry-push-order", "linear" } },
};

static void an_image_goes_on_at_another_host(void **state)
{
	int *level = *state;
	struct ferry_err e = { 0 };
	struct ferry_image img;
	struct parked p;

	make_image(&p, *level);
	assert_ok(ferry_image_open(&img, p.path, &e));
	for (size_t m = 0; m < FERRY_LEN(modes); m++) {
		struct served v;
		struct host h;

		wait_at(&h, &p, 0, "2");
		serve(&v, &img, &h, modes[m]);
		assert_arrived(&h);
		assert_ok(ferry_source_wait(v.source, LIMIT_MS, &e));
		end(&v);
		leave(&h);
	}
	ferry_image_close(&img);
	parked_remove(&p);
}

static void several_hosts_are_served_at_once(void **state)
{
	struct ferry_err e = { 0 };
	struct served v[HOSTS];
	struct host h[HOSTS];
	struct ferry_image img;
	struct parked p;

	(void)state;
	make_image(&p, 0);
	assert_ok(ferry_image_open(&img, p.path, &e));
	for (unsigned i = 0; i < HOSTS; i++)
		wait_at(&h[i], &p, i, "2");
	for (unsigned i = 0; i < HOSTS; i++)
		serve(&v[i], &img, &h[i], modes[1]);
	for (unsigned i = 0; i < HOSTS; i++) {
		assert_arrived(&h[i]);
		assert_ok(ferry_source_wait(v[i].source, LIMIT_MS, &e));
		end(&v[i]);
		leave(&h[i]);
	}
	ferry_image_close(&img);
	parked_remove(&p);
}

static void a_host_that_does_not_fit_is_told_before_anything_moves(void **state)
{
	struct ferry_err e = { 0 };
	struct ferry_image img;
	struct served v;
	struct parked p;
	struct host h;

	(void)state;
	make_image(&p, 0);
	assert_ok(ferry_image_open(&img, p.path, &e));
	wait_at(&h, &p, 0, "4");
	serve(&v, &img, &h, modes[1]);
	assert_int_equal(ferry_source_wait(v.source, LIMIT_MS, &e), -1);
	assert_non_null(strstr(e.msg, "vcpus"));
	assert_int_equal(h.started, 0);
	end(&v);
	leave(&h);
	ferry_image_close(&img);
	parked_remove(&p);
}

/* Chunk 1 of the first block is not what it was. */
static void damage(const struct parked *p)
{
	FERRY_AUTO_FD fd = open(p->path, O_RDWR | O_CLOEXEC);

	assert_int_equal(pwrite(fd, "x", 1, 2 * FERRY_CHUNK_BYTES + 77), 1);
}

static void a_damaged_image_does_not_run(void **state)
{
	struct ferry_err e = { 0 };
	struct ferry_image img;
	struct served v;
	struct parked p;
	struct host h;

	(void)state;
	make_image(&p, 0);
	damage(&p);
	assert_ok(ferry_image_open(&img, p.path, &e));
	wait_at(&h, &p, 0, "2");
	serve(&v, &img, &h, modes[0]);
	assert_int_equal(ferry_source_wait(v.source, LIMIT_MS, &e), -1);
	assert_non_null(strstr(e.msg, "block pc.ram at 0x10000 does not match "
			       "its hash"));
	assert_int_equal(ferry_target_wait(h.target, LIMIT_MS, &e), -1);
	assert_non_null(strstr(e.msg, "does not match its hash"));
	assert_int_equal(h.started, 0);
	end(&v);
	leave(&h);
	ferry_image_close(&img);
	parked_remove(&p);
}

int main(void)
{
	static int raw = 0, packed = 3;
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_prestate(an_image_goes_on_at_another_host,
					  &raw),
		cmocka_unit_test_prestate(an_image_goes_on_at_another_host,
					  &packed),
		cmocka_unit_test(several_hosts_are_served_at_once),
		cmocka_unit_test(
		    a_host_that_does_not_fit_is_told_before_anything_moves),
		cmocka_unit_test(a_damaged_image_does_not_run),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
