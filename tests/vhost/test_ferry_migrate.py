# SPDX-License-Identifier: MIT
"""A VM of `ferry run` moves, its network and its disk from backends here to
backends there.  The guest holds each block that it reads against what it wrote
last, counts answers of the network, and verifies its memory in the end."""

import contextlib
import fcntl
import math
import os
import socket
import struct
import time

import pytest

import qemu
from conftest import LIMIT_S, has
from ferryvm import QmpError
from masked import Masked, WITHOUT_FAULTS, WITHOUT_LOG
from proxy import Fuse, Road
from test_ferry_run import goes_on
from test_qemu import disk

BUSY = ("cpus=2 mode=random rate=4M mem=16M net=echo disk=8 report=100")
CRAWL = {"max-bandwidth": 100_000}
FULL_SPEED = {"max-bandwidth": 0, "x-ferry-background-push": True}
ASKED_ONLY = {"x-ferry-background-push": False}
LOST_MAX = 40                   # frames that were under way, at most
RINGS = pytest.mark.parametrize("words", [(), ["packed=on"]],
                                ids=["split", "packed"])


@pytest.fixture
def pair(backend, make_vm, folder):
    """A busy guest with a network and a disk, and a process that waits for it;
    both disks are one."""
    def make(words=(), incoming="tcp:127.0.0.1:0"):
        path = disk(folder)
        ends = {}
        for name in "ab":
            ends[name] = [backend("net", f"net-{name}", "--mode", "echo"),
                          backend("blk", f"disk-{name}", "--disk", path)]
        a = make_vm("a", [has(one, *words) for one in ends["a"]], BUSY)
        b = make_vm("b", [has(one, *words) for one in ends["b"]],
                    incoming=incoming)
        a.there, b.there, a.path, b.path = ends["a"], ends["b"], path, path
        goes_on(a, "NET", "got", 20)
        goes_on(a, "DISK", "reads", 20)
        return a, b

    return make


def is_right(vm, *others, lost=LOST_MAX):
    """It works, nothing was lost on the way but so many frames, and no backend
    found anything wrong."""
    goes_on(vm, "NET", "got", 20)
    goes_on(vm, "DISK", "reads", 200)
    found = vm.serial.ask("v", "VERIFIED")
    assert found["bad"] == 0 and found["pages"] > 0, found.text
    net, drive = vm.log.last("NET"), vm.log.last("DISK")
    assert net["bad"] == 0 and net["lost"] <= lost, net.text
    assert drive["bad"] == drive["errors"] == 0, drive.text
    for one in vm, *others:
        assert not one.log.bad and not one.log.all("DISKBAD")
    vm.serial.ask("q", "DONE")
    vm.wait_exit()
    for one in [*vm.there, *(o for vm in others for o in vm.there)]:
        if one.process.poll() is None:
            figures = one.end()
            assert figures["popped"] == figures["pushed"], one.said()
            assert not figures["broken"], one.said()
            one.at_end = figures


def arrived(a, b, **but):
    b.wait_migration("completed")
    a.wait_migration("completed")
    is_right(b, a, **but)


@RINGS
def test_precopy(pair, words):
    a, b = pair(words)
    a.migrate(b, "precopy", {"max-bandwidth": 1_000_000})
    a.wait_migration("active")
    goes_on(a, "DISK", "reads", 20)
    a.set(FULL_SPEED)
    arrived(a, b)
    for one in a.there:
        assert one.at_end["logged-pages"]


@RINGS
def test_postcopy(pair, words):
    a, b = pair(words)
    a.migrate(b, "postcopy", ASKED_ONLY)
    b.wait_migration("postcopy-active")
    goes_on(b, "NET", "got", 5)
    goes_on(b, "DISK", "reads", 5)
    a.set(FULL_SPEED)
    arrived(a, b)
    for one in b.there:
        assert one.at_end["waits"]


def goes(here, there, mode):
    """Also to a process that has had the VM."""
    if here.migration():
        there.serial.renew()
        there.log = there.serial.log
        there.qmp("migrate-incoming", uri="tcp:127.0.0.1:0")
    here.migrate(there, mode)
    for vm in there, here:
        vm.wait_migration("completed")


@pytest.mark.more
def test_there_and_back_and_there(pair):
    """A backend that has had a VM gets another one."""
    here, there = pair()
    for mode in "precopy", "postcopy", "postcopy":
        goes(here, there, mode)
        goes_on(there, "NET", "got", 20)
        goes_on(there, "DISK", "reads", 20)
        here, there = there, here
    is_right(here, there)


def test_a_link_that_is_lost_while_backends_wait(pair):
    a, b = pair()
    fuse = Fuse(b.address())
    a.migrate(fuse.uri, "postcopy", ASKED_ONLY)
    b.wait_migration("postcopy-active")
    goes_on(b, "DISK", "reads", 1)
    fuse.blow()
    while not a.qmp("query-migrate").get("x-ferry-recovery"):
        time.sleep(0.01)
    fuse.mend()
    a.set(FULL_SPEED)
    for vm in a, b:
        while vm.migration() != "completed":
            assert vm.migration() != "failed", vm.stderr()
            time.sleep(0.01)
    is_right(b, a)
    fuse.close()


def test_a_target_that_dies_at_the_switchover_leaves_all_at_home(pair):
    """Its queues stood already."""
    a, b = pair()
    road = Road(b.address())
    road.keep_loaded()
    a.migrate(road.uri, "precopy", CRAWL)
    a.wait_migration("active")
    a.set(FULL_SPEED)
    road.await_loaded()
    a.wait_migration("device")
    b.wait_migration("device")
    b.kill()
    a.wait_migration("failed")
    assert a.status() == "running"
    is_right(a)
    road.close()


RARP = 0x8035


@pytest.mark.parametrize("mode", ["precopy", "postcopy"])
def test_the_network_there_is_told_where_the_vm_is_now(
        backend, make_vm, folder, mode):
    """At the other end of the cable; the guest itself sends hardly anything."""
    name = str(folder / "cable")
    ports = [backend("net", "a", "--mode", "echo"),
             backend("net", "b", "--mode", f"switch:{name}")]
    mac = "02:00:00:00:12:34"
    a = make_vm("a", [has(ports[0], f"mac={mac}")],
                "cpus=1 mode=idle net=echo net_us=10000000 report=100")
    b = make_vm("b", [has(ports[1], f"mac={mac}")],
                incoming="tcp:127.0.0.1:0")
    a.serial.wait(lambda log: log.ready)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as cable:
        cable.bind(f"{name}.b")
        cable.settimeout(LIMIT_S)
        a.migrate(b, mode)
        for vm in b, a:
            vm.wait_migration("completed")
        frames = iter(lambda: cable.recv(2048), b"")
        told = next(f for f in frames
                    if int.from_bytes(f[12:14], "big") == RARP)
    own = bytes.fromhex(mac.replace(":", ""))
    assert told[:12] == b"\xff" * 6 + own
    assert told[20:28] == b"\0\3" + own       # asks who it is itself
    assert told[32:38] == own


@pytest.mark.parametrize("mode", ["precopy", "postcopy"])
def test_a_guest_that_can_announces_itself_once_each_time(
        backend, make_vm, mode):
    """And the backends are not told to do it."""
    ports = [backend("net", name, "--mode", "echo", "--verbose")
             for name in "ab"]
    a = make_vm("a", [has(ports[0])], "cpus=1 mode=idle net=echo net_us=10000 "
                "announce=1 report=100")
    b = make_vm("b", [has(ports[1])], incoming="tcp:127.0.0.1:0")
    goes_on(a, "NET", "got", 20)
    for times, (here, there) in enumerate([(a, b), (b, a)], 1):
        assert here.log.last("NET")["announced"] == times - 1
        goes(here, there, mode)
        there.serial.wait(lambda log: log.last("NET") and
                          log.last("NET")["announced"] == times)
        goes_on(there, "NET", "got", 20)
        assert there.log.last("NET")["announced"] == times
    for one in ports:
        assert "SET_VRING_ENABLE" in one.said()     # it tells of requests
        assert "SEND_RARP" not in one.said()


def without(end, what):
    """The same, but for what it offers."""
    return [Masked(one, what) for one in end]


@pytest.fixture
def lacking(backend, make_vm, folder):
    """Two VMs with a network each; what the backend of one lacks is said."""
    made = []

    def make(source, target):
        vms = []
        for name, lacks in ("a", source), ("b", target):
            port = backend("net", f"net-{name}", "--mode", "echo")
            made.append(Masked(port, lacks))
            how = {"append": "cpus=2 mode=idle net=echo report=100"} \
                if name == "a" else {"incoming": "tcp:127.0.0.1:0"}
            vms.append(make_vm(name, [has(made[-1])], **how))
        goes_on(vms[0], "NET", "got", 5)
        return vms

    yield make
    for one in made:
        one.close()


def test_a_backend_that_cannot_log_keeps_the_vm(lacking):
    a, b = lacking(WITHOUT_LOG, {})
    with pytest.raises(QmpError, match="net0 at .*LOG_SHMFD"):
        a.migrate(b)
    goes_on(a, "NET", "got", 5)


def test_a_backend_that_cannot_wait_prevents_postcopy_only(lacking):
    a, b = lacking({}, WITHOUT_FAULTS)
    a.migrate(b, "postcopy")
    why = a.wait_migration("failed")["error-desc"]
    assert "net0 at" in why and "PAGEFAULT" in why
    assert a.status() == "running"
    goes_on(a, "NET", "got", 5)


def test_a_target_with_other_pairs_of_queues_refuses_before_memory(
        backend, make_vm):
    ports = [backend("net", name, "--mode", "echo", "--pairs", "2")
             for name in "ab"]
    a = make_vm("a", [has(ports[0], "queues=2")],
                "cpus=2 mode=idle net=echo report=100")
    b = make_vm("b", [has(ports[1])], incoming="tcp:127.0.0.1:0")
    goes_on(a, "NET", "got", 5)
    a.migrate(b)
    why = a.wait_migration("failed")["error-desc"]
    assert "net,queues=2" in why and "net,queues=1" in why
    goes_on(a, "NET", "got", 5)


@pytest.mark.parametrize("there, megabytes, why", [
    (["--read-only"], 64, "sectors=131072,read-only"),
    ([], 32, "sectors=65536")])
def test_a_target_with_another_disk_refuses_before_memory(
        backend, make_vm, folder, there, megabytes, why):
    path = disk(folder)
    other = path if megabytes == 64 else folder / "small.img"
    with other.open("ab") as file:
        file.truncate(megabytes << 20)
    a = make_vm("a", [has(backend("blk", "a", "--disk", path))],
                "cpus=2 mode=idle disk=8 report=100")
    b = make_vm("b", [has(backend("blk", "b", "--disk", other, *there))],
                incoming="tcp:127.0.0.1:0")
    goes_on(a, "DISK", "reads", 20)
    a.migrate(b)
    said = a.wait_migration("failed")["error-desc"]
    assert why in said and "blk,queues=1,sectors=131072" in said, said
    goes_on(a, "DISK", "reads", 20)


def again(backend, vm, i):
    """The vm's backend number i is killed, and another one takes its place."""
    program, name, *words = (
        ("net", f"net-{vm.name}", "--mode", "echo"),
        ("blk", f"disk-{vm.name}", "--disk", vm.path))[i]
    vm.there[i].kill()
    return lambda: vm.there.__setitem__(i, backend(program, name, *words))


@RINGS
@pytest.mark.more
def test_a_source_whose_backends_die_and_come_back(backend, pair, words):
    a, b = pair(words)
    a.migrate(b, "precopy", CRAWL)
    a.wait_migration("active")
    for i in 0, 1:
        again(backend, a, i)()
    goes_on(a, "NET", "got", 20)
    goes_on(a, "DISK", "reads", 20)
    a.set(FULL_SPEED)
    arrived(a, b, lost=math.inf)


@RINGS
def test_a_backend_that_is_away_at_the_switchover(backend, pair, words):
    """What it had begun nobody knows."""
    a, b = pair(words)
    a.migrate(b, "precopy", CRAWL)
    a.wait_migration("active")
    start = again(backend, a, 1)
    a.set(FULL_SPEED)
    why = a.wait_migration("failed")["error-desc"]
    assert "blk1: its backend at" in why
    assert a.status() == "running"
    start()
    is_right(a)


@contextlib.contextmanager
def locked(path):
    """The disk is another's; once it is let go by the one that was killed."""
    with open(path, "r+b") as file:
        lock = struct.pack("hhqqi", fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0)

        def take():
            try:
                return fcntl.fcntl(file, fcntl.F_OFD_SETLK, lock)
            except BlockingIOError:
                return None

        qemu.wait_until("the lock", take, LIMIT_S)
        yield


@pytest.mark.parametrize("_", range(3))
def test_what_a_dead_backend_had_begun_is_done_before_the_vm_goes(
        backend, make_vm, folder, _):
    """Although its successor does not get the disk before the switchover.  A
    request at a time: if one is lost, nothing comes any more."""
    path = disk(folder)
    words = "blk", "disk-a", "--disk", path
    first = backend(*words)
    a = make_vm("a", [has(first)], "cpus=2 mode=idle disk=1 report=100")
    b = make_vm("b", [has(backend("blk", "disk-b", "--disk", path))],
                incoming="tcp:127.0.0.1:0")
    goes_on(a, "DISK", "reads", 50)
    first.kill()
    with locked(path):
        backend(*words)
        a.wait_said("is back")
        a.migrate(b, "precopy", {})
        time.sleep(1)
    for vm in b, a:
        vm.wait_migration("completed")
    goes_on(b, "DISK", "reads", 50)


@RINGS
@pytest.mark.parametrize("i", [
    pytest.param(0, marks=pytest.mark.more), 1])
def test_a_target_whose_backend_dies_in_postcopy(backend, pair, i, words):
    a, b = pair(words)
    a.migrate(b, "postcopy", ASKED_ONLY)
    b.wait_migration("postcopy-active")
    goes_on(b, "NET", "got", 5)
    goes_on(b, "DISK", "reads", 5)
    again(backend, b, i)()
    goes_on(b, "NET", "got", 5)
    goes_on(b, "DISK", "reads", 5)
    a.set(FULL_SPEED)
    arrived(a, b, lost=math.inf if i == 0 else LOST_MAX)


def test_a_vm_that_stays_in_halves_lets_its_backends_go(pair, folder):
    """Those at the target wait for pages that never come."""
    a, b = pair()
    road = Road(b.address())
    a.migrate(road.uri, "postcopy", ASKED_ONLY)
    b.wait_migration("postcopy-active")
    goes_on(b, "NET", "got", 1)
    road.close()
    for vm in b, a:
        vm.wait_migration("postcopy-paused")
        vm.qmp("x-ferry-rescue", filename=f"{folder}/{vm.name}.half")
        vm.close()
    for one in a.there + b.there:
        one.end()
