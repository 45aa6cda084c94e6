# SPDX-License-Identifier: MIT
"""bench/run --peer: `ferry park` and `ferry serve`, with a QEMU at the other
end, beside a QEMU in their place.  docs/BENCHMARKS.md says how."""

import os
import shutil
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path

import figures
import moving
from ends import Mode, Setup
from parked import Park, Qemu2, Qemu2Filed, Serve
from stops import Stops

PRECOPY = Mode("precopy", "precopy", False)
POSTCOPY = Mode("postcopy", "postcopy", False)
URGENT = Mode("postcopy-urgent", "postcopy", True)

GUESTS = {"idle": "mode=idle", "100M": "mode=random mem=25% rate=100M"}
LINE_EVERY_MS = 10
SETTLED_S = 0.4
DONTNEED = os.POSIX_FADV_DONTNEED


def plan(quick):
    """Sizes in MiB, rounds, seconds after which no run is begun."""
    return {
        "park": {"ram_mib": 1024 if quick else 4096, "guests": list(GUESTS),
                 "rounds": 2 if quick else 3, "limit_s": 60 if quick else 400},
        "waits": {"ram_mib": 512 if quick else 1024,
                  "rounds": 2 if quick else 5, "limit_s": 25 if quick else 80},
        "first": {"ram_mib": [256, 8192], "written": "8%" if quick else "25%",
                  "rounds": 2 if quick else 7, "limit_s": 25 if quick else 110},
    }


def tiny():
    """For a test of the harness itself."""
    return {
        "park": {"ram_mib": 64, "guests": ["100M"], "rounds": 1,
                 "limit_s": 900},
        "waits": {"ram_mib": 64, "rounds": 1, "limit_s": 900},
        "first": {"ram_mib": [64, 96], "written": "25%", "rounds": 1,
                  "limit_s": 900},
    }


def available_mib():
    for line in Path("/proc/meminfo").read_text("ascii").splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) >> 10
    return 0


@contextmanager
def images(mib, at):
    """A folder for images of so much, in memory if that has room for them and
    as much again for everything else."""
    memory = Path("/dev/shm")
    if not at and available_mib() > 4 * mib and \
            shutil.disk_usage(memory).free >> 20 > 2 * mib:
        at = memory
    folder = tempfile.mkdtemp(prefix="ferry-images-", dir=at)
    try:
        yield Path(folder)
    finally:
        shutil.rmtree(folder)


def lies_in(folder):
    """What kind of file system that is."""
    best = ("", "?")
    for line in Path("/proc/mounts").read_text("utf-8").splitlines():
        _, at, kind, *_ = line.split()
        if str(folder).startswith(at) and len(at) > len(best[0]):
            best = (at, kind)
    return best[1]


def guest_setup(build, ram_mib, append):
    return Setup(build, ram_mib, 1,
                 f"cpus=1 report=3600000 trace={moving.TRACE_MS} avx=0 "
                 f"{append}")


def ready(end):
    end.serial.wait(lambda log: log.ready or log.dead,
                    what="the guest to be ready")
    if end.serial.log.dead:
        raise moving.Failed(end.serial.log.dead)


def check(state, end):
    if state != "completed":
        why = end.qmp("query-migrate").get("error-desc", "no reason given")
        raise moving.Failed(f"{state}: {why}")


# ---- park, beside a QEMU that is the destination ----------------------------


def park_into(source, park, mode, limit_s=120):
    """All of a migration into a park."""
    cpu = source.cpu_s()
    start = time.monotonic()
    source.leave(park.address(), mode)
    check(source.wait_end(limit_s), source)
    park.wait()
    return {
        "total_ms": (time.monotonic() - start) * 1e3,
        "cpu_source_s": source.cpu_s() - cpu,
        "cpu_target_s": park.cpu_s(),
        "anonymous_kib": park.anonymous_kib,
    }


def to_park(setup, mode, pool, folder, image):
    pool.make_way("source", "target", setup.ram_mib)
    with Qemu2(setup, folder, "a") as source:
        ready(source)
        time.sleep(SETTLED_S)
        pool.drop("target")
        with Park(setup, image, mode) as park:
            run = park_into(source, park, mode)
            run["sent_bytes"] = source.qmp("query-migrate")["ram"][
                "transferred"]
    return run


def to_qemu(setup, mode, pool, folder, _image):
    return into_qemu(setup, mode, pool, folder,
                     lambda: Qemu2(setup, folder, "b", waits=True))


def to_file(setup, mode, pool, folder, image):
    return into_qemu(setup, mode, pool, folder,
                     lambda: Qemu2Filed(setup, folder, "b", image))


def into_qemu(setup, mode, pool, folder, start):
    pool.make_way("source", "target", setup.ram_mib)
    row = moving.Row(mode, "", "", setup.ram_mib)
    with Qemu2(setup, folder, "a") as source:
        ready(source)
        time.sleep(SETTLED_S)
        pool.drop("target")
        with start() as target:
            run = moving.move(source, target, row)
            run["sent_bytes"] = source.qmp("query-migrate")["ram"][
                "transferred"]
    return run


def per_gib(run):
    gib = run["sent_bytes"] / (1 << 30)
    run["mb_per_s"] = run["sent_bytes"] / 1e3 / run["total_ms"]
    for end in ("source", "target"):
        run[f"cpu_{end}_s_per_gib"] = run[f"cpu_{end}_s"] / gib
    return run


TARGETS = {"ferry park": to_park, "qemu": to_qemu,
           "qemu, memory in a file there": to_file}


def measure_park(bench, part):
    ram_mib = part["ram_mib"]
    while ram_mib > 256 and 3.6 * ram_mib > available_mib():
        ram_mib //= 2
    rows = [(guest, mode) for guest in part["guests"]
            for mode in (PRECOPY, URGENT)]
    with images(ram_mib, bench.folder) as place:
        for number in bench.rounds(part):
            for guest, mode in rows:
                setup = guest_setup(bench.build, ram_mib,
                                    f"touch=all {GUESTS[guest]}")
                for name in bench.turn(TARGETS, number):
                    image = place / "image"
                    image.unlink(missing_ok=True)
                    bench.note("park", {
                        "guest": guest, "mode": mode.name, "who": name,
                        "ram_mib": ram_mib, "images": lies_in(place)},
                        lambda name=name, setup=setup, mode=mode, image=image:
                        per_gib(TARGETS[name](setup, mode, bench.pool,
                                              bench.sockets, image)))


# ---- what a guest waits for ------------------------------------------------


def felt(target, stopped_us):
    time.sleep(moving.AFTER_S)
    target.serial.ask("t", "TRACED")
    run = figures.waits(target.serial.log.all("TRACE"), stopped_us)
    return run | moving.checked(target)


class Waits:
    """One VM that was parked, and again and again goes on."""

    def __init__(self, bench, part, place):
        self.bench, self.image = bench, place / "image"
        self.setup = guest_setup(bench.build, part["ram_mib"],
                                 f"touch=all {GUESTS['100M']}")
        with Qemu2(self.setup, bench.sockets, "a") as source, \
                Park(self.setup, self.image, PRECOPY) as park:
            zero = moving.begin(source)
            time.sleep(moving.BEFORE_S)
            park_into(source, park, PRECOPY)
            self.stopped_us = zero.guest_at(source.last_beat_ns())

    def serve(self, mode):
        self.bench.pool.hold("target", int(moving.POOL * self.setup.ram_mib))
        self.bench.pool.drop("target")
        with Qemu2(self.setup, self.bench.sockets, "b", waits=True) as target:
            target.listen(mode)
            cpu = target.cpu_s()
            with Serve(self.setup, self.image, target.address(),
                       mode.urgent) as serve, Stops() as stops:
                told = serve.wait()
                run = {"total_ms": told["total-ms"],
                       "requests": told["requests"],
                       "cpu_source_s": serve.cpu_s(),
                       "cpu_target_s": target.cpu_s() - cpu,
                       "anonymous_kib": serve.anonymous_kib}
                run |= felt(target, self.stopped_us)
            run["stopped_ms"] = stops.within_ms(serve.began_ns,
                                                time.monotonic_ns())
        return run

    def qemu(self, mode):
        row = moving.Row(mode, "", "", self.setup.ram_mib)
        self.bench.pool.make_way("source", "target", self.setup.ram_mib)
        with Qemu2(self.setup, self.bench.sockets, "a") as source:
            zero = moving.begin(source)
            time.sleep(moving.BEFORE_S)
            self.bench.pool.drop("target")
            with Qemu2(self.setup, self.bench.sockets, "b",
                       waits=True) as target, Stops() as stops:
                run = moving.move(source, target, row)
                run["requests"] = source.qmp("query-migrate")["ram"].get(
                    "postcopy-requests", 0)
                run |= felt(target, zero.guest_at(source.last_beat_ns()))
            run["stopped_ms"] = stops.within_ms(run["begun_ns"],
                                                time.monotonic_ns())
        return run


def measure_waits(bench, part):
    with images(part["ram_mib"], bench.folder) as place:
        vm = Waits(bench, part, place)
        who = {"ferry serve --preempt": lambda: vm.serve(URGENT),
               "ferry serve": lambda: vm.serve(POSTCOPY),
               "qemu, preempt": lambda: vm.qemu(URGENT)}
        for number in bench.rounds(part):
            for name in bench.turn(who, number):
                bench.note("waits", {
                    "who": name, "ram_mib": part["ram_mib"],
                    "images": lies_in(place)}, who[name])


# ---- the first line ----------------------------------------------------------


class Saved:
    """One VM, in an image and in a plain file."""

    def __init__(self, bench, ram_mib, written, place):
        self.bench, self.ram_mib = bench, ram_mib
        self.image = place / f"{ram_mib}.image"
        self.plain = place / f"{ram_mib}.plain"
        self.setup = Setup(bench.build, ram_mib, 1,
                           f"cpus=1 avx=0 report={LINE_EVERY_MS} gaps=0 "
                           f"mode=random mem={written} rate=1M")
        with Qemu2(self.setup, bench.sockets, "a") as source:
            ready(source)
            source.save(self.plain)
            with Park(self.setup, self.image, PRECOPY) as park:
                park_into(source, park, PRECOPY)

    def cache(self, path, warm):
        """In the page cache, or not at all."""
        with open(path, "rb") as file:
            if not warm:
                os.fdatasync(file.fileno())
                os.posix_fadvise(file.fileno(), 0, 0, DONTNEED)
                return
            at, end = 0, os.fstat(file.fileno()).st_size
            while at < end:
                try:
                    at = os.lseek(file.fileno(), at, os.SEEK_DATA)
                except OSError:     # nothing but a hole
                    return
                at += len(os.pread(file.fileno(), 1 << 22, at))

    def times(self, target, began_ns):
        line = target.wait_line()
        return {"line_ms": (line - began_ns) / 1e6,
                "beat_ms": (target.beats.first - began_ns) / 1e6}

    def serve(self, mode, warm):
        self.cache(self.image, warm)
        with Qemu2(self.setup, self.bench.sockets, "b", waits=True) as target:
            target.listen(mode)
            with Serve(self.setup, self.image, target.address(),
                       mode.urgent) as serve:
                return self.times(target, serve.began_ns) | \
                    {"anonymous_kib": serve.anonymous_kib}

    def load(self, warm):
        self.cache(self.plain, warm)
        with Qemu2(self.setup, self.bench.sockets, "b", waits=True) as target:
            began_ns = time.monotonic_ns()
            target.listen(PRECOPY, f"exec:cat {self.plain}")
            return self.times(target, began_ns)


def measure_first(bench, part):
    with images(0, bench.folder or tempfile.gettempdir()) as place:
        vms = [Saved(bench, mib, part["written"], place)
               for mib in part["ram_mib"]]
        # Of files in memory nothing can be dropped.
        caches = [True] if lies_in(place) == "tmpfs" else [True, False]
        who = {"ferry serve --preempt": lambda vm, warm: vm.serve(URGENT, warm),
               "ferry serve": lambda vm, warm: vm.serve(POSTCOPY, warm),
               "qemu, exec:cat FILE": lambda vm, warm: vm.load(warm)}
        for number in bench.rounds(part):
            for name in bench.turn(who, number):
                for warm in caches:
                    for vm in vms:
                        bench.note("first", {
                            "who": name, "ram_mib": vm.ram_mib, "warm": warm,
                            "written": part["written"],
                            "images": lies_in(place)},
                            lambda name=name, vm=vm, warm=warm:
                            who[name](vm, warm))


# ---- all of it -----------------------------------------------------------------


PARTS = {"park": measure_park, "waits": measure_waits, "first": measure_first}


class Bench:
    def __init__(self, build, say, folder, sockets):
        self.build, self.say = build, say
        self.folder = folder            # of images; None: where there is room
        self.sockets = sockets
        self.pool = moving.Pool()
        self.deadline = 0
        self.runs = {part: [] for part in PARTS}

    def rounds(self, part):
        """As many as there is time for."""
        start = time.monotonic()
        self.deadline = start + part["limit_s"]
        for number in range(part["rounds"]):
            spent = time.monotonic() - start
            if number and spent + spent / number > part["limit_s"]:
                return
            yield number

    @staticmethod
    def turn(names, number):
        """Who is first takes turns."""
        return list(names)[::1 if number % 2 == 0 else -1]

    def note(self, part, label, what):
        began = time.monotonic()
        if began > self.deadline:       # in its first round already
            return
        try:
            run = what()
        except (*moving.TROUBLES, TimeoutError) as why:
            run = {"error": f"{why}"}
        self.runs[part].append(label | run)
        self.say(f"{part:6}{time.monotonic() - began:5.1f} s  " + ", ".join(
            f"{k}={v:.1f}" if isinstance(v, float) else f"{k}={v}"
            for k, v in (label | run).items()
            if not isinstance(v, (list, dict))))


def measure(build, parts, say, folder=None):
    """{part: runs}."""
    with tempfile.TemporaryDirectory(prefix="ferry-bench-") as sockets:
        bench = Bench(build, say, folder, sockets)
        for name, part in parts.items():
            PARTS[name](bench, part)
    return bench.runs


def keys_of(run):
    return tuple((k, run[k]) for k in
                 ("guest", "mode", "ram_mib", "written", "warm", "images",
                  "who") if k in run)


FIGURES = {
    "park": ("total_ms", "mb_per_s", "cpu_source_s_per_gib",
             "cpu_target_s_per_gib", "anonymous_kib"),
    "waits": ("total_ms", "waits", "wait_p50_us", "wait_p99_us",
              "wait_max_ms", "speed_percent", "requests", "cpu_source_s",
              "cpu_target_s", "anonymous_kib"),
    "first": ("beat_ms", "line_ms", "anonymous_kib"),
}


def rows(runs):
    """{part: what the rounds of each row come to}."""
    out = {}
    for part, all_runs in runs.items():
        out[part] = []
        for key in dict.fromkeys(keys_of(r) for r in all_runs):
            mine = [r for r in all_runs if keys_of(r) == key]
            good = [r for r in mine if "error" not in r]
            out[part].append(dict(key) | {
                "rounds": len(good), "failed": len(mine) - len(good),
                "bad_pages": sum(r.get("bad_pages", 0) for r in good),
                "figures": {f: figures.summary(good, f)
                            for f in FIGURES[part]}})
    return out
