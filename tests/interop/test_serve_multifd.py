# SPDX-License-Identifier: MIT
"""Pages on a QEMU's multifd channels: a parked VM is whole there, whatever they
are compressed by, and what QEMU gets silently wrong does not happen."""

import os
import subprocess
import uuid

import pytest

import qemu
from steps import assert_same_ram, capabilities, ram_of, runs
from test_serve import (  # noqa: F401  (fixtures)
    RAM_MB, lives, may_run, park_in, parked, serve)

# Since 8.1 marks are records of their own, since 9.0 zero pages are in packets.
MACHINES = ["pc-i440fx-7.2", "pc-i440fx-8.2", "pc-i440fx-10.0"]
WAYS = [(n, method) for n in (1, 2, 4) for method in ("none", "zlib", "zstd")]
if qemu.version() < 1000:       # the newer ones' turn is in scripts/soak
    MACHINES, WAYS = MACHINES[:1], WAYS[::4] + [(4, "none")]
GUEST = "cpus=2 mode=random mem=40% report=100 avx=0 fill=pattern"


@pytest.fixture
def waits(folder):
    """Makes QEMUs that wait at .uri with so many channels, and then stand
    still."""
    qemu.require()
    made = []

    def make(channels, *caps, method="none", args=("-S",)):
        vm = qemu.Qemu(folder, f"b{len(made)}", GUEST, ram_mb=RAM_MB,
                       args=["-incoming", "defer", *args])
        made.append(vm)
        vm.uri = f"unix:{folder}/b{len(made)}.in"
        capabilities(vm, *["multifd"] * bool(channels), *caps)
        if channels:
            vm.qmp("migrate-set-parameters", **{
                "multifd-channels": channels, "multifd-compression": method})
        vm.qmp("migrate-incoming", uri=vm.uri)
        return vm

    yield make
    for vm in made:
        vm.close()


def memory(image, block="pc.ram"):
    return subprocess.run([os.environ["FERRY_IMAGE_CAT"], image, block],
                          check=True, stdout=subprocess.PIPE).stdout


def check(vm, image, folder):
    """All of its memory is what is in the image, and then it goes on."""
    assert not runs(vm)
    assert_same_ram(ram_of(vm, folder, RAM_MB), memory(image))
    vm.qmp("cont")
    lives(vm)


@pytest.mark.parametrize("name", MACHINES)
@pytest.mark.parametrize("channels, method", WAYS)
def test_all_of_its_memory_is_there(parked, waits, serve, folder, name,
                                    channels, method):
    args = ["-machine", name]
    image = parked(name, *args, guest=GUEST)
    vm = waits(channels, method=method, args=["-S", *args])
    [told] = serve(image, vm.uri, "--precopy", f"--multifd={channels}",
                   f"--multifd-compression={method}").done()
    ram = memory(image)
    pages = sum(ram[at:at + 4096] != bytes(4096)
                for at in range(0, len(ram), 4096))
    assert (told["bytes"] > pages << 12) == (method == "none")
    check(vm, image, folder)


@pytest.mark.sanitize
def test_a_target_that_is_ready_for_postcopy_too(parked, waits, serve,
                                                 folder):
    if qemu.version() < 1002:
        vm = waits(2)
        one = serve(parked("pc", guest=GUEST), vm.uri, "--multifd=2")
        code, told, said = one.wait()
        assert (code, told) == (1, [])
        assert "multifd and postcopy do not go together before QEMU 10.2" \
            in said
        return
    image = parked("pc", guest=GUEST)
    vm = waits(2, "postcopy-ram")
    serve(image, vm.uri, "--multifd=2").done()
    check(vm, image, folder)


@pytest.mark.sanitize
@pytest.mark.parametrize("here, there", [(2, 0), (3, 2), (4, 1), (1, 2),
                                         (0, 2)])
def test_other_numbers_of_channels_lose_no_page(parked, waits, serve, here,
                                                there):
    """A QEMU would say that all is there."""
    vm = waits(there, args=[])
    words = [f"--multifd={here}"] if here else []
    code, [told], said = serve(parked("pc", guest=GUEST), vm.uri,
                               "--precopy", *words, "--set",
                               "x-ferry-timeout=1000").wait()
    assert (code, told["where"]) == (1, "image"), said
    assert said.count("\n") == 1
    if here > there:
        assert "multifd" in said
    assert not may_run(vm)


@pytest.mark.parametrize("mine, theirs", [("zlib", "zstd"), ("none", "zlib"),
                                          ("zstd", "none")])
def test_another_compression_is_no_vm(parked, waits, serve, mine, theirs):
    vm = waits(2, method=theirs, args=[])
    code, [told], said = serve(parked("pc", guest=GUEST), vm.uri,
                               "--precopy", "--multifd=2",
                               "--multifd-compression", mine, "--set",
                               "x-ferry-timeout=1000").wait()
    assert (code, told["where"]) == (1, "image"), said
    assert said.count("\n") == 1
    assert not may_run(vm)


@pytest.mark.parametrize("words, says", [
    (["--multifd=0"], "multifd-channels: 0 is outside 1 to"),
    (["--multifd=65"], "multifd-channels: 65 is outside 1 to 64"),
    (["--multifd-compression=lz4"], "'lz4' is none of none, zlib, zstd"),
])
def test_wrong_words(serve, folder, words, says):
    code, told, said = serve(folder / "none", "unix:none", *words).wait()
    assert (code, told) == (2, []) and says in said


def test_compression_wants_multifd(parked, serve, folder):
    image = parked("pc", guest=GUEST)
    code, told, said = serve(image, f"unix:{folder}/none",
                             "--multifd-compression=zlib").wait()
    assert (code, told) == (1, [])
    assert "multifd-compression: towards a QEMU only pages on multifd" in said


@pytest.mark.parametrize("same", [True, False])
def test_a_vm_that_has_a_uuid(parked, waits, serve, folder, same):
    """Its channels say it, and a QEMU takes no other."""
    has = str(uuid.uuid4())
    with qemu.Qemu(folder, "a", GUEST, ram_mb=RAM_MB,
                   args=["-uuid", has]) as vm:
        vm.wait_line("FERRY", 2)
        capabilities(vm, "return-path", "multifd")
        vm.qmp("migrate-set-parameters", **{
            "multifd-channels": 2, "max-bandwidth": 1 << 32,
            "downtime-limit": 20000})
        image = park_in(folder, "a.vm", vm, "--multifd=2")
    vm = waits(2, args=["-S", "-uuid", has if same else str(uuid.uuid4())])
    code, [told], said = serve(image, vm.uri, "--precopy", "--multifd=2",
                               "--set", "x-ferry-timeout=1000").wait()
    if same:
        assert code == 0, said
        check(vm, image, folder)
    else:
        assert (code, told["where"]) == (1, "image"), said
