# SPDX-License-Identifier: MIT
"""The serial port: out and in by every way, and not an octet lost or said
twice when the VM moves."""

import os
import re
import subprocess
import time

import pytest

from conftest import check_pages
from ferryvm import connect
from guestlog import GuestLog

GUEST = "cpus=1 mode=random mem=4M report=50"


def read_until(read, test, timeout=60):
    """What was read until test(text) is true."""
    deadline = time.monotonic() + timeout
    text = ""
    while not test(text):
        assert time.monotonic() < deadline, text[-500:]
        text += read()
    return text


def test_a_file_takes_what_is_said(make_vm, guest, folder):
    path = f"{folder}/serial"
    make_vm("a", ram="64M", vcpus=1, kernel=guest, append=GUEST,
            serial=f"file:{path}")
    while not os.path.exists(path):
        time.sleep(0.01)
    with open(path) as said:
        text = read_until(lambda: (time.sleep(0.02), said.read())[1],
                          lambda text: text.count("FERRY ") > 3)
    assert re.search(r"^READY pages=\d+ cpus=1 mode=random", text, re.M)


def test_stdio_goes_both_ways(kvm, ferry, guest, folder):
    env = dict(os.environ, FERRY_RUNTIME_DIR=folder)
    vm = subprocess.Popen([ferry, "run", "--name", "a", "--ram", "64M",
                           "--kernel", guest, "--append", GUEST], env=env,
                          stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    try:
        def read():
            return os.read(vm.stdout.fileno(), 4096).decode()

        read_until(read, lambda text: "FERRY " in text)
        os.write(vm.stdin.fileno(), b"v")
        read_until(read, lambda text: "VERIFIED pages=1024 bad=0" in text)
        vm.stdin.close()            # the guest goes on without input
        read_until(read, lambda text: text.count("FERRY ") > 2)
    finally:
        vm.terminate()
        assert vm.wait(60) == 0
        vm.stdout.close()


def test_nothing_is_heard_of_null(make_vm, guest):
    vm = make_vm("a", ram="64M", vcpus=1, kernel=guest, append=GUEST,
                 serial="null")
    assert vm.status() == "running"
    assert vm.qmp("x-ferry-heartbeat")["beats"] >= 0


def test_who_connects_later_hears_from_then_on(make_vm, guest):
    vm = make_vm("a", ram="64M", vcpus=1, kernel=guest, append=GUEST)
    vm.serial.wait(lambda log: log.last("FERRY"))
    vm.serial.close()
    vm.serial = None
    for _ in range(2):
        sock = connect(vm.serial_path)
        sock.settimeout(30)
        text = read_until(lambda: sock.recv(4096).decode(),
                          lambda text: text.count("FERRY ") > 1)
        assert "READY" not in text
        sock.sendall(b"v")
        read_until(lambda: sock.recv(4096).decode(),
                   lambda text: "VERIFIED pages=1024 bad=0" in text)
        sock.close()


def test_a_reader_that_stops_does_not_stop_the_guest(make_vm, guest):
    vm = make_vm("a", ram="64M", vcpus=1, kernel=guest,
                 append=GUEST.replace("report=50", "report=10"))
    vm.serial.wait(lambda log: log.last("FERRY"))
    vm.serial.close()
    vm.serial = None
    deaf = connect(vm.serial_path)      # never reads
    time.sleep(1.5)
    then = time.clock_gettime_ns(time.CLOCK_MONOTONIC)
    deadline = time.monotonic() + 60
    while vm.qmp("x-ferry-heartbeat")["last-ns"] < then:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    deaf.close()


LINES = re.compile(
    r"(WARN .*|MAP page=\d+ addr=0x[0-9a-f]+ pages=\d+"
    r"|INIT pages=\d+ total=\d+"
    r"|READY pages=\d+ cpus=\d+ mode=\w+ tsc_khz=\d+ avx=[01]"
    r"|FERRY t=\d+\.\d+ iter=\d+ pages=\d+ mbps=\d+ gap_us=\d+ bad=0 "
    r"tsc_back=\d+"
    r"|HIST( [<>]=?\d+us:\d+)+)")


@pytest.mark.sanitize
def test_the_line_goes_on_at_the_target(make_vm, guest):
    """The stream is whole over many moves: every line has its form, and time
    and iterations only grow."""
    log = GuestLog()
    here = make_vm("m0", ram="64M", vcpus=1, kernel=guest,
                   append=GUEST.replace("report=50", "report=10"), log=log)
    here.serial.wait(lambda log: log.last("FERRY"))
    text = b""
    for i, mode in enumerate(["precopy", "postcopy"] * 4, 1):
        there = make_vm(f"m{i}", ram="64M", vcpus=1,
                        incoming="tcp:127.0.0.1:0", log=log)
        here.migrate(there, mode)
        here.wait_migration("completed")
        there.wait_migration("completed")
        here.close()                # all it had to say is in its .raw
        text += here.serial.raw
        here = there
        count = len(here.log.lines)
        here.serial.wait(lambda log: len(log.lines) > count + 3)
    check_pages(here)
    assert text.endswith(b"\n") or b"\n" in text
    lines = text.decode("ascii").replace("\r", "").split("\n")[:-1]
    for line in lines:
        assert LINES.fullmatch(line), line
    times = [float(line.split()[1][2:]) for line in lines
             if line.startswith("FERRY")]
    assert times == sorted(times) and len(times) == len(set(times))


def test_what_is_typed_while_it_moves_arrives(pair):
    """Typed at the source before the VM left, or at the target before it
    came: each letter is answered once."""
    source, target = pair(ram="64M")
    source.migrate(target, "precopy", {"max-bandwidth": 1_000_000})
    source.wait_migration("active")
    source.serial.ask("v", "VERIFIED")
    target.serial.send("v")
    source.set({"max-bandwidth": 0})
    source.wait_migration("completed")
    target.serial.wait(lambda log: log.last("VERIFIED"))
