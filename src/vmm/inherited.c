/* SPDX-License-Identifier: MIT */
/* Which descriptors were given to us.  See inherited.h. */
#include "vmm/inherited.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

void ferry_inherited_note(struct ferry_inherited *in)
{
	*in = (struct ferry_inherited){ 0 };
	for (int fd = STDERR_FILENO + 1; fd < FERRY_INHERITED_MAX; fd++)
		if (fcntl(fd, F_GETFD) >= 0)
			in->bits[fd / 64] |= 1ull << fd % 64;
}

int ferry_inherited_check(const struct ferry_inherited *in, const char *uri,
			  struct ferry_err *e)
{
	char *end;
	long fd;

	if (strncmp(uri, "fd:", 3))
		return 0;
	fd = strtol(uri + 3, &end, 10);
	if (end == uri + 3 || *end)
		return 0;	/* no number: the engine says so */
	if (fd >= 0 && fd < FERRY_INHERITED_MAX &&
	    in->bits[fd / 64] >> fd % 64 & 1)
		return 0;
	return ferry_err_set(e, FERRY_E_PERM, 0,
			     "address '%.32s': descriptor %ld was not open "
			     "when this process was started: only one that it "
			     "was given, from 3 on, can be used", uri, fd);
}
