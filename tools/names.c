/* SPDX-License-Identifier: MIT */
/*
 * From the name of a VM to its QMP socket.
 */
#include "names.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "command.h"

int ferry_names_dir(char *buf, size_t bytes, int make, struct ferry_err *e)
{
	const char *own = getenv("FERRY_RUNTIME_DIR");
	const char *xdg = getenv("XDG_RUNTIME_DIR");
	int n;

	if (own && *own)
		n = snprintf(buf, bytes, "%s", own);
	else if (xdg && *xdg && geteuid() != 0)
		n = snprintf(buf, bytes, "%s/ferry", xdg);
	else
		n = snprintf(buf, bytes, "/run/ferry");
	if (n < 0 || (size_t)n >= bytes)
		return ferry_err_set(e, FERRY_E_INVALID, 0,
				     "the runtime folder's path is too long");
	if (make && mkdir(buf, 0700) && errno != EEXIST)
		return ferry_err_set(e, FERRY_E_IO, errno, "make the runtime "
				     "folder %s%s", buf, FERRY_NAMES_HINT);
	if (make && access(buf, W_OK | X_OK))
		return ferry_err_set(e, FERRY_E_IO, errno, "use the runtime "
				     "folder %s%s", buf, FERRY_NAMES_HINT);
	return 0;
}

int ferry_names_check(const char *name, struct ferry_err *e)
{
	static const char legal[] = "abcdefghijklmnopqrstuvwxyz"
				    "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
				    "0123456789-_.";
	size_t n = strlen(name);

	if (!n || n > 64 || name[0] == '.' || strspn(name, legal) != n)
		return ferry_err_set(e, FERRY_E_INVALID, 0,
				     "'%.80s' is no name for a VM: 1 to 64 "
				     "letters, digits, '-', '_' and '.'",
				     name);
	return 0;
}

int ferry_names_socket(const char *vm, char *buf, size_t bytes,
		       struct ferry_err *e)
{
	char dir[256];
	int n;

	if (strchr(vm, '/')) {
		n = snprintf(buf, bytes, "%s", vm);
	} else {
		if (ferry_names_check(vm, e) ||
		    ferry_names_dir(dir, sizeof(dir), 0, e))
			return -1;
		n = snprintf(buf, bytes, "%s/%s.qmp", dir, vm);
	}
	if (n < 0 || (size_t)n >= bytes)
		return ferry_err_set(e, FERRY_E_INVALID, 0,
				     "the path of VM %.40s's socket is too "
				     "long", vm);
	return 0;
}

bool ferry_names_is_dead(const struct ferry_err *e)
{
	return e->sys == ECONNREFUSED;
}

/* A socket stays behind when its process is killed.  What else refuses to be
 * connected to is none. */
static void explain_refusal(const char *vm, const char *path,
			    struct ferry_err *e)
{
	struct stat st;

	if (!lstat(path, &st) && S_ISSOCK(st.st_mode)) {
		ferry_err_set(e, FERRY_E_CLOSED, 0, "VM '%s' is dead: nobody "
			      "listens at its socket any more; starting it "
			      "anew replaces that, or: rm %s", vm, path);
		e->sys = ECONNREFUSED;
	} else {
		ferry_err_set(e, FERRY_E_INVALID, 0, "%s is no socket of a VM",
			      path);
	}
}

struct ferry_qmp_client *ferry_names_open(const char *vm, int timeout_ms,
					  struct ferry_err *e)
{
	struct ferry_qmp_client *c;
	char path[512];

	if (ferry_names_socket(vm, path, sizeof(path), e))
		return NULL;
	if (access(path, F_OK) && errno != ENOENT && errno != ENOTDIR) {
		ferry_err_set(e, FERRY_E_IO, errno, "look for VM '%s' at %s%s",
			      vm, path, strchr(vm, '/') ? "" :
						FERRY_NAMES_HINT);
		return NULL;
	}
	if (access(path, F_OK) && strchr(vm, '/')) {
		ferry_err_set(e, FERRY_E_INVALID, 0, "there is no socket %s: "
			      "a QEMU makes it when it is started with -qmp "
			      "unix:%s,server=on,wait=off; ferry run's VMs "
			      "have names", path, path);
		return NULL;
	}
	if (access(path, F_OK)) {
		ferry_err_set(e, FERRY_E_INVALID, 0, "there is no VM '%s' (no "
			      "socket %s); `ferry list` shows those that "
			      "run", vm, path);
		return NULL;
	}
	c = ferry_qmp_client_open(path, timeout_ms, e);
	if (!c && e->sys == ECONNREFUSED)
		explain_refusal(vm, path, e);
	return c;
}
