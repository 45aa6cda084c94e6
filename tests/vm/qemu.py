# SPDX-License-Identifier: MIT
"""Runs the test guest in a QEMU: serial port, QMP, and a clean end.

A helper of tests, not a test.  Everything that waits has a timeout, which is
generous: these tests check what happens, not how fast.
"""

import functools
import json
import os
import re
import shutil
import socket
import subprocess
import time
from pathlib import Path

import pytest

from guestlog import GuestLog

TIMEOUT = 120
# $FERRY_QEMU: another program; "newer": that of Debian's backports.
QEMU = os.environ.get("FERRY_QEMU", "qemu-system-x86_64")
MISSING = f"{QEMU} is not installed"
if QEMU == "newer":
    _found = subprocess.run(
        [Path(__file__).resolve().parents[2] / "scripts/newer", "qemu"],
        text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE, check=False)
    QEMU, MISSING = _found.stdout.strip(), _found.stderr.strip()
KVM = "-accel", "kvm", "-cpu", "host,-arch-capabilities"
# Boots in a tenth of the time where ring 0 is emulated.
FAST_BIOS = "/usr/share/qemu/qboot.rom"


def require_qemu():
    """Skips the test, saying why, where there is none."""
    if not shutil.which(QEMU):
        pytest.skip(MISSING)


@functools.cache
def version():
    """702 for 7.2."""
    said = subprocess.run([QEMU, "--version"], text=True, check=True,
                          stdout=subprocess.PIPE).stdout
    major, minor = re.search(r"version (\d+)\.(\d+)", said).groups()
    return int(major) * 100 + int(minor)


def version_name():
    """As it stands in the names of machine types."""
    return f"{version() // 100}.{version() % 100}"


def require():
    """Skips the test, saying why, where it cannot run."""
    require_qemu()
    if not os.environ.get("FERRY_GUEST"):
        pytest.skip("FERRY_GUEST does not name the guest's ELF file")
    if not os.access("/dev/kvm", os.R_OK | os.W_OK):
        pytest.skip("/dev/kvm is missing or may not be opened")


def wait_until(what, condition, timeout=None):
    """The first true value of condition()."""
    timeout = timeout or TIMEOUT
    end = time.monotonic() + timeout
    while True:
        value = condition()
        if value:
            return value
        assert time.monotonic() < end, f"waited {timeout} s: {what}"
        time.sleep(0.02)


def listens(path, pid="self"):
    """Who connects before that is refused; the file is there earlier.  pid: of
    one in that network."""
    with open(f"/proc/{pid}/net/unix", encoding="utf-8") as sockets:
        return any(line.split()[3] == "00010000" and
                   line.rstrip().endswith(f" {path}") for line in sockets)


class Qmp:
    """The few calls a test needs; events are dropped."""

    @classmethod
    def open(cls, path):
        """Or None, while nobody listens."""
        sock = socket.socket(socket.AF_UNIX)
        sock.settimeout(TIMEOUT)
        try:
            sock.connect(path)
        except (FileNotFoundError, ConnectionRefusedError):
            sock.close()
            return None
        return cls(sock)

    def __init__(self, sock):
        self.socket = sock
        self.file = self.socket.makefile("r", encoding="utf-8")
        self.file.readline()
        self("qmp_capabilities")

    def __call__(self, command, **arguments):
        request = {"execute": command, "arguments": arguments}
        self.socket.sendall(json.dumps(request).encode() + b"\n")
        while True:
            answer = json.loads(self.file.readline())
            if "event" not in answer:
                assert "error" not in answer, f"{command}: {answer}"
                return answer["return"]

    def close(self):
        self.file.close()
        self.socket.close()


class Qemu:
    """One QEMU with the guest, or another kernel.  `log` is shared by those it
    moves between."""

    def __init__(self, folder, name, cmdline, *, cpus=2, ram_mb=128,
                 kernel=None, program=None, log=None, args=(), accel=KVM):
        self.log = log or GuestLog()
        self.output = str(folder / f"{name}.log")
        qmp = str(folder / f"{name}.qmp")
        bios = ["-bios", FAST_BIOS] if os.path.exists(FAST_BIOS) else []
        self.errors = open(folder / f"{name}.err", "w+b")
        told = open(self.output, "wb")
        self.process = subprocess.Popen([
            program or QEMU, *accel, *bios,
            "-smp", str(cpus), "-m", str(ram_mb), "-kernel",
            kernel or os.environ["FERRY_GUEST"], "-append", cmdline,
            "-nodefaults",
            # A file takes all.  A socket whose reader is late does not, and
            # QEMU 7.2 has what it tries again twice in its logfile.
            "-no-user-config", "-display", "none", "-chardev",
            "stdio,id=s,signal=off", "-serial", "chardev:s",
            "-qmp", f"unix:{qmp},server=on,wait=off", *args,
        ], stdin=subprocess.PIPE, stdout=told, stderr=self.errors, bufsize=0)
        told.close()
        self.qmp = None
        self.read = 0
        try:
            self.qmp = self.wait("QMP", lambda: Qmp.open(qmp))
        except BaseException:
            self.close()
            raise

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        if self.qmp:
            self.qmp.close()
        self.process.kill()
        self.process.wait()
        self.process.stdin.close()
        self.errors.close()

    def said(self):
        """What QEMU itself had to say, for the reports of failed tests."""
        self.errors.seek(0)
        return self.errors.read().decode(errors="replace")

    def poll(self):
        """Passes what the guest said to the log."""
        if os.path.exists(self.output):
            with open(self.output, "rb") as output:
                output.seek(self.read)
                data = output.read()
            self.read += len(data)
            self.log.feed(data)
        return self.log

    def wait(self, what, condition):
        """Until condition(), while the guest lives."""
        def look():
            ended = self.process.poll() is not None
            self.poll()
            assert not self.log.dead, self.log.dead
            value = condition()
            assert value or not ended, f"QEMU ended: {self.said()}"
            return value

        return wait_until(what, look)

    def wait_line(self, word, count=1):
        """The count-th line of that kind."""
        return self.wait(f"{count} of {word}", lambda: len(
            self.log.all(word)) >= count and self.log.all(word)[count - 1])

    def wait_end(self):
        """Until the guest has switched itself off."""
        self.wait_line("DONE")
        wait_until("power off", lambda: self.process.poll() is not None)
        return self.poll()

    def type(self, letters):
        self.process.stdin.write(letters.encode())

    def verify(self):
        """All pages, now; the VERIFIED line."""
        count = len(self.log.all("VERIFIED"))
        self.type("v")
        return self.wait_line("VERIFIED", count + 1)
