/* SPDX-License-Identifier: MIT */
#include "help.h"

#include <dirent.h>

void tmp_make(struct tmp *t)
{
	snprintf(t->dir, sizeof(t->dir), "/tmp/ferry-chan-XXXXXX");
	assert_non_null(mkdtemp(t->dir));
}

const char *tmp_path(struct tmp *t, const char *name)
{
	snprintf(t->path, sizeof(t->path), "%s/%s", t->dir, name);
	return t->path;
}

void tmp_remove(struct tmp *t)
{
	DIR *d = opendir(t->dir);
	struct dirent *entry;

	assert_non_null(d);
	while ((entry = readdir(d)))
		if (entry->d_name[0] != '.')
			unlinkat(dirfd(d), entry->d_name, 0);
	closedir(d);
	assert_ok(rmdir(t->dir));
}

void make_pipe(struct ferry_chan *end[2])
{
	int fd[2];

	assert_ok(pipe(fd));
	for (int i = 0; i < 2; i++) {
		end[i] = ferry_chan_fd(fd[i], NULL);
		assert_non_null(end[i]);
	}
}

void make_pair(struct ferry_chan *end[2])
{
	assert_ok(ferry_chan_pair(end, NULL));
}

void make_connection(const char *at, struct ferry_chan *end[2])
{
	struct ferry_listener *l;
	struct ferry_uri u;
	char text[256];

	assert_ok(ferry_uri_parse(&u, at, NULL));
	l = ferry_listen(&u, NULL);
	assert_non_null(l);
	ferry_listener_uri(l, text, sizeof(text));
	assert_ok(ferry_uri_parse(&u, text, NULL));

	end[0] = ferry_uri_dial(&u, 10000, NULL, NULL);
	assert_non_null(end[0]);
	end[1] = ferry_listener_accept(l, NULL);
	assert_non_null(end[1]);
	ferry_listener_close(l);
}

void send_text(struct ferry_chan *c, const char *text)
{
	assert_ok(ferry_chan_write(c, text, strlen(text), NULL));
}

void expect_text(struct ferry_chan *c, const char *text)
{
	char got[256] = "";

	assert_true(strlen(text) < sizeof(got));
	assert_ok(ferry_chan_read(c, got, strlen(text), NULL));
	assert_string_equal(got, text);
}

ssize_t read_some(struct ferry_chan *c, void *data, size_t bytes)
{
	struct iovec iov = { data, bytes };

	return c->ops->readv(c, &iov, 1);
}

ssize_t write_some(struct ferry_chan *c, const void *data, size_t bytes)
{
	struct iovec iov = { (void *)data, bytes };

	return c->ops->writev(c, &iov, 1);
}

ssize_t write_until_error(struct ferry_chan *c)
{
	static const uint8_t zeroes[65536];
	ssize_t rc;

	do {
		rc = write_some(c, zeroes, sizeof(zeroes));
	} while (rc > 0);
	return rc;
}

void fill_pattern(uint8_t *data, size_t bytes, uint64_t from)
{
	for (size_t i = 0; i < bytes; i++)
		data[i] = pattern(from + i);
}

static void run_job(void *arg)
{
	struct job *j = arg;

	j->result = j->fn(j->chan);
}

void job_start(struct job *j, ssize_t (*fn)(struct ferry_chan *c),
	       struct ferry_chan *chan)
{
	*j = (struct job){ .chan = chan, .fn = fn };
	assert_ok(ferry_thread_start(&j->thread, "job", run_job, j, NULL));
	usleep(20000);
}

ssize_t job_result(struct job *j)
{
	ferry_thread_join(&j->thread);
	return j->result;
}

static int count_fds(void)
{
	DIR *d = opendir("/proc/self/fd");
	int n = 0;

	while (readdir(d))
		n++;
	closedir(d);
	return n;
}

int count_fds_before(void **state)
{
	*state = (void *)(intptr_t)count_fds();
	return 0;
}

int count_fds_after(void **state)
{
	int before = (int)(intptr_t)*state, after = count_fds();

	if (before == after)
		return 0;
	fprintf(stderr, "fds: %d before, %d after\n", before, after);
	return -1;
}
