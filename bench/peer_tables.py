# SPDX-License-Identifier: MIT
"""The JSON of bench/run --peer as tables in Markdown."""

import tables

BEGIN = "<!-- written by bench/run --peer --markdown: begin -->"
END = "<!-- written by bench/run --peer --markdown: end -->"
MODES = {"precopy": "precopy", "postcopy-urgent": "postcopy at once, preempt"}
GUESTS = {"idle": "idle: watches the clock",
          "100M": "rewrites 100 MiB/s at random in 25% of RAM"}

# key, heading, digits, scale
PARK = [
    ("total_ms", "total s", 2, 1e-3),
    ("mb_per_s", "MB/s", 0, 1),
    ("cpu_source_s_per_gib", "CPU s/GiB, source", 2, 1),
    ("cpu_target_s_per_gib", "CPU s/GiB, target", 2, 1),
    ("anonymous_kib", "park's memory MiB", 1, 1 / 1024),
]
WAITS = [
    ("waits", "waits", 0, 1),
    ("wait_p50_us", "p50 us", 0, 1),
    ("wait_p99_us", "p99 us", 0, 1),
    ("wait_max_ms", "longest ms", 1, 1),
    ("speed_percent", "speed %", 0, 1),
    ("total_ms", "total s", 2, 1e-3),
    ("cpu_source_s", "CPU s, source", 2, 1),
    ("cpu_target_s", "CPU s, target", 2, 1),
    ("anonymous_kib", "serve's memory MiB", 1, 1 / 1024),
]
FIRST = [
    ("beat_ms", "runs after ms", 0, 1),
    ("line_ms", "first line after ms", 0, 1),
    ("anonymous_kib", "serve's memory MiB", 1, 1 / 1024),
]


def _table(rows, heads, columns):
    """heads: {heading: what to say of a row}."""
    return tables.table(
        [*heads, "rounds"] + [c[1] for c in columns],
        [[say(r) for say in heads.values()] + [tables.rounds(r)] +
         [tables.figure(r["figures"].get(key), digits, scale)
          for key, _, digits, scale in columns] for r in rows]) + [""]


def _failures(runs):
    lines = sorted({f"- {part}, {r['who']}, {tables.size(r['ram_mib'])}: "
                    f"{r['error']}" for part, all_runs in runs.items()
                    for r in all_runs if "error" in r})
    return ["### Without figures", "", *lines, ""] if lines else []


def _park(rows):
    if not rows:
        return []
    r = rows[0]
    rows = sorted(rows, key=lambda r: (r["guest"], r["mode"] != "precopy",
                                       r["who"]))
    return [f"### From a QEMU, {tables.size(r['ram_mib'])}; images in "
            f"{r['images']}", ""] + _table(rows, {
                "guest": lambda r: GUESTS[r["guest"]],
                "mode": lambda r: MODES[r["mode"]],
                "target": lambda r: r["who"]}, PARK)


def _waits(rows):
    if not rows:
        return []
    r = rows[0]
    return [f"### What the guest waits for in postcopy, "
            f"{tables.size(r['ram_mib'])}, {GUESTS['100M']}; image in "
            f"{r['images']}, in the page cache", ""] + \
        _table(rows, {"source": lambda r: r["who"]}, WAITS)


def _first(rows):
    if not rows:
        return []
    rows = sorted(rows, key=lambda r: (r["who"], not r["warm"],
                                       r["ram_mib"]))
    return [f"### Until the guest's first new line; files in "
            f"{rows[0]['images']}, {rows[0]['written']} of RAM written", ""] \
        + _table(rows, {
            "how": lambda r: r["who"],
            "page cache": lambda r: "warm" if r["warm"] else "cold",
            "RAM": lambda r: tables.size(r["ram_mib"])}, FIRST)


def render(data):
    rows = data["peer"]["rows"]
    runs = data["peer"]["runs"]
    lines = tables.machine(data, [r for part in runs.values() for r in part])
    if data["machine"]["load"] > 1:
        lines += ["Other work went on meanwhile: these figures are no more "
                  "than an order of magnitude.", ""]
    lines += _park(rows["park"]) + _waits(rows["waits"]) + \
        _first(rows["first"]) + _failures(runs)
    return "\n".join(lines).rstrip() + "\n"
