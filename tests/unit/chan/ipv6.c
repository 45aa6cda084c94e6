/* SPDX-License-Identifier: MIT */
/* IPv6, on hosts that have it: a program of its own, so that it can skip. */
#include "help.h"

#include <netinet/in.h>
#include <sys/socket.h>

static bool has_ipv6_loopback(void)
{
	struct sockaddr_in6 at = { .sin6_family = AF_INET6,
				   .sin6_addr = IN6ADDR_LOOPBACK_INIT };
	FERRY_AUTO_FD fd = socket(AF_INET6, SOCK_STREAM, 0);

	return fd >= 0 && !bind(fd, (struct sockaddr *)&at, sizeof(at));
}

static void ipv6_in_brackets_connects(void **state)
{
	struct ferry_chan *end[2];

	(void)state;
	make_connection("tcp:[::1]:0", end);
	assert_string_equal(end[0]->ops->kind, "tcp");
	send_text(end[0], "over six");
	expect_text(end[1], "over six");
	ferry_chan_close(end[0]);
	ferry_chan_close(end[1]);
}

static void the_wildcard_takes_both_families(void **state)
{
	static const char *const hosts[] = { "127.0.0.1", "::1" };
	struct ferry_listener *l;
	struct ferry_uri u;
	char text[64];

	(void)state;
	assert_ok(ferry_uri_parse(&u, "tcp::0", NULL));
	l = ferry_listen(&u, NULL);
	assert_non_null(l);
	ferry_listener_uri(l, text, sizeof(text));
	assert_ok(ferry_uri_parse(&u, text, NULL));
	for (size_t i = 0; i < FERRY_LEN(hosts); i++) {
		struct ferry_chan *c;

		strcpy(u.host, hosts[i]);
		c = ferry_uri_dial(&u, 10000, NULL, NULL);
		assert_non_null(c);
		ferry_chan_close(c);
	}
	ferry_listener_close(l);
}

static void a_refused_ipv6_address_keeps_its_brackets(void **state)
{
	struct ferry_err e = { 0 };
	struct ferry_uri u;

	(void)state;
	assert_ok(ferry_uri_parse(&u, "tcp:[::1]:1", NULL));
	assert_null(ferry_uri_dial(&u, 10000, NULL, &e));
	assert_string_equal(e.msg,
			    "connect tcp:[::1]:1: Connection refused");
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		TEST(ipv6_in_brackets_connects),
		TEST(the_wildcard_takes_both_families),
		TEST(a_refused_ipv6_address_keeps_its_brackets),
	};

	if (!has_ipv6_loopback()) {
		puts("skip: this host has no ::1");
		return 77;
	}
	return cmocka_run_group_tests(tests, NULL, NULL);
}
