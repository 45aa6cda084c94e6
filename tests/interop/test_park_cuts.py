# SPDX-License-Identifier: MIT
"""Connections that break, disks that are full, and how much memory it takes,
with a real QEMU: the VM is where the protocol says, and the next try
succeeds."""

import os
import random
import subprocess

import pytest

import qemu
from cutter import Cutter
from peak import Peak
from steps import (assert_same_ram, capabilities, ended, go_on, migrate,
                   ram_of, runs, start_postcopy)

# Without AVX: see test_guest_migration.py.
GUEST = "cpus=1 mode=random mem=25% report=100 avx=0"
RAM_MB = 16
TAIL = 64 << 10


@pytest.fixture
def source(folder):
    qemu.require()
    with qemu.Qemu(folder, "a", GUEST, ram_mb=RAM_MB) as vm:
        vm.wait_line("READY")
        yield vm


def places(least, whole, tail=TAIL, n=50):
    """Half of them where every migration comes, half among the last octets,
    where the VM changes hands."""
    seed = random.Random(whole)
    return sorted([1] + [seed.randrange(least) for _ in range(n // 2)] +
                  [seed.randrange(whole - tail, whole)
                   for _ in range(n // 2 - 2)] + [whole - 1])


def octets(source, park, folder, name):
    """How many there are of one that is not cut."""
    one = park(name=name)
    one.wait_listening()
    way = Cutter(folder, one.uri)
    migrate(source, way.uri)
    assert ended(source, "completed", "failed") == "completed"
    assert one.wait()[0] == 0
    way.close()
    go_on(source)
    return way.seen


# ---- precopy ----------------------------------------------------------------


def test_fifty_cuts_in_precopy_leave_the_vm_at_the_source(source, park,
                                                          folder):
    """Without multifd: a QEMU 7.2 whose channels are cut may end itself.
    test_park_variants.py cuts those."""
    capabilities(source, "return-path")
    source.qmp("migrate-set-parameters", **{"max-bandwidth": 1 << 30,
                                            "downtime-limit": 5000})

    source.qmp("stop")
    least = octets(source, park, folder, "still") - TAIL
    whole = octets(source, park, folder, "running")
    one = park()
    one.wait_listening()
    failed = 0
    for at in places(least, whole):
        way = Cutter(folder, one.uri, at)
        migrate(source, way.uri)
        # Each time the guest has written other pages: some are not cut.
        if ended(source, "completed", "failed") == "completed":
            assert one.wait()[0] == 0
            os.unlink(one.image)
            go_on(source)
            one = park()
        else:
            failed += 1
            assert not os.path.exists(one.image)
        way.close()
        source.wait("it goes on", lambda: runs(source))
        one.wait_listening()
    assert failed > 25      # all of the one half, and the first octet
    assert source.verify()["bad"] == 0
    migrate(source, one.uri)
    assert ended(source, "completed", "failed") == "completed", one.said()
    assert one.wait()[0] == 0
    assert_same_ram(one.cat("pc.ram"), ram_of(source, folder, RAM_MB))
    assert not source.log.bad


# ---- postcopy: QEMU comes back ----------------------------------------------


@pytest.mark.parametrize("mode", ["plain", "preempt"])
def test_cuts_in_postcopy_end_with_a_whole_image(folder, park, mode):
    """Once the VM is handed over the source can resume the migration.  (A
    QEMU 7.2 that is cut off while it hands it over cannot: docs/QEMU.md.)"""
    qemu.require()
    options = ["--preempt"] * (mode == "preempt")
    for turn in range(6):
        with qemu.Qemu(folder, f"a{turn}", GUEST, ram_mb=RAM_MB) as source:
            source.wait_line("READY")
            capabilities(source, "postcopy-ram",
                         *["postcopy-preempt"] * len(options))
            source.qmp("migrate-set-parameters", **{
                "max-postcopy-bandwidth": 1 << 20})
            one = park(*options, name=f"vm{turn}")
            one.wait_listening()
            way = Cutter(folder, one.uri)
            start_postcopy(source, way.uri)
            source.wait("it has the devices", lambda: way.handed_over)
            way.left = (turn + 1) * 300_000
            ended(source, "postcopy-paused")
            assert not runs(source)
            qemu.wait_until("park knows", lambda: "waiting for the source"
                            in one.said())
            source.qmp("migrate-set-parameters",
                       **{"max-postcopy-bandwidth": 0})
            source.qmp("migrate", uri=way.uri, resume=True)
            end = ended(source, "completed", "failed")
            assert end == "completed", one.said()
            code, said = one.wait()
            assert code == 0, said
            assert_same_ram(one.cat("pc.ram"), ram_of(source, folder, RAM_MB))
            way.close()


# ---- there and back, page by page -------------------------------------------


@pytest.mark.parametrize("there", ["precopy", "postcopy"])
@pytest.mark.parametrize("back", ["precopy", "postcopy"])
@pytest.mark.parametrize("zstd", [[], ["--zstd"]], ids=["raw", "zstd"])
def test_ram_comes_back_page_by_page(source, park, folder, there, back, zstd):
    """What the stopped source has is what a QEMU has that was not started."""
    one = park(*zstd)
    one.wait_listening()
    capabilities(source, "postcopy-ram" if there == "postcopy"
                 else "return-path")
    source.qmp("migrate-set-parameters", **{"max-bandwidth": 1 << 30,
                                            "downtime-limit": 5000})
    if there == "postcopy":
        start_postcopy(source, one.uri)
    else:
        migrate(source, one.uri)
    assert ended(source, "completed", "failed") == "completed", one.said()
    assert one.wait()[0] == 0
    with qemu.Qemu(folder, "b", GUEST, ram_mb=RAM_MB,
                   args=["-S", "-incoming", "defer"]) as other:
        if back == "postcopy":
            capabilities(other, "postcopy-ram")
        other.qmp("migrate-incoming", uri=f"unix:{folder}/b.in")
        done = subprocess.run(
            [os.environ["FERRY"], "serve", "--quiet", one.image,
             f"unix:{folder}/b.in", *["--precopy"] * (back == "precopy")],
            text=True, timeout=150, check=False, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT)
        assert done.returncode == 0, done.stdout
        assert not runs(other)
        assert_same_ram(ram_of(other, folder, RAM_MB),
                        ram_of(source, folder, RAM_MB))
        other.qmp("cont")
        assert other.verify()["bad"] == 0 and not other.log.bad


# ---- disks ------------------------------------------------------------------


@pytest.fixture
def disk(folder):
    """A file system whose size can be changed."""
    path = folder / "disk"
    path.mkdir()

    def resize(megabytes, how="remount"):
        return subprocess.run(
            ["mount", "-t", "tmpfs", "-o", f"{how},size={megabytes}m", "none",
             path], check=False, capture_output=True).returncode == 0

    if not resize(40, "rw"):
        pytest.skip("a tmpfs cannot be mounted here")
    yield resize
    subprocess.run(["umount", "-l", path], check=True)


def test_a_disk_that_is_full_in_postcopy_is_waited_out(folder, disk, park):
    """A QEMU before 10.2 does not take its VM back once the package is gone."""
    qemu.require()
    with qemu.Qemu(folder, "a", "cpus=1 mode=random mem=80% report=100 avx=0",
                   ram_mb=64) as vm:
        vm.wait_line("READY")
        one = park(name="disk/vm", uri=f"unix:{folder}/s")
        capabilities(vm, "postcopy-ram")
        one.wait_listening()
        start_postcopy(vm, one.uri)
        qemu.wait_until("it lacks room", lambda: "the only copy of the VM: "
                        "trying again" in one.said())
        assert one.process.poll() is None
        assert not runs(vm)
        assert disk(200)
        assert ended(vm, "completed", "failed") == "completed", one.said()
        code, said = one.wait()
        assert code == 0, said
        assert_same_ram(one.cat("pc.ram"), ram_of(vm, folder, 64))


# ---- memory -----------------------------------------------------------------


@pytest.mark.parametrize("options, caps", [
    ([], ["return-path"]), (["--zstd"], ["return-path"]),
    (["--multifd=8"], ["return-path", "multifd"]), ([], ["postcopy-ram"])],
    ids=["precopy", "zstd", "multifd", "postcopy"])
def test_it_takes_little_memory(folder, park, options, caps):
    """64 MiB and the bitmaps, whatever the size of the VM."""
    qemu.require()
    ram_mb = 640
    with qemu.Qemu(folder, "a", "cpus=1 mode=random mem=80% report=100 avx=0",
                   ram_mb=ram_mb) as vm:
        vm.wait_line("READY")
        one = park(*options)
        peak = Peak(one.process)
        capabilities(vm, *caps)
        vm.qmp("migrate-set-parameters", **{"max-bandwidth": 1 << 32,
                                            "downtime-limit": 20000,
                                            "multifd-channels": 8})
        one.wait_listening()
        if caps == ["postcopy-ram"]:
            start_postcopy(vm, one.uri)
        else:
            migrate(vm, one.uri)
        assert ended(vm, "completed", "failed") == "completed", one.said()
        assert one.wait()[0] == 0
        bitmaps_kib = 3 * (ram_mb << 20) // 4096 // 8 // 1024
        assert 0 < peak.end() < (64 << 10) + bitmaps_kib
