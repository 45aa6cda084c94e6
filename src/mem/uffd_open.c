/* SPDX-License-Identifier: MIT */
/*
 * Opening a userfaultfd, which four things can forbid: a kernel without it,
 * the mode of /dev/userfaultfd, vm.unprivileged_userfaultfd, and a seccomp
 * filter.  Any thread.
 */
#include "mem/uffd_open.h"

#include <fcntl.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "mem/kernel.h"

#define DEVICE	"/dev/userfaultfd"
#define SYSCTL	"/proc/sys/vm/unprivileged_userfaultfd"

bool ferry_uffd_is_one(int fd)
{
	struct uffdio_range none = { 0, 0 };

	return ioctl(fd, UFFDIO_WAKE, &none) && errno == EINVAL;
}

ssize_t ferry_uffd_read_now(int fd, struct uffd_msg *msg, unsigned n)
{
	struct iovec iov = { msg, n * sizeof(*msg) };
	ssize_t got = preadv2(fd, &iov, 1, -1, RWF_NOWAIT);

	if (got >= 0 || (errno != EOPNOTSUPP && errno != ENOSYS))
		return got;
	if (fcntl(fd, F_SETFL, O_RDWR | O_NONBLOCK))
		return -1;
	return read(fd, msg, iov.iov_len);
}

static int open_device(void)
{
	FERRY_AUTO_FD dev = open(DEVICE, O_RDWR | O_CLOEXEC);

	if (dev < 0)
		return -1;
	return ioctl(dev, USERFAULTFD_IOC_NEW, O_CLOEXEC | O_NONBLOCK);
}

static int open_call(void)
{
	return (int)syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK);
}

static int open_user_only(void)
{
	return (int)syscall(SYS_userfaultfd,
			    O_CLOEXEC | O_NONBLOCK | UFFD_USER_MODE_ONLY);
}

static const struct {
	const char	*name;
	int		(*open)(void);
} ways[FERRY_UFFD_WAYS] = {
	[FERRY_UFFD_DEVICE] = { DEVICE, open_device },
	[FERRY_UFFD_CALL] = { "system call", open_call },
	[FERRY_UFFD_USER_ONLY] = { "system call, user mode only",
				   open_user_only },
};

const char *ferry_uffd_way_name(enum ferry_uffd_way way)
{
	return ways[way].name;
}

void ferry_uffd_try(struct ferry_uffd_tried *t)
{
	for (unsigned i = 0; i < FERRY_UFFD_WAYS; i++) {
		FERRY_AUTO_FD fd = ways[i].open();

		t->failed[i] = fd < 0 ? errno : 0;
	}
}

int ferry_uffd_open_raw(bool user_only, const char **how,
			struct ferry_uffd_why *why)
{
	int *failed[] = { &why->dev, &why->call };
	int fd;

	*why = (struct ferry_uffd_why){ 0 };
	for (unsigned i = 0; i < FERRY_LEN(failed); i++) {
		*how = ways[i].name;
		fd = ways[i].open();
		if (fd >= 0)
			return fd;
		*failed[i] = errno;
	}
	*how = ways[FERRY_UFFD_USER_ONLY].name;
	return user_only ? open_user_only() : -1;
}

int ferry_uffd_handshake(int fd, uint64_t features, uint64_t *have)
{
	struct uffdio_api api = { .api = UFFD_API, .features = features };

	if (ioctl(fd, UFFDIO_API, &api))
		return -errno;
	*have = api.features;
	return 0;
}

/* What the sysctl says: 0, 1, or -1 when it cannot be read. */
static int unprivileged(void)
{
	FERRY_AUTO_FILE f = fopen(SYSCTL, "re");
	int v;

	return f && fscanf(f, "%d", &v) == 1 ? v : -1;
}

void ferry_uffd_fix(const struct ferry_uffd_why *why, char *buf, size_t bytes)
{
	if (why->call == ENOSYS)
		snprintf(buf, bytes,
			 "run a kernel with CONFIG_USERFAULTFD=y (or allow the userfaultfd system call in the container's seccomp profile)");
	else if (why->dev == EACCES)
		snprintf(buf, bytes, "as root: setfacl -m u:%u:rw " DEVICE
			 " (or: sysctl -w vm.unprivileged_userfaultfd=1)",
			 geteuid());
	else if (unprivileged() == 0 && geteuid() != 0)
		snprintf(buf, bytes,
			 "as root: sysctl -w vm.unprivileged_userfaultfd=1");
	else
		snprintf(buf, bytes,
			 "allow " DEVICE " or the userfaultfd system call (or CAP_SYS_PTRACE) in the container's device, seccomp and capability settings");
}

static int refuse(const struct ferry_uffd_why *why, struct ferry_err *e)
{
	char fix[200];

	ferry_uffd_fix(why, fix, sizeof(fix));
	return ferry_err_set(e, why->call == ENOSYS ? FERRY_E_UNSUPPORTED :
			     FERRY_E_PERM, 0,
			     "userfaultfd cannot be opened; %s", fix);
}

int ferry_uffd_open_as(struct ferry_uffd *u, uint64_t want, bool user_only,
		       struct ferry_err *e)
{
	struct ferry_uffd_why why;
	FERRY_AUTO_FD ask = -1;
	FERRY_AUTO_FD fd = -1;
	uint64_t have = 0;
	int rc;

	*u = (struct ferry_uffd){ .fd = -1, .how = "" };

	/* A kernel fails the handshake for a feature it does not know, and
	 * there is one handshake per descriptor: so one only asks. */
	ask = ferry_uffd_open_raw(user_only, &u->how, &why);
	if (ask < 0)
		return refuse(&why, e);
	fd = ferry_uffd_open_raw(user_only, &u->how, &why);
	if (fd < 0)
		return refuse(&why, e);

	rc = ferry_uffd_handshake(ask, 0, &have);
	u->features = want & have;
	if (!rc)
		rc = ferry_uffd_handshake(fd, u->features, &have);
	if (rc)
		return ferry_err_set(e, FERRY_E_UNSUPPORTED, -rc,
				     "userfaultfd handshake, features 0x%llx",
				     (unsigned long long)u->features);
	u->fd = ferry_steal_fd(&fd);
	return 0;
}

int ferry_uffd_open_backend(struct ferry_uffd *u, struct ferry_err *e)
{
	return ferry_uffd_open_as(u, 0, true, e);
}

int ferry_uffd_open(struct ferry_uffd *u, uint64_t want, struct ferry_err *e)
{
	return ferry_uffd_open_as(u, want, false, e);
}
