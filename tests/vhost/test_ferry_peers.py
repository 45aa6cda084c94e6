# SPDX-License-Identifier: MIT
"""VMs of `ferry run` whose devices are others' backends: DPDK's testpmd, and
QEMU's storage daemon."""

import os
import shutil
import subprocess

import pytest

import qemu
from conftest import LIMIT_S
from test_ferry_migrate import ASKED_ONLY, FULL_SPEED
from test_ferry_run import goes_on
from test_qemu import disk

pytestmark = pytest.mark.more


@pytest.fixture
def started(folder):
    """Starts a program that makes a socket, whose path it returns."""
    made = []

    def make(name, *words):
        path = f"{folder}/{name}.sock"
        if not shutil.which(words[0]):
            pytest.skip(f"no {words[0]}")
        with open(f"{folder}/{name}.log", "wb") as log:
            # pylint: disable-next=consider-using-with
            made.append(subprocess.Popen(
                [w.replace("SOCKET", path) for w in words],
                stdin=subprocess.PIPE, stdout=log, stderr=log))
        qemu.wait_until(words[0], lambda: os.path.exists(path), LIMIT_S)
        return path

    yield make
    for one in made:
        one.kill()
        one.communicate()


def pmd(started, name):
    return "--vhost-user-net", started(
        name, "dpdk-testpmd", "-l", "0,1", "--no-huge", "--no-pci", "-m", "128",
        f"--file-prefix=ferry-{os.getpid()}-{name}", "--no-telemetry", "--vdev",
        "net_vhost0,iface=SOCKET,queues=1,postcopy-support=1", "--", "-i",
        "--no-mlockall", "--total-num-mbufs=4096", "--forward-mode=icmpecho",
        "--auto-start")


def daemon(started, name, path):
    return "--vhost-user-blk", started(
        name, "qemu-storage-daemon", "--blockdev",
        f"driver=file,node-name=f,filename={path},locking=off", "--export",
        "type=vhost-user-blk,id=e,node-name=f,addr.type=unix,addr.path=SOCKET,"
        "writable=on")


def move(make_vm, ends, word, mode):
    """It has a device at one end, and works with that at the other."""
    use = {"NET": "net=echo", "DISK": "disk=8"}[word]
    a = make_vm("a", ends[:1],
                f"cpus=2 mode=random rate=4M mem=16M {use} report=100")
    b = make_vm("b", ends[1:], incoming="tcp:127.0.0.1:0")
    goes_on(a, word, {"NET": "got", "DISK": "reads"}[word], 20)
    a.migrate(b, mode, ASKED_ONLY if mode == "postcopy" else {})
    if mode == "postcopy":
        b.wait_migration("postcopy-active")
        a.set(FULL_SPEED)
    for vm in b, a:
        vm.wait_migration("completed")
    goes_on(b, word, {"NET": "got", "DISK": "reads"}[word], 50)
    assert b.serial.ask("v", "VERIFIED")["bad"] == 0
    assert not b.log.bad and not b.log.all("DISKBAD")
    return b


@pytest.mark.parametrize("mode", ["precopy", "postcopy"])
def test_between_two_testpmds(started, make_vm, mode):
    move(make_vm, [pmd(started, name) for name in "ab"], "NET", mode)


@pytest.mark.parametrize("mode", ["precopy", "postcopy"])
def test_between_two_storage_daemons(started, make_vm, folder, mode):
    """In postcopy they answer with addresses that are not their own: the disk
    waits until that is over."""
    path = disk(folder)
    b = move(make_vm, [daemon(started, name, path) for name in "ab"], "DISK",
             mode)
    assert ("has our addresses in place of its own" in b.stderr()) == \
        (mode == "postcopy")
