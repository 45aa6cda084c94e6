# SPDX-License-Identifier: MIT
"""What the tests that run VMs have in common.

`make_vm` starts VMs of `ferry run` and ends them when the test does; `pair`
is the usual case: a busy guest here, a process that waits for it there.
"""

import os
import shutil
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
