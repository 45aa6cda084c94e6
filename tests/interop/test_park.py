# SPDX-License-Identifier: MIT
"""QEMU's migrations end in an image that holds what the VM had."""

import os
import select
import socket
import subprocess
import time

import pytest

import qemu
from ferryvm import Vm
import steps
from steps import (assert_same_ram, await_tidy, capabilities, ended, ram_of,
                   start_postcopy)

# Without AVX: see test_guest_migration.py.
GUEST = "cpus=2 mode=random mem=25% report=100 avx=0"
RAM_MB = 128


@pytest.fixture
def source(folder):
    """A QEMU with a busy guest."""
    qemu.require()
    with qemu.Qemu(folder, "a", GUEST, ram_mb=RAM_MB) as vm:
        vm.wait_line("READY")
        yield vm


def migrate(vm, one):
    one.wait_listening()
    steps.migrate(vm, one.uri)
    end = ended(vm, "completed", "failed", "cancelled")
    assert end == "completed", one.wait()


def same_memory(vm, one, folder):
    """What the stopped source has in RAM is in the image."""
    assert_same_ram(one.cat("pc.ram"), ram_of(vm, folder, RAM_MB))


def check_parked(vm, one, folder):
    code, said = one.wait()
    assert code == 0, said
    same_memory(vm, one, folder)
    assert not os.path.exists(f"{one.image}.part")


MODES = {
    # capabilities, options of park, parameters
    "precopy": (["return-path"], [], {}),
    "precopy-one-way": ([], [], {}),
    "precopy-zstd": (["return-path"], ["--zstd"], {}),
    "multifd": (["return-path", "multifd"], ["--multifd=3"],
                {"multifd-channels": 3}),
    "multifd-zlib": (["return-path", "multifd"], ["--multifd=2"],
                     {"multifd-compression": "zlib",
                      "downtime-limit": 100000}),
    "multifd-zstd": (["return-path", "multifd"], ["--multifd=2"],
                     {"multifd-compression": "zstd",
                      "downtime-limit": 100000}),
    "xbzrle": (["return-path", "xbzrle"], [],
               {"xbzrle-cache-size": 64 << 20}),
}


@pytest.mark.parametrize("mode", MODES)
def test_a_guest_that_runs_is_parked_in_precopy(source, park, folder, mode):
    caps, options, parameters = MODES[mode]
    one = park(*options)
    capabilities(source, *caps)
    source.qmp("migrate-set-parameters", **{"max-bandwidth": 1 << 30,
                                            "downtime-limit": 1000,
                                            **parameters})
    migrate(source, one)
    check_parked(source, one, folder)


@pytest.mark.parametrize("options", [[], ["--preempt"]], ids=["plain",
                                                              "preempt"])
def test_a_guest_that_runs_is_parked_in_postcopy(source, park, folder,
                                                 options):
    one = park(*options)
    capabilities(source, "postcopy-ram",
                 *["postcopy-preempt"] * len(options))
    one.wait_listening()
    start_postcopy(source, one.uri)
    ended(source, "completed")
    check_parked(source, one, folder)


# ---- ferry as the source ----------------------------------------------------


@pytest.fixture
def ferry_source(folder):
    """`ferry run` with a busy guest."""
    qemu.require()
    vm = Vm(os.environ["FERRY"], str(folder), "f",
            kernel=os.environ["FERRY_GUEST"], append=GUEST, ram="128M")
    vm.serial.wait(lambda log: log.ready or log.dead)
    yield vm
    vm.close()


def ferry(folder, *words):
    return subprocess.run(
        [os.environ["FERRY"], *words], text=True, timeout=150,
        env=dict(os.environ, FERRY_RUNTIME_DIR=str(folder)), check=False,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT)


@pytest.mark.sanitize
@pytest.mark.parametrize("how", ["--precopy", "--postcopy"])
def test_a_vm_of_ferry_is_parked_and_goes_on_elsewhere(ferry_source, park,
                                                       folder, how):
    one = park()
    one.wait_listening()
    done = ferry(folder, "migrate", how, "f", one.uri)
    assert done.returncode == 0, done.stdout
    code, said = one.wait()
    assert code == 0, said
    assert b"block pc.ram 134217728 4096" in one.cat()
    assert b"fact vcpus" in one.cat()

    there = Vm(os.environ["FERRY"], str(folder), "g", ram="128M",
               incoming=f"unix:{folder}/g.in")
    try:
        qemu.wait_until("it waits", lambda: qemu.listens(f"{folder}/g.in"))
        done = ferry(folder, "serve", str(one.image), f"unix:{folder}/g.in")
        assert done.returncode == 0, done.stdout
        found = there.serial.ask("v", "VERIFIED")
        assert found["bad"] == 0 and found["pages"] > 0, found.text
    finally:
        there.close()


# ---- what goes wrong --------------------------------------------------------


def lives(vm):
    """It runs where it was, and its memory is right."""
    vm.wait("it goes on", lambda: vm.qmp("query-status")["running"])
    assert vm.verify()["bad"] == 0


def nothing_left(one):
    return not os.path.exists(one.image) and \
        not os.path.exists(f"{one.image}.part")


def start_slowly(vm, one, *caps):
    capabilities(vm, "return-path", *caps)
    vm.qmp("migrate-set-parameters", **{"max-bandwidth": 1 << 20,
                                        "downtime-limit": 1})
    one.wait_listening()
    vm.qmp("migrate", uri=one.uri)
    vm.wait("pages", lambda: vm.qmp("query-migrate").get("ram", {}).get(
        "transferred", 0) > 1 << 20)


@pytest.mark.sanitize
def test_an_image_that_exists_is_not_written_over(park, folder):
    qemu.require()
    (folder / "vm").write_text("mine")
    code, said = park().wait()
    assert code == 1 and "exists; remove it or choose another name" in said
    assert (folder / "vm").read_text() == "mine"


@pytest.mark.sanitize
def test_two_parks_into_one_image_are_one_too_many(park, folder):
    one = park()
    one.wait_listening()
    code, said = park(uri=f"unix:{folder}/other").wait()
    assert code == 1 and "another process is parking a VM in" in said
    one.process.terminate()
    code, said = one.wait()
    assert code == 1 and nothing_left(one), said


def test_who_is_told_to_stop_leaves_the_vm_at_the_source(source, park):
    one = park()
    start_slowly(source, one)
    one.process.terminate()
    code, said = one.wait()
    assert code == 1 and "the VM is at the source" in said
    assert nothing_left(one)
    ended(source, "failed")
    lives(source)


def test_after_a_source_that_gave_up_the_next_is_taken(source, park, folder):
    one = park()
    start_slowly(source, one)
    source.qmp("migrate_cancel")
    ended(source, "cancelled")
    source.qmp("migrate-set-parameters", **{"max-bandwidth": 1 << 30,
                                            "downtime-limit": 1000})
    migrate(source, one)
    check_parked(source, one, folder)


def test_a_park_that_is_killed_leaves_no_image(source, park):
    one = park()
    start_slowly(source, one)
    one.process.kill()
    one.wait()
    assert not os.path.exists(one.image)
    ended(source, "failed")
    lives(source)


def test_multifd_that_was_not_announced_is_refused(source, park):
    one = park()
    capabilities(source, "return-path", "multifd")
    one.wait_listening()
    source.qmp("migrate", uri=one.uri)
    ended(source, "failed")
    one.process.terminate()
    code, said = one.wait()
    assert code == 1 and "say --multifd, as at the source" in said
    lives(source)


@pytest.fixture
def small_disk(folder):
    """A file system of 40 MiB."""
    path = folder / "disk"
    path.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=40m", "none",
                              path], check=False, capture_output=True)
    if mounted.returncode:
        pytest.skip("a tmpfs cannot be mounted here")
    yield path
    subprocess.run(["umount", "-l", path], check=True)


@pytest.mark.parametrize("caps", [["return-path"], []],
                         ids=["return-path", "one-way"])
def test_a_full_disk_leaves_the_vm_at_the_source(folder, small_disk, park,
                                                 caps):
    qemu.require()
    with qemu.Qemu(folder, "a", "cpus=1 mode=random mem=80% report=100 avx=0",
                   ram_mb=RAM_MB) as vm:
        vm.wait_line("READY")
        one = park("--once", name="disk/vm", uri=f"unix:{folder}/s")
        capabilities(vm, *caps)
        one.wait_listening()
        vm.qmp("migrate", uri=one.uri)
        ended(vm, "failed")
        code, said = one.wait()
        assert code == 1 and "no room left" in said, said
        assert nothing_left(one)
        lives(vm)


# Streams that are none, and streams that end.
STRANGERS = {
    "nothing": b"",
    "text": b"GET / HTTP/1.0\r\n\r\n",
    "half a header": b"QEVM\0\0",
    "another version": b"QEVM\0\0\0\2" + bytes(16),
    "a recovery": b"\x08\0\x0a\0" + bytes(16),
}


@pytest.mark.sanitize
@pytest.mark.parametrize("what", STRANGERS)
def test_a_stranger_does_not_disturb_the_wait(park, what):
    one = park()
    one.wait_listening()
    with socket.socket(socket.AF_UNIX) as stranger:
        stranger.connect(one.uri.removeprefix("unix:"))
        stranger.sendall(STRANGERS[what])
    time.sleep(0.2)
    assert one.process.poll() is None
    one.process.terminate()
    assert one.wait()[0] == 1
    assert nothing_left(one)


# ---- there and back ---------------------------------------------------------


@pytest.mark.parametrize("how", ["precopy", "postcopy"])
def test_a_parked_guest_goes_on_in_a_qemu(source, park, folder, how):
    one = park()
    capabilities(source, "return-path")
    source.qmp("migrate-set-parameters", **{"max-bandwidth": 1 << 30,
                                            "downtime-limit": 1000})
    migrate(source, one)
    check_parked(source, one, folder)
    with qemu.Qemu(folder, "b", GUEST, ram_mb=RAM_MB,
                   args=["-incoming", "defer"]) as there:
        if how == "postcopy":
            capabilities(there, "postcopy-ram")
        there.qmp("migrate-incoming", uri=f"unix:{folder}/b.in")
        done = ferry(folder, "serve", str(one.image), f"unix:{folder}/b.in",
                     *["--precopy"] * (how == "precopy"))
        assert done.returncode == 0, done.stdout
        there.wait("it runs", lambda: there.qmp("query-status")["running"])
        assert there.verify()["bad"] == 0 and not there.log.bad


# ---- a source that leaves ---------------------------------------------------

OPEN_RETURN_PATH = b"\x08\0\1\0\0"
SHUT = b"\0\1\0\4\0\0\0\0"


@pytest.fixture
def stream(folder):
    """What a QEMU with a return path says in precopy."""
    qemu.require()
    path = folder / "stream"
    with qemu.Qemu(folder, "a", "cpus=1 mode=random mem=25% report=100 avx=0",
                   ram_mb=16) as vm:
        vm.wait_line("READY")
        vm.qmp("migrate", uri=f"exec:cat > {path}")
        ended(vm, "completed")
        await_tidy(vm)          # only then has cat written all of it
    said = path.read_bytes()
    config = 8 + 1 + 4 + int.from_bytes(said[9:13], "big")
    return said[:config] + OPEN_RETURN_PATH + said[config:]


def connect(one):
    sock = socket.socket(socket.AF_UNIX)

    def attempt():
        try:
            sock.connect(one.uri.removeprefix("unix:"))
        except (FileNotFoundError, ConnectionRefusedError):
            assert one.process.poll() is None
            return False
        return True

    qemu.wait_until("it listens", attempt)
    return sock


def say(one, data):
    """True when all of it was taken."""
    sock = connect(one)
    try:
        sock.sendall(data)
        return sock
    except (BrokenPipeError, ConnectionResetError):
        return sock


def test_a_source_that_is_cut_off_anywhere_keeps_its_vm(stream, park):
    one = park()
    tail = len(stream) - 20000
    places = [*range(0, 60, 6), *range(60, tail, tail // 20),
              *range(tail, len(stream), 997), len(stream) - 1]
    for at in places:
        before = one.said()
        say(one, stream[:at]).close()
        qemu.wait_until("it was noticed", lambda: one.said() != before)
        assert one.process.poll() is None
        assert not os.path.exists(one.image)
    with say(one, stream) as sock:
        assert sock.recv(100) == SHUT
    code, said = one.wait()
    assert code == 0, said
    assert len(one.cat("pc.ram")) == 16 << 20


def test_a_source_that_does_not_read_shut_leaves_an_image_in_doubt(stream,
                                                                   park):
    one = park("--once")
    with say(one, stream) as sock:
        assert select.select([sock], [], [], 60)[0]
    code, said = one.wait()
    assert code == 3 and ".undecided; rename that only if" in said
    assert not os.path.exists(one.image)
    assert os.path.exists(f"{one.image}.undecided")


def test_until_the_source_has_heard_the_image_is_undecided(stream, park):
    """Whoever kills park then leaves neither a second VM nor none."""
    one = park("--once")
    with say(one, stream) as sock:
        assert sock.recv(100) == SHUT
        assert not os.path.exists(one.image)
        one.process.kill()
        one.wait()
    assert nothing_left(one)
    aside = f"{one.image}.undecided"
    found = subprocess.run([os.environ["FERRY_IMAGE_CAT"], aside, "pc.ram"],
                           check=True, stdout=subprocess.PIPE).stdout
    assert len(found) == 16 << 20
    code, said = park().wait()
    assert code == 1 and ".undecided exists: if its VM runs at the" in said
    assert os.path.exists(aside)


def test_a_source_that_leaves_at_the_end_has_no_second_vm(stream, park):
    for _ in range(5):
        one = park("--once")
        say(one, stream).close()
        code, said = one.wait()
        assert not os.path.exists(one.image), said
        assert code in (1, 3)
        if code == 3:
            os.remove(f"{one.image}.undecided")


def hear(sock):
    """What it says before it hangs up, on unread octets or not."""
    try:
        return sock.recv(100)
    except ConnectionResetError:
        return b""


def damaged(data, at):
    return data[:at] + bytes([data[at] ^ 0xff]) + data[at + 1:]


def test_a_damaged_stream_is_refused_or_kept_as_it_came(stream, park):
    one = park()
    for at in [0, 5, 8, 12, len(stream) - 3]:
        with say(one, damaged(stream, at)) as sock:
            sock.shutdown(socket.SHUT_WR)
            assert SHUT not in hear(sock)
        assert one.process.poll() is None
        assert not os.path.exists(one.image)
