# SPDX-License-Identifier: MIT
"""Backends with a state of their own, which travels beside the VM's memory: a
disk that is its process' memory."""

import os
import subprocess

import pytest

from test_ferry_migrate import ASKED_ONLY, CRAWL, FULL_SPEED
from test_ferry_run import goes_on

DISK_BYTES = 64 << 20
BUSY = "cpus=2 mode=random rate=4M mem=16M disk=8 report=100"


@pytest.fixture
def pair(make_vm, folder):
    """Two VMs, each with a disk of examples/vhost-mem; the first one is
    busy."""
    disks = []

    def mem(name):
        path = f"{folder}/{name}.sock"
        # pylint: disable-next=consider-using-with
        disks.append(subprocess.Popen(
            [f"{os.environ['FERRY_BUILD']}/examples/vhost-mem", path]))
        return "--vhost-user-blk", path

    def make():
        a = make_vm("a", [mem("mem-a")], BUSY)
        b = make_vm("b", [mem("mem-b")], incoming="tcp:127.0.0.1:0")
        goes_on(a, "DISK", "reads", 500)
        return a, b

    yield make
    for one in disks:
        one.kill()
        one.wait()


def is_right(vm):
    goes_on(vm, "DISK", "reads", 3000)
    found = vm.serial.ask("v", "VERIFIED")
    assert found["bad"] == 0 and found["pages"] > 0, found.text
    drive = vm.log.last("DISK")
    assert drive["bad"] == drive["errors"] == 0, drive.text
    assert not vm.log.bad and not vm.log.all("DISKBAD")


@pytest.mark.parametrize("mode", ["precopy", "postcopy"])
def test_a_disk_in_a_backends_memory_moves_with_the_vm(pair, mode):
    a, b = pair()
    a.migrate(b, mode, ASKED_ONLY if mode == "postcopy" else {})
    if mode == "postcopy":
        b.wait_migration("postcopy-active")
        goes_on(b, "DISK", "reads", 50)
        a.set(FULL_SPEED)
    for vm in b, a:
        vm.wait_migration("completed")
    state, = b.qmp("query-migrate")["x-ferry-bulk"]
    assert state["name"] == "vhost-user" and state["state"] == "loaded", state
    assert state["downtime-bytes"] > DISK_BYTES
    is_right(b)


def test_a_state_that_is_on_its_way_is_not_lost_with_the_target(pair):
    a, b = pair()
    a.migrate(b, "precopy", CRAWL)
    a.wait_migration("active")
    a.set({"max-bandwidth": 16_000_000})
    a.wait_migration("device")
    b.kill()
    a.wait_migration("failed")
    assert a.status() == "running"
    is_right(a)
