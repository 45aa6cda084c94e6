# SPDX-License-Identifier: MIT
"""VMs of `ferry run` whose devices are others' backends: DPDK's testpmd, passt,
and QEMU's storage daemon; and testpmd as the front-end of a backend of ours."""

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

import qemu
from conftest import LIMIT_S
from test_ferry_migrate import ASKED_ONLY, FULL_SPEED
from test_ferry_run import goes_on
from test_qemu import disk

NEWER = Path(__file__).resolve().parents[2] / "scripts/newer"
TESTPMD = ("dpdk-testpmd", "-l", "0,1", "--no-huge", "--no-pci", "-m", "128",
           "--no-telemetry")


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
        qemu.wait_until(words[0], lambda: qemu.listens(path, made[-1].pid),
                        LIMIT_S)
        return path

    yield make
    for one in made:
        one.kill()
        one.communicate()


def pmd(started, name):
    return "--vhost-user-net", started(
        name, *TESTPMD, f"--file-prefix=ferry-{os.getpid()}-{name}", "--vdev",
        "net_vhost0,iface=SOCKET,queues=1,postcopy-support=1", "--", "-i",
        "--no-mlockall", "--total-num-mbufs=4096", "--forward-mode=icmpecho",
        "--auto-start")


def daemon(started, name, path):
    return "--vhost-user-blk", started(
        name, "qemu-storage-daemon", "--blockdev",
        f"driver=file,node-name=f,filename={path},locking=off", "--export",
        "type=vhost-user-blk,id=e,node-name=f,addr.type=unix,addr.path=SOCKET,"
        "writable=on")


def passt(started, name):
    """In a network of its own, where the guest's peer is that itself."""
    found = subprocess.run([NEWER, "passt"], text=True, capture_output=True,
                           check=False)
    if found.returncode == 77:
        pytest.skip(found.stderr.strip())
    assert found.returncode == 0, found.stderr
    if subprocess.run(["unshare", "--net", "true"], check=False).returncode:
        pytest.skip("no permission for a network of one's own")
    return "--vhost-user-net", started(
        name, "unshare", "--net", "sh", "-c", "ip link set lo up && "
        "echo 0 65535 >/proc/sys/net/ipv4/ping_group_range && exec \"$@\"",
        "sh", found.stdout.strip(), "--foreground", "--runas", "0", "--debug",
        "--vhost-user", "--socket", "SOCKET", "--ipv4-only", "--no-dhcp",
        "--address", "198.18.0.2", "--netmask", "255.255.255.0", "--gateway",
        "198.18.0.1", "--map-host-loopback", "198.18.0.1")


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


def test_between_two_passts(started, make_vm, folder):
    """They have no postcopy, and a state of their own."""
    a = make_vm("a", [passt(started, "a")],
                "cpus=2 mode=random rate=4M mem=16M net=echo report=100")
    b = make_vm("b", [passt(started, "b")], incoming="tcp:127.0.0.1:0")
    goes_on(a, "NET", "got", 20)
    a.migrate(b, "precopy", {})
    for vm in b, a:
        vm.wait_migration("completed")
    state, = b.qmp("query-migrate")["x-ferry-bulk"]
    assert state["name"] == "vhost-user" and state["state"] == "loaded", state
    goes_on(b, "NET", "got", 50)
    assert b.serial.ask("v", "VERIFIED")["bad"] == 0
    assert not b.log.bad


def virtio_user(folder, port, what, queues, forward):
    """How many frames testpmd received and sent by a backend of ours."""
    log = folder / "testpmd.log"
    with log.open("wb") as out, subprocess.Popen(
            [*TESTPMD, f"--file-prefix=ferry-{os.getpid()}-front", "--vdev",
             f"net_virtio_user0,path={port.socket},queues={queues},{what}",
             "--", "-i", "--no-mlockall", "--total-num-mbufs=8192",
             f"--rxq={queues}", f"--txq={queues}", "--auto-start",
             "--no-flush-rx",
             f"--forward-mode={forward}"],
            stdin=subprocess.PIPE, stdout=out, stderr=out) as front:
        try:
            qemu.wait_until("frames", lambda: port.look()["popped"] > 100_000,
                            LIMIT_S)
            front.communicate(b"stop\nquit\n", LIMIT_S)
        finally:
            front.kill()
    counts = [re.findall(rf"{way}-packets: (\d+)", log.read_text())
              for way in ("RX", "TX")]
    assert all(counts), log.read_text()[-2000:]
    return [int(one[-1]) for one in counts]


@pytest.mark.parametrize("what, queues", [
    ("packed_vq=0", 1), ("packed_vq=1", 1), ("mrg_rxbuf=0,in_order=0", 1),
    ("packed_vq=0", 2)])
def test_a_front_end_of_dpdk_sends_and_receives(backend, folder, what, queues):
    if not shutil.which(TESTPMD[0]):
        pytest.skip(f"no {TESTPMD[0]}")
    for mode, forward in ("txonly", "rxonly"), ("echo", "txonly"):
        port = backend("net", forward, "--mode", mode, "--pairs", str(queues))
        got, sent = virtio_user(folder, port, what, queues, forward)
        figures = port.end()
        assert figures["popped"] == figures["pushed"] > 100_000
        # Of each queue, what is in it when testpmd ends.
        assert abs(figures["popped"] - got - sent) <= 2 * 256 * queues
        assert not figures["broken"], port.said()
