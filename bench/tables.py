# SPDX-License-Identifier: MIT
"""A run's JSON as tables in Markdown."""

from plan import GUEST_TEXT, MODE_TEXT

BEGIN = "<!-- written by bench/run --markdown: begin -->"
END = "<!-- written by bench/run --markdown: end -->"

# key, heading, digits, scale
COST = [
    ("total_ms", "total s", 2, 1e-3),
    ("pause_ms", "pause ms", 1, 1),
    ("pause_host_ms", "host saw ms", 1, 1),
    ("cpu_s", "CPU s", 2, 1),
    ("sent_mib", "sent MiB", 0, 1),
]
FELT = [
    ("during_percent", "speed before the switch %", 0, 1),
    ("stall_max_ms", "longest stall ms", 1, 1),
    ("loop_p99_us", "loop p99 us", 0, 1),
    ("back_ms", "back at 90% ms", 0, 1),
    ("faults", "faults", 0, 1),
    ("fault_mean_us", "wait mean us", 0, 1),
    ("fault_p50_us", "p50 us", 0, 1),
    ("fault_p99_us", "p99 us", 0, 1),
]


def figure(summary, digits, scale):
    if not summary:
        return "–"
    median, low, high = (f"{summary[k] * scale:.{digits}f}"
                         for k in ("median", "min", "max"))
    return median if low == high else f"{median} ({low}–{high})"


def size(mib):
    return f"{mib // 1024} GiB" if mib % 1024 == 0 else f"{mib} MiB"


def table(head, rows):
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    lines += ["| " + " | ".join(row) + " |" for row in rows]
    return lines


def rounds(row):
    good = str(row["rounds"])
    return f"{good} of {row['rounds'] + row['failed']}" \
        if row["failed"] else good


def _rows_table(rows, columns):
    head = ["mode", "who", "rounds"] + [c[1] for c in columns]
    return table(head, [
        [MODE_TEXT.get(r["mode"], r["mode"]), r["pair"], rounds(r)] +
        [figure(r["figures"].get(key), digits, scale)
         for key, _, digits, scale in columns] for r in rows])


def _groups(rows):
    seen = []
    for r in rows:
        if (r["ram_mib"], r["guest"]) not in seen:
            seen.append((r["ram_mib"], r["guest"]))
    for ram_mib, guest in sorted(seen, key=lambda k: k[0]):
        yield ram_mib, guest, sorted(
            (r for r in rows if (r["ram_mib"], r["guest"]) ==
             (ram_mib, guest)),
            key=lambda r: list(MODE_TEXT).index(r["mode"]))


def machine(data, runs):
    m = data["machine"]
    return [f"{m['cpu']}, {m['cores']} cores, {m['memory_gib']} GiB; Linux "
            f"{m['kernel']}; ferry {m['ferry']}, {m['qemu']}. "
            f"{data['began']}, {data['seconds']:.0f} s; load before it "
            f"{m['load']:.1f}.", ""] + _stops(runs)


def _stops(runs):
    stopped = [r["stopped_ms"] for r in runs if r.get("stopped_ms")]
    if not stopped:
        return []
    return [f"In {len(stopped)} of {len(runs)} runs the machine itself stood "
            f"still, for {max(stopped):.0f} ms at most: their stalls are not "
            "the VMM's.", ""]


def _floors(floors):
    if not floors:
        return []
    fetch = floors["fetch"]
    return ["### Floors", ""] + table(
        ["what", "figure"],
        [["loopback TCP, send + receive into a warm buffer",
          f"{floors['loopback']['mb_per_s']} MB/s, "
          f"{floors['loopback']['cpu_s_per_gib']} CPU s/GiB"],
         ["UFFDIO_COPY, 256 KiB pieces",
          f"{floors['uffd_copy_256k']['mb_per_s']} MB/s, "
          f"{floors['uffd_copy_256k']['cpu_s_per_gib']} CPU s/GiB"],
         ["UFFDIO_COPY, 4 KiB pieces",
          f"{floors['uffd_copy_4k']['mb_per_s']} MB/s, "
          f"{floors['uffd_copy_4k']['cpu_s_per_gib']} CPU s/GiB"],
         ["fault + TCP fetch + copy, everybody sleeps",
          f"mean {fetch['mean_us']}, p50 {fetch['p50_us']}, "
          f"p99 {fetch['p99_us']} us"]]) + [""]


def _memory(memory):
    if not memory:
        return []
    def mib(m, end):
        if "error" in m:
            return "–"
        return (f"{m[f'{end}_peak_kib'] / 1024:.0f} "
                f"(before: {m[f'{end}_before_kib'] / 1024:.0f})")
    return ["### Resident memory beyond the guest, peak, MiB", ""] + table(
        ["guest", "mode", "who", "source", "target"],
        [[f"{size(m['ram_mib'])}, {m['guest']}", MODE_TEXT[m["mode"]],
          m["pair"], mib(m, "source"), mib(m, "target")]
         for m in memory]) + [""]


def _failures(runs):
    bad = [r for r in runs if "error" in r]
    lines = sorted({f"- {size(r['ram_mib'])}, {r['guest']}, {r['mode']}, "
                    f"{r['pair']}: {r['error']}" for r in bad})
    return ["### Without figures", ""] + lines + [""] if lines else []


def render(data):
    lines = machine(data, data["runs"]) + _floors(data["floors"])
    for ram_mib, guest, rows in _groups(data["rows"]):
        lines += [f"### {size(ram_mib)}, {guest} ({GUEST_TEXT[guest]})", ""]
        lines += _rows_table(rows, COST) + [""]
        lines += _rows_table(rows, FELT) + [""]
    lines += _memory(data["memory"]) + _failures(data["runs"])
    return "\n".join(lines).rstrip() + "\n"


def put_into(text, tables, begin=BEGIN, end=END):
    """Replaces what stands between the two marks, or all."""
    if begin in text and end in text:
        head, rest = text.split(begin, 1)
        tail = rest.split(end, 1)[1]
        return f"{head}{begin}\n\n{tables}\n{end}{tail}"
    return tables
