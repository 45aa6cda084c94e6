/* SPDX-License-Identifier: MIT */
/*
 * What this host can do: one function per row of the table at the end.
 * Everything is tried, not guessed from versions or the user's id.
 *
 * Threads: any.
 */
#include <ferry/probe.h>

#include <fcntl.h>
#include <inttypes.h>
#include <linux/kvm.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/utsname.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/err.h"
#include "mem/kernel.h"
#include "mem/pagemap.h"
#include "mem/ring0.h"
#include "mem/uffd_open.h"

#define SHMEM_THP	"/sys/kernel/mm/transparent_hugepage/shmem_enabled"
#define HUGE_DIR	"/sys/kernel/mm/hugepages/hugepages-2048kB/"

static void found(struct ferry_probe_row *r, enum ferry_probe_verdict v,
		  const char *fmt, ...) FERRY_PRINTF(3, 4);

static void found(struct ferry_probe_row *r, enum ferry_probe_verdict v,
		  const char *fmt, ...)
{
	va_list ap;

	r->verdict = v;
	va_start(ap, fmt);
	vsnprintf(r->found, sizeof(r->found), fmt, ap);
	va_end(ap);
}

static void lost(struct ferry_probe_row *r, const char *what)
{
	snprintf(r->lost, sizeof(r->lost), "%s", what);
}

static void fix(struct ferry_probe_row *r, const char *fmt, ...)
	FERRY_PRINTF(2, 3);

static void fix(struct ferry_probe_row *r, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(r->fix, sizeof(r->fix), fmt, ap);
	va_end(ap);
}

/* The first line of a small file, without its end; false if there is none. */
static bool read_line(const char *path, char *buf, size_t bytes)
{
	FERRY_AUTO_FILE f = fopen(path, "re");

	if (!f || !fgets(buf, (int)bytes, f))
		return false;
	buf[strcspn(buf, "\n")] = '\0';
	return true;
}

static bool read_number(const char *path, uint64_t *v)
{
	char line[64];

	return read_line(path, line, sizeof(line)) &&
	       sscanf(line, "%" SCNu64, v) == 1;
}

/* ---- kernel and KVM ----------------------------------------------------- */

static void probe_kernel(struct ferry_probe_row *r)
{
	struct utsname u;

	if (uname(&u))
		found(r, FERRY_PROBE_MISSING, "uname: errno %d", errno);
	else
		found(r, FERRY_PROBE_OK, "%.20s %.64s, %.20s", u.sysname,
		      u.release, u.machine);
}

/* Which module would bring KVM, by what the CPU says. */
static const char *kvm_fix(void)
{
	FERRY_AUTO_FILE f = fopen("/proc/cpuinfo", "re");
	char word[64];

	while (f && fscanf(f, "%63s", word) == 1) {
		if (!strcmp(word, "vmx"))
			return "as root: modprobe kvm_intel (in a container: give it /dev/kvm)";
		if (!strcmp(word, "svm"))
			return "as root: modprobe kvm_amd (in a container: give it /dev/kvm)";
	}
	return "switch on virtualisation (VT-x, AMD-V) in the firmware; inside a virtual machine: nested virtualisation at its host";
}

static void probe_kvm(struct ferry_probe_row *r)
{
	FERRY_AUTO_FD fd = open("/dev/kvm", O_RDWR | O_CLOEXEC);
	int api = fd < 0 ? -1 : ioctl(fd, KVM_GET_API_VERSION, 0);

	if (api == KVM_API_VERSION) {
		found(r, FERRY_PROBE_OK, "/dev/kvm, API %d", api);
		return;
	}
	lost(r, "ferry run; VMs of other monitors that need KVM");
	if (fd >= 0) {
		found(r, FERRY_PROBE_MISSING, "/dev/kvm speaks API %d, not %d",
		      api, KVM_API_VERSION);
		fix(r, "run a Linux kernel of 2.6.22 or later");
	} else if (errno == EACCES || errno == EPERM) {
		found(r, FERRY_PROBE_MISSING, "/dev/kvm: permission denied");
		fix(r, "as root: setfacl -m u:%u:rw /dev/kvm (or add the user to the group of /dev/kvm)",
		    geteuid());
	} else {
		found(r, FERRY_PROBE_MISSING, "/dev/kvm: %s",
		      errno == ENOENT ? "does not exist" :
		      "cannot be opened: no KVM in this kernel or CPU");
		fix(r, "%s", kvm_fix());
	}
}

static void probe_kernel_mode(struct ferry_probe_row *r)
{
	FERRY_AUTO_FD fd = open("/dev/kvm", O_RDWR | O_CLOEXEC);
	struct ferry_err err = { 0 };
	uint64_t ns;

	if (fd < 0) {
		found(r, FERRY_PROBE_MISSING, "no KVM (see kvm)");
		lost(r, "ferry run");
		fix(r, "see kvm");
	} else if (ferry_ring0_step_ns(fd, &ns, &err)) {
		found(r, FERRY_PROBE_OK, "cannot be tried: %.100s", err.msg);
	} else if (ns <= FERRY_RING0_SLOW_NS) {
		found(r, FERRY_PROBE_OK, "runs on the CPU");
	} else {
		found(r, FERRY_PROBE_FALLBACK, "emulated, %" PRIu64
		      " ns for a step; user mode (CPL 3) runs on the CPU", ns);
		lost(r, "Linux in `ferry run`: it gets nowhere, and stays silent. ferry's test guest, which runs at CPL 3, is as fast as elsewhere");
		fix(r, "use a host whose KVM has VT-x or AMD-V; in ferry's sources, scripts/nested boots one in an emulator");
	}
}

static void probe_kvm_log(struct ferry_probe_row *r)
{
	FERRY_AUTO_FD fd = open("/dev/kvm", O_RDWR | O_CLOEXEC);
	int modes;

	if (fd < 0) {
		found(r, FERRY_PROBE_MISSING, "no KVM (see kvm)");
		lost(r, "precopy of KVM guests");
		fix(r, "see kvm");
		return;
	}
	modes = ioctl(fd, KVM_CHECK_EXTENSION,
		      KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2);
	if (modes > 0 && modes & KVM_DIRTY_LOG_INITIALLY_SET) {
		found(r, FERRY_PROBE_OK, "manual protect, initially set");
		return;
	}
	lost(r, "write protection in pieces: the guest stalls longer when a precopy pass begins");
	fix(r, "run Linux 5.7 or later");
	if (modes > 0)
		found(r, FERRY_PROBE_FALLBACK,
		      "manual protect; not initially set");
	else
		found(r, FERRY_PROBE_FALLBACK, "no manual protect");
}

/* ---- userfaultfd -------------------------------------------------------- */

static void probe_uffd(struct ferry_probe_row *r)
{
	static const uint64_t wanted = UFFD_FEATURE_MISSING_SHMEM |
				       UFFD_FEATURE_MISSING_HUGETLBFS;
	struct ferry_uffd_why why;
	const char *how;
	FERRY_AUTO_FD fd = ferry_uffd_open_raw(false, &how, &why);
	uint64_t have = 0;

	if (fd < 0) {
		found(r, FERRY_PROBE_MISSING,
		      "/dev/userfaultfd: %.50s; system call: %.50s",
		      strerrordesc_np(why.dev), strerrordesc_np(why.call));
		lost(r, "postcopy with this host as the target; precopy works");
		ferry_uffd_fix(&why, r->fix, sizeof(r->fix));
		return;
	}
	if (ferry_uffd_handshake(fd, 0, &have) ||
	    (have & wanted) != wanted) {
		found(r, FERRY_PROBE_FALLBACK,
		      "%s, features 0x%" PRIx64 ": private memory only", how,
		      have);
		lost(r, "postcopy into memory files and huge pages");
		fix(r, "run Linux 4.11 or later");
		return;
	}
	found(r, FERRY_PROBE_OK, "%s, features 0x%" PRIx64, how, have);
}

/* All features, also where only faults of user code would be delivered. */
static uint64_t uffd_features(bool *waits)
{
	struct ferry_uffd_why why;
	const char *how;
	FERRY_AUTO_FD fd = ferry_uffd_open_raw(true, &how, &why);
	uint64_t have = 0;

	*waits = fd >= 0 && (!why.dev || !why.call);
	if (fd < 0 || ferry_uffd_handshake(fd, 0, &have))
		return 0;
	return have;
}

static bool has_scan(void)
{
	struct ferry_pagemap p;
	bool has;

	if (ferry_pagemap_open(&p))
		return false;
	has = p.scan;
	ferry_pagemap_close(&p);
	return has;
}

static void probe_wp_async(struct ferry_probe_row *r)
{
	bool waits, sync;
	uint64_t have = uffd_features(&waits);

	if (have & UFFD_FEATURE_WP_ASYNC) {
		found(r, FERRY_PROBE_OK, "asynchronous write protection");
		return;
	}
	sync = waits && have & UFFD_FEATURE_PAGEFAULT_FLAG_WP;
	found(r, sync ? FERRY_PROBE_FALLBACK : FERRY_PROBE_MISSING,
	      sync ? "synchronous write protection only" :
	      "no write protection");
	lost(r, sync ? "speed of precopy of ordinary processes: each first write to a page waits for a thread" :
	     "precopy of ordinary processes, unless the kernel has soft-dirty bits; KVM guests do not need it");
	fix(r, "run Linux 6.7 or later%s",
	    sync || waits ? "" : ", or see userfaultfd");
}

static void probe_scan(struct ferry_probe_row *r)
{
	struct ferry_pagemap p;
	int rc = ferry_pagemap_open(&p);

	if (rc) {
		found(r, FERRY_PROBE_FALLBACK, "/proc/self/pagemap: %.60s",
		      strerrordesc_np(-rc));
		lost(r, "knowing which private memory was never touched: all of it is read and sent");
		fix(r, "mount /proc; a process that changed its user id must be dumpable (prctl PR_SET_DUMPABLE)");
		return;
	}
	ferry_pagemap_close(&p);
	if (has_scan()) {
		found(r, FERRY_PROBE_OK, "PAGEMAP_SCAN");
		return;
	}
	found(r, FERRY_PROBE_FALLBACK, "/proc/self/pagemap is read");
	lost(r, "asynchronous tracking of writes by ordinary processes");
	fix(r, "run Linux 6.7 or later");
}

static void probe_uffd_sysctl(struct ferry_probe_row *r)
{
	struct ferry_uffd_why why;
	const char *how;
	FERRY_AUTO_FD fd = ferry_uffd_open_raw(false, &how, &why);
	uint64_t v = 0;
	bool has = read_number("/proc/sys/vm/unprivileged_userfaultfd", &v);
	bool ok = fd >= 0;

	if (has)
		found(r, ok ? FERRY_PROBE_OK : FERRY_PROBE_MISSING,
		      "vm.unprivileged_userfaultfd = %" PRIu64 "%s", v,
		      ok && !v ? "; not needed, see userfaultfd" : "");
	else
		found(r, ok ? FERRY_PROBE_OK : FERRY_PROBE_MISSING,
		      "this kernel has no vm.unprivileged_userfaultfd");
	if (ok)
		return;
	lost(r, "postcopy, unless /dev/userfaultfd is made accessible");
	if (has && !v)
		fix(r, "as root: sysctl -w vm.unprivileged_userfaultfd=1");
	else
		ferry_uffd_fix(&why, r->fix, sizeof(r->fix));
}

/*
 * One way to a userfaultfd.  The first two are as good as each other; the third
 * serves a vhost-user backend and asynchronous write protection, no VM.
 */
static void probe_way(struct ferry_probe_row *r, enum ferry_uffd_way way)
{
	struct ferry_uffd_tried t;
	bool full, any;

	ferry_uffd_try(&t);
	full = !t.failed[FERRY_UFFD_DEVICE] || !t.failed[FERRY_UFFD_CALL];
	any = full || !t.failed[FERRY_UFFD_USER_ONLY];
	if (!t.failed[way]) {
		found(r, FERRY_PROBE_OK, "%s%s", ferry_uffd_way_name(way),
		      way == FERRY_UFFD_USER_ONLY ? "" : " for all faults");
		return;
	}
	found(r, any ? FERRY_PROBE_FALLBACK : FERRY_PROBE_MISSING, "%s: %.80s",
	      ferry_uffd_way_name(way), strerrordesc_np(t.failed[way]));
	lost(r, full ? "nothing: another way works" :
	     any ? "postcopy with this host as the target, see userfaultfd; vhost-user backends do without" :
	     "postcopy, also of VMs with vhost-user backends");
}

static void probe_uffd_device(struct ferry_probe_row *r)
{
	probe_way(r, FERRY_UFFD_DEVICE);
}

static void probe_uffd_call(struct ferry_probe_row *r)
{
	probe_way(r, FERRY_UFFD_CALL);
}

static void probe_uffd_user_only(struct ferry_probe_row *r)
{
	probe_way(r, FERRY_UFFD_USER_ONLY);
}

/* What a libferry-vhost backend of this user decides by. */
static void probe_backend(struct ferry_probe_row *r)
{
	struct ferry_uffd_tried t;
	struct ferry_uffd u;

	if (!ferry_uffd_open_backend(&u, NULL)) {
		close(u.fd);
		found(r, FERRY_PROBE_OK, "backends of this user offer"
		      " PAGEFAULT, by %s", u.how);
		return;
	}
	ferry_uffd_try(&t);
	found(r, FERRY_PROBE_MISSING, "backends of this user offer no"
	      " PAGEFAULT: %.30s; %.30s; user mode only: %.30s",
	      strerrordesc_np(t.failed[FERRY_UFFD_DEVICE]),
	      strerrordesc_np(t.failed[FERRY_UFFD_CALL]),
	      strerrordesc_np(t.failed[FERRY_UFFD_USER_ONLY]));
	lost(r, "postcopy of VMs with vhost-user devices that this user serves; precopy works");
	ferry_uffd_fix(&(struct ferry_uffd_why){ t.failed[FERRY_UFFD_DEVICE],
						 t.failed[FERRY_UFFD_CALL] },
		       r->fix, sizeof(r->fix));
}

/* ---- memory ------------------------------------------------------------- */

static void probe_huge(struct ferry_probe_row *r)
{
	uint64_t total = 0, idle = 0, reserved = 0;

	lost(r, "guest memory in huge pages: 4 KiB pages are used, the guest runs slower");
	if (!read_number(HUGE_DIR "nr_hugepages", &total) ||
	    !read_number(HUGE_DIR "free_hugepages", &idle) ||
	    !read_number(HUGE_DIR "resv_hugepages", &reserved)) {
		found(r, FERRY_PROBE_FALLBACK, "no huge pages of 2 MiB");
		fix(r, "run a kernel with CONFIG_HUGETLBFS=y, with /sys mounted");
		return;
	}
	idle = idle > reserved ? idle - reserved : 0;
	found(r, idle ? FERRY_PROBE_OK : FERRY_PROBE_FALLBACK,
	      "%" PRIu64 " free of %" PRIu64 " (%" PRIu64 " MiB free)", idle,
	      total, idle * 2);
	if (idle)
		lost(r, "");
	else
		fix(r, "for each GiB 512 more; as root: sysctl -w vm.nr_hugepages=%"
		    PRIu64, total + 512);
}

/* CAP_IPC_LOCK lifts the limit. */
static bool may_lock_anything(void)
{
	FERRY_AUTO_FILE f = fopen("/proc/self/status", "re");
	char line[128];
	uint64_t caps;

	while (f && fgets(line, sizeof(line), f))
		if (sscanf(line, "CapEff: %" SCNx64, &caps) == 1)
			return caps >> 14 & 1;
	return false;
}

static void probe_memlock(struct ferry_probe_row *r)
{
	struct rlimit l;

	if (getrlimit(RLIMIT_MEMLOCK, &l)) {
		found(r, FERRY_PROBE_FALLBACK, "getrlimit: errno %d", errno);
	} else if (l.rlim_cur == RLIM_INFINITY) {
		found(r, FERRY_PROBE_OK, "unlimited");
	} else if (may_lock_anything()) {
		found(r, FERRY_PROBE_OK,
		      "%" PRIu64 " KiB, but CAP_IPC_LOCK lifts it",
		      (uint64_t)l.rlim_cur / 1024);
	} else {
		found(r, FERRY_PROBE_FALLBACK, "%" PRIu64 " KiB",
		      (uint64_t)l.rlim_cur / 1024);
		lost(r, "locking guest memory (mlock, VFIO) beyond that; migration itself locks none");
		fix(r, "ulimit -l unlimited (systemd: LimitMEMLOCK=infinity; limits.conf: memlock)");
	}
}

static void probe_shmem_thp(struct ferry_probe_row *r)
{
	char line[128], *from, *to;

	if (!read_line(SHMEM_THP, line, sizeof(line))) {
		found(r, FERRY_PROBE_FALLBACK,
		      "this kernel has no transparent huge pages");
		lost(r, "huge pages for guest memory that is a memory file: the guest runs slower");
		fix(r, "run a kernel with CONFIG_TRANSPARENT_HUGEPAGE=y, or use hugepages-2M");
		return;
	}
	from = strchr(line, '[');
	to = strchr(line, ']');
	if (from && to && to > from) {
		*to = '\0';
		from++;
	} else {
		from = line;
	}
	if (strcmp(from, "never") && strcmp(from, "deny")) {
		found(r, FERRY_PROBE_OK, "%.40s", from);
		return;
	}
	found(r, FERRY_PROBE_FALLBACK, "%.40s", from);
	lost(r, "huge pages for guest memory that is a memory file: the guest runs slower");
	fix(r, "as root: echo advise > " SHMEM_THP);
}

static void probe_io_uring(struct ferry_probe_row *r)
{
	long rc = syscall(SYS_io_uring_setup, 0, NULL);

	/* No parameters at all: EFAULT or EINVAL from a kernel that would
	 * have gone on. */
	if (rc >= 0)
		close((int)rc);
	found(r, FERRY_PROBE_OK, "%s; ferry does not use it",
	      rc >= 0 || errno == EFAULT || errno == EINVAL ? "available" :
	      errno == ENOSYS ? "not in this kernel" :
	      "forbidden (kernel.io_uring_disabled or seccomp)");
}

/* ---- the table ---------------------------------------------------------- */

static const struct {
	const char *name;
	void (*probe)(struct ferry_probe_row *r);
} table[] = {
	{ "kernel",			probe_kernel },
	{ "kvm",			probe_kvm },
	{ "kvm-kernel-mode",		probe_kernel_mode },
	{ "kvm-dirty-log",		probe_kvm_log },
	{ "userfaultfd",		probe_uffd },
	{ "userfaultfd-wp-async",	probe_wp_async },
	{ "unprivileged-userfaultfd",	probe_uffd_sysctl },
	{ "userfaultfd-device",		probe_uffd_device },
	{ "userfaultfd-call",		probe_uffd_call },
	{ "userfaultfd-user-mode",	probe_uffd_user_only },
	{ "vhost-user-postcopy",	probe_backend },
	{ "pagemap-scan",		probe_scan },
	{ "hugepages-2M",		probe_huge },
	{ "shmem-thp",			probe_shmem_thp },
	{ "memlock",			probe_memlock },
	{ "io-uring",			probe_io_uring },
};

size_t ferry_probe(struct ferry_probe_row *rows, size_t n)
{
	size_t stride = n ? rows->size : 0;
	size_t known = stride < sizeof(*rows) ? stride : sizeof(*rows);
	uint8_t *at = (uint8_t *)rows;

	for (size_t i = 0; i < n && i < FERRY_LEN(table); i++, at += stride) {
		struct ferry_probe_row r = {
			.size = (uint32_t)stride, .name = table[i].name,
		};

		table[i].probe(&r);
		memset(at, 0, stride);
		memcpy(at, &r, known);
	}
	return FERRY_LEN(table);
}
