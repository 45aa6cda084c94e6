# SPDX-License-Identifier: MIT
"""What the tests that run VMs have in common.

`make_vm` starts VMs of `ferry run` and ends them when the test does; `pair`
is the usual case: a busy guest here, a process that waits for it there.
"""

import os
import shutil
import subprocess
import tempfile
from pathlib import Path

import pytest

from ferryvm import Vm

GUEST = "cpus=2 mode=random mem=25% report=100"


def pytest_configure(config):
    config.addinivalue_line("markers", "sanitize: runs in the builds with "
                            "sanitizers, too, where there is less time")


@pytest.fixture(scope="session")
def build():
    return Path(os.environ.get("FERRY_BUILD", "build")).resolve()


@pytest.fixture(scope="session")
def ferry(build):
    return build / "ferry"


@pytest.fixture(scope="session")
def guest(build):
    return build / "guest" / "ferry-guest.elf"


@pytest.fixture
def kvm():
    if not os.access("/dev/kvm", os.R_OK | os.W_OK):
        pytest.skip("no access to /dev/kvm")


@pytest.fixture
def folder():
    """Short, as the path of a socket has to be."""
    path = tempfile.mkdtemp(prefix="ferry-vm-")
    yield path
    shutil.rmtree(path, ignore_errors=True)


@pytest.fixture
def make_vm(kvm, ferry, folder):
    vms = []

    def make(name, **how):
        how.setdefault("ram", "128M")
        vms.append(Vm(ferry, folder, name, **how))
        return vms[-1]

    yield make
    for vm in vms:
        vm.close()


@pytest.fixture
def pair(make_vm, guest):
    """(source with a busy guest, target that waits for it)"""
    def make(incoming="tcp:127.0.0.1:0", append=GUEST, **how):
        source = make_vm("a", kernel=guest, append=append, **how)
        target = make_vm("b", incoming=incoming, **how)
        source.serial.wait(lambda log: log.ready or log.dead)
        assert not source.log.dead
        return source, target
    return make


def check_pages(vm):
    """Every page of the guest's working set is right."""
    found = vm.serial.ask("v", "VERIFIED")
    assert found["bad"] == 0 and found["pages"] > 0, found.text
    said = vm.serial.ask("s", "SUMMARY")
    assert said["bad"] == 0, said.text
    return said


def sentence(text):
    """What a command said on stderr: one line, but for argp's hint where to
    read on."""
    lines = [line for line in text.splitlines()
             if not line.startswith("Try `ferry ")]
    assert len(lines) == 1, text
    assert lines[0].startswith("ferry"), text
    return lines[0]


HUGE = Path("/proc/sys/vm/nr_hugepages")


@pytest.fixture
def huge_pages():
    """Have so many free 2 MiB pages for the time of a test, or skip."""
    had = HUGE.read_text()

    def free():
        info = Path("/proc/meminfo").read_text()
        return int(info.split("HugePages_Free:")[1].split()[0])

    def reserve(pages):
        missing = pages - free()
        if missing > 0 and os.access(HUGE, os.W_OK):
            HUGE.write_text(str(int(had) + missing))
        if free() < pages:
            HUGE.write_text(had) if os.access(HUGE, os.W_OK) else None
            pytest.skip(f"{pages} huge pages of 2 MiB are not free (set "
                        "vm.nr_hugepages)")

    yield reserve
    if HUGE.read_text() != had:
        HUGE.write_text(had)


class Cli:
    """The ferry command, in the test's folder."""

    def __init__(self, ferry, folder):
        self.ferry, self.folder = str(ferry), folder
        self.started = []

    def start(self, *words, **how):
        how = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE,
               "stderr": subprocess.PIPE, **how}
        env = dict(os.environ, FERRY_RUNTIME_DIR=self.folder)
        self.started.append(subprocess.Popen([self.ferry, *words], env=env,
                                             **how))
        return self.started[-1]

    def __call__(self, *words, timeout=120):
        process = self.start(*words)
        out, err = process.communicate(timeout=timeout)
        return subprocess.CompletedProcess(words, process.returncode,
                                           out.decode(), err.decode())

    def close(self):
        for process in self.started:
            if process.poll() is None:
                process.kill()
            process.communicate()


@pytest.fixture
def cli(ferry, folder):
    commands = Cli(ferry, folder)
    yield commands
    commands.close()
