# SPDX-License-Identifier: MIT
"""Debian's cloud kernel, a busybox, a Redis, and initramfs archives of them.

The kernel is a stranger to this monitor: nobody here built it.  It is fetched
with apt-get download, unpacked below the build folder, and never installed.
"""

import gzip
import io
import os
import re
import shutil
import struct
import subprocess
from pathlib import Path

import pytest

PACKAGE = 'linux-image-cloud-amd64'
FOLDER = Path(os.environ['FERRY_BUILD']) / 'linux'
LIMIT_S = 600          # of a download, say
PT_INTERP = 3


def output(*command, **more):
    return subprocess.run(command, check=True, text=True, timeout=LIMIT_S,
                          stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                          stderr=subprocess.DEVNULL, **more).stdout


def need(program, package):
    found = shutil.which(program)
    if not found:
        pytest.skip(f'{program} is missing (package {package})')
    return found


def fetch():
    """Folder with the unpacked kernel package; skips when it cannot be had."""
    root = FOLDER / 'root'
    if root.exists():
        return root
    need('apt-get', 'apt')
    FOLDER.mkdir(parents=True, exist_ok=True)
    try:
        names = [line.split()[1] for line in
                 output('apt-cache', 'depends', PACKAGE).splitlines()
                 if 'Depends: linux-image' in line]
        output('apt-get', 'download', names[0], cwd=FOLDER)
        deb = next(FOLDER.glob('linux-image*.deb'))
        output('dpkg', '-x', str(deb), str(FOLDER / 'part'))
        deb.unlink()
        (FOLDER / 'part').rename(root)
    except (subprocess.SubprocessError, IndexError, OSError) as why:
        pytest.skip(f'{PACKAGE} cannot be downloaded: {why}')
    return root


def bzimage():
    return next((fetch() / 'boot').glob('vmlinuz-*'))


def vmlinux():
    """The ELF file inside the bzImage, which has a PVH entry."""
    path = FOLDER / 'vmlinux'
    if path.exists():
        return path
    lz4 = need('lz4', 'lz4')
    image = bzimage().read_bytes()
    code = (image[0x1f1] + 1) * 512
    offset, length = struct.unpack_from('<II', image, 0x248)
    # the last four octets are the unpacked size, not LZ4's
    payload = image[code + offset:code + offset + length - 4]
    done = subprocess.run([lz4, '-dc'], input=payload, timeout=LIMIT_S,
                          stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
                          check=False)
    if not done.stdout.startswith(b'\x7fELF'):
        pytest.skip('this Debian kernel is not packed with LZ4')
    part = path.with_suffix('.part')
    part.write_bytes(done.stdout)
    part.rename(path)
    return path


def module(name):
    return next((fetch() / 'lib/modules').rglob(name + '.ko'))


def busybox():
    """A static one: Debian's other busybox needs a C library."""
    path = Path(need('busybox', 'busybox-static'))
    image = path.read_bytes()
    table, = struct.unpack_from('<Q', image, 32)
    size, count = struct.unpack_from('<HH', image, 54)
    if any(struct.unpack_from('<I', image, table + i * size)[0] == PT_INTERP
           for i in range(count)):
        pytest.skip('busybox is not static (package busybox-static)')
    return path


def libraries(program):
    """The shared libraries of a program here, for an archive."""
    paths = re.findall(r'(/\S+) \(0x', output('ldd', str(program)))
    return {path.lstrip('/'): (0o755, Path(path).read_bytes())
            for path in paths}


def redis_server():
    """Debian's: one file is the server and its tools, by the name it has."""
    return Path(need('redis-check-rdb', 'redis-tools')).resolve()


def initramfs(path, files, packed=True):
    """A newc archive: {name: (mode, octets)}; folders are made."""
    out = io.BytesIO()
    number = 0

    def entry(name, mode, data):
        nonlocal number
        number += 1
        fields = (number, mode, 0, 0, 1, 0, len(data), 0, 0, 0, 0,
                  len(name) + 1, 0)
        out.write(b'070701' + b''.join(b'%08x' % f for f in fields))
        out.write(name.encode() + b'\0')
        out.write(b'\0' * (-out.tell() % 4))
        out.write(data)
        out.write(b'\0' * (-out.tell() % 4))

    folders = {str(parent) for name in files
               for parent in Path(name).parents} - {'.'}
    for folder in sorted(folders | {'proc', 'sys', 'dev', 'tmp', 'bin'}):
        entry(folder, 0o40755, b'')
    for name, (mode, data) in files.items():
        entry(name, 0o100000 | mode, data)
    entry('TRAILER!!!', 0, b'')
    data = out.getvalue()
    path.write_bytes(gzip.compress(data, 1) if packed else data)
    return path
