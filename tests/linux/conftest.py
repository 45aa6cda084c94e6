# SPDX-License-Identifier: MIT
"""Two "hosts" with a cable between them; booted once, for all tests here."""

import shutil
import tempfile
from pathlib import Path

import pytest

import debian
import inside
from host import KVM, NETWORK, QEMU, Host, archive
from tsc import tsc_khz

USER = 1000             # in group kvm (36); 1001 is in none

ACCOUNTS = {
    "etc/passwd": b"root:x:0:0::/:/bin/sh\nuser:x:1000:36::/:/bin/sh\n",
    "etc/group": b"root:x:0:\nkvm:x:36:user\n",
}


def host_archive(path, address, guest, devices):
    """What a host runs, the guest's kernels among it."""
    tc = debian.need("tc", "iproute2")
    tools = {"bin/ferry": inside.built("ferry-static"),
             "bin/embed": inside.built("tests/linux/embed-static"),
             "usr/sbin/tc": Path(tc).read_bytes(),
             "address": address.encode(),
             "bin/ferry-vhost-net": inside.built("tests/linux/vhost-net-static"),
             "bin/ferry-vhost-blk": inside.built("tests/linux/vhost-blk-static"),
             "guest": guest.read_bytes(),
             "devices": devices.read_bytes(),
             "bzimage": debian.bzimage().read_bytes(),
             "vmlinux": debian.vmlinux().read_bytes(), **ACCOUNTS}
    return archive(path, KVM + NETWORK, tools, debian.libraries(tc))


@pytest.fixture(scope="session")
def hosts():
    """(one at 10.0.0.1, one at 10.0.0.2)"""
    debian.need(QEMU, "qemu-system-x86")
    folder = tempfile.mkdtemp(prefix="ferry-linux-")
    made, khz = [], tsc_khz()
    try:
        guest = inside.archive(Path(folder, "guest"))
        devices = inside.devices(Path(folder, "devices"))
        for number, server in enumerate(["on", "off"], 1):
            archive = host_archive(Path(folder, f"host{number}"),
                                   f"10.0.0.{number}", guest, devices)
            wire = (f"stream,server={server},addr.type=unix,"
                    f"addr.path={folder}/wire")
            made.append(Host(folder, f"host{number}", debian.bzimage(),
                             archive, khz, wire,
                             f"52:54:00:00:00:{number:02x}"))
            made[-1].reach()
        for host in made:
            host.booted()
        yield tuple(made)
    finally:
        for host in made:
            host.close()
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def here(hosts):
    return hosts[0]


@pytest.fixture
def there(hosts):
    return hosts[1]


@pytest.fixture(autouse=True)
def tidy(request):
    """What a test left in the hosts ends with it."""
    yield
    if "hosts" in request.fixturenames:
        for host in request.getfixturevalue("hosts"):
            host.clear()
