# SPDX-License-Identifier: MIT
"""Damage is found, and named: memory is changed behind the guest's back.

The guest's RAM is a file here; what a bad migration would do is written into
it while the vCPUs stand still.
"""

import mmap
import os
import struct

import pytest

import qemu

PAGE = 4096
RAM_MB = 32


class Memory:
    """The guest's pages, by number."""

    def __init__(self, path, log):
        with open(path, "r+b") as file:
            self.map = mmap.mmap(file.fileno(), RAM_MB << 20)
        self.log = log

    def read(self, page):
        at = self.log.address(page)
        return self.map[at:at + PAGE]

    def write(self, page, data):
        at = self.log.address(page)
        self.map[at:at + len(data)] = data

    def counter(self, page):
        return struct.unpack_from("<Q", self.read(page), 8)[0]

    def table_address(self):
        """The counters lie right below the first page, 4 bytes each."""
        size = self.log.last("INIT")["total"] * 4
        return self.log.address(0) - (size + PAGE - 1) // PAGE * PAGE


@pytest.fixture(name="start")
def _start(tmp_path):
    """start(cmdline) -> (vm, memory), with the guest running."""
    qemu.require()
    path = f"/dev/shm/ferry-guest-{os.getpid()}"
    started = []

    def start(cmdline):
        vm = qemu.Qemu(tmp_path, "vm", cmdline, ram_mb=RAM_MB, args=[
            "-object", f"memory-backend-file,id=ram,size={RAM_MB}M,"
            f"mem-path={path},share=on", "-machine", "pc,memory-backend=ram"])
        started.append(vm)
        vm.wait_line("READY")
        return vm, Memory(path, vm.log)

    yield start
    for vm in started:
        vm.close()
    if os.path.exists(path):
        os.unlink(path)


def stop_away_from(vm, memory, page):
    """Stop while nobody is writing `page`: its neighbours of the same vCPU
    are as old as it is, so the cursor is somewhere else."""
    def still():
        vm.qmp("stop")
        if len({memory.counter(p) for p in (page - 2, page, page + 2)}) == 1:
            return True
        vm.qmp("cont")
        return False

    qemu.wait_until("the cursor to pass", still)


def go_on(vm):
    vm.qmp("cont")
    return vm.wait_line("BAD")


def test_a_flipped_bit_is_torn(start):
    vm, memory = start("cpus=2 mem=8M mode=seq")
    stop_away_from(vm, memory, 700)
    page = bytearray(memory.read(700))
    page[2000] ^= 0x10
    memory.write(700, page)
    bad = go_on(vm)
    assert (bad["page"], bad["kind"], bad["cpu"]) == (700, "torn", 0)
    assert bad["addr"] == vm.log.address(700)
    assert vm.verify()["bad"] == 0
    assert vm.log.bad_count == 1


def test_an_old_copy_of_a_page_is_stale(start):
    vm, memory = start("cpus=2 mem=8M mode=seq")
    stop_away_from(vm, memory, 701)
    old, counter = memory.read(701), memory.counter(701)
    vm.qmp("cont")
    qemu.wait_until("a rewrite", lambda: memory.counter(701) > counter)
    stop_away_from(vm, memory, 701)
    expect = memory.counter(701)
    memory.write(701, old)
    bad = go_on(vm)
    assert (bad["page"], bad["kind"], bad["cpu"]) == (701, "stale", 1)
    assert (bad["expect"], bad["found"]) == (expect, counter)


def test_a_page_of_zeros_is_found(start):
    vm, memory = start("cpus=2 mem=8M mode=seq")
    stop_away_from(vm, memory, 702)
    memory.write(702, bytes(PAGE))
    bad = go_on(vm)
    assert (bad["page"], bad["kind"], bad["found"]) == (702, "zero", 0)


def test_another_page_s_contents_are_foreign(start):
    vm, memory = start("cpus=2 mem=8M mode=seq")
    stop_away_from(vm, memory, 703)
    memory.write(703, memory.read(1003))
    bad = go_on(vm)
    assert (bad["kind"], bad["expect"], bad["found"]) == (
        "foreign", 703, 1003)


def test_an_old_table_makes_pages_look_ahead(start):
    vm, memory = start("cpus=2 mem=8M mode=seq")
    table = memory.table_address()
    stop_away_from(vm, memory, 300)
    old = memory.map[table:table + PAGE]
    vm.qmp("cont")
    counter = memory.counter(300)
    qemu.wait_until("rewrites", lambda: memory.counter(300) > counter + 1)
    stop_away_from(vm, memory, 300)
    memory.map[table:table + PAGE] = old
    bad = go_on(vm)
    assert bad["kind"] == "ahead" and bad["found"] > bad["expect"]


def test_old_pages_with_an_equally_old_table_do_not_add_up(start):
    vm, memory = start("cpus=2 mem=8M mode=seq")
    table, first = memory.table_address(), memory.log.address(0)
    whole = slice(table, first + (8 << 20))
    pages = 300, 301            # one of each vCPU
    vm.qmp("stop")
    old = memory.map[whole]
    counters = [memory.counter(page) for page in pages]
    vm.qmp("cont")
    qemu.wait_until("rewrites by both", lambda: all(
        memory.counter(page) > counter + 1
        for page, counter in zip(pages, counters)))
    vm.qmp("stop")
    memory.map[whole] = old
    vm.qmp("cont")
    # And what the vCPUs were about to write, if it is torn now.
    assert vm.verify()["bad"] >= 2
    tables = [bad for bad in vm.log.bad if bad["kind"] == "table"]
    assert sorted(bad["page"] for bad in tables) == [0, 1]
    assert all(bad["found"] < bad["expect"] for bad in tables), vm.log.bad
    assert vm.verify()["bad"] == 0


def test_memory_that_is_never_rewritten_is_verified_too(start):
    vm, memory = start("cpus=2 mem=1M mode=idle touch=all")
    cold = vm.log.last("INIT")["total"] - 1
    memory.write(cold, bytes(PAGE))
    assert vm.verify()["bad"] == 1
    assert (vm.log.bad[0]["page"], vm.log.bad[0]["kind"]) == (cold, "zero")


def scramble(data):
    """One bit of the second quarter of every record or free slot."""
    data = bytearray(data)
    for slot in range(0, PAGE, 256):
        data[slot + 100] ^= 1
    return data


@pytest.mark.parametrize("change, kinds", [
    (lambda data: bytes(PAGE), {"zero"}),
    (lambda data: scramble(data), {"torn"}),
    (lambda data: data[256:] + data[:256], {"foreign", "zero", "torn"}),
])
def test_a_damaged_bucket_of_the_database_is_found(start, change, kinds):
    vm, memory = start("cpus=2 mem=8M mode=db rate=1M")
    vm.qmp("stop")
    memory.write(700, change(memory.read(700)))
    vm.qmp("cont")
    vm.verify()
    bad = vm.wait_line("BAD")
    assert bad["page"] == 700 and bad["kind"] in kinds
    assert vm.verify()["bad"] == 0


def test_an_old_bucket_of_the_database_is_stale(start):
    vm, memory = start("cpus=2 mem=8M mode=db rate=8M")
    old = memory.read(701)
    qemu.wait_until("puts", lambda: memory.read(701) != old)
    vm.qmp("stop")
    memory.write(701, old)
    vm.qmp("cont")
    bad = vm.wait_line("BAD")
    assert (bad["page"], bad["kind"]) == (701, "stale")
