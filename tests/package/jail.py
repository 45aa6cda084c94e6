# SPDX-License-Identifier: MIT
"""This machine, as far as a package manager can see, with a layer above it.

A mount namespace with an overlay of / : what is installed in there is in a
tmpfs and goes with the namespace; the machine below does not change.  An
ordinary user is root in a user namespace of its own.
"""

import os
import subprocess

SETUP = '''
set -e
mount -t tmpfs -o mode=0755 ferry-jail "$1"
mkdir "$1/upper" "$1/work" "$1/root"
mount -t overlay overlay -o \\
    "lowerdir=/,upperdir=$1/upper,workdir=$1/work$2" "$1/root"
for dir in proc sys dev; do
    mount --rbind "/$dir" "$1/root/$dir"
done
mount -t tmpfs -o mode=1777 tmp "$1/root/tmp"
echo ready
read -r _ || true
'''


class Unable(Exception):
    """There can be no such thing here; the text says why."""


class Jail:
    def __init__(self, base):
        self.base = base
        own, flags = [], []
        if os.geteuid() != 0:
            own = ['--map-root-user']
            flags = ['--user', '--preserve-credentials']
        self.keeper = subprocess.Popen(
            ['unshare', *own, '--mount', '--propagation', 'private', 'sh',
             '-c', SETUP, 'sh', base, ',userxattr' if own else ''],
            text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            stderr=subprocess.PIPE)
        if self.keeper.stdout.readline() != 'ready\n':
            why = self.keeper.communicate()[1].strip()
            raise Unable(f'no overlay of / here: {why.splitlines()[-1:]}')
        self.enter = ['nsenter', '--target', str(self.keeper.pid), *flags,
                      '--mount', 'chroot', f'{base}/root']

    def run(self, *command, check=True, timeout=120):
        """The command's outcome; its output is text, both streams in one."""
        env = {'PATH': '/usr/sbin:/usr/bin:/sbin:/bin', 'HOME': '/tmp',
               'LC_ALL': 'C.UTF-8', 'DEBIAN_FRONTEND': 'noninteractive'}
        done = subprocess.run([*self.enter, *command], text=True, env=env,
                              stdin=subprocess.DEVNULL, check=False,
                              stdout=subprocess.PIPE, timeout=timeout,
                              stderr=subprocess.STDOUT)
        assert not check or done.returncode == 0, f'{command}: {done.stdout}'
        return done

    def path(self, inside):
        """Where a file in there is for us: only the keeper sees it."""
        return (f'/proc/{self.keeper.pid}/root{self.base}/root/'
                f'{inside.lstrip("/")}')

    def close(self):
        self.keeper.communicate()
