/* SPDX-License-Identifier: MIT */
/* Addresses: each way to be right, each way to be wrong. */
#include "help.h"

#include <fcntl.h>

static const struct {
	const char *text;
	enum ferry_uri_kind kind;
	const char *host, *port, *path;
	uint64_t offset;
	const char *again;	/* as formatted; NULL: as text */
} good[] = {
	{ "tcp:example.org:4444", FERRY_URI_TCP, "example.org", "4444" },
	{ "tcp:127.0.0.1:1", FERRY_URI_TCP, "127.0.0.1", "1" },
	{ "tcp::65535", FERRY_URI_TCP, "", "65535" },
	{ "tcp::0", FERRY_URI_TCP, "", "0" },
	{ "tcp:h_1-x:0080", FERRY_URI_TCP, "h_1-x", "80", .again =
	  "tcp:h_1-x:80" },
	{ "tcp:[::1]:5", FERRY_URI_TCP, "::1", "5" },
	{ "tcp:[fe80::1%eth0]:5", FERRY_URI_TCP, "fe80::1%eth0", "5" },
	{ "tcp:[a%b]:5", FERRY_URI_TCP, "a%b", "5" },
	{ "tcp:[localhost]:5", FERRY_URI_TCP, "localhost", "5", .again =
	  "tcp:localhost:5" },
	{ "unix:/run/vm.sock", FERRY_URI_UNIX, .path = "/run/vm.sock" },
	{ "unix:a:b,c", FERRY_URI_UNIX, .path = "a:b,c" },
	{ "file:/tmp/x", FERRY_URI_FILE, .path = "/tmp/x" },
	{ "file:x,y=z", FERRY_URI_FILE, .path = "x,y=z" },
	{ "file:/tmp/x,offset=4096", FERRY_URI_FILE, .path = "/tmp/x",
	  .offset = 4096 },
	{ "file:x,offset=0", FERRY_URI_FILE, .path = "x", .again = "file:x" },
	{ "file:x,offset=9223372036854775807", FERRY_URI_FILE, .path = "x",
	  .offset = INT64_MAX },
};

static void addresses_are_understood_and_said_again(void **state)
{
	(void)state;
	for (size_t i = 0; i < FERRY_LEN(good); i++) {
		struct ferry_uri u;
		char again[256];

		print_message("%s\n", good[i].text);
		assert_ok(ferry_uri_parse(&u, good[i].text, NULL));
		assert_int_equal(u.kind, good[i].kind);
		assert_string_equal(u.host, good[i].host ? good[i].host : "");
		assert_string_equal(u.port, good[i].port ? good[i].port : "");
		assert_string_equal(u.path, good[i].path ? good[i].path : "");
		assert_int_equal(u.offset, good[i].offset);
		ferry_uri_format(&u, again, sizeof(again));
		assert_string_equal(again, good[i].again ? good[i].again :
							   good[i].text);
	}
}

#define KNOWN "tcp:HOST:PORT, unix:PATH, fd:NUMBER, file:PATH[,offset=OCTETS]"

static const struct {
	const char *text, *says;
} bad[] = {
	{ "", "address '' is none of " KNOWN },
	{ "exec:cat", "address 'exec:cat' is none of " KNOWN },
	{ "/run/vm.sock", "address '/run/vm.sock' is none of " KNOWN },
	{ "TCP:a:1", "address 'TCP:a:1' is none of " KNOWN },
	{ "tcp:", "address 'tcp:': no port: write tcp:HOST:PORT" },
	{ "tcp:host", "address 'tcp:host': no port: write tcp:HOST:PORT" },
	{ "tcp:host:", "address 'tcp:host:': no port" },
	{ "tcp:h:65536",
	  "address 'tcp:h:65536': port '65536' is not a number up to 65535" },
	{ "tcp:h:-1",
	  "address 'tcp:h:-1': port '-1' is not a number up to 65535" },
	{ "tcp:h:http",
	  "address 'tcp:h:http': port 'http' is not a number up to 65535" },
	{ "tcp:h:1,to=9",
	  "address 'tcp:h:1,to=9': port '1,to=9' is not a number up to 65535" },
	{ "tcp:h:99999999999999999999999999", "address "
	  "'tcp:h:99999999999999999999999999': port "
	  "'99999999999999999999999999' is not a number up to 65535" },
	{ "tcp:::1:4444", "address 'tcp:::1:4444': ':' does not belong in a "
			  "host (put IPv6 in brackets)" },
	{ "tcp:a b:1", "address 'tcp:a b:1': ' ' does not belong in a host" },
	{ "tcp:a\n:1", "address 'tcp:a\n:1': '?' does not belong in a host" },
	{ "tcp:[::1:1", "address 'tcp:[::1:1': '[' without ']'" },
	{ "tcp:[]:1", "address 'tcp:[]:1': nothing between the brackets" },
	{ "tcp:[::1]", "address 'tcp:[::1]': no :PORT behind ']'" },
	{ "tcp:[::1]1", "address 'tcp:[::1]1': no :PORT behind ']'" },
	{ "tcp:[::1]:", "address 'tcp:[::1]:': no port" },
	{ "unix:", "address 'unix:': no path" },
	{ "fd:", "address 'fd:': '' is not the number of an fd" },
	{ "fd:one", "address 'fd:one': 'one' is not the number of an fd" },
	{ "fd:-1", "address 'fd:-1': '-1' is not the number of an fd" },
	{ "fd:4294967296", "address 'fd:4294967296': '4294967296' is not the "
			   "number of an fd" },
	{ "fd:54321", "address 'fd:54321': fd 54321 is not open" },
	{ "file:", "address 'file:': no path" },
	{ "file:,offset=1", "address 'file:,offset=1': no path" },
	{ "file:x,offset=", "address 'file:x,offset=': offset '' is not a "
			    "number of octets" },
	{ "file:x,offset=4k", "address 'file:x,offset=4k': offset '4k' is not "
			      "a number of octets" },
	{ "file:x,offset=9223372036854775808", "address "
	  "'file:x,offset=9223372036854775808': offset "
	  "'9223372036854775808' is not a number of octets" },
};

static void each_mistake_has_its_sentence(void **state)
{
	(void)state;
	for (size_t i = 0; i < FERRY_LEN(bad); i++) {
		struct ferry_err e = { 0 };
		struct ferry_uri u;

		assert_int_equal(ferry_uri_parse(&u, bad[i].text, &e), -1);
		assert_string_equal(e.msg, bad[i].says);
		assert_int_equal(e.code, FERRY_E_INVALID);
	}
}

/* prefix, then `octets` times 'x', then suffix. */
static int parse_long(const char *prefix, size_t octets, const char *suffix)
{
	char text[8192];
	struct ferry_uri u;
	size_t n = strlen(prefix);

	memcpy(text, prefix, n);
	memset(text + n, 'x', octets);
	strcpy(text + n + octets, suffix);
	return ferry_uri_parse(&u, text, NULL);
}

static void lengths_are_bounded_to_the_octet(void **state)
{
	(void)state;
	assert_ok(parse_long("tcp:", 255, ":1"));
	assert_int_equal(parse_long("tcp:", 256, ":1"), -1);
	assert_ok(parse_long("unix:", 107, ""));
	assert_int_equal(parse_long("unix:", 108, ""), -1);
	assert_ok(parse_long("file:", 4095, ""));
	assert_int_equal(parse_long("file:", 4096, ""), -1);
	assert_ok(parse_long("file:", 4095, ",offset=1"));
}

static unsigned features_of(const char *text)
{
	struct ferry_uri u;

	assert_ok(ferry_uri_parse(&u, text, NULL));
	return ferry_uri_features(&u);
}

static unsigned features_of_fd(int fd)
{
	char text[32];

	snprintf(text, sizeof(text), "fd:%d", fd);
	return features_of(text);
}

static void features_are_known_before_connecting(void **state)
{
	unsigned both = FERRY_CHAN_READ | FERRY_CHAN_WRITE;
	unsigned stream = both | FERRY_CHAN_TWO_WAY | FERRY_CHAN_MORE;
	FERRY_AUTO_FD null = open("/dev/null", O_RDONLY);
	FERRY_AUTO_FD dir = open("/", O_RDONLY);
	int fd[2];

	(void)state;
	assert_int_equal(features_of("tcp:h:1"), stream);
	assert_int_equal(features_of("unix:/x"), stream);
	assert_int_equal(features_of("file:/no/such"), both | FERRY_CHAN_SEEK);
	assert_int_equal(features_of("file:/dev/null"), both);
	assert_ok(pipe(fd));
	assert_int_equal(features_of_fd(fd[0]), FERRY_CHAN_READ);
	assert_int_equal(features_of_fd(fd[1]), FERRY_CHAN_WRITE);
	assert_int_equal(features_of_fd(null), FERRY_CHAN_READ);
	assert_int_equal(features_of_fd(dir), 0);
	close(fd[0]);
	close(fd[1]);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		TEST(addresses_are_understood_and_said_again),
		TEST(each_mistake_has_its_sentence),
		TEST(lengths_are_bounded_to_the_octet),
		TEST(features_are_known_before_connecting),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
