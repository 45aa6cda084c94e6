# SPDX-License-Identifier: MIT
"""The demo: one JSON object on its last line, and every page right."""

import json
import subprocess
import sys
from pathlib import Path

DEMO = Path(__file__).resolve().parents[2] / "scripts" / "demo.py"

FIELDS = {
    "mode": str, "total_ms": (int, float), "pause_ms": (int, float),
    "guest_pause_ms": (int, float), "bytes": int, "passes": int,
    "faults": int, "fault_p50_us": (int, float),
    "fault_p99_us": (int, float), "bad_pages": int,
}


def test_the_demo_ends_with_one_object_of_three_good_runs(kvm, build):
    done = subprocess.run([sys.executable, DEMO, build, "--json"],
                          stdout=subprocess.PIPE, timeout=240, check=False)
    last = json.loads(done.stdout.splitlines()[-1])

    assert done.returncode == 0 and last["ok"] is True, last
    assert [run["mode"] for run in last["runs"]] == [
        "precopy", "precopy+postcopy", "postcopy"]
    for run in last["runs"]:
        for field, kind in FIELDS.items():
            assert isinstance(run[field], kind), (field, run)
        assert run["bad_pages"] == 0
        assert run["bytes"] > 0
        assert run["total_ms"] >= run["pause_ms"] > 0
    assert last["runs"][2]["faults"] > 0
    assert last["runs"][2]["passes"] == 0
