# SPDX-License-Identifier: MIT
"""One migration, measured."""

import mmap
import tempfile
import threading
import time
from dataclasses import dataclass

import figures
from ends import ALL_PAIRS, Mode, Setup
from ferryvm import Dead, QmpError
from stops import Stops

BEFORE_S = 0.6          # the guest's speed when nothing happens
AFTER_S = figures.WINDOW_S + 0.3
# A migration that takes longer does not converge.
LIMIT_S, LIMIT_S_PER_GIB = 20, 5
TRACE_MS = 20
POOL = 1.2              # of the guest's size
WEIGH_EVERY_S = 0.02
MADV_POPULATE_WRITE = 23


class Failed(Exception):
    """No figures; the text says why."""


# What an end or its guest may come to; one run is lost, the others go on.
TROUBLES = (Failed, ValueError, RuntimeError, QmpError, Dead, OSError)


@dataclass
class Row:
    mode: Mode
    guest: str              # name of the workload
    append: str             # what it is to the guest
    ram_mib: int

    @property
    def key(self):
        return (self.mode.name, self.guest, self.ram_mib)


class Pool:
    """Memory that the outer host has given us and must not take back: free
    memory goes home after two seconds and is dear to get again.  A part is let
    go when a process is to have it."""

    def __init__(self):
        self.parts = {}

    def hold(self, part, mib):
        if mib and part not in self.parts:
            memory = mmap.mmap(-1, mib << 20,
                               mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
            memory.madvise(mmap.MADV_HUGEPAGE)
            memory.madvise(MADV_POPULATE_WRITE)
            self.parts[part] = memory

    def make_way(self, part, other, mib):
        """For one process, while keeping what the other will need."""
        share = int(POOL * mib)
        for name in list(self.parts):
            if len(self.parts[name]) != share << 20:
                self.drop(name)
        self.hold(part, share)
        self.hold(other, share)
        self.drop(part)

    def drop(self, part):
        if part in self.parts:
            self.parts.pop(part).close()


class Scales(threading.Thread):
    """Weighs both ends again and again; that costs time, so such a run gives
    no other figures."""

    def __init__(self, ends):
        super().__init__(daemon=True)
        self.ends = ends
        self.peak = [0] * len(ends)
        self.over = threading.Event()

    def run(self):
        while not self.over.wait(WEIGH_EVERY_S):
            for i, end in enumerate(self.ends):
                try:
                    self.peak[i] = max(self.peak[i], end.own_kib())
                except OSError:
                    return

    def stop(self):
        self.over.set()
        self.join()
        return self.peak


@dataclass
class Moment:
    """One event by two clocks."""
    guest_us: float
    host_ns: int

    def guest_at(self, host_ns):
        return self.guest_us + (host_ns - self.host_ns) / 1e3


def make_setup(build, row, vcpus):
    """The guest says little, for each letter costs time.  Without AVX: some
    KVMs give it to a guest whose QEMU does not know, and does not carry it."""
    return Setup(build, row.ram_mib, vcpus,
                 f"cpus={vcpus} report=3600000 trace={TRACE_MS} touch=all "
                 f"avx=0 {row.append}")


def begin(source):
    """The guest runs and keeps samples from here on."""
    source.serial.wait(lambda log: log.ready or log.dead,
                       what="the guest to be ready")
    if source.serial.log.dead:
        raise Failed(source.serial.log.dead)
    told = source.serial.ask("r", "RESET")
    return Moment(told["t"] * 1e6, time.monotonic_ns())


def move(source, target, row):
    """Returns when it began, ms and CPU seconds; or raises Failed."""
    mode, limit_s = row.mode, LIMIT_S + LIMIT_S_PER_GIB * row.ram_mib / 1024
    target.expect(mode)
    source.expect(mode)
    address = target.address()
    cpu = [source.cpu_s(), target.cpu_s()]
    start = time.monotonic()
    source.go(address, mode)
    state = source.wait_end(limit_s)
    if state is None:
        raise Failed(f"not over after {limit_s:.0f} s")
    if state == "completed":
        state = target.wait_end(limit_s)
    if state != "completed":
        why = source.qmp("query-migrate").get("error-desc", "no reason given")
        raise Failed(f"{state}: {why}")
    return {
        "begun_ns": int(start * 1e9),
        "total_ms": (time.monotonic() - start) * 1e3,
        "cpu_source_s": source.cpu_s() - cpu[0],
        "cpu_target_s": target.cpu_s() - cpu[1],
    }


def felt(source, target, zero, quiet_ns, begun_ns):
    """What the guest has to say about it."""
    last, first = source.last_beat_ns(), target.first_beat_ns()
    target.serial.ask("t", "TRACED")
    return figures.from_trace(
        target.serial.log.all("TRACE"), near_us=zero.guest_at(first),
        quiet_until_us=zero.guest_at(quiet_ns),
        moving_from_us=zero.guest_at(begun_ns),
        host_pause_ms=(first - last) / 1e6)


def checked(target):
    pages = target.serial.ask("v", "VERIFIED")
    said = target.serial.ask("s", "SUMMARY")
    return {"verified_pages": pages["pages"],
            "bad_pages": max(said["bad"], pages["bad"]),
            "bad": [line.text for line in target.serial.log.bad]}


def engine_says(source, target):
    told = source.qmp("query-migrate")
    return {
        "engine_total_ms": told["total-time"],
        "engine_pause_ms": told.get("x-ferry-pause-us",
                                    told.get("downtime", 0) * 1e3) / 1e3,
        "sent_bytes": told["ram"]["transferred"],
        "passes": told["ram"]["dirty-sync-count"],
        **target.fault_waits(source),
    }


def _measure(setup, row, kinds, pool, folder):
    pool.make_way("source", "target", row.ram_mib)
    with kinds[0](setup, folder, "a") as source:
        zero = begin(source)
        time.sleep(BEFORE_S)
        quiet_ns = time.monotonic_ns()
        pool.drop("target")
        with kinds[1](setup, folder, "b", waits=True) as target:
            with Stops() as stops:
                run = move(source, target, row)
                time.sleep(AFTER_S)
            run["stopped_ms"] = stops.within_ms(run["begun_ns"],
                                                time.monotonic_ns())
            run |= felt(source, target, zero, quiet_ns, run.pop("begun_ns"))
            run |= engine_says(source, target)
            run |= checked(target)
    return run


def measure(build, row, pair, pool, vcpus=1):
    """All figures of one migration; {"error": ...} when there are none."""
    setup = make_setup(build, row, vcpus)
    with tempfile.TemporaryDirectory(prefix="ferry-bench-") as folder:
        try:
            return _measure(setup, row, ALL_PAIRS[pair], pool, folder)
        except TROUBLES as why:
            return {"error": f"{why}"}


def _weigh(setup, row, kinds, pool, folder):
    pool.make_way("source", "target", row.ram_mib)
    with kinds[0](setup, folder, "a") as source:
        begin(source)
        pool.drop("target")
        with kinds[1](setup, folder, "b", waits=True) as target:
            ends = (source, target)
            empty = [end.own_kib() for end in ends]
            scales = Scales(ends)
            scales.start()
            try:
                move(source, target, row)
            finally:
                peak = scales.stop()
    return {"source_peak_kib": peak[0], "target_peak_kib": peak[1],
            "source_before_kib": empty[0], "target_before_kib": empty[1]}


def weigh(build, row, pair, pool, vcpus=1):
    """Peak of what both ends have resident beyond the guest, in KiB."""
    setup = Setup(build, row.ram_mib, vcpus,
                  f"cpus={vcpus} report=3600000 touch=all {row.append}")
    with tempfile.TemporaryDirectory(prefix="ferry-bench-") as folder:
        try:
            return _weigh(setup, row, ALL_PAIRS[pair], pool, folder)
        except TROUBLES as why:
            return {"error": f"{why}"}
