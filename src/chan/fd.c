/* SPDX-License-Identifier: MIT */
/*
 * What is this fd?  A table from the kernel's answer to the kind of channel.
 */
#include "chan/stream.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"

static const struct {
	mode_t type;
	const struct ferry_stream_kind *kind;
	unsigned both;		/* what it can do if open for both */
	unsigned always;
} types[] = {
	{ S_IFIFO, &ferry_stream_pipe,	 0,			0 },
	{ S_IFCHR, &ferry_stream_device, FERRY_CHAN_TWO_WAY,	0 },
	{ S_IFREG, &ferry_stream_file,	 0,	FERRY_CHAN_SEEK },
	{ S_IFBLK, &ferry_stream_file,	 0,	FERRY_CHAN_SEEK },
};

static unsigned access_features(int fd, unsigned both)
{
	switch (fcntl(fd, F_GETFL) & O_ACCMODE) {
	case O_RDONLY:
		return FERRY_CHAN_READ;
	case O_WRONLY:
		return FERRY_CHAN_WRITE;
	default:
		return FERRY_CHAN_READ | FERRY_CHAN_WRITE | both;
	}
}

const struct ferry_stream_kind *ferry_fd_kind(int fd, unsigned *features,
					      struct ferry_err *e)
{
	struct stat st;

	if (fstat(fd, &st)) {
		ferry_err_set(e, FERRY_E_INVALID, errno, "fd %d", fd);
		return NULL;
	}
	if (S_ISSOCK(st.st_mode))
		return ferry_socket_kind(fd, features, e);
	for (size_t i = 0; i < FERRY_LEN(types); i++) {
		if ((st.st_mode & S_IFMT) != types[i].type)
			continue;
		*features = types[i].always |
			    access_features(fd, types[i].both);
		return types[i].kind;
	}
	ferry_err_set(e, FERRY_E_UNSUPPORTED, 0, S_ISDIR(st.st_mode) ?
		      "fd %d is a directory" :
		      "fd %d is not a socket, pipe, device or file", fd);
	return NULL;
}

struct ferry_chan *ferry_chan_fd(int fd, struct ferry_err *e)
{
	FERRY_AUTO_FD mine = fd;
	unsigned features;
	const struct ferry_stream_kind *kind = ferry_fd_kind(fd, &features, e);

	if (!kind)
		return NULL;
	return ferry_stream_new(kind, ferry_steal_fd(&mine), features, e);
}
