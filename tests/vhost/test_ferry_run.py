# SPDX-License-Identifier: MIT
"""VMs of `ferry run` with our backends.  The guest watches its network and its
disk, by polling, and tells what was lost."""

import subprocess
import os

import pytest

import qemu
from conftest import has
from masked import Masked, WITHOUT_PAIRS
from test_qemu import disk

BUSY = "cpus=2 mode=idle net=echo disk=8 report=100"


def goes_on(vm, word, key, times=100):
    """So many more of these were counted, and nothing was wrong."""
    vm.serial.wait(lambda log: log.last(word) or log.dead)
    assert not vm.log.dead, vm.log.dead
    then = vm.log.last(word)[key] + times
    vm.serial.wait(lambda log: log.last(word)[key] >= then, what=f"{word} {key}")
    for line in vm.log.last("NET"), vm.log.last("DISK"):
        assert not line or line["bad"] == 0, vm.log.all("DISKBAD")[:3]


def says_more(vm, word):
    """What it said before is read: behind that, what it counts is new."""
    had = len(vm.log.all(word))
    vm.serial.wait(lambda log: len(log.all(word)) >= had + 2)


def ends_well(vm, *backends):
    """Its guest is content, and its backends gave back all that they took."""
    vm.serial.ask("q", "DONE")
    vm.wait_exit()
    assert not vm.log.bad and not vm.log.all("DISKBAD")
    for one in backends:
        figures = one.end()
        assert figures["popped"] == figures["pushed"] > 0
        assert not figures["broken"], one.said()


@pytest.mark.parametrize("engine", ["auto", "cached", "io_uring", "preadv"])
def test_a_guest_has_a_network_and_a_disk(backend, make_vm, folder, engine):
    port = backend("net", "net", "--mode", "echo")
    drive = backend("blk", "disk", "--disk", disk(folder), "--engine", engine)
    vm = make_vm("a", [has(port), has(drive)], BUSY)
    goes_on(vm, "NET", "got")
    goes_on(vm, "DISK", "reads")
    goes_on(vm, "DISK", "writes")
    ends_well(vm, port, drive)


def test_frames_flow_both_ways_as_fast_as_they_can(backend, make_vm):
    port = backend("net", "net", "--mode", "txonly")
    vm = make_vm("a", [has(port, "packed=on")],
                 "cpus=2 mode=idle net=flood report=100")
    goes_on(vm, "NET", "done", 2000)
    goes_on(vm, "NET", "foreign", 2000)
    assert vm.log.last("NET")["jumps"] == 0
    ends_well(vm, port)


def test_a_vm_that_is_paused_or_reset_finds_its_devices_again(
        backend, make_vm, folder):
    port = backend("net", "net", "--mode", "echo")
    drive = backend("blk", "disk", "--disk", disk(folder))
    vm = make_vm("a", [has(drive), has(port)], BUSY)
    goes_on(vm, "DISK", "reads")
    for _ in range(3):
        vm.qmp("stop")
        vm.qmp("cont")
        goes_on(vm, "DISK", "reads", 20)
        goes_on(vm, "NET", "got", 20)
    vm.serial.renew()
    vm.qmp("system_reset")
    # Its first words may stand behind half a line of before.
    vm.serial.wait(lambda log: log.ready)
    vm.serial.renew()
    vm.log = vm.serial.log
    goes_on(vm, "DISK", "reads")
    goes_on(vm, "NET", "got")
    ends_well(vm, port, drive)


@pytest.mark.parametrize("words", [
    pytest.param((), marks=pytest.mark.more), ["packed=on"]])
def test_backends_that_are_killed_and_started_again_lost_nothing(
        backend, make_vm, folder, words):
    path = disk(folder)
    port = backend("net", "net", "--mode", "echo")
    drive = backend("blk", "disk", "--disk", path)
    vm = make_vm("a", [has(port, *words), has(drive, *words)], BUSY)
    for _ in range(2):
        goes_on(vm, "DISK", "reads")
        goes_on(vm, "NET", "got", 20)
        for one in port, drive:
            one.kill()
        assert vm.status() == "running"
        port = backend("net", "net", "--mode", "echo")
        drive = backend("blk", "disk", "--disk", path)
        says_more(vm, "NET")
    goes_on(vm, "DISK", "reads")
    goes_on(vm, "NET", "got", 20)
    vm.wait_said("the backend closed the connection")
    ends_well(vm, port, drive)


@pytest.mark.parametrize("words", [(), ["packed=on"]])
def test_no_answer_is_lost_with_a_network_that_is_started_again(
        backend, make_vm, words):
    """What the guest sent meanwhile waited."""
    port = backend("net", "net", "--mode", "echo")
    vm = make_vm("a", [has(port, *words)], "cpus=2 mode=idle net=echo report=50")
    for _ in range(5):
        goes_on(vm, "NET", "got", 20)
        port.kill()
        says_more(vm, "NET")
        port = backend("net", "net", "--mode", "echo")
        says_more(vm, "NET")
    goes_on(vm, "NET", "got", 20)
    # What was between the two queues of one that was killed is gone.
    assert vm.log.last("NET")["lost"] <= 5 * 8
    ends_well(vm, port)


def test_a_disk_that_another_has_is_waited_for(backend, make_vm, folder):
    path = disk(folder)
    first, second, third = (backend("blk", name, "--disk", path)
                            for name in ("first", "second", "third"))
    one, two, three = (make_vm(drive.log.stem, [has(drive)],
                               "cpus=2 mode=idle disk=8 report=100")
                       for drive in (first, second, third))
    goes_on(one, "DISK", "reads", 20)
    for vm, drive in (two, second), (three, third):
        qemu.wait_until("that it waits", lambda drive=drive:
                        "another process has it open" in drive.said())
        assert vm.log.last("DISK")["reads"] == 0
    assert third.end()["popped"] == 0       # it need not have had its turn
    ends_well(one, first)
    goes_on(two, "DISK", "reads", 20)
    ends_well(two, second)
    three.qmp("quit")
    three.wait_exit()


def test_sixteen_devices_are_found(backend, make_vm, folder):
    drives = [backend("blk", f"d{i}", "--disk", disk(folder)) for i in range(2)]
    ports = [backend("net", f"n{i}", "--mode", "echo") for i in range(14)]
    vm = make_vm("a", [has(one) for one in ports + drives], BUSY)
    goes_on(vm, "DISK", "reads", 20)
    goes_on(vm, "NET", "got", 20)
    ends_well(vm, ports[0], drives[0])


def test_each_pair_has_a_queue_of_a_tap(backend, make_vm):
    alone = ["unshare", "--net"]
    if not os.access("/dev/net/tun", os.R_OK | os.W_OK) or \
            subprocess.run([*alone, "true"], check=False).returncode:
        pytest.skip("no taps, or no permission for a network of one's own")
    port = backend("net", "net", "--mode", "tap:t0", "--pairs", "3",
                   before=alone)
    vm = make_vm("a", [has(port, "queues=3")], BUSY.replace(" disk=8", ""))
    vm.serial.wait(lambda log: log.last("NET") and log.last("NET")["sent"])
    vm.serial.ask("q", "DONE")
    vm.wait_exit()
    assert not port.end()["broken"], port.said()


def refusal(*words):
    done = subprocess.run(
        [os.environ["FERRY"], "run", "--kernel", os.environ["FERRY_GUEST"],
         *words], capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode in (1, 2)
    assert done.stderr.startswith("ferry")
    return done.stderr


def test_more_pairs_than_the_backend_has_are_a_sentence(backend):
    port = backend("net", "net", "--mode", "echo", "--pairs", "2")
    said = refusal(*has(port, "queues=3"))
    assert f"net0: the backend at {port.socket} has 4 queues, queues=3 takes 6" in said
    with Masked(port, WITHOUT_PAIRS) as less:
        said = refusal(*has(less, "queues=2"))
        assert "VIRTIO_NET_F_MQ" in said and less.socket in said


@pytest.mark.parametrize("words, why", [
    (["--vhost-user-net", "/nowhere/net.sock"], "/nowhere/net.sock"),
    (["--vhost-user-net", ",mac=02:00:00:00:00:01"], "no path"),
    (["--vhost-user-net", "/x,mac=01:00:00:00:00:01"], "is not a MAC"),
    (["--vhost-user-net", "/x,mac= 2:00:00:00:00:01"], "is not a MAC"),
    (["--vhost-user-net", "/x,mac=02:00:00:00:00: 1"], "is not a MAC"),
    (["--vhost-user-net", "/x,mac=02:00:00:00:00:01:"], "is not a MAC"),
    (["--vhost-user-net", "/x,mac=02-00-00-00-00-01"], "is not a MAC"),
    (["--vhost-user-net", "/x,mac=00:00:00:00:00:00"], "is not a MAC"),
    (["--vhost-user-blk", "/x,mac=02:00:00:00:00:01"], "none of queues="),
    (["--vhost-user-blk", "/x,queues=17"], "queues=17"),
    (["--vhost-user-net", "/x,queues=9"], "queues=9"),
    (["--vhost-user-net", "/x,queues=0"], "queues=0"),
    (["--vhost-user-blk", "/x", "--vhost-user-net", "/x"], "there twice"),
    (["--vhost-user-blk", "/x"] * 17, "more than 16"),
])
def test_wrong_words_are_a_sentence(words, why):
    assert why in refusal(*words)
