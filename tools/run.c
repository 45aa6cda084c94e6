/* SPDX-License-Identifier: MIT */
/*
 * `ferry run`: a virtual machine.
 */
#include "command.h"

#include <ferry/probe.h>

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "image.h"
#include "names.h"
#include "vmm/control.h"

#define PARAMS_MAX	64
#define BULK_MAX	64
#define VHOST_MAX	64
#define ROWS		3	/* of ferry_probe(), as far as KVM's go */

struct options {
	struct ferry_machine_config machine;
	struct ferry_control_config control;
	const char *params[PARAMS_MAX];
	const char *bulk[BULK_MAX];
	struct ferry_vhost_words vhost[VHOST_MAX];
	const char *image_path;
	struct ferry_tool_image *image;
	char name[72], qmp[512];
};

static const struct argp_option list[] = {
	{ "name", 'n', "NAME", 0, "what other commands call it (default: "
	  "vm-PID)", 0 },
	{ "vcpus", 'c', "N", 0, "1 to 16 (default 1)", 0 },
	{ "ram", 'm', "SIZE", 0, "such as 512M or 8G (default 512M)", 0 },
	{ "shared", 'R', NULL, 0, "RAM is a memfd, which other processes can "
	  "map (default: anonymous memory, faster)", 0 },
	{ "hugepages", 'H', "2M", 0, "RAM is a memfd of 2 MiB pages", 0 },
	{ "ram-path", 'P', "FILE", 0, "RAM is this file, in a tmpfs or "
	  "hugetlbfs: when this process is killed it stays behind, for `ferry "
	  "rescue`", 0 },
	{ "cpu-mask", 'M', "FEATURES", 0, "CPU features to keep from the "
	  "guest, separated by commas", 0 },
	{ "kernel", 'k', "FILE", 0, "a PVH ELF kernel (vmlinux) or a Linux "
	  "bzImage; with --incoming only for when the guest reboots", 1 },
	{ "initrd", 'i', "FILE", 0, "its initial RAM disk", 1 },
	{ "append", 'a', "TEXT", 0, "its command line", 1 },
	{ "bulk-state", 'B', "NAME,size=SIZE[,rate=SIZE][,change=SIZE]"
	  "[,first=SIZE][,live=0]", 0, "a device whose state of that size is kept by a "
	  "process of its own, which hands it out and takes it in at that "
	  "rate (a second); 1 to 8 of them", 1 },
	{ "vhost-user-net", 'V', "SOCKET[,queues=N][,mac=MAC][,packed=on]", 0,
	  "a virtio network whose backend listens at SOCKET, with 1 to 8 pairs "
	  "of queues; RAM is a memfd then; 1 to 16 of this and the next, in "
	  "their order", 1 },
	{ "vhost-user-blk", 'D', "SOCKET[,queues=N][,packed=on]", 0,
	  "a virtio disk whose backend listens at SOCKET", 1 },
	{ "serial", 's', "WHERE", 0, "stdio, null, file:PATH or unix:PATH "
	  "(default stdio)", 2 },
	{ "qmp", 'q', "PATH", 0, "where the QMP socket is (default: by "
	  "name)", 2 },
	{ "incoming", 'I', "URI", 0, "wait for a migration: tcp:HOST:PORT, "
	  "unix:PATH, file:PATH, fd:N (open when this was started) or defer; "
	  "--kernel may be given too, without it the guest cannot reboot", 3 },
	{ "image", 'G', "FILE", 0, "go on with the VM in this image, of `ferry "
	  "park` or `ferry rescue`; RAM and vCPUs as it has them", 3 },
	{ "set", 'S', "NAME=VALUE", 0, "a migration parameter", 3 },
	{ "paused", 'p', NULL, 0, "do not run before `ferry cont`", 3 },
	{ "no-shutdown", 'N', NULL, 0, "stay when the guest powers off", 3 },
	{ 0 },
};

static const char doc[] =
	"Run a virtual machine, from a kernel, a migration or an image.\v"
	"Examples:\n\n"
	"  ferry run --name web --vcpus 2 --ram 1G --kernel vmlinuz \\\n"
	"        --initrd initrd.gz --append console=ttyS0\n"
	"  ferry run --name web2 --vcpus 2 --ram 1G --incoming "
	"tcp:0.0.0.0:4444 \\\n"
	"        --kernel vmlinuz --initrd initrd.gz --append console=ttyS0\n\n"
	"Exit codes: 0 power-off, quit or signal; 1 it could not be run "
	"here, a vCPU failed, it could not reboot, or the incoming migration "
	"failed; 2 wrong words, that no host could obey; 4 ended by a second "
	"signal while it was at two places: it may be lost.";

static uint64_t size_of(struct argp_state *state, const char *text)
{
	static const char suffixes[] = "KMGT";
	const char *s = suffixes;
	unsigned bits = 0;
	uint64_t n;
	char *end;

	errno = 0;
	n = strtoull(text, &end, 10);
	if (*end) {
		s = strchr(suffixes, *end & ~0x20);
		bits = s ? 10 * (unsigned)(s - suffixes + 1) : 0;
	}
	if (end == text || text[0] == '-' || !s || (*end && end[1]))
		argp_error(state, "'%s' is no size: such as 512M or 8G", text);
	if (errno || n > UINT64_MAX >> bits)
		argp_error(state, "'%s' is more than any machine has", text);
	return n << bits;
}

static unsigned count_of(struct argp_state *state, const char *text)
{
	char *end;
	long n = strtol(text, &end, 10);

	if (end == text || *end || n < 0 || n > 1000000)
		argp_error(state, "'%s' is no number of vCPUs", text);
	return (unsigned)n;
}

static void add_param(struct argp_state *state, const char *pair)
{
	struct options *o = state->input;

	if (o->control.n_params == PARAMS_MAX)
		argp_error(state, "more than %d parameters", PARAMS_MAX);
	o->params[o->control.n_params++] = pair;
}

/* Huge pages are shared anyway. */
static void set_ram(struct argp_state *state, enum ferry_ram_kind kind)
{
	struct ferry_machine_config *m =
		&((struct options *)state->input)->machine;

	if (m->ram_kind != FERRY_RAM_ANONYMOUS && m->ram_kind != kind &&
	    (m->ram_kind == FERRY_RAM_FILE || kind == FERRY_RAM_FILE))
		argp_error(state, "--ram-path says where RAM is: neither "
			   "--shared nor --hugepages besides");
	if (m->ram_kind < kind)
		m->ram_kind = kind;
}

static error_t machine_option(int key, char *arg, struct argp_state *state)
{
	struct ferry_machine_config *m =
		&((struct options *)state->input)->machine;

	switch (key) {
	case 'c':
		m->vcpus = count_of(state, arg);
		return 0;
	case 'm':
		m->ram_bytes = size_of(state, arg);
		return 0;
	case 'H':
		if (strcmp(arg, "2M"))
			argp_error(state, "huge pages of '%s': only 2M", arg);
		set_ram(state, FERRY_RAM_HUGE);
		return 0;
	case 'R':
		set_ram(state, FERRY_RAM_SHARED);
		return 0;
	case 'P':
		set_ram(state, FERRY_RAM_FILE);
		m->ram_path = arg;
		return 0;
	case 'M':
		m->cpu_mask = arg;
		return 0;
	case 'k':
		m->kernel = arg;
		return 0;
	case 'i':
		m->initrd = arg;
		return 0;
	case 'a':
		m->cmdline = arg;
		return 0;
	case 's':
		m->serial = arg;
		return 0;
	}
	return ARGP_ERR_UNKNOWN;
}

static void add_bulk(struct argp_state *state, const char *words)
{
	struct options *o = state->input;

	if (o->control.n_bulk == BULK_MAX)
		argp_error(state, "more than %d bulk states", BULK_MAX);
	o->bulk[o->control.n_bulk++] = words;
}

static void add_vhost(struct argp_state *state, uint32_t id, const char *text)
{
	struct options *o = state->input;

	if (o->control.n_vhost == VHOST_MAX)
		argp_error(state, "more than %d vhost-user devices", VHOST_MAX);
	o->vhost[o->control.n_vhost++] = (struct ferry_vhost_words){
		id, text };
}

/* Their backends map guest memory. */
static void share_ram(struct options *o)
{
	if (o->control.n_vhost &&
	    o->machine.ram_kind == FERRY_RAM_ANONYMOUS)
		o->machine.ram_kind = FERRY_RAM_SHARED;
}

static error_t option(int key, char *arg, struct argp_state *state)
{
	struct options *o = state->input;

	switch (key) {
	case 'V':
		add_vhost(state, FERRY_VIRTIO_ID_NET, arg);
		return 0;
	case 'D':
		add_vhost(state, FERRY_VIRTIO_ID_BLK, arg);
		return 0;
	case 'n':
		o->control.name = arg;
		return 0;
	case 'q':
		o->control.qmp_path = arg;
		return 0;
	case 'I':
		o->control.incoming = arg;
		return 0;
	case 'G':
		o->image_path = arg;
		return 0;
	case 'S':
		add_param(state, arg);
		return 0;
	case 'B':
		add_bulk(state, arg);
		return 0;
	case 'p':
		o->control.paused = true;
		return 0;
	case 'N':
		o->control.no_shutdown = true;
		return 0;
	case ARGP_KEY_ARG:
		argp_error(state, "'%s' is one word too many", arg);
		return 0;
	case ARGP_KEY_END:
		if (!o->machine.kernel && !o->control.incoming &&
		    !o->image_path)
			argp_error(state, "a VM needs --kernel, or --incoming "
				   "or --image to get one");
		if (o->control.incoming && o->image_path)
			argp_error(state, "either --incoming or --image");
		o->machine.arrives = o->control.incoming || o->image_path;
		share_ram(o);
		return 0;
	}
	return machine_option(key, arg, state);
}

/* What no host could obey; nothing is opened or made before. */
static int check_words(const struct options *o, struct ferry_err *e)
{
	if (o->control.name && ferry_names_check(o->control.name, e))
		return -1;
	return ferry_machine_check(&o->machine, e) ||
	       ferry_control_check_words(&o->control, e) ? -1 : 0;
}

/* A Linux bzImage, by the magic of its header. */
static bool is_linux(const char *path)
{
	FERRY_AUTO_FD fd = open(path, O_RDONLY | O_CLOEXEC);
	char magic[4];

	return fd >= 0 && pread(fd, magic, 4, 0x202) == 4 &&
	       !memcmp(magic, "HdrS", 4);
}

/* It would be silent for ever, and nobody would know why. */
static void warn_of_kernel(const struct options *o)
{
	struct ferry_probe_row row[ROWS] = { FERRY_PROBE_ROW_INIT };

	if (!o->machine.kernel || o->machine.arrives ||
	    !is_linux(o->machine.kernel))
		return;
	ferry_probe(row, ROWS);
	for (size_t i = 0; i < ROWS; i++)
		if (!strcmp(row[i].name, "kvm-kernel-mode") &&
		    row[i].verdict == FERRY_PROBE_FALLBACK)
			ferry_tool_fail(0, "this host's KVM emulates kernels: "
					"Linux will not get anywhere here; "
					"see `ferry doctor`");
}

/* A name and a socket, where none were given. */
static int settle_names(struct options *o, struct ferry_err *e)
{
	char dir[256];

	if (!o->control.name) {
		snprintf(o->name, sizeof(o->name), "vm-%d", (int)getpid());
		o->control.name = o->name;
	}
	o->machine.name = o->control.name;
	if (o->control.qmp_path)
		return 0;
	if (ferry_names_dir(dir, sizeof(dir), 1, e) ||
	    ferry_names_socket(o->control.name, o->qmp, sizeof(o->qmp), e))
		return -1;
	o->control.qmp_path = o->qmp;
	return 0;
}

static int run(struct options *o, int *exit_code, struct ferry_err *e)
{
	int rc;

	if (settle_names(o, e))
		return -1;
	if (o->image_path) {
		o->image = ferry_tool_image_open(o->image_path, e);
		if (!o->image ||
		    ferry_tool_image_fits(o->image, o->machine.ram_bytes,
					  o->machine.vcpus, e) ||
		    ferry_tool_image_start(o->image, e)) {
			(void)ferry_tool_image_close(o->image);
			return -1;
		}
		o->control.incoming = ferry_tool_image_uri(o->image);
	}
	rc = ferry_control_run(&o->control, &o->machine, exit_code, e);
	if (ferry_tool_image_close(o->image))
		*exit_code = FERRY_EXIT_FAILED;
	return rc;
}

int ferry_tool_run(int argc, char **argv)
{
	static const struct argp argp = {
		.options = list, .parser = option, .doc = doc,
	};
	struct options o = {
		.machine = { .vcpus = 1, .ram_bytes = 512ull << 20,
			     .serial = "stdio" },
	};
	struct ferry_err err = { 0 };
	int exit_code = FERRY_EXIT_FAILED;
	int code;

	o.control.bulk = o.bulk;
	o.control.vhost = o.vhost;
	ferry_inherited_note(&o.control.inherited);
	code = ferry_tool_parse(&argp, argc, argv, &o);
	if (code)
		return code;
	o.control.params = o.params;
	if (check_words(&o, &err))
		return ferry_tool_fail(FERRY_EXIT_USAGE, "%s", err.msg);
	warn_of_kernel(&o);
	if (run(&o, &exit_code, &err))
		return ferry_tool_fail(exit_code, "%s", err.msg);
	return exit_code;
}
