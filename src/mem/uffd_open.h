/* SPDX-License-Identifier: MIT */
/*
 * How a userfaultfd was got, or why not and what to change.  For mem/, and for
 * processes that have no block of memory of ours (vu/).
 */
#ifndef FERRY_MEM_UFFD_OPEN_H
#define FERRY_MEM_UFFD_OPEN_H

#include <sys/types.h>

#include "mem/kernel.h"
#include "mem/uffd.h"

/* What each way said; 0 where it was not tried or worked. */
struct ferry_uffd_why {
	int	dev;		/* errno of /dev/userfaultfd */
	int	call;		/* errno of the system call */
};

/*
 * A userfaultfd before its handshake, or -1 and *why.  With `user_only` a
 * third way is tried that needs no permission, but whose faults inside the
 * kernel fail instead of waiting: good for asynchronous write protection,
 * where nobody ever waits, and for nothing else.
 */
int ferry_uffd_open_raw(bool user_only, const char **how,
			struct ferry_uffd_why *why);

/* The handshake: may be made once per descriptor.  *have: all that the kernel
 * knows.  0 or -errno. */
int ferry_uffd_handshake(int fd, uint64_t features, uint64_t *have);

/* ferry_uffd_open(), with the choice above. */
FERRY_CHECKED int ferry_uffd_open_as(struct ferry_uffd *u, uint64_t want,
				     bool user_only, struct ferry_err *e);

/*
 * What a process is given that has guest memory mapped and waits for its pages
 * in its own code only: a backend's, which may be anybody's (vu/be/touch.h).
 * `ferry doctor` asks the same.
 */
FERRY_CHECKED int ferry_uffd_open_backend(struct ferry_uffd *u,
					  struct ferry_err *e);

/* Each way by itself, in the order in which they are tried. */
enum ferry_uffd_way {
	FERRY_UFFD_DEVICE, FERRY_UFFD_CALL, FERRY_UFFD_USER_ONLY,
	FERRY_UFFD_WAYS,
};

/* errno of each; 0: it works. */
struct ferry_uffd_tried {
	int	failed[FERRY_UFFD_WAYS];
};

void ferry_uffd_try(struct ferry_uffd_tried *t);
const char *ferry_uffd_way_name(enum ferry_uffd_way way);

/* Is that what another process gave for one?  A file that is none does not know
 * its requests. */
bool ferry_uffd_is_one(int fd);

/*
 * read(2) of messages, at most n, that never waits: the flags of a file that
 * another process has too, O_NONBLOCK, are that one's to change at any moment.
 * A kernel before 6.10 can only be asked by them: there they are set anew right
 * before, and a process that clears them in between, again and again, can still
 * hold us up.  Octets, 0 or -1 with errno, EAGAIN when there is nothing.
 */
ssize_t ferry_uffd_read_now(int fd, struct uffd_msg *msg, unsigned n);

/* The command or setting that would make ferry_uffd_open() work. */
void ferry_uffd_fix(const struct ferry_uffd_why *why, char *buf, size_t bytes);

#endif
