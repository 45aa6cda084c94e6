/* SPDX-License-Identifier: MIT */
/* See fe_vm.h. */
#include "fe_vm.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/err.h"

static void log_line(void *opaque, int level, const char *line)
{
	(void)opaque;
	if (getenv("FERRY_TEST_LOG"))
		fprintf(stderr, "# %d %s\n", level, line);
}

static void on_changed(void *opaque)
{
	atomic_fetch_add(&((struct vm *)opaque)->changed, 1);
}

static void on_gone(void *opaque, const struct ferry_err *why)
{
	assert_true(*why->msg);
	atomic_fetch_add(&((struct vm *)opaque)->gone, 1);
}

static void on_back(void *opaque, int kept)
{
	atomic_fetch_add(&((struct vm *)opaque)->kept, (unsigned)kept);
	atomic_fetch_add(&((struct vm *)opaque)->back, 1);
}

static int on_faults(void *opaque, int uffd,
		     const struct ferry_vhost_fault_range *range, size_t n,
		     struct ferry_err *e)
{
	struct vm *m = opaque;

	return m->faults(m, uffd, range, n, e);
}

static const struct ferry_vhost_fe_ops fe_ops = {
	.size = sizeof(fe_ops), .config_changed = on_changed, .gone = on_gone,
	.back = on_back, .faults = on_faults,
};

void await(_Atomic unsigned *what, unsigned n)
{
	while (atomic_load(what) < n)
		usleep(1000);
}

struct heard heard;

/* ---- a backend ---- */

static int get_config(void *opaque, uint32_t offset, void *data, uint32_t bytes)
{
	(void)opaque;
	for (uint32_t i = 0; i < bytes; i++)
		((uint8_t *)data)[i] = (uint8_t)(offset + i + 1);
	return 0;
}

static int set_config(void *opaque, uint32_t offset, const void *data,
		      uint32_t bytes)
{
	(void)opaque, (void)offset;
	atomic_store(&heard.config, ((const uint8_t *)data)[bytes - 1]);
	return 0;
}

static int announce(void *opaque, const uint8_t mac[6])
{
	(void)opaque;
	atomic_store(&heard.announced, mac[5]);
	return 0;
}

static int set_mtu(void *opaque, uint16_t value)
{
	(void)opaque;
	atomic_store(&heard.mtu, value);
	return 0;
}

static uint8_t state_octet(size_t i)
{
	return (uint8_t)(i * 7 + i / 251);
}

static int save(void *opaque, struct ferry_vhost_stream *s,
		struct ferry_err *e)
{
	uint8_t data[STATE_BYTES];

	(void)opaque;
	for (size_t i = 0; i < sizeof(data); i++)
		data[i] = state_octet(i);
	return ferry_vhost_stream_write(s, data, sizeof(data), e);
}

static int load(void *opaque, struct ferry_vhost_stream *s,
		struct ferry_err *e)
{
	uint8_t data[STATE_BYTES];

	(void)opaque;
	if (ferry_vhost_stream_read(s, data, sizeof(data), e))
		return -1;
	for (size_t i = 0; i < sizeof(data); i++)
		if (data[i] != state_octet(i))
			return ferry_err_set(e, FERRY_E_DEVICE, 0, "octet %zu",
					     i);
	return 0;
}

static const struct ferry_vhost_shape shape = {
	.size = sizeof(shape), .queues = RIG_QUEUES, .queue_size_max = 1024,
	.config_bytes = 60, .name = "echo",
};

const struct ferry_vhost_ops echo = {
	.size = sizeof(echo), .handle = rig_echo, .config_get = get_config,
	.config_set = set_config, .announce = announce, .set_mtu = set_mtu,
	.save = save, .load = load,
};

static struct ferry_vhost *make_backend(const char *path,
					const struct ferry_vhost_ops *ops)
{
	struct ferry_err e = { 0 };
	struct ferry_vhost *v = ferry_vhost_new(&shape, ops, NULL, log_line,
						&e);

	if (!v || ferry_vhost_listen(v, path, &e)) {
		fprintf(stderr, "# backend: %s\n", e.msg);
		abort();
	}
	return v;
}

void fork_backend(struct vm *m)
{
	m->child = fork();
	assert_true(m->child >= 0);
	if (m->child)
		return;
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	execl("/proc/self/exe", "vu-fe", m->path, (char *)NULL);
	_exit(127);
}

int be_the_backend(const char *path)
{
	return ferry_vhost_wait(make_backend(path, &echo), -1, NULL);
}

void kill_backend(struct vm *m)
{
	kill(m->child, SIGKILL);
	waitpid(m->child, NULL, 0);
	m->child = 0;
}

/* ---- the VM ---- */

void check(int rc, const struct ferry_err *e)
{
	if (rc)
		fail_msg("%s", e->msg);
}

void connect_fe(struct vm *m, uint64_t features)
{
	struct ferry_vhost_fe_shape s = FERRY_VHOST_FE_SHAPE_INIT;
	struct ferry_vhost_fe_info info = FERRY_VHOST_FE_INFO_INIT;
	struct ferry_err e = { 0 };

	s.path = m->path;
	s.name = "dev0";
	s.features = features;
	s.request_ms = m->request_ms;
	s.state_bytes_max = m->state_bytes_max;
	m->fe = ferry_vhost_fe_new(&s, &fe_ops, m, log_line, &e);
	assert_non_null(m->fe);
	check(ferry_vhost_fe_connect(m->fe, 20000, &e), &e);
	ferry_vhost_fe_info(m->fe, &info);
	assert_int_equal(info.connected, 1);
	assert_int_equal(info.queues, RIG_QUEUES);
	m->features = m->rig.features = info.features;
}

void new_vm(struct vm *m)
{
	memset(m, 0, sizeof(*m));
	rig_make(&m->rig);
	snprintf(m->path, sizeof(m->path), "/tmp/ferry-fe-%d.sock", getpid());
	unlink(m->path);
}

void make_backend_of(struct vm *m)
{
	m->backend = make_backend(m->path, &echo);
}

void open_vm(struct vm *m, uint64_t features)
{
	new_vm(m);
	make_backend_of(m);
	connect_fe(m, features);
}

void close_vm(struct vm *m)
{
	ferry_vhost_fe_free(m->fe);
	if (m->child)
		kill_backend(m);
	else
		ferry_vhost_free(m->backend);
	rig_unmake(&m->rig);
	unlink(m->path);
}

struct ferry_vhost_region region_of(const struct vm *m)
{
	struct ferry_vhost_region r = FERRY_VHOST_REGION_INIT;

	r.fd = m->rig.mem_fd;
	r.gpa = RIG_GPA;
	r.bytes = RIG_BYTES;
	r.host = m->rig.mem;
	return r;
}

void give_memory(struct vm *m)
{
	struct ferry_vhost_region r = region_of(m);
	struct ferry_err e = { 0 };

	check(ferry_vhost_fe_set_features(m->fe, m->features, &e), &e);
	check(ferry_vhost_fe_set_memory(m->fe, &r, 1, &e), &e);
}

static struct ferry_vhost_fe_queue queue_of(const struct vm *m, unsigned i,
					    uint32_t base)
{
	struct ferry_vhost_fe_queue q = FERRY_VHOST_FE_QUEUE_INIT;
	const struct rig_queue *r = &m->rig.q[i];

	q.index = i;
	q.entries = r->size;
	q.base = base;
	q.desc = RIG_GPA + r->desc;
	q.avail = RIG_GPA + r->avail;
	q.used = RIG_GPA + r->used;
	q.kick = r->kick;
	q.call = r->call;
	q.err = -1;
	return q;
}

uint32_t first_base(const struct vm *m)
{
	return m->features & PACKED ? FERRY_VHOST_FE_PACKED_BASE : 0;
}

int try_start(struct vm *m, unsigned i, uint32_t base, struct ferry_err *e)
{
	struct ferry_vhost_fe_queue q = queue_of(m, i, base);

	return ferry_vhost_fe_queue_start(m->fe, &q, e);
}

void start_queue(struct vm *m, unsigned i, uint32_t base)
{
	struct ferry_vhost_fe_queue q = queue_of(m, i, base);
	struct ferry_err e = { 0 };

	check(ferry_vhost_fe_queue_start(m->fe, &q, &e), &e);
	check(ferry_vhost_fe_queue_enable(m->fe, i, 1, &e), &e);
}

void start_vm(struct vm *m, unsigned queues)
{
	give_memory(m);
	for (unsigned i = 0; i < queues; i++) {
		rig_place_queue(&m->rig, i, ENTRIES);
		start_queue(m, i, first_base(m));
	}
}

void one_echo(struct vm *m, unsigned i)
{
	uint64_t out = rig_scratch(&m->rig, 8192 * i);
	uint64_t in = rig_scratch(&m->rig, 8192 * i + 65536);
	struct rig_part parts[] = {
		{ RIG_GPA + out, 1000, false }, { RIG_GPA + in, 1000, true },
	};
	uint32_t bytes;

	memset(m->rig.mem + out, 'a' + (int)i, 1000);
	memset(m->rig.mem + in, 0, 1000);
	rig_put(&m->rig, i, parts, 2, false);
	rig_kick(&m->rig, i);
	rig_get(&m->rig, i, &bytes);
	assert_int_equal(bytes, 1000);
	assert_memory_equal(m->rig.mem + in, m->rig.mem + out, 1000);
}
