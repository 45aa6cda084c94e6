# SPDX-License-Identifier: MIT
"""A parked VM goes on in real QEMUs: by every mode that serve has, in several
at once, in none that does not fit; and serve needs little memory for it."""

import json
import os
import shutil
import struct
import subprocess
import tempfile
from pathlib import Path

import pytest

import qemu
from conftest import Park
from cutter import Cutter
from ferryvm import Vm
from peak import Peak
from steps import capabilities, ended, runs

# Without AVX: see test_guest_migration.py.
GUEST = "cpus=2 mode=random mem=40% report=100 avx=0"
SMALL = "cpus=1 mode=random mem=20% report=100 avx=0"
RAM_MB = 64
COPIES = 4


class Serve:
    """The command, and what it said in the end."""

    def __init__(self, image, *words):
        self.process = subprocess.Popen(
            [os.environ["FERRY"], "serve", "--quiet", "--json", str(image),
             *words], text=True, stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE)

    def wait(self):
        """(exit code, an object for each host, what it complained of)."""
        out, said = self.process.communicate(timeout=150)
        return self.process.returncode, \
            [json.loads(line) for line in out.splitlines()], said

    def done(self):
        code, hosts, said = self.wait()
        assert code == 0, said
        assert {host["where"] for host in hosts} == {"target"}
        return hosts

    def close(self):
        if self.process.poll() is None:
            self.process.kill()
        self.process.communicate()


@pytest.fixture
def serve():
    made = []

    def start(*words):
        made.append(Serve(*words))
        return made[-1]

    yield start
    for one in made:
        one.close()


@pytest.fixture
def host(folder):
    """Makes QEMUs that wait at .uri."""
    qemu.require()
    made = []

    def make(name, *caps, guest=GUEST, args=(), ram_mb=RAM_MB, uri=None):
        vm = qemu.Qemu(folder, name, guest, ram_mb=ram_mb,
                       args=["-incoming", "defer", *args])
        made.append(vm)
        if caps:
            capabilities(vm, *caps)
        vm.qmp("migrate-incoming", uri=uri or f"unix:{folder}/{name}.in")
        vm.uri = uri or f"unix:{folder}/{name}.in"
        return vm

    yield make
    for vm in made:
        vm.close()


def park_in(folder, name, source, *options):
    """The VM stops here and is in an image."""
    one = Park(folder, *options, name=name)
    try:
        one.wait_listening()
        source.qmp("migrate", uri=one.uri)
        assert ended(source, "completed", "failed") == "completed", one.said()
        assert one.wait()[0] == 0
        return one.image
    finally:
        one.close()


@pytest.fixture(scope="module")
def parked():
    """Makes images of busy guests, and remembers them."""
    qemu.require()
    folder = Path(tempfile.mkdtemp(prefix="ferry-io-"))
    made = {}

    def make(name, *args, guest=GUEST, ram_mb=RAM_MB, options=()):
        if name in made:
            return made[name]
        with qemu.Qemu(folder, name, guest, ram_mb=ram_mb, args=args) as vm:
            vm.wait_line("FERRY", 2)
            capabilities(vm, "return-path")
            vm.qmp("migrate-set-parameters", **{"max-bandwidth": 1 << 32,
                                                "downtime-limit": 20000})
            made[name] = park_in(folder, f"{name}.vm", vm, *options)
        return made[name]

    yield make
    shutil.rmtree(folder)


def lives(vm):
    """It goes on, and says itself that its memory is what it was."""
    assert runs(vm)
    vm.wait_line("FERRY", 3)
    assert vm.verify()["bad"] == 0
    assert vm.log.bad_count == 0


def may_run(vm):
    """Not one that has ended, or is about to."""
    try:
        return runs(vm)
    except (OSError, ValueError):
        vm.process.wait(20)
        return False


# ---- every mode -------------------------------------------------------------

MODES = {
    # words; capabilities of the QEMU that waits
    "postcopy": ([], ["postcopy-ram"]),
    "preempt": (["--preempt"], ["postcopy-ram", "postcopy-preempt"]),
    "precopy": (["--precopy"], []),
    "precopy, ready for postcopy": (["--precopy"], ["postcopy-ram"]),
    "checked before": (["--verify"], ["postcopy-ram"]),
    "with a limit": (["--set", "max-postcopy-bandwidth=30000000"],
                     ["postcopy-ram"]),
}


@pytest.mark.parametrize("mode", MODES)
def test_a_busy_guest_goes_on(parked, host, serve, mode):
    words, caps = MODES[mode]
    image = parked("pc")
    vm = host("b", *caps)
    [told] = serve(image, vm.uri, *words).done()
    assert told["bytes"] > RAM_MB << 18
    lives(vm)


def test_another_machine_with_more_devices_goes_on(parked, host, serve):
    args = ["-machine", "q35", "-device", "virtio-rng-pci", "-device",
            "e1000e", "-vga", "std"]
    image = parked("q35", *args)
    vm = host("b", "postcopy-ram", args=args)
    serve(image, vm.uri).done()
    lives(vm)


@pytest.mark.sanitize
def test_a_compressed_one_goes_on_over_tcp(parked, host, serve):
    image = parked("zstd", options=["--zstd"])
    vm = host("b", "postcopy-ram", uri="tcp:127.0.0.1:0")
    [address] = vm.qmp("query-migrate")["socket-address"]
    serve(image, f"tcp:127.0.0.1:{address['port']}").done()
    lives(vm)


@pytest.fixture
def ferries(folder, park):
    """(the image of a VM of ferry's, another one that waits for it)"""
    qemu.require()
    one = park("--zstd")
    here = Vm(os.environ["FERRY"], str(folder), "f", ram="64M",
              kernel=os.environ["FERRY_GUEST"], append=GUEST)
    there = Vm(os.environ["FERRY"], str(folder), "g", ram="64M",
               incoming=f"unix:{folder}/g.in")
    try:
        here.serial.wait(lambda log: log.ready)
        one.wait_listening()
        here.migrate(one.uri, "precopy")
        assert one.wait()[0] == 0
        here.close()
        yield one.image, there
    finally:
        here.close()
        there.close()


@pytest.mark.sanitize
def test_a_vm_of_ferry_goes_on_by_precopy(ferries, serve, folder):
    """The other dialect; by default it is postcopy: test_park.py."""
    image, there = ferries
    serve(image, f"unix:{folder}/g.in", "--precopy").done()
    found = there.serial.ask("v", "VERIFIED")
    assert found["bad"] == 0 and found["pages"] > 0


def test_a_vm_of_ferry_is_found_again(ferries, serve, folder):
    """Where the link breaks, and no word was said of --recover."""
    image, there = ferries
    way = Cutter(folder, f"unix:{folder}/g.in", 5 << 20)
    serve(image, way.uri).done()
    assert way.cut
    way.close()
    assert there.serial.ask("v", "VERIFIED")["bad"] == 0


def test_a_damaged_vm_of_ferry_is_not_looked_for(ferries, serve, folder):
    """The target would let another link in, which brings it no further."""
    image, _ = ferries
    data = bytearray(image.read_bytes())
    [table, length] = struct.unpack_from(">QQ", data, 56)
    chunks = [row[0] for row in struct.iter_unpack(
        ">QIQ", data[table:table + length]) if row[1]]
    data[chunks[-1]] ^= 1
    image.write_bytes(data)
    code, [told], said = serve(image, f"unix:{folder}/g.in").wait()
    assert (code, told["where"]) == (3, "split")
    assert f"{image}: the image is damaged: memory of block" in said
    assert "serve a whole copy" in said and said.count("\n") == 1


def test_one_image_goes_on_at_four_hosts_at_once(parked, host, serve):
    """Each touches what it likes, and gets that."""
    image = parked("small", guest=SMALL)
    vms = [host(f"b{n}", "postcopy-ram", guest=SMALL) for n in range(COPIES)]
    before = image.read_bytes()
    told = serve(image, *(vm.uri for vm in vms), "--set",
                 "max-postcopy-bandwidth=16000000").done()
    assert [host["uri"] for host in told] == [vm.uri for vm in vms]
    assert all(host["requests"] for host in told)
    for vm in vms:
        lives(vm)
    assert image.read_bytes() == before


@pytest.mark.sanitize
def test_a_host_that_fails_takes_none_with_it(parked, host, serve, folder):
    image = parked("small", guest=SMALL)
    good = [host("b0", "postcopy-ram"), host("b1", "postcopy-ram")]
    wrong = host("b2", "postcopy-ram", ram_mb=RAM_MB // 2)
    nobody = f"unix:{folder}/nobody"
    code, told, said = serve(image, good[0].uri, wrong.uri, nobody,
                             good[1].uri).wait()
    assert code == 1 and said.count("\n") == 2, said
    assert [host["where"] for host in told] == ["target", "image", "image",
                                                "target"]
    for vm in good:
        lives(vm)


# ---- what does not fit ------------------------------------------------------

# What QEMU 7.2 has against it, it writes on its own stderr.
MISFITS = {
    # the image; of the QEMU: arguments, capabilities, RAM; words; outcome
    "another machine": ("pc", ["-machine", "q35"], ["postcopy-ram"], 64, [],
                        (1, "image")),
    "another machine, precopy": ("pc", ["-machine", "q35"], [], 64,
                                 ["--precopy"], (1, "image")),
    "more RAM": ("pc", [], ["postcopy-ram"], 128, [], (1, "image")),
    "less RAM": ("pc", [], ["postcopy-ram"], 32, [], (1, "image")),
    "less RAM, precopy": ("pc", [], [], 32, ["--precopy"], (1, "image")),
    "a block that it has not": ("ram0", [], ["postcopy-ram"], 64, [],
                                (1, "image")),
    "no postcopy": ("pc", [], [], 64, [], (1, "image")),
    "multifd": ("pc", [], ["multifd"], 64, ["--precopy"], (1, "image")),
    "preempt on one side": ("pc", [], ["postcopy-ram", "postcopy-preempt"],
                            64, [], (1, "image")),
    "devices that it has not": ("rng", [], ["postcopy-ram"], 64, [],
                                (3, "split")),
    "devices that it has not, precopy": ("rng", [], [], 64, ["--precopy"],
                                         (3, "undecided")),
}
# From 10.0 on: it takes the package and then waits for another connection; it
# says that it has failed.
NEWER = {
    "preempt on one side": (3, "split"),
    "devices that it has not, precopy": (1, "image"),
}
NEEDED = "must have machine type pc-i440fx-V, 64 MiB of "
WHY = {
    # the image, or code: what is said
    "pc": NEEDED + "pc.ram, the same devices",
    "ram0": NEEDED + "ram0, the same devices, postcopy-ram on",
    (1, "image"): "the target did not take the VM",
    (3, "split"): "the image can be served again",
    (3, "undecided"): "the image can be served again",
}
OTHERS = {
    "pc": [],
    "ram0": ["-object", "memory-backend-ram,id=ram0,size=64M", "-machine",
             "memory-backend=ram0"],
    "rng": ["-device", "virtio-rng-pci"],
}


@pytest.mark.parametrize("what", MISFITS)
def test_a_host_that_does_not_fit_gets_nothing_to_run(parked, host, serve,
                                                      what):
    name, args, caps, ram_mb, words, outcome = MISFITS[what]
    if qemu.version() >= 1000:
        outcome = NEWER.get(what, outcome)
    image = parked(name, *OTHERS[name])
    vm = host("b", *caps, args=args, ram_mb=ram_mb)
    code, [told], said = serve(image, vm.uri, "--set", "x-ferry-timeout=2000",
                               *words).wait()
    assert (code, told["where"]) == outcome
    assert said.count("\n") == 1
    if outcome != NEWER.get(what) or outcome[0] == 3:
        assert WHY[outcome] in said
    if outcome[0] == 1 and name in WHY:
        assert WHY[name].replace("-V", f"-{qemu.version_name()}") in said
    assert not may_run(vm)


# ---- memory -----------------------------------------------------------------

SIZES = {
    # MiB; guest; words
    "precopy": (640, "cpus=1 mode=random mem=80% report=100 avx=0",
                ["--precopy"]),
    "postcopy": (640, "cpus=1 mode=random mem=80% report=100 avx=0", []),
    "sparse": (8192, "cpus=1 mode=random mem=1% report=100 avx=0", []),
}


@pytest.mark.parametrize("what", SIZES)
def test_it_takes_little_memory(parked, host, serve, what):
    """64 MiB, and what it must know of each page and chunk."""
    ram_mb, guest, words = SIZES[what]
    image = parked(f"{ram_mb}", guest=guest, ram_mb=ram_mb)
    vm = host("b", *["postcopy-ram"] * (not words), guest=guest,
              ram_mb=ram_mb)
    one = serve(image, vm.uri, *words)
    peak = Peak(one.process)
    one.done()
    peak.end()
    assert runs(vm)
    pages, chunks = ram_mb << 8, ram_mb << 4
    known_kib = (4 * pages // 8 + 20 * chunks) >> 10
    assert 0 < peak.kib < (64 << 10) + known_kib
    assert 0 < peak.anonymous_kib < (16 << 10) + known_kib
