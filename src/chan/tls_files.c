/* SPDX-License-Identifier: MIT */
/*
 * The files of a credentials folder.
 *
 * A file's mode is looked at on the descriptor that is read: nobody can put
 * another file in its place in between.
 */
#include "chan/tls_priv.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"

#define FILE_BYTES_MAX	(4u << 20)	/* a CRL may be long */
#define PATH_BYTES	1200

static int check_file(int fd, const char *path, bool secret, size_t *bytes,
		      struct ferry_err *e)
{
	struct stat st;

	if (fstat(fd, &st))
		return ferry_err_set(e, FERRY_E_IO, errno, "%s", path);
	if (!S_ISREG(st.st_mode) || st.st_size > FILE_BYTES_MAX)
		return ferry_err_set(e, FERRY_E_INVALID, 0, "%s is no file of "
				     "at most %u MiB", path,
				     FILE_BYTES_MAX >> 20);
	if (secret && (st.st_mode & 077))
		return ferry_err_set(e, FERRY_E_PERM, 0, "%s is a secret that "
				     "others may read (mode %04o): chmod 600 "
				     "%s", path, st.st_mode & 07777, path);
	*bytes = (size_t)st.st_size;
	return 0;
}

static int read_all(int fd, const char *path, size_t bytes,
		    gnutls_datum_t *data, struct ferry_err *e)
{
	ssize_t got;

	data->data = calloc(1, bytes + 1);
	if (!data->data)
		return ferry_err_set(e, FERRY_E_NOMEM, errno, "%s", path);
	got = read(fd, data->data, bytes);
	if (got < 0 || (size_t)got != bytes) {
		ferry_tls_wipe(data);
		return ferry_err_set(e, FERRY_E_IO, got < 0 ? errno : 0,
				     "%s: read", path);
	}
	data->size = (unsigned)bytes;
	return 0;
}

static int path_of(char path[PATH_BYTES], const char *dir, const char *name,
		   struct ferry_err *e)
{
	if (snprintf(path, PATH_BYTES, "%s/%s", dir, name) < PATH_BYTES)
		return 0;
	return ferry_err_set(e, FERRY_E_INVALID, 0, "tls-creds: the folder's "
			     "name is too long");
}

int ferry_tls_read(const char *dir, const char *name, unsigned flags,
		   gnutls_datum_t *data, struct ferry_err *e)
{
	FERRY_AUTO_FD fd = -1;
	char path[PATH_BYTES];
	size_t bytes = 0;

	*data = (gnutls_datum_t){ 0 };
	if (path_of(path, dir, name, e))
		return -1;
	fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	if (fd < 0 && errno == ENOENT && (flags & FERRY_TLS_OPTIONAL))
		return 0;
	if (fd < 0)
		return ferry_err_set(e, FERRY_E_IO, errno, "%s", path);
	return check_file(fd, path, flags & FERRY_TLS_SECRET, &bytes, e) ||
	       read_all(fd, path, bytes, data, e) ? -1 : 0;
}

void ferry_tls_wipe(gnutls_datum_t *data)
{
	if (data->data)
		explicit_bzero(data->data, data->size);
	free(data->data);
	*data = (gnutls_datum_t){ 0 };
}

bool ferry_tls_has(const char *dir, const char *name)
{
	char path[PATH_BYTES];

	return !path_of(path, dir, name, NULL) && !access(path, F_OK);
}

/* ---- keys.psk -------------------------------------------------------------- */

/* One line, cut into its two halves; false when it is none. */
static bool split(const char *line, size_t bytes, size_t *name_bytes,
		  gnutls_datum_t *hex)
{
	const char *colon = memchr(line, ':', bytes);

	if (!colon || colon == line || colon - line > FERRY_TLS_NAME_MAX)
		return false;
	*name_bytes = (size_t)(colon - line);
	hex->data = (unsigned char *)(uintptr_t)(colon + 1);
	hex->size = (unsigned)(bytes - *name_bytes - 1);
	return hex->size >= 32 && hex->size % 2 == 0;
}

/* Who dials and has several names uses QEMU's, `qemu`. */
static bool is_wanted(const char *line, size_t bytes, const char *user,
		      unsigned lines)
{
	if (!user)
		return !lines || (bytes == 4 && !memcmp(line, "qemu", 4));
	return bytes == strlen(user) && !memcmp(line, user, bytes);
}

int ferry_tls_find_user(const char *text, const char *user,
			char found[FERRY_TLS_NAME_MAX + 1],
			gnutls_datum_t *hex, struct ferry_err *e)
{
	unsigned lines = 0, hits = 0;
	size_t len, name;
	gnutls_datum_t key;

	for (const char *at = text; *at; at += len + (at[len] == '\n')) {
		len = strcspn(at, "\r\n");
		if (at[len] == '\r' && at[len + 1] == '\n')
			len++;
		if (!len || *at == '#' || *at == '\r')
			continue;
		if (!split(at, strcspn(at, "\r\n"), &name, &key))
			return ferry_err_set(e, FERRY_E_INVALID, 0,
					     "keys.psk: each line is a user's "
					     "name, a colon, and 32 or more "
					     "hexadecimal digits");
		if (is_wanted(at, name, user, lines++)) {
			memcpy(found, at, name);
			found[name] = '\0';
			*hex = key;
			hits++;
		}
	}
	if (hits && (user || lines == 1 || !strcmp(found, "qemu")))
		return 0;
	if (user)
		return ferry_err_set(e, FERRY_E_PERM, 0, "keys.psk has no user "
				     "of that name");
	return ferry_err_set(e, FERRY_E_INVALID, 0, "keys.psk has %u users: "
			     "who dials needs one alone, or one that is called "
			     "qemu", lines);
}

bool ferry_tls_has_user(const char *text)
{
	for (; *text; text += strcspn(text, "\r\n")) {
		text += strspn(text, "\r\n");
		if (*text && *text != '#')
			return true;
	}
	return false;
}
