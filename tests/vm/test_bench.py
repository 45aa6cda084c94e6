# SPDX-License-Identifier: MIT
"""bench/run says what it was asked, and what it measures is a migration that
loses nothing.  How fast that was is not looked at here."""

import json
import math
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "bench"))

import figures  # noqa: E402
import peer  # noqa: E402
import peer_tables  # noqa: E402
import stops  # noqa: E402
import tables  # noqa: E402
import vhost  # noqa: E402
from ends import PAIRS  # noqa: E402

RUN = ("total_ms", "pause_ms", "pause_host_ms", "cpu_s", "cpu_source_s",
       "cpu_target_s", "sent_mib", "passes", "stall_max_ms", "loop_p99_us",
       "speed_before", "speed_after", "faults", "engine_total_ms",
       "engine_pause_ms", "verified_pages", "bad_pages", "stopped_ms")


def bench(build, *options, check=True):
    return subprocess.run(
        [ROOT / "bench" / "run", "--build", build, *options], text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, check=check,
        timeout=240)


@pytest.mark.usefixtures("kvm")
@pytest.mark.parametrize("pair", PAIRS)
def test_a_small_run_has_every_figure_and_loses_no_page(build, folder, pair):
    for end in PAIRS[pair]:
        if end.missing(build):
            pytest.skip(end.missing(build))
    out = f"{folder}/out.json"
    bench(build, "--pair", pair, "--size", "64M", "--guest", "full",
          "--mode", "precopy", "--mode", "postcopy-urgent", "--rounds", "1",
          "--json", out)
    data = json.loads(Path(out).read_text(encoding="utf-8"))

    assert [r["mode"] for r in data["runs"]] == ["precopy", "postcopy-urgent"]
    for run in data["runs"]:
        assert "error" not in run, run
        assert not [key for key in RUN
                    if not isinstance(run[key], (int, float))]
        assert run["bad_pages"] == 0 and run["verified_pages"] > 10000
        assert run["total_ms"] > 0 and run["pause_host_ms"] > 0
        assert run["sent_mib"] > 30
    for row in data["rows"]:
        assert row["rounds"] == 1 and row["failed"] == 0
        assert row["figures"]["total_ms"]["n"] == 1
    for weight in data["memory"]:
        assert weight["source_peak_kib"] > 0 < weight["target_peak_kib"]
    assert data["floors"]["fetch"]["p50_us"] > 0
    assert {"cpu", "kernel", "cores", "qemu"} <= set(data["machine"])

    shown = bench(build, "--from", out, "--markdown", "-").stdout
    assert "### 64 MiB, full" in shown and f"| {pair} | 1 |" in shown


@pytest.mark.usefixtures("kvm")
def test_a_tiny_run_over_several_channels_has_every_figure(build, folder):
    out = f"{folder}/out.json"
    bench(build, "--channels", "--tiny", "--json", out)
    told = json.loads(Path(out).read_text(encoding="utf-8"))["channels"]
    assert not [r for r in told["runs"] if "error" in r], told["runs"]
    assert {r["part"] for r in told["rows"]} == {"link", "capped", "free"}
    for row in told["rows"]:
        assert row["rounds"] == 1 and all(row["figures"].values()), row
        assert row["bad_pages"] == 0
    shown = bench(build, "--from", out, "--markdown", "-").stdout
    assert "### Connections of 2 Gbit/s each, 64 MiB" in shown


@pytest.mark.usefixtures("kvm")
def test_a_tiny_run_beside_qemu_has_every_figure(build, folder):
    if PAIRS["qemu"][0].missing(build):
        pytest.skip(PAIRS["qemu"][0].missing(build))
    out, place = f"{folder}/out.json", tempfile.mkdtemp(dir="/dev/shm")
    bench(build, "--peer", "--tiny", "--images", place, "--json", out)
    os.rmdir(place)     # it is empty
    data = json.loads(Path(out).read_text(encoding="utf-8"))

    for part, runs in data["peer"]["runs"].items():
        assert runs and not [r for r in runs if "error" in r], runs
        for row in data["peer"]["rows"][part]:
            assert row["rounds"] == 1 and not row["failed"]
            for key, figure in row["figures"].items():
                assert figure or key == "anonymous_kib", (row, key)
    for run in data["peer"]["runs"]["waits"]:
        assert run["bad_pages"] == 0 and run["verified_pages"] > 10000
    of_ferry = [r for runs in data["peer"]["runs"].values() for r in runs
                if "anonymous_kib" in r]
    assert len(of_ferry) > 6
    assert max(r["anonymous_kib"] for r in of_ferry) < 64 << 10

    shown = bench(build, "--from", out, "--markdown", "-").stdout
    for heading in ("From a QEMU, 64 MiB", "What the guest waits for",
                    "first new line"):
        assert f"### {heading}" in shown or heading in shown


@pytest.mark.usefixtures("kvm")
def test_a_tiny_run_of_bulk_devices_has_every_figure(build, folder):
    out = f"{folder}/out.json"
    bench(build, "--bulk", "--tiny", "--json", out)
    data = json.loads(Path(out).read_text(encoding="utf-8"))["bulk"]
    assert len(data["rows"]) == 6
    for row in data["rows"]:
        assert row["rounds"] == 1 and not row["bad_pages"]
        assert all(row["figures"].values()), row
    shown = bench(build, "--from", out, "--markdown", "-").stdout
    assert "### 2 devices of 4 MiB" in shown


@pytest.mark.usefixtures("kvm")
def test_a_tiny_run_of_backends_has_every_figure(build, folder):
    """Of ours alone: what others do is not our test's."""
    out = f"{folder}/out.json"
    bench(build, "--vhost", "--tiny", "--json", out)
    told = json.loads(Path(out).read_text(encoding="utf-8"))["vhost"]
    assert not [r for r in told["runs"] if "error" in r], told["runs"]
    of = {part: [r for r in told["rows"] if r["part"] == part]
          for part in vhost.PARTS}
    assert [len(rows) for rows in of.values()] == [3, 3, 1, 2, 4]
    for row in told["rows"]:
        assert row["rounds"] == 1 and not row["bad_pages"], row
    for row in of["packets"] + of["iops"]:
        assert row["figures"]["rate"]["median"] > 0, row
    assert {"net_waits", "blk_waits"} <= set(of["waits"][0]["figures"])
    for row in of["gap"]:
        assert row["figures"]["gap_ms"]["median"] > 0, row
    for row in of["gap"] + of["scenario"]:
        assert {"total_ms", "downtime_ms"} <= set(row["figures"]), row
    shown = bench(build, "--from", out, "--markdown", "-").stdout
    for heading in ("Frames of 64 octets", "Requests of 4 KiB at random",
                    "Waits of our backends", "What the guest's network feels",
                    "Traffic as in DPDK's cover letter"):
        assert f"### {heading}" in shown


def test_a_backend_is_held_against_the_best_of_its_peers():
    def run(of, rate):
        return {"part": "iops", "what": 8, "mode": None, "vm": None, "of": of,
                "rate": rate}
    runs = [run("ferry-vhost-blk", 300), run("a", 100), run("b", 200),
            run("c", 50) | {"error": "it hangs"}]
    rows = vhost.rows(runs)
    shown = "\n".join(vhost.TABLES["iops"](rows[:3]))
    assert "| 8 | ferry-vhost-blk | 1 | 300 | 150 |" in shown
    assert "| 8 | b | 1 | 200 | 100 |" in shown
    assert rows[3]["failed"] == 1 and not rows[3]["figures"]


def test_what_cannot_be_measured_is_said(folder):
    done = bench(folder, "--pair", "ferry", check=False)
    assert done.returncode == 1
    assert done.stderr == f"bench: {folder}/ferry is not built\n"


def test_the_help_names_every_option():
    said = bench(ROOT, "--help").stdout
    for option in ("--json", "--markdown", "--quick", "--mode", "--guest",
                   "--size", "--pair", "--rounds", "--vhost"):
        assert option in said


# ---- from samples to figures ------------------------------------------------

def line(us, iterations, gap_us, gaps=None):
    class Sample:
        values = {"us": us, "iter": iterations, "gap_us": gap_us,
                  "gaps": gaps or {1: iterations}}

        def __getitem__(self, key):
            return self.values[key]
    return Sample()


def trace():
    """A thousand iterations in 10 ms; a pause of 30 ms; a stall of 5 ms; half
    as fast for 200 ms; as before."""
    us, lines = 0, []
    for ms, iterations, gap_us in (
            [(10, 1000, 20)] * 20 + [(40, 1000, 30000), (10, 500, 5000)] +
            [(10, 500, 20)] * 19 + [(10, 1000, 20)] * 60):
        us += ms * 1000
        lines.append(line(us, iterations, gap_us))
    return lines


def test_the_pause_is_found_and_what_came_after():
    # The guest's time is known to 100 ms only.
    f = figures.from_trace(trace(), near_us=340_000, quiet_until_us=200_000,
                           host_pause_ms=30.6)
    assert f["pause_ms"] == 30 and f["pause_confirmed"]
    assert f["stall_max_ms"] == 5
    assert f["speed_before"] == pytest.approx(100_000)
    assert f["speed_during"] is None
    # 30 of pause, 200 at half speed; a window that is mostly full speed is
    # enough.
    assert 200 <= f["back_ms"] <= 230


def test_the_speed_while_it_is_moved_is_that_before_the_switch():
    slow = [line(10_000 * i, 1000 if i < 20 else 300,
                 9000 if i == 40 else 20) for i in range(100)]
    f = figures.from_trace(slow, near_us=400_000, quiet_until_us=150_000,
                           host_pause_ms=9, moving_from_us=200_000)
    assert f["speed_during"] == pytest.approx(30_000)


def waiting():
    """Undisturbed; stopped; 3 waits of 100 us and one of 400 among what the
    machine takes anyhow."""
    return [line(10_000 * i, 1000, 20, {32: 1000}) for i in range(30)] + \
        [line(300_000, 0, 9000)] + \
        [line(310_000, 500, 400, {64: 400, 128: 3, 512: 1})] + \
        [line(310_000 + 10_000 * i, 1000, 40, {64: 1000})
         for i in range(1, 99)]


def test_waits_are_counted_from_where_the_guest_goes_on():
    f = figures.waits(waiting(), stopped_us=295_000)
    assert f["waits"] == 4 and f["gaps"] == {128: 3, 512: 1}
    assert 64 <= f["wait_p50_us"] <= 128 < f["wait_p99_us"] <= 512
    assert f["wait_max_ms"] == 0.4
    assert 99 < f["speed_percent"] < 101


@pytest.mark.parametrize("stopped_us", [-1, 1e9])
def test_samples_on_one_side_of_the_switch_only_are_refused(stopped_us):
    with pytest.raises(ValueError):
        figures.waits(waiting(), stopped_us)


def test_a_part_makes_no_round_that_it_has_no_time_for():
    parts = {"rounds": 5, "limit_s": 0}
    assert list(peer.Bench(None, None, None, None).rounds(parts)) == [0]
    assert peer.Bench.turn({"a": 1, "b": 2}, 0) == ["a", "b"]
    assert peer.Bench.turn({"a": 1, "b": 2}, 1) == ["b", "a"]


def test_tables_of_a_busy_machine_say_so():
    data = {"machine": dict.fromkeys(("cpu", "cores", "memory_gib", "kernel",
                                      "ferry", "qemu"), "x") | {"load": 1.6},
            "began": "now", "seconds": 1, "peer": {
                "rows": dict.fromkeys(peer.PARTS, ()),
                "runs": {"park": [{"error": "no", "who": "qemu",
                                   "ram_mib": 64}]}}}
    shown = peer_tables.render(data)
    assert "Other work went on meanwhile" in shown
    assert "- park, qemu, 64 MiB: no" in shown
    data["machine"]["load"] = 0.3
    assert "Other work" not in peer_tables.render(data)


def test_a_pause_that_the_host_did_not_see_is_not_confirmed():
    f = figures.from_trace(trace(), near_us=240_000, quiet_until_us=200_000,
                           host_pause_ms=50)
    assert not f["pause_confirmed"]


def test_a_guest_that_never_comes_back_has_no_such_time():
    slow = [line(10_000 * i, 1000 if i < 20 else 300,
                 9000 if i == 20 else 20) for i in range(100)]
    f = figures.from_trace(slow, near_us=200_000, quiet_until_us=150_000,
                           host_pause_ms=9)
    assert f["back_ms"] is None


def test_samples_that_miss_the_switch_are_refused():
    with pytest.raises(ValueError):
        figures.from_trace(trace(), near_us=9e6, quiet_until_us=200_000,
                           host_pause_ms=30)


@pytest.mark.parametrize("gaps, p, of, expect", [
    ({8: 100}, 50, None, 6),
    ({1: 99, 1024: 1}, 99, None, 1),
    ({1: 90, 1024: 10}, 99, None, 972.8),
    ({1: 9900, 1024: 10}, 99, 100, 972.8),  # 9810 idle looks do not count
    ({1: 50, math.inf: 50}, 99, None, 1 << 26),
    ({}, 99, None, 0),
])
def test_percentiles_of_doubling_buckets(gaps, p, of, expect):
    assert figures.percentile(gaps, p, of) == pytest.approx(expect, rel=0.02)


def test_only_what_stood_still_in_the_meantime_counts():
    with stops.Stops() as watch:
        pass
    watch.seen = [(0, 15_000_000), (20_000_000, 60_000_000)]
    assert watch.within_ms(0, 100_000_000) == 55
    assert watch.within_ms(10_000_000, 30_000_000) == 15
    assert watch.within_ms(15_000_000, 20_000_000) == 0


def test_runs_in_which_the_machine_stood_still_are_told_above_the_tables():
    data = {"machine": dict.fromkeys(("cpu", "cores", "memory_gib", "kernel",
                                      "ferry", "qemu"), "x") | {"load": 1.0},
            "began": "now", "seconds": 1, "floors": None, "rows": [],
            "memory": [], "runs": [{"stopped_ms": 0}, {"stopped_ms": 33.4}]}
    assert "In 1 of 2 runs the machine itself stood still, for 33 ms" in \
        tables.render(data)
    data["runs"].pop()
    assert "stood still" not in tables.render(data)


def test_tables_go_between_their_marks():
    text = f"before\n{tables.BEGIN}\nold\n{tables.END}\nafter\n"
    assert tables.put_into(text, "new\n") == \
        f"before\n{tables.BEGIN}\n\nnew\n\n{tables.END}\nafter\n"
    assert tables.put_into("no marks", "new\n") == "new\n"
