/* SPDX-License-Identifier: MIT */
#include "vfio_fake.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>

#include "base/cleanup.h"
#include "dev/vfio_abi.h"

#define STATES 8u

static void odd(struct vfio_fake *f, const char *what)
{
	if (!f->odd[0])
		snprintf(f->odd, sizeof(f->odd), "%s (state %u)", what,
			 (unsigned)f->state);
}

/* ---- the state that it has ------------------------------------------------ */

static void put(uint8_t *to, size_t *at, uint32_t word)
{
	memcpy(to + *at, &word, sizeof(word));
	*at += sizeof(word);
}

static void make_item(uint8_t to[FAKE_ITEM_BYTES], uint32_t number,
		      uint32_t generation)
{
	size_t at = 0;

	put(to, &at, number);
	put(to, &at, generation);
	while (at < FAKE_ITEM_BYTES)
		put(to, &at, number * 7919 + generation * 104729 +
		    (uint32_t)at);
}

static uint32_t sum(const struct vfio_fake *f)
{
	uint32_t s = 0;

	for (unsigned i = 0; i < f->cfg.blocks; i++)
		s += f->generation[i] * (i + 1);
	return s;
}

static uint64_t dirty_bytes(const struct vfio_fake *f)
{
	uint64_t n = 0;

	for (unsigned i = 0; i < f->cfg.blocks; i++)
		n += f->dirty[i];
	return (n - f->first) * FAKE_ITEM_BYTES + f->item_end - f->item_at;
}

/* The next item to be read; false: there is none. */
static bool next_item(struct vfio_fake *f)
{
	unsigned i = 0;

	while (i < f->cfg.blocks && !f->dirty[i])
		i++;
	if (i < f->cfg.blocks) {
		make_item(f->item, i, f->generation[i]);
		f->dirty[i] = false;
		if (f->first && i == f->cfg.initial - f->first)
			f->first--;
	} else if (f->state == VFIO_DEVICE_STATE_STOP_COPY && !f->ended) {
		make_item(f->item, UINT32_MAX, sum(f));
		f->ended = true;
	} else {
		return false;
	}
	f->item_at = 0;
	f->item_end = FAKE_ITEM_BYTES;
	return true;
}

/* One that was written, to its end. */
static void take_item(struct vfio_fake *f)
{
	uint8_t want[FAKE_ITEM_BYTES];
	uint32_t number, generation;

	memcpy(&number, f->item, 4);
	memcpy(&generation, f->item + 4, 4);
	make_item(want, number, generation);
	if (f->ended || memcmp(want, f->item, sizeof(want)) ||
	    (number >= f->cfg.blocks && number != UINT32_MAX))
		f->wrong = true;
	else if (number == UINT32_MAX)
		f->ended = generation == sum(f);
	else
		f->generation[number] = generation;
}

static void begin_saving(struct vfio_fake *f)
{
	f->first = f->cfg.initial;
	for (unsigned i = 0; i < f->cfg.blocks; i++)
		f->dirty[i] = true;
}

void vfio_fake_touch(struct vfio_fake *f, uint64_t turn)
{
	pthread_mutex_lock(&f->lock);
	if (f->state == VFIO_DEVICE_STATE_RUNNING ||
	    f->state == VFIO_DEVICE_STATE_PRE_COPY) {
		unsigned i = (unsigned)(turn % f->cfg.blocks);

		f->generation[i]++;
		f->dirty[i] = true;
	}
	pthread_mutex_unlock(&f->lock);
}

/* ---- changes of state ----------------------------------------------------- */

static const struct arc {
	uint32_t from, to;
	bool opens, ends;	/* a transfer */
} arcs[] = {
	{ VFIO_DEVICE_STATE_RUNNING, VFIO_DEVICE_STATE_RUNNING_P2P, 0, 0 },
	{ VFIO_DEVICE_STATE_RUNNING_P2P, VFIO_DEVICE_STATE_RUNNING, 0, 0 },
	{ VFIO_DEVICE_STATE_RUNNING_P2P, VFIO_DEVICE_STATE_STOP, 0, 0 },
	{ VFIO_DEVICE_STATE_STOP, VFIO_DEVICE_STATE_RUNNING_P2P, 0, 0 },
	{ VFIO_DEVICE_STATE_STOP, VFIO_DEVICE_STATE_STOP_COPY, 1, 0 },
	{ VFIO_DEVICE_STATE_STOP_COPY, VFIO_DEVICE_STATE_STOP, 0, 1 },
	{ VFIO_DEVICE_STATE_STOP, VFIO_DEVICE_STATE_RESUMING, 1, 0 },
	{ VFIO_DEVICE_STATE_RESUMING, VFIO_DEVICE_STATE_STOP, 0, 1 },
	{ VFIO_DEVICE_STATE_RUNNING, VFIO_DEVICE_STATE_PRE_COPY, 1, 0 },
	{ VFIO_DEVICE_STATE_PRE_COPY, VFIO_DEVICE_STATE_RUNNING, 0, 1 },
	{ VFIO_DEVICE_STATE_RUNNING_P2P, VFIO_DEVICE_STATE_PRE_COPY_P2P, 1,
	  0 },
	{ VFIO_DEVICE_STATE_PRE_COPY_P2P, VFIO_DEVICE_STATE_RUNNING_P2P, 0,
	  1 },
	{ VFIO_DEVICE_STATE_PRE_COPY, VFIO_DEVICE_STATE_PRE_COPY_P2P, 0, 0 },
	{ VFIO_DEVICE_STATE_PRE_COPY_P2P, VFIO_DEVICE_STATE_PRE_COPY, 0, 0 },
	{ VFIO_DEVICE_STATE_PRE_COPY_P2P, VFIO_DEVICE_STATE_STOP_COPY, 0, 0 },
};

static bool is_p2p(uint32_t s)
{
	return s == VFIO_DEVICE_STATE_RUNNING_P2P ||
	       s == VFIO_DEVICE_STATE_PRE_COPY_P2P;
}

static bool is_pre_copy(uint32_t s)
{
	return s == VFIO_DEVICE_STATE_PRE_COPY ||
	       s == VFIO_DEVICE_STATE_PRE_COPY_P2P;
}

/* A state that it has; without P2P those are passed, and never stayed in. */
static bool has(const struct vfio_fake *f, uint32_t s, bool to_stay)
{
	if (s >= STATES || s == VFIO_DEVICE_STATE_ERROR ||
	    (is_pre_copy(s) && !(f->cfg.can & VFIO_MIGRATION_PRE_COPY)))
		return false;
	return !to_stay || !is_p2p(s) || f->cfg.can & VFIO_MIGRATION_P2P;
}

/* States in which a transfer goes out are not passed through. */
static bool may_pass(const struct vfio_fake *f, uint32_t s)
{
	return has(f, s, false) && s != VFIO_DEVICE_STATE_STOP_COPY &&
	       s != VFIO_DEVICE_STATE_PRE_COPY &&
	       (s != VFIO_DEVICE_STATE_PRE_COPY_P2P || !has(f, s, true));
}

/* The first arc of the shortest way, or NULL. */
static const struct arc *way(const struct vfio_fake *f, uint32_t from,
			     uint32_t to)
{
	unsigned far[STATES];

	memset(far, 0xff, sizeof(far));
	far[to] = 0;
	for (unsigned d = 0; d < STATES; d++)
		for (size_t i = 0; i < FERRY_LEN(arcs); i++)
			if (far[arcs[i].to] == d && far[arcs[i].from] > d &&
			    has(f, arcs[i].from, false) &&
			    (arcs[i].to == to || may_pass(f, arcs[i].to)))
				far[arcs[i].from] = d + 1;
	for (size_t i = 0; i < FERRY_LEN(arcs); i++)
		if (arcs[i].from == from && far[from] != UINT32_MAX &&
		    far[arcs[i].to] + 1 == far[from] &&
		    (arcs[i].to == to || may_pass(f, arcs[i].to)))
			return &arcs[i];
	return NULL;
}

/* Nobody stands while another may still write to it. */
static void check_peers(struct vfio_fake *f, uint32_t to)
{
	bool stops = to == VFIO_DEVICE_STATE_STOP ||
		     to == VFIO_DEVICE_STATE_STOP_COPY;

	if (!f->vm_runs || f->failed)
		return;
	for (unsigned i = 0; i < f->peers; i++) {
		struct vfio_fake *p = f->peer[i];
		uint32_t s = p->state;
		bool is_free = s == VFIO_DEVICE_STATE_RUNNING ||
			       s == VFIO_DEVICE_STATE_PRE_COPY;

		if (p == f || p->failed || !has(p, 5, true))
			continue;
		if (stops && is_free)
			odd(f, "stops beside one that writes to it");
		if (to == VFIO_DEVICE_STATE_RUNNING &&
		    s == VFIO_DEVICE_STATE_STOP)
			odd(f, "runs beside one that stands");
	}
}

static int end_transfer(struct vfio_fake *f, uint32_t from)
{
	f->open = false;
	if (from != VFIO_DEVICE_STATE_RESUMING)
		return 0;
	return f->ended && !f->wrong && f->item_at == 0 ? 0 : -EINVAL;
}

static void open_transfer(struct vfio_fake *f, uint32_t to, int32_t *data_fd)
{
	f->open = true;
	f->ended = f->wrong = false;
	f->item_at = f->item_end = 0;
	f->octets = 0;
	if (to != VFIO_DEVICE_STATE_RESUMING)
		begin_saving(f);
	if (f->cfg.no_data_fd)
		return;
	if (f->data_fd >= 0)
		odd(f, "a new transfer before the old one's fd is closed");
	f->data_fd = *data_fd = ++f->last_fd;
	f->opened++;
}

static int step(struct vfio_fake *f, const struct arc *a, int32_t *data_fd)
{
	if (a->ends && end_transfer(f, a->from)) {
		f->state = VFIO_DEVICE_STATE_ERROR;
		return -EINVAL;
	}
	check_peers(f, a->to);
	if (a->opens)
		open_transfer(f, a->to, data_fd);
	f->state = a->to;
	return 0;
}

static int fail_change(struct vfio_fake *f, uint32_t to, int32_t *ignored)
{
	const struct arc *a = way(f, f->state, to);

	if (f->failure == FAKE_FAILS_TO_ERROR) {
		f->state = VFIO_DEVICE_STATE_ERROR;
		f->open = false;
	} else if (f->failure == FAKE_FAILS_HALFWAY && a && a->to != to &&
		   has(f, a->to, true)) {
		(void)!step(f, a, ignored);
	}
	return -f->fail_with;
}

static int change(struct vfio_fake *f, struct vfio_device_feature_mig_state *s,
		  bool fails)
{
	uint32_t to = s->device_state;

	s->data_fd = -1;
	if (f->fails_on && f->failed)
		fails = true;
	if (fails)
		return fail_change(f, to, &s->data_fd);
	if (!has(f, to, true))
		return -EINVAL;
	while (f->state != to) {
		const struct arc *a = way(f, f->state, to);

		if (!a && f->state != VFIO_DEVICE_STATE_ERROR)
			odd(f, "no such way");
		if (!a)
			return -EINVAL;
		if (step(f, a, &s->data_fd))
			return -EINVAL;
	}
	return 0;
}

/* ---- the log -------------------------------------------------------------- */

bool vfio_fake_dma(struct vfio_fake *f, uint64_t iova, uint64_t bytes)
{
	bool may;

	pthread_mutex_lock(&f->lock);
	may = f->state == VFIO_DEVICE_STATE_RUNNING || is_pre_copy(f->state) ||
	      f->state == VFIO_DEVICE_STATE_RUNNING_P2P;
	for (uint64_t at = iova; may && f->logs && at < iova + bytes; at++)
		if (at >= f->log_iova && at < f->log_iova + f->log_bytes)
			f->log[(at - f->log_iova) / f->log_page] = 1;
	pthread_mutex_unlock(&f->lock);
	return may;
}

static int log_start(struct vfio_fake *f,
		     const struct vfio_device_feature_dma_logging_control *c)
{
	const struct vfio_device_feature_dma_logging_range *r =
		(const void *)(uintptr_t)c->ranges;

	if (f->logs || !c->num_ranges)
		return -EINVAL;
	f->logs = true;
	f->log_page = c->page_size;
	f->log_iova = r[0].iova;
	f->log_bytes = r[c->num_ranges - 1].iova +
		       r[c->num_ranges - 1].length - r[0].iova;
	assert(f->log_bytes / f->log_page <= FAKE_LOG_PAGES);
	memset(f->log, 0, sizeof(f->log));
	return 0;
}

static int log_report(struct vfio_fake *f,
		      const struct vfio_device_feature_dma_logging_report *r)
{
	uint64_t *bits = (uint64_t *)(uintptr_t)r->bitmap;

	if (!f->logs || r->iova < f->log_iova || r->page_size != f->log_page)
		return -EINVAL;
	f->reports++;
	for (uint64_t i = 0; i < r->length / r->page_size; i++) {
		uint64_t at = (r->iova - f->log_iova) / f->log_page + i;

		if (f->log[at])
			bits[i / 64] |= UINT64_C(1) << i % 64;
		f->log[at] = 0;
	}
	return 0;
}

/* ---- calls ---------------------------------------------------------------- */

/* This is the one that fails. */
static bool is_the_one(struct vfio_fake *f)
{
	if (++f->calls != f->fail_at)
		return false;
	f->failed = true;
	return true;
}

static bool knows(const struct vfio_fake *f, uint32_t feature)
{
	switch (feature) {
	case VFIO_DEVICE_FEATURE_MIGRATION:
	case VFIO_DEVICE_FEATURE_MIG_DEVICE_STATE:
		return f->cfg.can;
	case VFIO_DEVICE_FEATURE_MIG_DATA_SIZE:
		return f->cfg.tells_size;
	case VFIO_DEVICE_FEATURE_DMA_LOGGING_START:
	case VFIO_DEVICE_FEATURE_DMA_LOGGING_STOP:
	case VFIO_DEVICE_FEATURE_DMA_LOGGING_REPORT:
		return f->cfg.logs_dma;
	default:
		return false;
	}
}

static int get_or_set(struct vfio_fake *f, uint32_t how, void *data,
		      bool fails)
{
	struct vfio_device_feature_mig_state *s = data;

	switch (how) {
	case VFIO_DEVICE_FEATURE_SET | VFIO_DEVICE_FEATURE_MIG_DEVICE_STATE:
		return change(f, s, fails);
	case VFIO_DEVICE_FEATURE_GET | VFIO_DEVICE_FEATURE_MIG_DEVICE_STATE:
		*s = (struct vfio_device_feature_mig_state){ f->state, -1 };
		break;
	case VFIO_DEVICE_FEATURE_GET | VFIO_DEVICE_FEATURE_MIGRATION:
		((struct vfio_device_feature_migration *)data)->flags =
			f->cfg.can;
		break;
	case VFIO_DEVICE_FEATURE_GET | VFIO_DEVICE_FEATURE_MIG_DATA_SIZE:
		((struct vfio_device_feature_mig_data_size *)data)
			->stop_copy_length = dirty_bytes(f) + FAKE_ITEM_BYTES;
		break;
	case VFIO_DEVICE_FEATURE_SET | VFIO_DEVICE_FEATURE_DMA_LOGGING_START:
		return fails ? -f->fail_with : log_start(f, data);
	case VFIO_DEVICE_FEATURE_GET | VFIO_DEVICE_FEATURE_DMA_LOGGING_REPORT:
		return fails ? -f->fail_with : log_report(f, data);
	case VFIO_DEVICE_FEATURE_SET | VFIO_DEVICE_FEATURE_DMA_LOGGING_STOP:
		f->logs = false;
		break;
	default:
		return -EINVAL;
	}
	return fails ? -f->fail_with : 0;
}

static int feature(struct vfio_fake *f, void *arg, bool fails)
{
	struct vfio_device_feature *v = arg;
	uint32_t n = v->flags & VFIO_DEVICE_FEATURE_MASK;

	if (v->argsz < sizeof(*v) || !knows(f, n))
		return -ENOTTY;
	if (v->flags & VFIO_DEVICE_FEATURE_PROBE)
		return fails ? -f->fail_with : 0;
	return get_or_set(f, v->flags, v->data, fails);
}

static int precopy_info(struct vfio_fake *f, struct vfio_precopy_info *info)
{
	if (!f->open || !is_pre_copy(f->state) || info->argsz < sizeof(*info))
		return -EINVAL;
	info->initial_bytes = (uint64_t)f->first * FAKE_ITEM_BYTES;
	info->dirty_bytes = dirty_bytes(f);
	return 0;
}

static int reset(struct vfio_fake *f)
{
	f->resets++;
	f->open = f->logs = false;
	memset(f->generation, 0, sizeof(f->generation));
	f->state = VFIO_DEVICE_STATE_RUNNING;
	return 0;
}

static int locked_ioctl(struct vfio_fake *f, int fd, unsigned long request,
			void *data)
{
	bool fails = is_the_one(f);

	if (request == VFIO_MIG_GET_PRECOPY_INFO && fd == f->data_fd)
		return fails ? -f->fail_with : precopy_info(f, data);
	if (fd != FAKE_FD)
		odd(f, "an ioctl of a closed fd");
	if (request == VFIO_DEVICE_FEATURE)
		return feature(f, data, fails);
	if (request == VFIO_DEVICE_RESET)
		return fails ? -f->fail_with : reset(f);
	return -ENOTTY;
}

static int fake_ioctl(void *arg, int fd, unsigned long request, void *data)
{
	struct vfio_fake *f = arg;
	int rc;

	pthread_mutex_lock(&f->lock);
	rc = locked_ioctl(f, fd, request, data);
	pthread_mutex_unlock(&f->lock);
	return rc;
}

/* What a read or write says before it does anything; 0: nothing. */
static int trouble(struct vfio_fake *f, int fd, bool out)
{
	if (is_the_one(f))
		return -f->fail_with;
	f->transfers++;
	if (f->cfg.eintr && f->transfers % f->cfg.eintr == 0)
		return -EINTR;
	if (f->cfg.eagain && f->transfers % f->cfg.eagain == 0)
		return -EAGAIN;
	if (fd != f->data_fd)
		odd(f, "data by a closed fd");
	if (fd != f->data_fd || !f->open ||
	    out == (f->state == VFIO_DEVICE_STATE_RESUMING))
		return -ENODEV;
	return 0;
}

static size_t at_most(const struct vfio_fake *f, size_t bytes)
{
	return f->cfg.at_once && bytes > f->cfg.at_once ? f->cfg.at_once :
							   bytes;
}

static ssize_t locked_read(struct vfio_fake *f, int fd, uint8_t *to,
			   size_t bytes)
{
	size_t done = 0, most = at_most(f, bytes);
	int rc = trouble(f, fd, true);

	if (rc)
		return rc;
	while (done < most && (f->item_at < f->item_end || next_item(f))) {
		to[done++] = f->item[f->item_at++];
		f->octets++;
	}
	if (!done && f->state != VFIO_DEVICE_STATE_STOP_COPY)
		return -ENOMSG;
	return (ssize_t)done;
}

static ssize_t fake_read(void *arg, int fd, void *to, size_t bytes)
{
	struct vfio_fake *f = arg;
	ssize_t n;

	pthread_mutex_lock(&f->lock);
	n = locked_read(f, fd, to, bytes);
	pthread_mutex_unlock(&f->lock);
	return n;
}

static ssize_t locked_write(struct vfio_fake *f, int fd, const uint8_t *from,
			    size_t bytes)
{
	size_t most = at_most(f, bytes);
	int rc = trouble(f, fd, false);

	if (rc)
		return rc;
	for (size_t i = 0; i < most; i++) {
		f->item[f->item_at++] = from[i];
		if (f->item_at == FAKE_ITEM_BYTES) {
			take_item(f);
			f->item_at = 0;
		}
	}
	f->octets += most;
	return (ssize_t)most;
}

static ssize_t fake_write(void *arg, int fd, const void *from, size_t bytes)
{
	struct vfio_fake *f = arg;
	ssize_t n;

	pthread_mutex_lock(&f->lock);
	n = locked_write(f, fd, from, bytes);
	pthread_mutex_unlock(&f->lock);
	return n;
}

/* Data is always ready, or never; what is not ours is the kernel's. */
static int fake_poll(void *arg, struct pollfd *p, nfds_t n, int timeout_ms)
{
	struct vfio_fake *f = arg;
	bool fails, ready = false;
	int rc;

	pthread_mutex_lock(&f->lock);
	fails = is_the_one(f);
	pthread_mutex_unlock(&f->lock);
	if (fails)
		return -f->fail_with;
	for (nfds_t i = 0; i < n; i++)
		ready = ready || (p[i].fd >= FAKE_FD && !f->cfg.silent);
	for (nfds_t i = 0; i < n; i++)
		p[i].fd = p[i].fd >= FAKE_FD ? -p[i].fd : p[i].fd;
	rc = poll(p, n, ready ? 0 : timeout_ms);
	for (nfds_t i = 0; i < n && rc >= 0; i++)
		if (p[i].fd <= -FAKE_FD && ready) {
			p[i].revents = p[i].events;
			rc++;
		}
	return rc < 0 ? -errno : rc;
}

static void fake_close(void *arg, int fd)
{
	struct vfio_fake *f = arg;

	pthread_mutex_lock(&f->lock);
	if (fd != f->data_fd)
		odd(f, "closed what is not open");
	f->data_fd = -1;
	f->closed++;
	pthread_mutex_unlock(&f->lock);
}

const struct ferry_vfio_sys vfio_fake_sys = {
	.ioctl = fake_ioctl, .read = fake_read, .write = fake_write,
	.poll = fake_poll, .close = fake_close,
};

/* ---- for tests ------------------------------------------------------------ */

void vfio_fake_init(struct vfio_fake *f, const struct vfio_fake_config *cfg)
{
	assert(cfg->blocks <= FAKE_BLOCKS_MAX && cfg->initial <= cfg->blocks);
	*f = (struct vfio_fake){
		.cfg = *cfg, .data_fd = -1, .last_fd = FAKE_FD,
		.fail_with = EIO, .state = VFIO_DEVICE_STATE_RUNNING,
	};
	pthread_mutex_init(&f->lock, NULL);
}

void vfio_fake_fini(struct vfio_fake *f)
{
	pthread_mutex_destroy(&f->lock);
}

void vfio_fake_join(struct vfio_fake *f, unsigned n)
{
	for (unsigned i = 0; i < n; i++) {
		f[i].peers = n;
		for (unsigned j = 0; j < n; j++)
			f[i].peer[j] = &f[j];
	}
}

bool vfio_fake_same(struct vfio_fake *a, struct vfio_fake *b)
{
	return a->cfg.blocks == b->cfg.blocks &&
	       !memcmp(a->generation, b->generation, sizeof(a->generation));
}

bool vfio_fake_is_tidy(struct vfio_fake *f)
{
	return f->opened == f->closed && f->data_fd < 0;
}
