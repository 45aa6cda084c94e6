/* SPDX-License-Identifier: MIT */
/*
 * The life of a VM's process: make everything, loop over QMP, signals and the
 * bell (control_wake), end.  The loop only calls functions that return soon;
 * `stop` waits for missing pages, but not for long.
 */
#include "vmm/control.h"

#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/signalfd.h>
#include <termios.h>

#include <ferry/version.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "ctl/qmp_socket.h"
#include "vmm/bulk_state.h"
#include "vmm/control_priv.h"

#define TEXT_(x)	#x
#define TEXT(x)		TEXT_(x)
#define PACKAGE		"ferry-" TEXT(FERRY_VERSION_MAJOR) "." \
			TEXT(FERRY_VERSION_MINOR) "." TEXT(FERRY_VERSION_MICRO)

/* ---- begin -------------------------------------------------------------- */

static int open_fds(struct ferry_control *c, struct ferry_err *e)
{
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGINT);
	sigaddset(&set, SIGHUP);
	pthread_sigmask(SIG_BLOCK, &set, NULL);

	c->signal_fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
	c->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (c->signal_fd < 0 || c->wake_fd < 0)
		return ferry_err_set(e, FERRY_E_IO, errno, "control");
	return 0;
}

static struct ferry_params *
new_params(const struct ferry_control_config *config, struct ferry_err *e)
{
	struct ferry_params *p = ferry_params_new();

	if (!p) {
		ferry_err_set(e, FERRY_E_NOMEM, 0, "parameters");
		return NULL;
	}
	for (size_t i = 0; i < config->n_params; i++) {
		if (!ferry_control_set_pair(p, config->params[i], e))
			continue;
		ferry_params_free(p);
		return NULL;
	}
	return p;
}

static int make_params(struct ferry_control *c, struct ferry_err *e)
{
	c->params = new_params(c->config, e);
	return c->params ? 0 : -1;
}

int ferry_control_check_words(const struct ferry_control_config *config,
			      struct ferry_err *e)
{
	struct ferry_params *p = new_params(config, e);

	ferry_params_free(p);
	if (!p || ferry_bulk_states_check(config->bulk, config->n_bulk, e) ||
	    ferry_vhost_devices_check(config->vhost, config->n_vhost, e))
		return -1;
	return config->qmp_path ? ferry_qmp_check_path(config->qmp_path, e) :
				  0;
}

/* Somebody lives at our socket: say what can be done. */
static int refuse_taken(struct ferry_err *e)
{
	struct ferry_err who = *e;

	return ferry_err_set(e, FERRY_E_STATE, 0, "%s: end it (`ferry quit`), "
			     "or give this VM another --name or --qmp",
			     who.msg);
}

/* First of all: the socket is what makes a name unique. */
static int make_qmp(struct ferry_control *c, struct ferry_err *e)
{
	struct ferry_qmp_config config = {
		.path = c->config->qmp_path,
		.commands = ferry_control_commands,
		.n = ferry_control_commands_n,
		.opaque = c,
		.major = FERRY_VERSION_MAJOR,
		.minor = FERRY_VERSION_MINOR,
		.micro = FERRY_VERSION_MICRO,
		.package = PACKAGE,
	};

	c->qmp = ferry_qmp_server_new(&config, e);
	if (!c->qmp && e->code == FERRY_E_STATE)
		return refuse_taken(e);
	return c->qmp ? 0 : -1;
}

static int make_machine(struct ferry_control *c,
			const struct ferry_machine_config *config,
			struct ferry_err *e)
{
	const struct ferry_virtio_device *virtio[FERRY_VIRTIO_DEVICES_MAX];
	struct ferry_machine_config hooked = *config;

	ferry_control_hook(c, &hooked);
	hooked.virtio = virtio;
	if (c->vhost)
		hooked.n_virtio = ferry_vhost_devices_list(c->vhost, virtio);
	c->machine = ferry_machine_new(&hooked, e);
	if (!c->machine)
		return -1;
	if (c->vhost)
		ferry_vhost_devices_attach(c->vhost, c->machine);
	c->vm = ferry_vm_new(FERRY_MACHINE_TYPE, &ferry_control_vm_ops, c, e);
	if (!c->vm || ferry_machine_describe(c->machine, c->vm, e) ||
	    (c->bulk && ferry_bulk_states_describe(c->bulk, c->vm, e)) ||
	    (c->vhost && ferry_vhost_devices_describe(c->vhost, c->vm, e)))
		return -1;
	ferry_machine_set_vm(c->machine, c->vm);
	return 0;
}

/* Before there are vCPUs and guest memory, for they are forked. */
static int make_bulk(struct ferry_control *c, struct ferry_err *e)
{
	const struct ferry_control_config *cfg = c->config;

	if (!cfg->n_bulk)
		return 0;
	c->bulk = ferry_bulk_states_new(cfg->bulk, cfg->n_bulk, cfg->incoming,
					e);
	return c->bulk ? 0 : -1;
}

static void say_of_device(void *opaque, const char *text)
{
	ferry_control_say(opaque, "%s", text);
}

/* Their backends say what they are, so before the machine. */
static int make_vhost(struct ferry_control *c, struct ferry_err *e)
{
	const struct ferry_control_config *cfg = c->config;

	if (!cfg->n_vhost)
		return 0;
	c->vhost = ferry_vhost_devices_new(cfg->vhost, cfg->n_vhost,
					   say_of_device, c, e);
	return c->vhost ? 0 : -1;
}

/* Boot, or wait for the VM to come. */
static int launch(struct ferry_control *c, struct ferry_err *e)
{
	const char *incoming = c->config->incoming;

	if (!incoming)
		return c->config->paused ? 0 : ferry_control_cont(c, e);
	if (!strcmp(incoming, "defer"))
		return 0;
	if (!ferry_control_incoming(c, incoming, true, e))
		return 0;
	/* Only the library can tell what an address is. */
	if (e->code == FERRY_E_INVALID)
		c->end.code = FERRY_CONTROL_EXIT_WORDS;
	return -1;
}

static int start(struct ferry_control *c,
		 const struct ferry_machine_config *machine,
		 struct ferry_err *e)
{
	if (open_fds(c, e) || make_params(c, e) || make_qmp(c, e) ||
	    make_bulk(c, e) || make_vhost(c, e) ||
	    make_machine(c, machine, e))
		return -1;
	return launch(c, e);
}

/* ---- loop --------------------------------------------------------------- */

static void take_signal(struct ferry_control *c)
{
	struct signalfd_siginfo info;

	if (read(c->signal_fd, &info, sizeof(info)) == sizeof(info))
		ferry_control_signal(c, ferry_now_ns());
}

static void loop(struct ferry_control *c)
{
	struct pollfd p[] = {
		{ c->wake_fd, POLLIN, 0 },
		{ c->signal_fd, POLLIN, 0 },
		{ ferry_qmp_server_fd(c->qmp), POLLIN, 0 },
	};
	eventfd_t n;

	while (!c->end.now) {
		if (poll(p, FERRY_LEN(p), -1) < 0)
			continue;
		if (p[0].revents)
			eventfd_read(c->wake_fd, &n);
		if (p[1].revents)
			take_signal(c);
		if (p[2].revents)
			ferry_qmp_server_dispatch(c->qmp);
		if (!c->end.now)
			ferry_control_settle(c);
	}
}

/* ---- end ---------------------------------------------------------------- */

/* In this order: the engine uses the VM and tells QMP; QMP commands use all. */
static void release(struct ferry_control *c)
{
	ferry_control_retire(c);
	ferry_qmp_server_free(c->qmp);
	if (c->machine)
		ferry_machine_set_vm(c->machine, NULL);
	if (c->vm)
		ferry_vm_free(c->vm);
	if (c->machine)
		ferry_machine_free(c->machine);
	ferry_vhost_devices_free(c->vhost);
	ferry_bulk_states_free(c->bulk);
	ferry_params_free(c->params);
	ferry_cleanup_fd(&c->wake_fd);
	ferry_cleanup_fd(&c->signal_fd);
	ferry_control_forget_dump(c);
	pthread_cond_destroy(&c->mig.unused);
	pthread_mutex_destroy(&c->lock);
	pthread_mutex_destroy(&c->run_lock);
	free(c);
}

static struct ferry_control *
control_new(const struct ferry_control_config *config)
{
	struct ferry_control *c = calloc(1, sizeof(*c));

	if (!c)
		return NULL;
	c->config = config;
	c->thread = pthread_self();
	c->wake_fd = c->signal_fd = -1;
	c->has_vm = !config->incoming;
	c->arrive_paused = config->paused;
	c->runstate = config->incoming ? FERRY_RUN_INMIGRATE :
					 FERRY_RUN_PRELAUNCH;
	pthread_mutex_init(&c->run_lock, NULL);
	pthread_mutex_init(&c->lock, NULL);
	pthread_cond_init(&c->mig.unused, NULL);
	return c;
}

/* vCPUs and engine may wait for pages that never come: leave them to exit(),
 * and the terminal as it was found. */
static void abandon(struct ferry_control *c, const struct termios *tty)
{
	ferry_qmp_server_stop(c->qmp);
	if (tty)
		tcsetattr(STDIN_FILENO, TCSANOW, tty);
}

int ferry_control_run(const struct ferry_control_config *config,
		      const struct ferry_machine_config *machine,
		      int *exit_code, struct ferry_err *e)
{
	struct ferry_control *c = control_new(config);
	struct termios tty;
	bool has_tty = !tcgetattr(STDIN_FILENO, &tty);

	*exit_code = FERRY_CONTROL_EXIT_FAILED;
	if (!c)
		return ferry_err_set(e, FERRY_E_NOMEM, 0, "control");
	c->end.code = FERRY_CONTROL_EXIT_FAILED;
	if (start(c, machine, e)) {
		*exit_code = c->end.code;
		release(c);
		return -1;
	}
	loop(c);
	*exit_code = c->end.code;
	if (c->end.abandon)
		abandon(c, has_tty ? &tty : NULL);
	else
		release(c);
	return 0;
}
