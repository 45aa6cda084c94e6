/* SPDX-License-Identifier: MIT */
/*
 * The front-end with backends that come back and hang, or take their time, in
 * the handshake.  Answers are waited for as good as for ever here: who waits
 * for one does not come back, and this test with them.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/thread.h"
#include "fe_vm.h"
#include "vu/fe/fe.h"
#include "vu/msg/sock.h"

#define FOR_EVER_MS	(24u * 3600 * 1000)

/* The backend goes, and at its place there is us. */
static int take_its_place(struct vm *m)
{
	struct sockaddr_un sa = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	ferry_vhost_free(m->backend);
	unlink(m->path);
	strcpy(sa.sun_path, m->path);
	assert_int_equal(bind(fd, (struct sockaddr *)&sa, sizeof(sa)), 0);
	assert_int_equal(listen(fd, 1), 0);
	await(&m->gone, 1);
	return fd;
}

static void open_with(struct vm *m, uint32_t request_ms)
{
	new_vm(m);
	m->request_ms = request_ms;
	make_backend_of(m);
	connect_fe(m, ~PACKED);
	start_vm(m, 1);
	one_echo(m, 0);
}

/* 1: a request; 0: the front-end went. */
static int next(const struct ferry_vu_sock *s, struct ferry_vu_header *h)
{
	uint8_t payload[FERRY_VU_PAYLOAD_MAX];
	FERRY_AUTO_VU_FDS fds = FERRY_VU_FDS_NONE;

	return ferry_vu_recv(s, h, payload, &fds, NULL) == 1;
}

/* As vCPUs, QMP and a migration do. */
static void ask_all(struct vm *m)
{
	struct ferry_vhost_fe_info info = FERRY_VHOST_FE_INFO_INIT;
	struct ferry_err e = { 0 };
	uint8_t octet;
	uint32_t base;

	ferry_vhost_fe_info(m->fe, &info);
	assert_int_equal(info.connected, 0);
	assert_int_equal(info.features, m->features);
	assert_int_equal(info.connections, 1);
	assert_int_equal(info.lost, 1);
	check(ferry_vhost_fe_can(m->fe, FERRY_VHOST_FE_CAN_LOG, &e), &e);
	assert_int_equal(ferry_vhost_fe_config_get(m->fe, 0, &octet, 1, &e),
			 -1);
	assert_non_null(strstr(e.msg, "is away"));
	check(ferry_vhost_fe_set_mtu(m->fe, 1400, &e), &e);
	check(ferry_vhost_fe_queue_stop(m->fe, 0, &base, &e), &e);
	start_queue(m, 0, base);
}

static void one_that_hangs_in_the_handshake_holds_nobody_up(void **state)
{
	struct ferry_vu_header h;
	struct vm m;
	struct ferry_vu_sock s = { .stop = -1 };
	int listener;

	(void)state;
	open_with(&m, FOR_EVER_MS);
	listener = take_its_place(&m);
	s.fd = accept(listener, NULL, NULL);
	assert_int_equal(next(&s, &h), 1);
	assert_int_equal(h.request, FERRY_VU_GET_FEATURES);
	ask_all(&m);

	/* The next one is better, and hears of what was said meanwhile. */
	close(listener);
	unlink(m.path);
	atomic_store(&heard.mtu, 0);
	make_backend_of(&m);
	close(s.fd);
	await(&m.back, 1);
	assert_int_equal(atomic_load(&heard.mtu), 1400);
	one_echo(&m, 0);
	close_vm(&m);
}

static void answer(const struct ferry_vu_sock *s, const struct ferry_vu_header *h)
{
	struct ferry_vu_msg m = {
		.h = { h->request, FERRY_VU_VERSION | FERRY_VU_REPLY, 0 },
		.u64 = h->request == FERRY_VU_GET_FEATURES ? UINT64_MAX : 0,
	};

	(void)!ferry_vu_send(s, &m, FERRY_VU_U64, NULL, 0, NULL);
}

/* Behind it, when it is told all that the one before knew, the lock is held:
 * what there is to know is told all the same. */
static void one_that_hangs_in_its_setting_up_can_be_asked_about(void **state)
{
	struct ferry_vhost_fe_info info = FERRY_VHOST_FE_INFO_INIT;
	struct ferry_vu_sock s = { .stop = -1 };
	struct ferry_err e = { 0 };
	struct ferry_vu_header h;
	struct vm m;
	int listener;

	(void)state;
	open_with(&m, FOR_EVER_MS);
	listener = take_its_place(&m);
	s.fd = accept(listener, NULL, NULL);
	while (assert_int_equal(next(&s, &h), 1),
	       h.request != FERRY_VU_SET_FEATURES)
		if (ferry_vu_row(h.request)->has_reply)
			answer(&s, &h);
	ferry_vhost_fe_info(m.fe, &info);
	assert_int_equal(info.connected, 0);
	assert_int_equal(info.connections, 1);
	check(ferry_vhost_fe_can(m.fe, FERRY_VHOST_FE_CAN_LOG, &e), &e);

	close(listener);
	unlink(m.path);
	make_backend_of(&m);
	close(s.fd);
	await(&m.back, 1);
	one_echo(&m, 0);
	close_vm(&m);
}

struct dribbler {
	struct ferry_vu_sock sock;
	bool		was_through;
	struct ferry_thread thread;
};

static void dribble(void *arg)
{
	struct dribbler *d = arg;
	struct ferry_vu_header h;

	while (next(&d->sock, &h)) {
		d->was_through |= h.request == FERRY_VU_SET_OWNER;
		usleep(150000);
		if (ferry_vu_row(h.request)->has_reply)
			answer(&d->sock, &h);
	}
}

/* Each answer is in time, and all of them are not. */
static void one_that_dribbles_is_given_up(void **state)
{
	static const struct ferry_vhost_fe_ops none = {
		.size = sizeof(none),
	};
	struct ferry_vhost_fe_shape shape = FERRY_VHOST_FE_SHAPE_INIT;
	struct dribbler d = { .sock = { .stop = -1 } };
	struct ferry_err e = { 0 };
	struct ferry_vhost_fe *fe;
	int pair[2];

	(void)state;
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), 0);
	d.sock.fd = pair[1];
	assert_int_equal(ferry_thread_start(&d.thread, "dribble", dribble, &d,
					    NULL), 0);
	shape.request_ms = 200;
	fe = ferry_vhost_fe_new(&shape, &none, NULL, NULL, &e);
	assert_non_null(fe);
	assert_int_equal(ferry_vhost_fe_attach(fe, pair[0], &e), -1);
	assert_int_equal(e.code, FERRY_E_TIMEOUT);
	assert_non_null(strstr(e.msg, "has not come so far within 200 ms"));
	ferry_thread_join(&d.thread);
	assert_false(d.was_through);
	close(pair[1]);
	ferry_vhost_fe_free(fe);
}

/* What moves 64 KiB in the time of an answer may go on. */
static void a_state_that_dribbles_is_given_up(void **state)
{
	static const struct {
		uint64_t bytes, waited, left;
	} rows[] = {
		{ 0, 0, 1000 }, { 0, 400, 600 }, { 0, 1000, 0 },
		{ 65535, 999, 1 }, { 65536, 1000, 1000 },
		{ 65536, 1500, 500 }, { 65536, 2100, 0 },
		{ 64 << 20, 3000, 1000 },
	};

	(void)state;
	for (size_t i = 0; i < FERRY_LEN(rows); i++) {
		struct ferry_vf_transfer t = {
			.bytes = rows[i].bytes, .waited_ns = rows[i].waited,
		};

		assert_int_equal(ferry_vf_patience_ns(&t, 1000), rows[i].left);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(
			one_that_hangs_in_the_handshake_holds_nobody_up),
		cmocka_unit_test(
			one_that_hangs_in_its_setting_up_can_be_asked_about),
		cmocka_unit_test(one_that_dribbles_is_given_up),
		cmocka_unit_test(a_state_that_dribbles_is_given_up),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
