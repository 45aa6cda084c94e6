# SPDX-License-Identifier: MIT
"""The demo behind scripts/demo: usage: demo.py BUILD-DIR [--json]"""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests" / "vm"))

from ferryvm import Vm  # noqa: E402
from guestlog import GuestLog  # noqa: E402

GUEST = "cpus=2 mode=random mem=25% rate=100M report=500"
MODES = [
    ("precopy", ["--precopy"]),
    ("precopy+postcopy", ["--passes", "1"]),
    ("postcopy", ["--postcopy"]),
]


def say(text):
    print(text, file=sys.stderr, flush=True)


def migrate(ferry, folder, source, target, options):
    """By the command line, as anybody would; its progress line is shown."""
    env = dict(os.environ, FERRY_RUNTIME_DIR=folder)
    command = [str(ferry), "migrate", source.qmp_path, target.address(),
               *options, "--json"]
    done = subprocess.run(command, env=env, stdout=subprocess.PIPE,
                          check=False)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)} ended with "
                           f"{done.returncode}: {source.stderr()}"
                           f"{target.stderr()}")


def measure(mode, source, target):
    """What it cost, by the engine's figures and by the guest's."""
    sent = source.qmp("query-migrate")
    got = target.qmp("query-migrate")
    faults = got.get("x-ferry-faults", {})
    gaps = target.serial.ask("s", "SUMMARY")
    checked = target.serial.ask("v", "VERIFIED")
    return {
        "mode": mode,
        "total_ms": sent["total-time"],
        "pause_ms": sent["x-ferry-pause-us"] / 1000,
        "guest_pause_ms": gaps["gap_us"] / 1000,
        "bytes": sent["ram"]["transferred"],
        "passes": sent["ram"]["dirty-sync-count"],
        "faults": faults.get("count", 0),
        "fault_p50_us": faults.get("p50-us", 0),
        "fault_p99_us": faults.get("p99-us", 0),
        "bad_pages": max(gaps["bad"], checked["bad"]),
        "verified_pages": checked["pages"],
    }


def table(runs):
    head = ["mode", "total", "pause", "guest saw", "sent", "passes", "faults",
            "p50", "p99", "bad pages"]
    rows = [[r["mode"], f"{r['total_ms']} ms", f"{r['pause_ms']:.1f} ms",
             f"{r['guest_pause_ms']:.1f} ms", f"{r['bytes'] >> 20} MiB",
             str(r["passes"]), str(r["faults"]),
             f"{r['fault_p50_us']:.0f} us", f"{r['fault_p99_us']:.0f} us",
             f"{r['bad_pages']} of {r['verified_pages']}"] for r in runs]
    widths = [max(len(row[i]) for row in [head, *rows])
              for i in range(len(head))]
    for row in [head, *rows]:
        print("  ".join(cell.ljust(width) if i == 0 else cell.rjust(width)
                        for i, (cell, width) in enumerate(zip(row, widths))))


def run(build, folder):
    ferry, kernel = build / "ferry", build / "guest" / "ferry-guest.elf"
    log = GuestLog()
    runs = []

    say("demo: starting a VM: 2 vCPUs, 1 GiB, writing 100 MiB/s at random")
    source = Vm(ferry, folder, "demo0", kernel=kernel, append=GUEST, log=log)
    try:
        source.serial.wait(lambda seen: seen.last("FERRY"),
                           what="the guest to be ready")
        for i, (mode, options) in enumerate(MODES, 1):
            say(f"demo: moving it by {mode}")
            target = Vm(ferry, folder, f"demo{i}",
                        incoming="tcp:127.0.0.1:0", log=log)
            try:
                source.serial.ask("r", "RESET")
                migrate(ferry, folder, source, target, options)
                runs.append(measure(mode, source, target))
            except BaseException:
                target.close()
                raise
            source.close()
            source = target
    finally:
        source.close()
    return runs


def main():
    build = Path(sys.argv[1])
    as_json = "--json" in sys.argv[2:]

    with tempfile.TemporaryDirectory(prefix="ferry-demo-") as folder:
        try:
            runs = run(build, folder)
        except Exception as why:        # said as one sentence
            say(f"demo: {why}")
            if as_json:
                print(json.dumps({"ok": False, "error": str(why),
                                  "runs": []}))
            return 1
    ok = all(r["bad_pages"] == 0 and r["verified_pages"] > 0 for r in runs)
    if not as_json:
        table(runs)
        print("every page is right" if ok else "PAGES ARE WRONG")
    else:
        print(json.dumps({"ok": ok, "runs": runs}))
    return 0 if ok else 1


if __name__ == "__main__":
    sys.exit(main())
