# SPDX-License-Identifier: MIT
"""Our backends with a QEMU as the front-end and Debian's Linux as the guest."""

import pytest

from conftest import blk, net


def goes_on(vm, *words, times=5):
    """Each of these counters moves on, and nothing went wrong."""
    for word in words:
        then = vm.log.last(word) + times
        vm.wait(word, lambda w=word, t=then: vm.log.last(w) >= t)
    assert "BAD" not in vm.log.text, vm.log.text[-3000:]


def with_reconnect(words):
    return [w + ",reconnect=1" if w.startswith("socket,") else w
            for w in words]


def disk(folder, megabytes=64):
    path = folder / "disk.img"
    with path.open("wb") as file:
        file.truncate(megabytes << 20)
    return path


def test_a_linux_has_a_network(backend, guest):
    port = backend("net", "net", "--mode", "echo")
    vm = guest("a", *net(port))
    goes_on(vm, "PING", times=20)
    vm.close()
    figures = port.end()
    assert figures["popped"] >= 40 and not figures["broken"], port.said()


@pytest.mark.parametrize("engine, layout", [
    ("io_uring", "packed=on"),
    pytest.param("cached", "packed=off", marks=pytest.mark.more),
    pytest.param("cached", "packed=on", marks=pytest.mark.more),
    pytest.param("preadv", "packed=on", marks=pytest.mark.more),
    pytest.param("preadv", "packed=off", marks=pytest.mark.more)])
def test_a_linux_has_a_disk(  # pylint: disable=too-many-arguments
        backend, guest, folder, engine, layout):
    path = disk(folder)
    drive = backend("blk", "disk", "--disk", path, "--engine", engine)
    vm = guest("a", *blk(drive, layout))
    goes_on(vm, "DISK")
    vm.close()
    figures = drive.end()
    assert figures["popped"] == figures["pushed"] and not figures["broken"]
    assert any(path.read_bytes()[:1 << 20])


def test_a_disk_that_is_killed_and_started_again_lost_nothing(
        backend, guest, folder):
    path = disk(folder)
    drive = backend("blk", "disk", "--disk", path)
    vm = guest("a", *with_reconnect(blk(drive)))
    for _ in range(2):
        goes_on(vm, "DISK", times=3)
        drive.kill()
        drive = backend("blk", "disk", "--disk", path)
    goes_on(vm, "DISK")
    vm.close()
    assert not drive.end()["broken"]


@pytest.mark.more
def test_a_network_that_is_killed_and_started_again_goes_on(backend, guest):
    port = backend("net", "net", "--mode", "echo")
    vm = guest("a", *with_reconnect(net(port)))
    goes_on(vm, "PING")
    port.kill()
    port = backend("net", "net", "--mode", "echo")
    goes_on(vm, "PING", times=10)
    vm.close()
    assert not port.end()["broken"]


@pytest.mark.more
def test_the_next_guest_is_served_when_one_is_killed(backend, guest, folder):
    path = disk(folder)
    drive = backend("blk", "disk", "--disk", path)
    vm = guest("a", *blk(drive))
    goes_on(vm, "DISK", times=2)
    vm.close()                  # kills it
    vm = guest("b", *blk(drive))
    goes_on(vm, "DISK", times=3)
    vm.close()
    assert drive.end()["connections"] == 2
