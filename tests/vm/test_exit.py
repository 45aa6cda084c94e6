# SPDX-License-Identifier: MIT
"""How `ferry run` ends, code by code: the table of ferry-run(1) is true.

2 is what no host could obey: it is said before anything is opened or made, and
so whatever else is wrong.  1 is what this host, this guest or this migration
could not do.
"""

import fcntl
import json
import os
import re
import signal
import socket
import threading
from pathlib import Path

import pytest

from conftest import check_pages, sentence

SOURCE = Path(__file__).resolve().parents[2]
GUEST = "cpus=1 mode=random mem=8M report=100"
NO_PUSH = {"x-ferry-background-push": False}


# ---- it does not begin ----------------------------------------------------------

RUNS = [
    # words, exit code, part of the sentence
    (["--ram", "0"], 2, "2 MiB or more"),
    (["--ram", "1"], 2, "not a multiple of 2 MiB"),
    (["--ram", "123456789"], 2, "not a multiple of 2 MiB"),
    (["--ram", "65G"], 2, "the most is 64 GiB"),
    (["--ram", "999999999999T"], 2, "more than any machine"),
    (["--ram", "-1M"], 2, "is no size"),
    (["--ram", "many"], 2, "is no size"),
    (["--vcpus", "0"], 2, "1 to 16"),
    (["--vcpus", "17"], 2, "1 to 16"),
    (["--vcpus", "-1"], 2, "no number of vCPUs"),
    (["--hugepages", "1G"], 2, "only 2M"),
    (["--cpu-mask", "warp-drive"], 2, "no CPU feature"),
    (["--serial", "pigeon"], 2, "none of null, stdio"),
    (["--serial", "file:"], 2, "none of null, stdio"),
    (["--serial", "unix:/" + 200 * "x"], 2, "too long"),
    (["--serial", "file:/nonexistent/x"], 1, "No such file"),
    (["--serial", "unix:/nonexistent/x"], 1, "No such file"),
    (["--name", "a b"], 2, "no name for a VM"),
    (["--name", "../a"], 2, "no name for a VM"),
    (["--name", ""], 2, "no name for a VM"),
    (["--qmp", ""], 2, "must have 1 to"),
    (["--qmp", "/" + 200 * "x"], 2, "must have 1 to"),
    (["--qmp", "/nonexistent/x"], 1, "No such file"),
    (["--qmp", "/dev/null"], 1, "File exists"),
    (["--set", "warp=9"], 2, "no parameter 'warp'"),
    (["--set", "downtime-limit=long"], 2, "is not a number"),
    (["--set", "downtime-limit"], 2, "name=value"),
    (["--initrd", "/nonexistent/initrd"], 1, "No such file"),
    (["--kernel", "/nonexistent/kernel"], 1, "No such file"),
    (["--kernel", "/etc/passwd"], 1, "not a kernel"),
    (["--incoming", "defer", "--kernel", "/etc/passwd"], 1, "not a kernel"),
    (["--incoming", "defer", "--initrd", "/nonexistent/initrd"], 1,
     "No such file"),
    (["--ram-path", "/proc/ram"], 1, "RAM in /proc/ram"),
    (["--ram-path", "/dev/shm/ram", "--shared"], 2, "neither --shared"),
    (["--hugepages", "2M", "--ram-path", "/dev/shm/ram"], 2,
     "nor --hugepages"),
    (["--warp"], 2, "unrecognized option"),
    (["word"], 2, "one word too many"),
    # Words come first.
    (["--kernel", "/nonexistent/kernel", "--vcpus", "17"], 2, "1 to 16"),
    (["--qmp", "/nonexistent/x", "--set", "warp=9"], 2, "no parameter"),
]


@pytest.mark.parametrize("words, code, reason", RUNS)
def test_what_makes_no_vm_is_refused(kvm, cli, guest, words, code, reason):
    done = cli("run", "--serial", "null", "--ram", "64M", "--kernel",
               str(guest), *words)
    assert done.returncode == code
    assert reason in sentence(done.stderr)


INCOMING = [
    ("", 2, "is none of"), ("tcp", 2, "is none of"),
    ("pigeon:loft", 2, "is none of"), ("tcp:1", 2, "no port"),
    ("tcp:127.0.0.1:99999", 2, "up to 65535"), ("tcp:[::1:5", 2, "without"),
    ("unix:", 2, "no path"), ("unix:/" + 200 * "x", 2, "at most 107"),
    ("fd:x", 2, "not the number"),
    ("file:/etc/hostname,offset=-1", 2, "offset"),
    ("fd:99", 1, "was not open"), ("unix:/nonexistent/x", 1, "No such file"),
    ("file:/nonexistent/x", 1, "No such file"), ("file:/", 1, "directory"),
    ("tcp:198.51.100.1:1", 1, "assign"),
]


@pytest.mark.parametrize("uri, code, reason", INCOMING)
def test_where_nobody_can_wait_is_refused(kvm, cli, uri, code, reason):
    done = cli("run", "--name", "b", "--serial", "null", "--ram", "64M",
               "--incoming", uri)
    assert done.returncode == code
    assert reason in sentence(done.stderr)


def test_a_vm_without_a_kernel_or_a_source_is_none(cli):
    done = cli("run", "--ram", "64M")
    assert done.returncode == 2
    assert "needs --kernel, or --incoming" in sentence(done.stderr)


# ---- it has begun ---------------------------------------------------------------

def power_off(source, target):
    source.serial.send("q")
    return source


def quit_it(source, target):
    source.qmp("quit")
    return source


def terminate(source, target):
    source.signal(signal.SIGTERM)
    return source


def hang_up(source, target):
    source.signal(signal.SIGHUP)
    return source


def quit_a_waiting_target(source, target):
    target.qmp("quit")
    return target


def quit_after_it_has_moved(source, target):
    source.migrate(target)
    source.wait_migration("completed")
    return quit_it(source, target)


def reboot_without_a_kernel(source, target):
    source.migrate(target)
    target.wait_migration("completed")
    target.serial.send("R")
    return target


def let_an_incoming_fail(source, target):
    host, port = target.address().rsplit(":", 2)[1:]
    with socket.create_connection((host, int(port))) as peer:
        peer.sendall(b"QEVM\0\0\0\3\7\0\0\0\12ferry-pc-1\0\0\0\0")
        while peer.recv(4096):
            pass
    return target


def twice(which):
    def end(source, target):
        source.migrate(target, "postcopy", NO_PUSH)
        target.wait_migration("postcopy-active")
        vm = (source, target)[which]
        vm.signal(signal.SIGTERM)
        while "a second signal" not in vm.stderr():
            assert vm.alive()
        vm.signal(signal.SIGTERM)
        return vm
    end.__name__ = ("source", "target")[which] + "_gets_a_second_signal"
    return end


ENDS = [
    (power_off, 0), (quit_it, 0), (terminate, 0), (hang_up, 0),
    (quit_a_waiting_target, 0), (quit_after_it_has_moved, 0),
    (reboot_without_a_kernel, 1), (let_an_incoming_fail, 1),
    (twice(0), 4), (twice(1), 4),
]


@pytest.mark.parametrize("end, code", ENDS,
                         ids=lambda p: getattr(p, "__name__", p))
def test_an_end_has_its_code(pair, end, code):
    source, target = pair(ram="64M", vcpus=1, append=GUEST)
    ended = end(source, target)
    assert ended.wait_exit() == code, ended.stderr()


# ---- RAM in a file --------------------------------------------------------------

@pytest.fixture
def ram_file():
    path = Path(f"/dev/shm/ferry-test-{os.getpid()}")
    yield path
    path.unlink(missing_ok=True)


def in_a_file(make_vm, guest, ram_file):
    source = make_vm("a", ram="64M", vcpus=1, kernel=guest, append=GUEST)
    target = make_vm("b", ram="64M", vcpus=1, incoming="tcp:127.0.0.1:0",
                     extra=["--ram-path", str(ram_file)])
    source.serial.wait(lambda log: log.ready)
    return source, target


def held(path):
    return path.stat().st_blocks * 512


def test_ram_in_a_file_goes_with_the_vm(make_vm, guest, ram_file):
    source, target = in_a_file(make_vm, guest, ram_file)
    assert held(ram_file) == 0
    source.migrate(target, "postcopy")
    target.wait_migration("completed")
    check_pages(target)
    assert held(ram_file) > 8 << 20
    target.qmp("quit")
    assert target.wait_exit() == 0
    assert not ram_file.exists()


def test_ram_in_a_file_outlives_a_killed_process(make_vm, guest, ram_file,
                                                 cli, tmp_path):
    """What had arrived is there; nobody writes over it by mistake."""
    source, target = in_a_file(make_vm, guest, ram_file)
    source.migrate(target, "postcopy", NO_PUSH)
    target.wait_migration("postcopy-active")
    target.serial.wait(lambda log: len(log.all("FERRY")) > 2)
    target.signal(signal.SIGKILL)
    target.wait_exit()
    assert 0 < held(ram_file) < 64 << 20
    done = cli("run", "--ram", "64M", "--kernel", str(guest), "--serial",
               "null", "--ram-path", str(ram_file))
    assert done.returncode == 1 and "it exists" in sentence(done.stderr)
    dump = tmp_path / "dump"
    with ram_file.open("r+b") as dying:     # its lock goes last
        fcntl.lockf(dying, fcntl.LOCK_EX)
        threading.Timer(0.5, fcntl.lockf, (dying, fcntl.LOCK_UN)).start()
        done = cli("rescue", "dump", "--json", str(ram_file), str(dump))
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["bytes"] == held(ram_file)
    assert dump.read_bytes() == ram_file.read_bytes()
    done = cli("rescue", "dump", str(ram_file), str(dump))
    assert done.returncode == 1 and "File exists" in sentence(done.stderr)


def test_ram_of_a_vm_that_lives_is_not_dumped(make_vm, guest, ram_file, cli,
                                              tmp_path):
    in_a_file(make_vm, guest, ram_file)
    done = cli("rescue", "dump", str(ram_file), str(tmp_path / "dump"))
    assert done.returncode == 1
    assert "of a VM that lives" in sentence(done.stderr)
    assert not (tmp_path / "dump").exists()


# ---- what is promised -----------------------------------------------------------

def codes_of_the_page():
    page = (SOURCE / "docs/man/ferry-run.1").read_text(encoding="utf-8")
    return [int(n) for n in re.findall(
        r"^\.It (\d)$", page.split(".Sh EXIT STATUS")[1].split(".El")[0],
        re.M)]


def test_the_page_and_help_list_the_codes_that_there_are(cli):
    there_are = {0} | {row[1] for row in (*RUNS, *INCOMING, *ENDS)}
    assert codes_of_the_page() == sorted(there_are)
    told = cli("run", "--help").stdout.split("Exit codes:")[1]
    assert [int(n) for n in re.findall(r"(?:^|;)\s*(\d)\b", told)] == \
        sorted(there_are)
