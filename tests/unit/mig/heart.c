/* SPDX-License-Identifier: MIT */
/*
 * Signs of life: they come again and again whatever their side is busy with,
 * never in the middle of what it says, and end when they are told to, also on
 * a channel that takes nothing or is gone.
 */
#include "help.h"

#include <poll.h>
#include <semaphore.h>
#include <stdatomic.h>

#include "base/clock.h"
#include "chan/chan.h"
#include "mig/heart.h"
#include "recv/answer.h"
#include "send/speak.h"

#define INTERVAL_NS	(FERRY_HEARTBEAT_MS * FERRY_NS_PER_MS)
#define BEATS		4

static void nap(uint64_t ms)
{
	poll(NULL, 0, (int)ms);
}

/* ---- the heart alone --------------------------------------------------------- */

struct count {
	_Atomic unsigned beats;
	uint64_t	at_ns[BEATS];	/* the heart's, until it is stopped */
	pthread_t	thread;
	char		name[16];
	sem_t		in, out;	/* of slow_beat() */
	_Atomic bool	is_out;
};

static void beat(void *arg)
{
	struct count *c = arg;
	unsigned n = atomic_load(&c->beats);

	if (n < BEATS)
		c->at_ns[n] = ferry_now_ns();
	c->thread = pthread_self();
	pthread_getname_np(c->thread, c->name, sizeof(c->name));
	atomic_fetch_add(&c->beats, 1);
}

static void start(struct ferry_heart *h, void (*fn)(void *arg), void *arg)
{
	*h = (struct ferry_heart){ .beat = fn, .arg = arg };
	assert_ok(ferry_heart_start(h, NULL));
}

static void await_beats(struct count *c, unsigned n)
{
	while (atomic_load(&c->beats) < n)
		nap(1);
}

static void it_beats_while_its_owner_is_busy(void **state)
{
	uint64_t before = ferry_now_ns();
	struct count c = { 0 };
	struct ferry_heart h;

	(void)state;
	start(&h, beat, &c);
	while (atomic_load(&c.beats) < BEATS)
		;			/* busy: it is not asked for anything */
	ferry_heart_stop(&h);
	assert_false(pthread_equal(c.thread, pthread_self()));
	assert_string_equal(c.name, "ferry-heart");
	for (unsigned i = 0; i < BEATS; i++) {
		assert_true(c.at_ns[i] >= before + INTERVAL_NS);
		before = c.at_ns[i];
	}
}

static void stopped_it_never_beats_again(void **state)
{
	struct count c = { 0 };
	struct ferry_heart h;
	unsigned n;

	(void)state;
	start(&h, beat, &c);
	await_beats(&c, 1);
	ferry_heart_stop(&h);
	n = atomic_load(&c.beats);
	nap(3 * FERRY_HEARTBEAT_MS);
	assert_int_equal(atomic_load(&c.beats), n);
}

static void stopping_is_safe_at_any_time(void **state)
{
	struct ferry_heart never = { 0 };
	struct count c = { 0 };
	struct ferry_heart h;

	(void)state;
	ferry_heart_stop(&never);
	for (int i = 0; i < 50; i++) {	/* before it has beaten */
		start(&h, beat, &c);
		ferry_heart_stop(&h);
		ferry_heart_stop(&h);
	}
	assert_ok(ferry_heart_start(&h, NULL));		/* and it goes again */
	await_beats(&c, 1);
	ferry_heart_stop(&h);
}

static void slow_beat(void *arg)
{
	struct count *c = arg;

	sem_post(&c->in);
	sem_wait(&c->out);
	atomic_store(&c->is_out, true);
}

static void *let_out(void *arg)
{
	struct count *c = arg;

	nap(20);
	sem_post(&c->out);
	return NULL;
}

/* Who has stopped it may free what the beat uses. */
static void stopping_waits_for_a_beat_under_way(void **state)
{
	struct count c = { 0 };
	struct ferry_heart h;
	pthread_t other;

	(void)state;
	sem_init(&c.in, 0, 0);
	sem_init(&c.out, 0, 0);
	start(&h, slow_beat, &c);
	sem_wait(&c.in);
	assert_ok(pthread_create(&other, NULL, let_out, &c));
	ferry_heart_stop(&h);
	assert_true(atomic_load(&c.is_out));
	pthread_join(other, NULL);
	sem_destroy(&c.in);
	sem_destroy(&c.out);
}

/* ---- with a channel ----------------------------------------------------------- */

/* Either side's way to say that it lives, and to say something else. */
struct mouth {
	struct ferry_chan *end[2];	/* ours, the peer's */
	struct ferry_speaker speak;
	struct ferry_answer answer;
	_Atomic unsigned beats;
};

struct side {
	const char	*name;
	void		(*beat)(void *mouth);
	int		(*say)(struct mouth *m, uint32_t value);
	uint8_t		head[5];	/* of either, in front of the value */
	size_t		 head_bytes;
};

static void source_beat(void *arg)
{
	struct mouth *m = arg;

	ferry_speak_beat(&m->speak, FERRY_COMMAND_PING, 0);
	atomic_fetch_add(&m->beats, 1);
}

static int source_say(struct mouth *m, uint32_t value)
{
	return ferry_speak_u32(&m->speak, FERRY_COMMAND_PING, value, NULL);
}

static void target_beat(void *arg)
{
	struct mouth *m = arg;

	ferry_answer_beat(&m->answer, FERRY_RP_PONG, 0);
	atomic_fetch_add(&m->beats, 1);
}

static int target_say(struct mouth *m, uint32_t value)
{
	return ferry_answer_say(&m->answer, FERRY_RP_PONG, value, NULL);
}

static const struct side sides[] = {
	{ "source", source_beat, source_say, { 8, 0, 2, 0, 4 }, 5 },
	{ "target", target_beat, target_say, { 0, 2, 0, 4 }, 4 },
};

static void open_mouth(struct mouth *m)
{
	static const struct ferry_mem nothing;

	*m = (struct mouth){ 0 };
	assert_ok(ferry_chan_pair(m->end, NULL));
	ferry_speaker_init(&m->speak, &nothing);
	m->speak.chan = m->end[0];
	m->speak.dialect = FERRY_DIALECT_FERRY;
	ferry_answer_init(&m->answer);
	ferry_answer_open(&m->answer, m->end[0], FERRY_DIALECT_FERRY);
}

static void close_mouth(struct mouth *m)
{
	ferry_speaker_fini(&m->speak);
	ferry_answer_fini(&m->answer);
	ferry_chan_close(m->end[0]);
	ferry_chan_close(m->end[1]);
}

/* The next whole message that the peer reads; false: there is no more. */
static bool hear(struct mouth *m, const struct side *s, uint32_t *value)
{
	uint8_t octets[9];
	size_t bytes = s->head_bytes + 4;
	struct ferry_err e = { 0 };

	if (ferry_chan_read(m->end[1], octets, bytes, &e))
		return false;
	if (memcmp(octets, s->head, s->head_bytes))
		fail_msg("%s: something was said into something else",
			 s->name);
	*value = (uint32_t)octets[bytes - 4] << 24 |
		 (uint32_t)octets[bytes - 3] << 16 |
		 (uint32_t)octets[bytes - 2] << 8 | octets[bytes - 1];
	return true;
}

static void each_side_is_heard(void **state)
{
	(void)state;
	for (size_t i = 0; i < FERRY_LEN(sides); i++) {
		struct ferry_heart h;
		struct mouth m;
		uint32_t value;

		open_mouth(&m);
		start(&h, sides[i].beat, &m);
		for (int n = 0; n < 2; n++) {
			assert_true(hear(&m, &sides[i], &value));
			assert_int_equal(value, 0);
		}
		ferry_heart_stop(&h);
		close_mouth(&m);
	}
}

struct talk {
	struct mouth	*m;
	const struct side *side;
	uint64_t	 said;
};

/* As a conductor that has much to say, until it has been beaten to it. */
static void *talk(void *arg)
{
	struct talk *t = arg;

	while (atomic_load(&t->m->beats) < 3) {
		if (t->side->say(t->m, 7))
			break;
		t->said++;
	}
	t->m->end[0]->ops->shutdown(t->m->end[0]);
	return NULL;
}

/* A beat may be left out where something is said anyway; nothing is torn. */
static void no_beat_comes_between_the_octets_of_a_message(void **state)
{
	(void)state;
	for (size_t i = 0; i < FERRY_LEN(sides); i++) {
		struct ferry_heart h;
		struct mouth m;
		struct talk t = { .m = &m, .side = &sides[i] };
		uint64_t heard = 0;
		uint32_t value;
		pthread_t other;

		open_mouth(&m);
		start(&h, sides[i].beat, &m);
		assert_ok(pthread_create(&other, NULL, talk, &t));
		while (hear(&m, &sides[i], &value)) {
			assert_true(value == 7 || value == 0);
			heard += value == 7;
		}
		pthread_join(other, NULL);
		ferry_heart_stop(&h);
		assert_true(t.said > 0);
		assert_int_equal(heard, t.said);
		close_mouth(&m);
	}
}

/* To the last octet, and it would wait for ever for the next. */
static void fill(struct ferry_chan *c)
{
	static const size_t pieces[] = { 4096, 1 };
	uint8_t octets[4096] = { 0 };

	c->ops->set_timeout(c, 0, 1);
	for (size_t i = 0; i < FERRY_LEN(pieces); i++) {
		struct iovec iov = { octets, pieces[i] };

		while (c->ops->writev(c, &iov, 1) > 0)
			;
	}
	c->ops->set_timeout(c, 0, 0);
}

/* It neither waits for room nor, afterwards, for anything else. */
static void a_channel_that_takes_nothing_holds_nothing_up(void **state)
{
	(void)state;
	for (size_t i = 0; i < FERRY_LEN(sides); i++) {
		struct ferry_heart h;
		struct mouth m;

		open_mouth(&m);
		fill(m.end[0]);
		start(&h, sides[i].beat, &m);
		while (atomic_load(&m.beats) < 2)
			nap(1);
		ferry_heart_stop(&h);
		close_mouth(&m);
	}
}

static void break_here(struct mouth *m)
{
	m->end[0]->ops->shutdown(m->end[0]);
}

static void break_there(struct mouth *m)
{
	m->end[1]->ops->shutdown(m->end[1]);
}

static void (*const breaks[])(struct mouth *m) = { break_here, break_there };

/* Others find out and end it; until then it must do no harm. */
static void a_channel_that_fails_is_beaten_in_vain(void **state)
{
	(void)state;
	for (size_t i = 0; i < FERRY_LEN(sides) * FERRY_LEN(breaks); i++) {
		const struct side *s = &sides[i / FERRY_LEN(breaks)];
		struct ferry_heart h;
		struct mouth m;
		uint32_t value;
		unsigned n;

		open_mouth(&m);
		start(&h, s->beat, &m);
		assert_true(hear(&m, s, &value));
		breaks[i % FERRY_LEN(breaks)](&m);
		n = atomic_load(&m.beats);
		while (atomic_load(&m.beats) < n + 2)
			nap(1);
		assert_int_equal(s->say(&m, 7), -1);
		ferry_heart_stop(&h);
		close_mouth(&m);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(it_beats_while_its_owner_is_busy),
		cmocka_unit_test(stopped_it_never_beats_again),
		cmocka_unit_test(stopping_is_safe_at_any_time),
		cmocka_unit_test(stopping_waits_for_a_beat_under_way),
		cmocka_unit_test(each_side_is_heard),
		cmocka_unit_test(
			no_beat_comes_between_the_octets_of_a_message),
		cmocka_unit_test(
			a_channel_that_takes_nothing_holds_nothing_up),
		cmocka_unit_test(a_channel_that_fails_is_beaten_in_vain),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
