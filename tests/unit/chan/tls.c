/* SPDX-License-Identifier: MIT */
/*
 * TLS as a layer: what goes in comes out at the other end, at once in both
 * directions; who may not come, or is not who it should be, is refused with a
 * sentence at both ends.
 */
#include "help.h"

#include <fcntl.h>
#include <gnutls/abstract.h>
#include <gnutls/x509.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <time.h>

#include "chan/tls_chan.h"

#define BIG	(3u << 20)
#define PATIENCE_MS	10000

/* ---- two ends -------------------------------------------------------------- */

struct end {
	struct ferry_tls_wish wish;
	const char	*host;
	uint32_t	 ms;
	struct ferry_tls *tls;
	struct ferry_chan *inner, *chan;
	struct ferry_err err;
	struct ferry_thread thread;
};

static void greet(void *arg)
{
	struct end *e = arg;

	e->chan = ferry_chan_tls(e->inner, e->tls, e->host, e->ms, NULL,
				 &e->err);
	if (!e->chan) {		/* as its owner does */
		ferry_chan_close(e->inner);
		e->inner = NULL;
	}
}

struct pair {
	struct end	 client, server;
};

static void load(struct end *e, const char *dir, const char *host,
		 bool server)
{
	e->wish = (struct ferry_tls_wish){ .creds = dir, .server = server,
					   .hostname = "", .authz = "" };
	e->host = host;
	e->ms = PATIENCE_MS;
	e->tls = ferry_tls_load(&e->wish, &e->err);
	if (!e->tls)
		print_message("%s\n", e->err.msg);
	assert_non_null(e->tls);
}

static void setup(struct pair *p, const char *client, const char *server)
{
	*p = (struct pair){ 0 };
	load(&p->client, client, "127.0.0.1", false);
	load(&p->server, server, "", true);
}

static void meet(struct pair *p)
{
	struct ferry_chan *end[2];

	make_pair(end);
	p->client.inner = end[0];
	p->server.inner = end[1];
	assert_ok(ferry_thread_start(&p->client.thread, "c", greet, &p->client,
				     NULL));
	assert_ok(ferry_thread_start(&p->server.thread, "s", greet, &p->server,
				     NULL));
	ferry_thread_join(&p->client.thread);
	ferry_thread_join(&p->server.thread);
}

static void part(struct pair *p)
{
	ferry_chan_close(p->client.chan);
	ferry_chan_close(p->server.chan);
	p->client.chan = p->server.chan = NULL;
}

static void teardown(struct pair *p)
{
	part(p);
	ferry_tls_free(p->client.tls);
	ferry_tls_free(p->server.tls);
}

static void must_meet(struct pair *p)
{
	meet(p);
	if (!p->client.chan || !p->server.chan)
		print_message("client: %s\nserver: %s\n", p->client.err.msg,
			      p->server.err.msg);
	assert_non_null(p->client.chan);
	assert_non_null(p->server.chan);
}

static const char *const here[] = { "127.0.0.1", "localhost" };

static void make_creds(const char *dir)
{
	struct ferry_tls_making m = { .dir = dir, .host = here, .hosts = 2 };
	struct ferry_err err = { 0 };

	assert_ok(ferry_tls_make(&m, &err));
}

static void make_psk(const char *dir)
{
	struct ferry_tls_making m = { .dir = dir, .psk_user = "qemu" };

	assert_ok(ferry_tls_make(&m, NULL));
}

/* Each test has a folder of its own with folders in it. */
static void remove_tree(struct tmp *t)
{
	char cmd[128];

	snprintf(cmd, sizeof(cmd), "rm -rf %s", t->dir);
	assert_ok(system(cmd));
}

/* ---- what works ------------------------------------------------------------- */

static ssize_t send_big(struct ferry_chan *c)
{
	uint8_t *data = malloc(BIG);
	struct iovec iov[40];
	struct ferry_err err;
	size_t at = 0;
	int n = 0, rc;

	fill_pattern(data, BIG, 0);
	for (; n < 39; n++) {	/* some empty, some small, some long */
		size_t take = (size_t)(n * 37 % 5 == 0 ? 0 : n * n * 113 % 70000);

		iov[n] = (struct iovec){ data + at, take };
		at += take;
	}
	iov[n++] = (struct iovec){ data + at, BIG - at };
	rc = ferry_chan_writev(c, iov, n, &err);
	free(data);
	return rc;
}

static ssize_t recv_big(struct ferry_chan *c)
{
	uint8_t *data = malloc(BIG);
	struct ferry_err err;
	struct iovec iov[3] = { { data, 1 }, { data + 1, 100001 },
				{ data + 100002, BIG - 100002 } };
	int rc = ferry_chan_readv(c, iov, 3, &err);

	for (size_t i = 0; !rc && i < BIG; i++)
		if (data[i] != pattern(i))
			rc = -1;
	free(data);
	return rc;
}

static void both_ways(struct pair *p)
{
	struct job job[4];

	job_start(&job[0], recv_big, p->client.chan);
	job_start(&job[1], recv_big, p->server.chan);
	job_start(&job[2], send_big, p->client.chan);
	job_start(&job[3], send_big, p->server.chan);
	for (int i = 0; i < 4; i++)
		assert_int_equal(job_result(&job[i]), 0);
}

static void expect_keys_of_their_own(struct pair *p)
{
	uint8_t a[32], b[32], other[32];
	struct ferry_chan *c = p->client.chan, *s = p->server.chan;

	assert_ok(c->ops->export_key(c, "EXPERIMENTAL-x", "ctx", 3, a, 32));
	assert_ok(s->ops->export_key(s, "EXPERIMENTAL-x", "ctx", 3, b, 32));
	assert_memory_equal(a, b, 32);
	assert_ok(s->ops->export_key(s, "EXPERIMENTAL-x", "ctX", 3, other,
				     32));
	assert_memory_not_equal(a, other, 32);
	part(p);
	must_meet(p);
	c = p->client.chan;
	assert_ok(c->ops->export_key(c, "EXPERIMENTAL-x", "ctx", 3, other,
				     32));
	assert_memory_not_equal(a, other, 32);
}

static void works_with(void (*make)(const char *))
{
	struct tmp tmp;
	struct pair p;
	char dir[96];

	tmp_make(&tmp);
	snprintf(dir, sizeof(dir), "%s", tmp_path(&tmp, "creds"));
	make(dir);
	setup(&p, dir, dir);
	must_meet(&p);
	both_ways(&p);
	expect_keys_of_their_own(&p);
	teardown(&p);
	remove_tree(&tmp);
}

static void certificates_carry_octets_both_ways_at_once(void **state)
{
	(void)state;
	works_with(make_creds);
}

static void a_psk_carries_octets_both_ways_at_once(void **state)
{
	(void)state;
	works_with(make_psk);
}

/* What a source would like, and what comes of it. */
static const struct { const char *wish; gnutls_cipher_algorithm_t gets; }
wishes[] = {
	{ NULL, GNUTLS_CIPHER_AES_128_GCM },	/* a ferry */
	{ "+CHACHA20-POLY1305:+AES-256-GCM:+AES-128-GCM",
	  GNUTLS_CIPHER_AES_128_GCM },
	{ "+CHACHA20-POLY1305", GNUTLS_CIPHER_CHACHA20_POLY1305 },
};

static void wish_for(struct pair *p, const char *wish)
{
	struct ferry_tls *tls = p->client.tls;
	char all[200];

	snprintf(all, sizeof(all), "NORMAL:-VERS-ALL:+VERS-TLS1.3:-CIPHER-ALL:"
		 "%s%s", wish, tls->psk ? ":-KX-ALL:+ECDHE-PSK:+DHE-PSK" : "");
	gnutls_priority_deinit(tls->priority);
	assert_ok(gnutls_priority_init(&tls->priority, all, NULL));
}

static void aes_it_is_whatever_the_source_likes_better(void **state)
{
	(void)state;
	for (size_t i = 0; i < FERRY_LEN(wishes) * 2; i++) {
		struct tmp tmp;
		struct pair p;
		char dir[96];

		tmp_make(&tmp);
		snprintf(dir, sizeof(dir), "%s", tmp_path(&tmp, "creds"));
		(i % 2 ? make_psk : make_creds)(dir);
		setup(&p, dir, dir);
		if (wishes[i / 2].wish)
			wish_for(&p, wishes[i / 2].wish);
		must_meet(&p);
		assert_int_equal(gnutls_cipher_get(
				 ferry_tls_of(p.server.chan)->session),
				 wishes[i / 2].gets);
		teardown(&p);
		remove_tree(&tmp);
	}
}

static void what_waits_is_seen_and_the_end_is_an_end(void **state)
{
	struct tmp tmp;
	struct pair p;
	char dir[96];
	uint8_t data[2];
	struct ferry_chan *s;

	(void)state;
	tmp_make(&tmp);
	snprintf(dir, sizeof(dir), "%s", tmp_path(&tmp, "creds"));
	make_psk(dir);
	setup(&p, dir, dir);
	must_meet(&p);
	s = p.server.chan;
	assert_int_equal(s->ops->wait(s, POLLIN, 20), 0);
	send_text(p.client.chan, "hello");
	assert_int_equal(s->ops->wait(s, POLLIN, -1), 1);
	assert_int_equal(s->ops->wait(s, POLLIN, 0), 1);
	expect_text(s, "hel");
	assert_int_equal(s->ops->wait(s, POLLIN, 0), 1);
	expect_text(s, "lo");
	assert_int_equal(s->ops->wait(s, POLLIN, 0), 0);
	assert_int_equal(s->ops->wait(s, POLLOUT, 0), 1);
	ferry_chan_close(p.client.chan);
	p.client.chan = NULL;
	assert_int_equal(s->ops->wait(s, POLLIN, -1), 1);
	assert_int_equal(read_some(s, data, 2), 0);
	teardown(&p);
	remove_tree(&tmp);
}

static ssize_t read_one(struct ferry_chan *c)
{
	uint8_t octet;

	return read_some(c, &octet, 1);
}

static void a_blocked_read_and_write_end_with_shutdown(void **state)
{
	struct job reader, writer;
	struct tmp tmp;
	struct pair p;
	char dir[96];

	(void)state;
	tmp_make(&tmp);
	snprintf(dir, sizeof(dir), "%s", tmp_path(&tmp, "creds"));
	make_psk(dir);
	setup(&p, dir, dir);
	must_meet(&p);
	job_start(&reader, read_one, p.client.chan);
	job_start(&writer, write_until_error, p.client.chan);
	p.client.chan->ops->shutdown(p.client.chan);
	assert_int_equal(job_result(&reader), -ESHUTDOWN);
	assert_int_equal(job_result(&writer), -ESHUTDOWN);
	assert_int_equal(read_one(p.client.chan), -ESHUTDOWN);
	teardown(&p);
	remove_tree(&tmp);
}

static void an_octet_that_was_changed_ends_it(void **state)
{
	struct ferry_fault fault = FERRY_FAULT_NONE;
	struct ferry_chan *end[2];
	struct ferry_err err;
	struct tmp tmp;
	struct pair p;
	char dir[96], data[400] = "";

	(void)state;
	tmp_make(&tmp);
	snprintf(dir, sizeof(dir), "%s", tmp_path(&tmp, "creds"));
	make_psk(dir);
	setup(&p, dir, dir);
	make_pair(end);
	fault.corrupt_write_at = 4000;
	p.client.inner = ferry_chan_fault(end[0], &fault, NULL);
	p.server.inner = end[1];
	assert_ok(ferry_thread_start(&p.client.thread, "c", greet, &p.client,
				     NULL));
	greet(&p.server);
	ferry_thread_join(&p.client.thread);
	assert_non_null(p.server.chan);
	for (int i = 0; i < 20; i++)
		assert_ok(ferry_chan_write(p.client.chan, data, sizeof(data),
					   &err));
	while (!ferry_chan_read(p.server.chan, data, sizeof(data), &err))
		;
	assert_int_equal(err.code, FERRY_E_IO);
	assert_non_null(strstr(err.msg, "TLS"));
	assert_true(ferry_err_is_link(&err));
	teardown(&p);
	remove_tree(&tmp);
}

/* New keys for what is written, and the other side is asked for the same. */
static void rekey(struct ferry_chan *c)
{
	struct ferry_tls_chan *t = ferry_tls_of(c);

	pthread_mutex_lock(&t->turn);
	assert_ok(ferry_record_yield(&t->to, t->session));
	assert_ok(gnutls_session_key_update(t->session, GNUTLS_KU_PEER));
	pthread_mutex_unlock(&t->turn);
}

static void new_keys_come_into_use_while_octets_go_both_ways(void **state)
{
	struct job job[4];
	struct tmp tmp;
	struct pair p;
	char dir[96];

	(void)state;
	tmp_make(&tmp);
	snprintf(dir, sizeof(dir), "%s", tmp_path(&tmp, "creds"));
	make_psk(dir);
	setup(&p, dir, dir);
	must_meet(&p);
	for (int i = 0; i < 3; i++) {
		job_start(&job[0], recv_big, p.client.chan);
		job_start(&job[1], recv_big, p.server.chan);
		rekey(p.client.chan);
		job_start(&job[2], send_big, p.client.chan);
		job_start(&job[3], send_big, p.server.chan);
		for (int k = 0; k < 4; k++)
			assert_int_equal(job_result(&job[k]), 0);
	}
	teardown(&p);
	remove_tree(&tmp);
}

/* By itself, too, when they have served for long. */
static void keys_are_renewed_in_time(void **state)
{
	struct ferry_tls_chan *t;
	struct job job[4];
	struct tmp tmp;
	struct pair p;
	char dir[96];

	(void)state;
	tmp_make(&tmp);
	snprintf(dir, sizeof(dir), "%s", tmp_path(&tmp, "creds"));
	make_psk(dir);
	setup(&p, dir, dir);
	must_meet(&p);
	t = ferry_tls_of(p.client.chan);
	t->renew_at = 100;	/* BIG is 192 records, and as many again */
	for (int i = 0; i < 2; i++) {
		job_start(&job[0], recv_big, p.client.chan);
		job_start(&job[1], recv_big, p.server.chan);
		job_start(&job[2], send_big, p.client.chan);
		job_start(&job[3], send_big, p.server.chan);
		for (int k = 0; k < 4; k++)
			assert_int_equal(job_result(&job[k]), 0);
	}
	assert_true(t->to.number <= 100);
	assert_true(ferry_tls_of(p.server.chan)->from.number <= 100);
	assert_true(ferry_tls_of(p.server.chan)->to.number > 100);
	teardown(&p);
	remove_tree(&tmp);
}

#define IN_A_RECORD(kind, bytes)	kind, 3, 3, (bytes) >> 8, (bytes) & 255

static const struct { const char *why; uint8_t octets[64]; size_t n; }
no_records[] = {
	{ "longer than any", { IN_A_RECORD(23, 0xffff) }, 5 },
	{ "by one octet", { IN_A_RECORD(23, 16384 + 257) }, 5 },
	{ "a tag alone", { IN_A_RECORD(23, 16) }, 21 },
	{ "nothing at all", { IN_A_RECORD(23, 0) }, 5 },
	{ "sealed by nobody", { IN_A_RECORD(23, 59) }, 64 },
	{ "an alert in plain", { IN_A_RECORD(21, 2), 2, 40 }, 7 },
	{ "an end in plain", { IN_A_RECORD(21, 2), 1, 0 }, 7 },
	{ "a handshake in plain", { IN_A_RECORD(22, 5), 24, 0, 0, 1, 0 }, 10 },
	{ "not of this time", { "RUN\n RUN\n" }, 9 },
};

/* Who cannot seal says nothing here, least of all that this was the end. */
static void what_is_no_record_ends_it(void **state)
{
	struct ferry_err err;
	struct tmp tmp;
	struct pair p;
	char dir[96];
	uint8_t octet;

	(void)state;
	tmp_make(&tmp);
	snprintf(dir, sizeof(dir), "%s", tmp_path(&tmp, "creds"));
	make_psk(dir);
	setup(&p, dir, dir);
	for (size_t i = 0; i < FERRY_LEN(no_records); i++) {
		must_meet(&p);
		assert_ok(ferry_chan_write(p.client.inner, no_records[i].octets,
					   no_records[i].n, &err));
		if (!ferry_chan_read(p.server.chan, &octet, 1, &err) ||
		    err.code != FERRY_E_IO || !strstr(err.msg, "TLS"))
			fail_msg("%s: %s", no_records[i].why, err.msg);
		part(&p);
	}
	teardown(&p);
	remove_tree(&tmp);
}

static const struct { gnutls_cipher_algorithm_t algorithm; unsigned key; }
ciphers[] = {
	{ GNUTLS_CIPHER_AES_128_GCM, 16 },
	{ GNUTLS_CIPHER_AES_256_GCM, 32 },
};

/* Octets of the first, the second and the third piece. */
static const size_t cuts[][3] = {
	{ 1 }, { 15, 1 }, { 16, 16 }, { 17, 3, 1 }, { 1, 255, 1 },
	{ 1100, 4096, 4096 }, { 16384, 1 }, { 12, 16372, 1 }, { 5, 16379, 1 },
	{ 8192, 8192, 1 },
};

static void same_octets(struct ferry_cipher *a, struct ferry_cipher *b,
			const size_t cut[3])
{
	static uint8_t plain[20000], out[2][20000], back[20000];
	const uint8_t nonce[12] = { 1, 2, 3 };
	struct ferry_cipher_head head = { nonce, plain, 5 };
	size_t bytes = cut[0] + cut[1] + cut[2];
	struct iovec iov[3] = {
		{ plain, cut[0] }, { plain + cut[0], cut[1] },
		{ plain + cut[0] + cut[1], cut[2] },
	};
	int n = cut[2] ? 3 : cut[1] ? 2 : 1;

	for (size_t i = 0; i < sizeof(plain); i++)
		plain[i] = (uint8_t)(i * 31 + (i >> 8));
	assert_ok(a->ops->seal(a, &head, iov, n, out[0]));
	assert_ok(b->ops->seal(b, &head, iov, n, out[1]));
	assert_memory_equal(out[0], out[1], bytes + FERRY_CIPHER_TAG);
	assert_ok(b->ops->open(b, &head, out[0], bytes, back));
	assert_memory_equal(back, plain, bytes);
	assert_ok(a->ops->open(a, &head, out[1], bytes, back));
	assert_memory_equal(back, plain, bytes);
	for (size_t at = 0; at < bytes + FERRY_CIPHER_TAG;
	     at += 1 + at * 3 / 2) {
		out[0][at] ^= 0x40;
		assert_int_not_equal(a->ops->open(a, &head, out[0], bytes,
						  back), 0);
		assert_int_not_equal(b->ops->open(b, &head, out[0], bytes,
						  back), 0);
		out[0][at] ^= 0x40;
	}
}

static void either_library_makes_the_same_of_it(void **state)
{
	uint8_t octets[32] = { 7, 6, 5 };

	(void)state;
	for (size_t i = 0; i < FERRY_LEN(ciphers); i++) {
		gnutls_datum_t key = { octets, ciphers[i].key };
		struct ferry_cipher *a = ferry_cipher_new_gnutls(
			ciphers[i].algorithm, &key);
		struct ferry_cipher *b = ferry_cipher_new(
			ciphers[i].algorithm, &key);

		assert_non_null(a);
		assert_non_null(b);
		print_message("%s beside GnuTLS\n", b->ops->maker);
		for (size_t k = 0; k < FERRY_LEN(cuts); k++)
			same_octets(a, b, cuts[k]);
		ferry_cipher_free(a);
		ferry_cipher_free(b);
	}
}

/* A peer of another make, with little memory: as much as it reads. */
struct small {
	int		 fd;
	const char	*dir;
	size_t		 got;
};

static void read_in_small_records(void *arg)
{
	struct small *s = arg;
	gnutls_psk_client_credentials_t creds;
	char path[160], found[FERRY_TLS_NAME_MAX + 1], data[1024];
	gnutls_session_t session;
	gnutls_datum_t text, hex;
	ssize_t got;
	int rc;

	snprintf(path, sizeof(path), "%s/keys.psk", s->dir);
	gnutls_load_file(path, &text);
	(void)!ferry_tls_find_user((char *)text.data, "qemu", found, &hex,
				   NULL);
	gnutls_psk_allocate_client_credentials(&creds);
	gnutls_psk_set_client_credentials(creds, "qemu", &hex,
					  GNUTLS_PSK_KEY_HEX);
	gnutls_init(&session, GNUTLS_CLIENT);
	gnutls_priority_set_direct(session, "NORMAL:+ECDHE-PSK", NULL);
	gnutls_credentials_set(session, GNUTLS_CRD_PSK, creds);
	gnutls_record_set_max_recv_size(session, 512);
	gnutls_transport_set_int(session, s->fd);
	do
		rc = gnutls_handshake(session);
	while (rc && !gnutls_error_is_fatal(rc));
	while (!rc && (got = gnutls_record_recv(session, data,
						sizeof(data))) > 0)
		s->got += (size_t)got;
	gnutls_deinit(session);
	gnutls_psk_free_client_credentials(creds);
	gnutls_free(text.data);
	close(s->fd);
}

static void a_peer_may_want_small_records(void **state)
{
	struct small small = { 0 };
	struct ferry_thread thread = { 0 };
	struct ferry_err err;
	uint8_t *data = calloc(1, BIG);
	struct tmp tmp;
	struct end server = { 0 };
	char dir[96];
	int fd[2];

	(void)state;
	tmp_make(&tmp);
	snprintf(dir, sizeof(dir), "%s", tmp_path(&tmp, "creds"));
	make_psk(dir);
	load(&server, dir, "", true);
	assert_ok(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fd));
	small = (struct small){ .fd = fd[0], .dir = dir };
	server.inner = ferry_chan_fd(fd[1], NULL);
	assert_ok(ferry_thread_start(&thread, "small", read_in_small_records,
				     &small, NULL));
	greet(&server);
	assert_non_null(server.chan);
	assert_ok(ferry_chan_write(server.chan, data, BIG, &err));
	ferry_chan_close(server.chan);
	ferry_thread_join(&thread);
	assert_int_equal(small.got, BIG);
	ferry_tls_free(server.tls);
	free(data);
	remove_tree(&tmp);
}

static void a_flood_of_new_keys_is_refused(void **state)
{
	struct ferry_err err = { 0 };
	struct tmp tmp;
	struct pair p;
	char dir[96];
	uint8_t octet;

	(void)state;
	tmp_make(&tmp);
	snprintf(dir, sizeof(dir), "%s", tmp_path(&tmp, "creds"));
	make_psk(dir);
	setup(&p, dir, dir);
	must_meet(&p);
	for (int i = 0; i < 100; i++) {
		rekey(p.client.chan);
		assert_ok(ferry_chan_write(p.client.chan, "x", 1, &err));
	}
	for (int i = 0; i < 100 && !err.code; i++)
		if (ferry_chan_read(p.server.chan, &octet, 1, &err))
			break;
	assert_int_equal(err.code, FERRY_E_IO);
	assert_non_null(strstr(err.msg, "TLS"));
	teardown(&p);
	remove_tree(&tmp);
}

/* ---- who is refused ------------------------------------------------------------- */

/* Folders of one attack: `good`, and `bad` as the row says. */
struct folders {
	char good[96], bad[96];
};

static void other_ca(const struct folders *f)
{
	make_creds(f->bad);
}

static void copy(const char *from, const char *to, const char *name)
{
	char cmd[512];

	snprintf(cmd, sizeof(cmd), "mkdir -p %s && cp -p %s/%s %s/", to, from,
		 name, to);
	assert_ok(system(cmd));
}

/* A sister of the good one, by the same CA: a time, names, a purpose. */
static void sister(const struct folders *f, int64_t from_s, int64_t days,
		   const char *host, const char *purpose)
{
	gnutls_x509_crt_t ca, crt;
	gnutls_x509_privkey_t ca_key, key;
	gnutls_datum_t d;
	char path[256], pem[16384];
	size_t bytes = sizeof(pem);
	time_t now = time(NULL) + from_s;
	FILE *out;

	copy(f->good, f->bad, "*");
	snprintf(path, sizeof(path), "%s/ca-cert.pem", f->good);
	assert_ok(gnutls_load_file(path, &d));
	assert_ok(gnutls_x509_crt_init(&ca));
	assert_ok(gnutls_x509_crt_import(ca, &d, GNUTLS_X509_FMT_PEM));
	gnutls_free(d.data);
	snprintf(path, sizeof(path), "%s/ca-key.pem", f->good);
	assert_ok(gnutls_load_file(path, &d));
	assert_ok(gnutls_x509_privkey_init(&ca_key));
	assert_ok(gnutls_x509_privkey_import(ca_key, &d, GNUTLS_X509_FMT_PEM));
	gnutls_free(d.data);
	snprintf(path, sizeof(path), "%s/client-key.pem", f->good);
	assert_ok(gnutls_load_file(path, &d));
	assert_ok(gnutls_x509_privkey_init(&key));
	assert_ok(gnutls_x509_privkey_import(key, &d, GNUTLS_X509_FMT_PEM));
	gnutls_free(d.data);
	assert_ok(gnutls_x509_crt_init(&crt));
	assert_ok(gnutls_x509_crt_set_version(crt, 3));
	assert_ok(gnutls_x509_crt_set_serial(crt, "\x07", 1));
	assert_ok(gnutls_x509_crt_set_activation_time(crt, now));
	assert_ok(gnutls_x509_crt_set_expiration_time(crt,
						      now + days * 86400));
	assert_ok(gnutls_x509_crt_set_dn(crt, "CN=mallory,O=ferry test",
					 NULL));
	assert_ok(gnutls_x509_crt_set_basic_constraints(crt, 0, -1));
	assert_ok(gnutls_x509_crt_set_key_purpose_oid(crt, purpose, 0));
	assert_ok(gnutls_x509_crt_set_subject_alt_name(crt, GNUTLS_SAN_DNSNAME,
			host, (unsigned)strlen(host), GNUTLS_FSAN_SET));
	assert_ok(gnutls_x509_crt_set_key(crt, key));
	assert_ok(gnutls_x509_crt_sign2(crt, ca, ca_key, GNUTLS_DIG_SHA256,
					0));
	assert_ok(gnutls_x509_crt_export(crt, GNUTLS_X509_FMT_PEM, pem,
					 &bytes));
	for (int i = 0; i < 2; i++) {
		snprintf(path, sizeof(path), "%s/%s-cert.pem", f->bad,
			 i ? "client" : "server");
		out = fopen(path, "w");
		assert_int_equal(fwrite(pem, 1, bytes, out), bytes);
		fclose(out);
	}
	snprintf(path, sizeof(path), "cp -p %s/client-key.pem "
		 "%s/server-key.pem", f->bad, f->bad);
	assert_ok(system(path));
	gnutls_x509_crt_deinit(crt);
	gnutls_x509_crt_deinit(ca);
	gnutls_x509_privkey_deinit(key);
	gnutls_x509_privkey_deinit(ca_key);
}

static void expired_client(const struct folders *f)
{
	sister(f, -10 * 86400, 5, "localhost", GNUTLS_KP_TLS_WWW_CLIENT);
}

static void early_client(const struct folders *f)
{
	sister(f, 86400, 5, "localhost", GNUTLS_KP_TLS_WWW_CLIENT);
}

static void expired_server(const struct folders *f)
{
	sister(f, -10 * 86400, 5, "localhost", GNUTLS_KP_TLS_WWW_SERVER);
}

static void server_of_another_name(const struct folders *f)
{
	sister(f, 0, 5, "elsewhere.example", GNUTLS_KP_TLS_WWW_SERVER);
}

static void client_as_server(const struct folders *f)
{
	sister(f, 0, 5, "localhost", GNUTLS_KP_TLS_WWW_CLIENT);
}

static void server_as_client(const struct folders *f)
{
	sister(f, 0, 5, "localhost", GNUTLS_KP_TLS_WWW_SERVER);
}

/* The good one, and the target has a list that says it is not any more. */
static void revoked_client(const struct folders *f)
{
	char cmd[1200];

	sister(f, 0, 5, "localhost", GNUTLS_KP_TLS_WWW_CLIENT);
	snprintf(cmd, sizeof(cmd), "cd %s && printf '%%s\\n' "
		 "crl_next_update=30 crl_number=1 > crl.cfg && certtool "
		 "--generate-crl --load-ca-privkey ca-key.pem "
		 "--load-ca-certificate ca-cert.pem --load-certificate "
		 "%s/client-cert.pem --template crl.cfg --outfile ca-crl.pem "
		 "2>/dev/null", f->good, f->bad);
	assert_ok(system(cmd));
}

enum who { CLIENT, SERVER };

/* Who holds the bad ones; what the other says of it. */
static const struct attack {
	const char *name;
	void	  (*make)(const struct folders *f);
	enum who    bad;
	const char *text;
} attacks[] = {
	{ "a client of another CA", other_ca, CLIENT, "CA" },
	{ "a server of another CA", other_ca, SERVER, "CA" },
	{ "a client that expired", expired_client, CLIENT, "expired" },
	{ "a client that is not valid yet", early_client, CLIENT,
	  "not valid yet" },
	{ "a client that was revoked", revoked_client, CLIENT, "revoked" },
	{ "a server that expired", expired_server, SERVER, "expired" },
	{ "a server of another name", server_of_another_name, SERVER,
	  "is for another host than 'localhost'" },
	{ "a client's certificate at a server", client_as_server, SERVER,
	  "another purpose" },
	{ "a server's certificate at a client", server_as_client, CLIENT,
	  "another purpose" },
};

/* The client of TLS 1.3 has done its part before the server judges it. */
static void expect_refused(struct pair *p, const struct attack *a)
{
	struct end *judge = a->bad == CLIENT ? &p->server : &p->client;
	struct end *bad = a->bad == CLIENT ? &p->client : &p->server;
	uint8_t octet;

	assert_null(judge->chan);
	if (!strstr(judge->err.msg, a->text) ||
	    judge->err.code != FERRY_E_PERM)
		fail_msg("%s: %d %s (the other: %s)", a->name,
			 judge->err.code, judge->err.msg, bad->err.msg);
	if (bad->chan && ferry_chan_read(bad->chan, &octet, 1, &bad->err))
		assert_non_null(strstr(bad->err.msg, "the peer refused"));
	if (!strstr(bad->err.msg, "refused"))
		fail_msg("%s: %s", a->name, bad->err.msg);
}

static void who_is_not_who_it_should_be_is_refused(void **state)
{
	struct folders f;
	struct tmp tmp;
	struct pair p;

	(void)state;
	for (size_t i = 0; i < FERRY_LEN(attacks); i++) {
		const struct attack *a = &attacks[i];

		tmp_make(&tmp);
		snprintf(f.good, sizeof(f.good), "%s", tmp_path(&tmp, "good"));
		snprintf(f.bad, sizeof(f.bad), "%s", tmp_path(&tmp, "bad"));
		if (a->make == revoked_client &&
		    access("/usr/bin/certtool", X_OK)) {
			print_message("no certtool: %s is not tried\n",
				      a->name);
			remove_tree(&tmp);
			continue;
		}
		make_creds(f.good);
		a->make(&f);
		setup(&p, a->bad == CLIENT ? f.bad : f.good,
		      a->bad == SERVER ? f.bad : f.good);
		p.client.host = "localhost";
		/* Only the server's CA is another: else it judges, too. */
		if (a->make == other_ca)
			copy(f.good, f.bad, "ca-cert.pem");
		ferry_tls_free(p.client.tls);
		ferry_tls_free(p.server.tls);
		load(&p.client, a->bad == CLIENT ? f.bad : f.good, "localhost",
		     false);
		load(&p.server, a->bad == SERVER ? f.bad : f.good, "", true);
		meet(&p);
		expect_refused(&p, a);
		teardown(&p);
		remove_tree(&tmp);
	}
}

/* ---- tables ------------------------------------------------------------------ */

static const struct {
	const char *rules, *subject;
	bool may;
} rules[] = {
	{ "host1", "host1", true },
	{ "host1", "host11", false },
	{ "host1;host2", "host2", true },
	{ "host1;host2", "host1;host2", false },
	{ "*.example", "a.example", true },
	{ "*.example", "a.example.org", false },
	{ "a*b*c", "aXbXbXc", true },
	{ "a*b*c", "aXbXbX", false },
	{ "*", "anything", true },
	{ "*", "CN=anything", false },
	{ "CN=*", "CN=anything", true },
	{ "CN=host1,O=x", "CN=host1,O=x", true },
	{ "CN=host1", "CN=host1,O=x", false },
	{ "CN=host1", "host1", false },
	{ ";", "", false },
	{ "", "host1", false },
};

static void rules_let_in_whom_they_name(void **state)
{
	(void)state;
	for (size_t i = 0; i < FERRY_LEN(rules); i++)
		if (ferry_tls_may(rules[i].rules, rules[i].subject) !=
		    rules[i].may)
			fail_msg("%s, %s", rules[i].rules, rules[i].subject);
}

#define HEX	"00112233445566778899aabbccddeeff"

static const struct {
	const char *text, *user, *found;	/* NULL: an error */
} keys[] = {
	{ "qemu:" HEX "\n", NULL, "qemu" },
	{ "alice:" HEX, NULL, "alice" },
	{ "# who\r\n\r\nalice:" HEX "\r\n", "alice", "alice" },
	{ "alice:" HEX "\nqemu:" HEX "\n", NULL, "qemu" },
	{ "alice:" HEX "\nbob:" HEX "\n", NULL, NULL },
	{ "alice:" HEX "\nbob:" HEX "\n", "bob", "bob" },
	{ "alice:" HEX "\n", "ali", NULL },
	{ "alice:" HEX "\n", "", NULL },
	{ ":" HEX "\n", "", NULL },
	{ "alice:00\n", "alice", NULL },
	{ "alice\n", "alice", NULL },
	{ "", NULL, NULL },
};

static void users_are_found_in_keys_psk(void **state)
{
	char found[FERRY_TLS_NAME_MAX + 1];
	gnutls_datum_t hex;

	(void)state;
	for (size_t i = 0; i < FERRY_LEN(keys); i++) {
		int rc = ferry_tls_find_user(keys[i].text, keys[i].user, found,
					     &hex, NULL);

		if (!rc != !!keys[i].found ||
		    (!rc && strcmp(found, keys[i].found)))
			fail_msg("row %zu", i);
		if (!rc)
			assert_int_equal(hex.size, 32);
	}
}

/* ---- a test program ---------------------------------------------------------------- */

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(certificates_carry_octets_both_ways_at_once),
		TEST(a_psk_carries_octets_both_ways_at_once),
		TEST(aes_it_is_whatever_the_source_likes_better),
		TEST(what_waits_is_seen_and_the_end_is_an_end),
		TEST(a_blocked_read_and_write_end_with_shutdown),
		TEST(an_octet_that_was_changed_ends_it),
		TEST(new_keys_come_into_use_while_octets_go_both_ways),
		TEST(keys_are_renewed_in_time),
		TEST(what_is_no_record_ends_it),
		TEST(either_library_makes_the_same_of_it),
		TEST(a_peer_may_want_small_records),
		TEST(a_flood_of_new_keys_is_refused),
		TEST(who_is_not_who_it_should_be_is_refused),
		TEST(rules_let_in_whom_they_name),
		TEST(users_are_found_in_keys_psk),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
