# SPDX-License-Identifier: MIT
"""bench/run --channels: what several connections are worth, and compression.
docs/BENCHMARKS.md says how."""

import tempfile
import time
from dataclasses import dataclass, field

import figures
import moving
import tables
from ends import Ferry, Mode, Setup

BEGIN = "<!-- written by bench/run --channels --markdown: begin -->"
END = "<!-- written by bench/run --channels --markdown: end -->"

PRECOPY = Mode("precopy", "precopy", False)
GUEST = "mode=idle touch=all mem=90% report=3600000 fill="

# Octets per second of one connection.
GBIT = 125_000_000


@dataclass
class Row:
    part: str
    name: str               # of what is set
    fill: str               # of the guest's pages
    ram_mib: int
    settings: dict = field(default_factory=dict)

    @property
    def label(self):
        return {"part": self.part, "name": self.name, "fill": self.fill,
                "ram_mib": self.ram_mib}


def link(ram_mib):
    """Compression, where a connection carries 1 Gbit/s.  zlib is not tried on
    what cannot be compressed: it takes a core half a minute per GiB."""
    ram_mib //= 2
    return [Row("link", how, fill, ram_mib, {
        "x-ferry-channel-bandwidth": GBIT, "multifd-channels": 1,
        "multifd-compression": how})
        for fill in ("pattern", "random")
        for how in ("none", "zlib", "zstd", "auto")
        if (fill, how) != ("random", "zlib")]


def capped(ram_mib):
    """More connections, where each carries 2 Gbit/s."""
    return [Row("capped", f"{n}", "random", ram_mib, {
        "x-ferry-channel-bandwidth": 2 * GBIT, "multifd-channels": n})
        for n in (1, 2, 4)]


def free(ram_mib):
    """The same without a limit; and what `auto` costs where it is no use."""
    return [Row("free", f"{n}", "random", ram_mib, {"multifd-channels": n})
            for n in (1, 2, 4, 8)] + \
        [Row("free", "1, auto", fill, ram_mib, {
            "multifd-channels": 1, "multifd-compression": "auto"})
            for fill in ("random", "pattern")] + \
        [Row("free", "1", "pattern", ram_mib, {"multifd-channels": 1})]


PARTS = {"link": link, "capped": capped, "free": free}
DEFAULTS = {"multifd-channels": 1, "multifd-compression": "none",
            "x-ferry-channel-bandwidth": 0}


def plan(quick, parts=None):
    """(rows, rounds) of each part."""
    return {name: (make(512 if quick else 1024),
                   2 if quick or name == "link" else 3)
            for name, make in PARTS.items() if name in (parts or PARTS)}


def tiny():
    """For a test of the harness itself."""
    made = [r for make in PARTS.values() for r in make(64)]
    return {"some": ([r for r in made if r.name in ("auto", "4")], 1)}


def _move(setup, row, pool, folder):
    pool.make_way("source", "target", row.ram_mib)
    with Ferry(setup, folder, "a") as source:
        source.serial.wait(lambda log: log.ready or log.dead)
        pool.drop("target")
        with Ferry(setup, folder, "b", waits=True) as target:
            source.vm.set({**DEFAULTS, **row.settings})
            run = moving.move(source, target, moving.Row(
                PRECOPY, row.fill, "", row.ram_mib))
            told = source.qmp("query-migrate")
            flows = told["x-ferry-channels"]
            run |= {
                "sent_mib": told["ram"]["transferred"] / (1 << 20),
                "blocked_s": sum(f["blocked-us"] for f in flows) / 1e6,
                "packed_mib": sum(f["compressed-from"]
                                  for f in flows) / (1 << 20),
                **moving.checked(target)}
    run["cpu_s"] = run["cpu_source_s"] + run["cpu_target_s"]
    del run["begun_ns"]
    return run


def measure(build, parts, say):
    """All runs, round by round."""
    pool = moving.Pool()
    runs = []
    most = max(rounds for _, rounds in parts.values())
    for number in range(most):
        for rows, rounds in parts.values():
            for row in rows if number < rounds else ():
                began = time.monotonic()
                setup = Setup(build, row.ram_mib, 1, GUEST + row.fill)
                with tempfile.TemporaryDirectory(prefix="ferry-bench-") as at:
                    try:
                        run = _move(setup, row, pool, at)
                    except moving.TROUBLES as why:
                        run = {"error": f"{why}"}
                runs.append(row.label | run)
                say(f"{row.part:7}{row.name:8}{row.fill:8}"
                    f"{time.monotonic() - began:5.1f} s  " + ", ".join(
                        f"{k}={v:.2f}" if isinstance(v, float) else
                        f"{k}={v}" for k, v in run.items()
                        if not isinstance(v, (list, dict))))
    return runs


FIGURES = ("total_ms", "cpu_source_s", "cpu_target_s", "cpu_s", "sent_mib",
           "packed_mib", "blocked_s")


def rows(runs):
    """What the rounds of each row come to."""
    keys = ("part", "name", "fill", "ram_mib")
    out = []
    for key in dict.fromkeys(tuple(r[k] for k in keys) for r in runs):
        mine = [r for r in runs if key == tuple(r[k] for k in keys)]
        good = [r for r in mine if "error" not in r]
        out.append(dict(zip(keys, key)) | {
            "rounds": len(good), "failed": len(mine) - len(good),
            "bad_pages": sum(r["bad_pages"] for r in good),
            "figures": {f: figures.summary(good, f) for f in FIGURES}})
    return out


# ---- tables --------------------------------------------------------------------

HEADS = {
    "link": ("One connection of 1 Gbit/s: compression", "compression"),
    "capped": ("Connections of 2 Gbit/s each", "data channels"),
    "free": ("No limit: both ends share the cores", "data channels"),
}
FILLS = {"pattern": "a pattern", "random": "random"}
COLUMNS = [
    ("total_ms", "total s", 2, 1e-3),
    ("cpu_source_s", "CPU s, source", 2, 1),
    ("cpu_target_s", "CPU s, target", 2, 1),
    ("sent_mib", "sent MiB", 0, 1),
    ("packed_mib", "compressed MiB", 0, 1),
    ("blocked_s", "in writing s", 2, 1),
]


def _of_first(row, mine):
    """Its time, of that of the first row with the same memory, percent."""
    first = next(r for r in mine if r["fill"] == row["fill"])
    both = [r["figures"].get("total_ms") for r in (row, first)]
    return f"{100 * both[0]['median'] / both[1]['median']:.0f}" \
        if all(both) else "–"


def _part(part, mine):
    title, what = HEADS[part]
    return [f"### {title}, {tables.size(mine[0]['ram_mib'])}", ""] + \
        tables.table(
            ["memory", what, "rounds", "of the first %"] +
            [c[1] for c in COLUMNS],
            [[FILLS[r["fill"]], r["name"], tables.rounds(r),
              _of_first(r, mine)] +
             [tables.figure(r["figures"].get(key), digits, scale)
              for key, _, digits, scale in COLUMNS] for r in mine]) + [""]


def render(data):
    told = data["channels"]
    lines = tables.machine(data, told["runs"])
    if data["machine"]["load"] > 1:
        lines += ["Other work went on meanwhile: these figures are no more "
                  "than an order of magnitude.", ""]
    for part in HEADS:
        mine = [r for r in told["rows"] if r["part"] == part]
        if mine:
            lines += _part(part, mine)
    return "\n".join(lines).rstrip() + "\n"
