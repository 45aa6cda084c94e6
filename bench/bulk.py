# SPDX-License-Identifier: MIT
"""bench/run --bulk: devices with much state, all at the same time beside one
after the other.  docs/BENCHMARKS.md says how."""

import tempfile
import time

import figures
import tables
from ends import credentials
from ferryvm import Vm

BEGIN = "<!-- written by bench/run --bulk --markdown: begin -->"
END = "<!-- written by bench/run --bulk --markdown: end -->"

SERIAL = {"x-ferry-bulk": "serial", "x-ferry-device-channels": 1}
# With TLS or not; what is set, in the order of the table.  The first of each is
# the one-channel way, and what the others are held against.
WAYS = {
    "one after the other, one channel": (False, SERIAL),
    "parallel, among the pages": (False, {}),
    "parallel, 4 device channels": (False, {"x-ferry-device-channels": 4}),
    "TLS, one after the other, one channel": (True, SERIAL),
    "TLS, parallel, among the pages": (True, {}),
    "TLS, parallel, 4 device channels": (True, {"x-ferry-device-channels": 4}),
}
LIMIT_S = 240
COLUMNS = [
    ("pause_ms", "pause ms", 0, 1),
    ("gap_ms", "guest's longest gap ms", 0, 1),
    ("of_first_percent", "of the one-channel way %", 1, 1),
    ("longest_ms", "longest device ms", 0, 1),
    ("save_ms", "its save ms", 0, 1),
    ("send_ms", "send ms", 0, 1),
    ("load_ms", "load ms", 0, 1),
]


def plan(tiny):
    return {"devices": 2 if tiny else 4, "size_mib": 4 if tiny else 100,
            "rate_mib": 100, "rounds": 1 if tiny else 5, "ram": "128M"}


def once(build, folder, part, tls, settings):
    words = ["--set", f"tls-creds={credentials(build)}"] if tls else []
    for i in range(part["devices"]):
        words += ["--bulk-state", f"dev{i},size={part['size_mib']}M,"
                  f"rate={part['rate_mib']}M,change=0,live=0"]
    how = {"vcpus": 1, "ram": part["ram"], "extra": words}
    with Vm(build / "ferry", folder, "a",
            kernel=build / "guest" / "ferry-guest.elf",
            append="cpus=1 mode=idle report=3600000", **how) as source, \
            Vm(build / "ferry", folder, "b", incoming="tcp:127.0.0.1:0",
               **how) as target:
        source.serial.wait(lambda log: log.ready)
        time.sleep(0.5)
        source.serial.ask("r", "RESET")
        source.migrate(target, "precopy", {"postcopy-ram": False, **settings})
        told = source.wait_migration("completed")
        target.wait_migration("completed")
        said = target.serial.ask("s", "SUMMARY")
        longest = [d for d in told["x-ferry-bulk"] if d["longest"]][0]
        pages = target.serial.ask("v", "VERIFIED")
        return {
            "pause_ms": told["x-ferry-pause-us"] / 1e3,
            "gap_ms": said["gap_us"] / 1e3,
            "longest_ms": longest["path-us"] / 1e3,
            **{f"{what}_ms": longest[f"{what}-us"] / 1e3
               for what in ("save", "send", "load")},
            "bad_pages": pages["bad"],
        }


def measure(build, part, say):
    """In turn, so that a change of the machine's temper meets all."""
    runs, start = [], time.monotonic()
    for number in range(part["rounds"]):
        if time.monotonic() - start > LIMIT_S * number / part["rounds"] + 60:
            break
        first = {}
        for way, (tls, settings) in WAYS.items():
            say(f"bulk devices, {way}, round {number + 1} ...")
            with tempfile.TemporaryDirectory(prefix="ferry-bench-") as folder:
                run = once(build, folder, part, tls, settings)
            first.setdefault(tls, run["pause_ms"])
            run["of_first_percent"] = 100 * run["pause_ms"] / first[tls]
            runs.append({"way": way, **run})
    return runs


def rows(runs):
    made = []
    for way in WAYS:
        of = [r for r in runs if r["way"] == way]
        if of:
            made.append({"way": way, "rounds": len(of),
                         "bad_pages": sum(r["bad_pages"] for r in of),
                         "figures": {c[0]: figures.summary(of, c[0])
                                     for c in COLUMNS}})
    return made


def render(data):
    part, m = data["bulk"]["part"], data["machine"]
    text = [f"Measured {data['began']}: {m['cpu']}, {m['cores']} cores, Linux "
            f"{m['kernel']}; ferry {m['ferry']} ({m['commit']}).", "",
            f"### {part['devices']} devices of {part['size_mib']} MiB, each "
            f"at {part['rate_mib']} MiB/s", ""]
    text += tables.table(
        ["way", "rounds"] + [c[1] for c in COLUMNS],
        [[r["way"], str(r["rounds"])] +
         [tables.figure(r["figures"][key], digits, scale)
          for key, _, digits, scale in COLUMNS]
         for r in data["bulk"]["rows"]])
    return "\n".join(text)
