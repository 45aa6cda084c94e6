# SPDX-License-Identifier: MIT
"""bench/run --vhost: devices in processes beside the VM, ours and others'.
docs/BENCHMARKS.md says how."""

import contextlib
import tempfile
import time

import figures
import tables
from ferryvm import ENDS, Dead, QmpError
from moving import Failed
from vhost_ends import DISKS, NETS, VMS, FerryBlk, FerryNet, FerryVm, \
    LIMIT_S, cpu_s

BEGIN = "<!-- written by bench/run --vhost --markdown: begin -->"
END = "<!-- written by bench/run --vhost --markdown: end -->"

MIB = 1 << 20
QUIET = "report=3600000 gaps=0 beat=0"
# What the guest is told, what the backend does, what of NET is counted.
PACKETS = {
    "from the guest": ("net=flood", "rxonly", "done"),
    "to the guest": ("net=echo net_us=10000000", "txonly", "foreign"),
    "both ways, echoed": ("net=flood", "icmpecho", "got"),
}
DEPTHS = (1, 8, 64)
# What the guest is told; what the backends do.
SCENARIO = {
    "moderate: 10 000 echoes a second": ("net=echo net_us=100", "icmpecho"),
    "full: both sides send all they can": ("net=flood", "txonly"),
}
# DPDK's series for vhost-user postcopy: (total ms, downtime ms).
PUBLISHED = {
    ("moderate", "classic"): (12592, 53), ("moderate", "postcopy"): (2324, 48),
    ("full", "classic"): (22101, 35), ("full", "postcopy"): (2995, 47),
}
TROUBLES = (Failed, ValueError, RuntimeError, QmpError, Dead, OSError,
            TimeoutError)


def plan(quick, testpmd):
    return {"parts": ["packets", "iops", "waits", "gap"] +
            (["scenario"] if testpmd else []),
            "rounds": 2 if quick else 5, "seconds": 0.5 if quick else 1.5,
            "ram_mib": 256, "used_mib": 100, "cap": 32 * MIB, "switch_s": 1.0,
            "scenario": {"ram_mib": 512, "used_mib": 380}}


def tiny():
    """For a test of the harness itself."""
    return {"parts": ["packets", "iops", "waits", "gap", "scenario"],
            "rounds": 1, "seconds": 0.1, "ram_mib": 64, "used_mib": 16,
            "cap": 0, "switch_s": 0.0, "ours_only": True, "scenario": {}}


def present(kinds, build, part):
    """Those that are installed."""
    return [kind for kind in kinds if not kind.missing(build) and
            (kind.name.startswith("ferry") or not part.get("ours_only"))]


# ---- as fast as it goes ----------------------------------------------------------

def _counted(vm, word):
    """Now: (seconds since READY, the counters of NET or DISK)."""
    before = len(vm.log.all(word))
    summary = vm.serial.ask("s", "SUMMARY")
    found = vm.serial.wait(lambda log: log.all(word)[before:])
    return summary["t"], found[0]


def _rate(vm, backend, word, keys, seconds):
    """Of what these counters count, a second; and the CPU time of each."""
    vm.serial.wait(lambda log: log.ready or log.dead)
    if vm.log.dead:
        raise Failed(vm.log.dead)
    time.sleep(0.3)
    both = backend.process, vm.process
    t0, first = _counted(vm, word)
    before = [cpu_s(process) for process in both]
    n, deadline = 0, time.monotonic() + LIMIT_S
    while not n:                # on a machine that is busy it may take longer
        if time.monotonic() > deadline:
            raise Failed(f"nothing happens: {last.text}")
        time.sleep(seconds)
        after = [cpu_s(process) for process in both]
        t1, last = _counted(vm, word)
        n = sum(last[k] - first[k] for k in keys)
    if last["bad"]:
        raise Failed(f"{last['bad']} bad of {word}")
    return {"rate": n / (t1 - t0),
            "backend_us": (after[0] - before[0]) * 1e6 / n,
            "vm_us": (after[1] - before[1]) * 1e6 / n}


def _packets(build, folder, part, row):
    append, mode, key = PACKETS[row["what"]]
    with row["of"](build, folder, "net", mode) as port, \
            FerryVm(build, folder, "a", [port], 64,
                    f"mode=idle {QUIET} mem=8M {append}") as vm:
        return _rate(vm, port, "NET", [key], part["seconds"])


def _iops(build, folder, part, row):
    path = _disk(folder)
    with row["of"](build, folder, "disk", path) as drive, \
            FerryVm(build, folder, "a", [drive], 64,
                    f"mode=idle {QUIET} mem=8M disk={row['what']}") as vm:
        return _rate(vm, drive, "DISK", ["reads", "writes"], part["seconds"])


def _disk(folder):
    path = f"{folder}/disk.img"
    with open(path, "wb") as file:
        for _ in range(16):
            file.write(bytes(MIB))
    return path


# ---- migrations ------------------------------------------------------------------

def _wait(vm, *states):
    deadline = time.monotonic() + 120
    while (now := vm.migration()) not in states:
        if now in ENDS:
            raise Failed(f"{vm.qmp('query-migrate')}: {vm.stderr()}")
        if time.monotonic() > deadline:
            raise Failed(f"no {states}: {vm.qmp('query-migrate')}")
        time.sleep(0.005)


def _move(a, b, mode, part):
    """Returns what the source tells in the end."""
    postcopy = mode == "postcopy"
    a.set({"postcopy-ram": postcopy, "max-bandwidth": part["cap"],
           "x-ferry-precopy-passes": 1000} if part["cap"] else
          {"postcopy-ram": postcopy, "x-ferry-precopy-passes": 1000})
    a.qmp("migrate", uri=b.address())
    if postcopy:
        _wait(a, "active", "postcopy-active", "completed")
        time.sleep(part["switch_s"])
        with contextlib.suppress(QmpError):     # it is over
            a.qmp("migrate-start-postcopy")
    _wait(b, "completed")
    _wait(a, "completed")
    return a.qmp("query-migrate")


def _migrated(build, folder, part, how, append):
    """Both VMs, moved: (what the source tells, DISK and NET after it, the
    backends' figures where they are ours)."""
    pairs = [(kind(build, folder, f"{kind.kind}-a", *words),
              kind(build, folder, f"{kind.kind}-b", *words))
             for kind, words in how["backends"]]
    told = {}
    with contextlib.ExitStack() as stack:
        for pair in pairs:
            for one in pair:
                stack.enter_context(one)
        a = stack.enter_context(how["vm"](
            build, folder, "a", [p[0] for p in pairs], part["ram_mib"],
            f"{QUIET} mem={part['used_mib']}M {append}"))
        a.serial.wait(lambda log: log.ready or log.dead)
        b = stack.enter_context(how["vm"](
            build, folder, "b", [p[1] for p in pairs], part["ram_mib"]))
        time.sleep(0.3)
        _counted(a, "NET")
        time.sleep(0.5)
        told["before"] = _counted(a, "NET")[1]
        told["migration"] = _move(a, b, how["mode"], part)
        time.sleep(0.3)
        told["net"] = _counted(b, "NET")[1]
        found = b.serial.ask("v", "VERIFIED")
        told["bad_pages"] = found["bad"]
        if told["net"]["bad"] or b.log.all("DISKBAD"):
            raise Failed("the guest's network or disk is damaged")
        for vm in a, b:
            vm.close()
        told["figures"] = {p[1].kind: p[1].end() for p in pairs
                           if hasattr(p[1], "end")}
    return told


def _waits(build, folder, part, row):
    path = _disk(folder)
    told = _migrated(build, folder, part, {
        "vm": FerryVm, "mode": "postcopy",
        "backends": [(FerryNet, ("icmpecho",)), (FerryBlk, (path,))]},
        f"mode=random rate=8M net={row['what']} disk=8")
    run = {"bad_pages": told["bad_pages"]}
    for kind, says in told["figures"].items():
        buckets = {float(1 << i): n
                   for i, n in enumerate(says["wait-buckets"]) if n}
        run[f"{kind}_waits"] = says["waits"]
        run[f"{kind}_max_ms"] = says["wait-max-ns"] / 1e6
        for p in (50, 99) if buckets else ():
            run[f"{kind}_p{p}_us"] = figures.percentile(buckets, p)
    return run


def _gap(build, folder, part, row):
    told = _migrated(build, folder, part, {
        "vm": row["vm"], "mode": row["mode"],
        "backends": [(row["of"], ("icmpecho",))]},
        f"mode=random rate=8M net={row['what']}")
    run = _of_migration(told)
    run["gap_ms"] = told["net"]["gap_us"] / 1e3
    run["before_ms"] = told["before"]["gap_us"] / 1e3
    return run


def _of_migration(told):
    last = told["migration"]
    return {"bad_pages": told["bad_pages"], "lost": told["net"]["lost"],
            "total_ms": last["total-time"], "downtime_ms": last["downtime"]}


def _scenario(build, folder, part, row):
    append, mode = SCENARIO[row["what"]]
    part = part | part["scenario"]
    return _of_migration(_migrated(build, folder, part, {
        "vm": row["vm"], "mode": row["mode"],
        "backends": [(row["of"], (mode,))]}, f"mode=idle {append}"))


# ---- rows --------------------------------------------------------------------------

def _packet_rows(build, part):
    return [{"what": what, "of": of} for what in PACKETS
            for of in present(NETS, build, part)]


def _iops_rows(build, part):
    return [{"what": depth, "of": of} for depth in DEPTHS
            for of in present(DISKS, build, part)]


def _waits_rows(_build, _part):
    return [{"what": "echo", "of": FerryNet}]


def _gap_rows(build, part):
    return [{"what": "echo", "mode": mode, "vm": vm, "of": of}
            for mode in ("classic", "postcopy")
            for vm in present(VMS, build, part)
            for of in present(NETS, build, part)]


def _scenario_rows(build, part):
    return [{"what": what, "mode": mode, "vm": FerryVm, "of": of}
            for what in SCENARIO for mode in ("classic", "postcopy")
            for of in present(NETS, build, part)]


PARTS = {
    "packets": (_packet_rows, _packets),
    "iops": (_iops_rows, _iops),
    "waits": (_waits_rows, _waits),
    "gap": (_gap_rows, _gap),
    "scenario": (_scenario_rows, _scenario),
}
LABELS = ("part", "what", "mode", "vm", "of")


def _label(name, row):
    return {"part": name, **{k: getattr(row.get(k), "name", row.get(k))
                             for k in LABELS[1:]}}


def measure(build, part, say):
    """All runs, round by round, rows in turn: what the machine does meanwhile
    meets all of them."""
    runs = []
    for number in range(part["rounds"]):
        for name in part["parts"]:
            rows_of, once = PARTS[name]
            for row in rows_of(build, part):
                label = _label(name, row)
                with tempfile.TemporaryDirectory(prefix="ferry-bench-") as at:
                    try:
                        run = once(build, at, part, row)
                    except TROUBLES as why:
                        run = {"error": f"{why}"}
                runs.append(label | run)
                say(f"round {number + 1}, " + ", ".join(
                    f"{v}" for v in label.values() if v) + ": " + ", ".join(
                    f"{k}={v:.1f}" if isinstance(v, float) else f"{k}={v}"
                    for k, v in run.items()))
    return runs


def rows(runs):
    """What the rounds of each row come to."""
    out = []
    for key in dict.fromkeys(tuple(r[k] for k in LABELS) for r in runs):
        mine = [r for r in runs if key == tuple(r[k] for k in LABELS)]
        good = [r for r in mine if "error" not in r]
        names = dict.fromkeys(k for r in good for k in r if k not in LABELS)
        out.append(dict(zip(LABELS, key)) | {
            "rounds": len(good), "failed": len(mine) - len(good),
            "bad_pages": sum(r.get("bad_pages", 0) for r in good),
            "figures": {k: figures.summary(good, k) for k in names}})
    return out


# ---- tables ------------------------------------------------------------------------

def _share(row, mine):
    """Of the best peer's, percent; ours are the first."""
    peers = [r["figures"]["rate"]["median"] for r in mine
             if r["what"] == row["what"] and not r["of"].startswith("ferry")
             and r["figures"].get("rate")]
    rate = row["figures"].get("rate")
    return f"{100 * rate['median'] / max(peers):.0f}" if rate and peers \
        else "–"


def _rates(title, what, digits, scale):
    def table(mine):
        return [f"### {title}", ""] + tables.table(
            [what, "backend", "rounds", "a second", "of the best peer's %",
             "CPU us each, backend", "VM"],
            [[str(r["what"]), r["of"], tables.rounds(r),
              tables.figure(r["figures"].get("rate"), digits, scale),
              _share(r, mine)] +
             [tables.figure(r["figures"].get(key), 2, 1)
              for key in ("backend_us", "vm_us")] for r in mine]) + [""]
    return table


def _waits_table(mine):
    lines = ["### Waits of our backends for pages, in postcopy", ""]
    body = []
    for r in mine:
        for kind, name in ("net", FerryNet.name), ("blk", FerryBlk.name):
            body.append([name, tables.rounds(r)] + [
                tables.figure(r["figures"].get(f"{kind}_{key}"), digits, 1)
                for key, digits in (("waits", 0), ("p50_us", 0),
                                    ("p99_us", 0), ("max_ms", 1))])
    return lines + tables.table(
        ["backend", "rounds", "waits", "p50 us", "p99 us", "longest ms"],
        body) + [""]


COLUMNS = [("gap_ms", "longest gap between echoes ms", 1, 1),
           ("before_ms", "before it ms", 1, 1), ("lost", "echoes lost", 0, 1),
           ("total_ms", "total ms", 0, 1), ("downtime_ms", "downtime ms", 0, 1)]


def _gap_table(mine):
    return ["### What the guest's network feels of a migration", ""] + \
        tables.table(
            ["mode", "VM", "backends", "rounds"] + [c[1] for c in COLUMNS],
            [[r["mode"], r["vm"], r["of"], tables.rounds(r)] +
             [tables.figure(r["figures"].get(key), digits, scale)
              for key, _, digits, scale in COLUMNS] for r in mine]) + [""]


def _scenario_table(mine):
    body = []
    for r in mine:
        then = PUBLISHED[r["what"].split(":")[0], r["mode"]]
        body.append([r["what"], r["mode"], r["of"], tables.rounds(r)] + [
            tables.figure(r["figures"].get(key), 0, 1)
            for key in ("total_ms", "downtime_ms")] +
            [f"{ms}" for ms in then])
    return ["### Traffic as in DPDK's cover letter", ""] + \
        tables.table(["network", "mode", "backends", "rounds", "total ms", "downtime ms",
                      "published total ms", "published downtime ms"],
                     body) + [""]


TABLES = {
    "packets": _rates("Frames of 64 octets", "frames", 0, 1),
    "iops": _rates("Requests of 4 KiB at random", "at a time", 0, 1),
    "waits": _waits_table,
    "gap": _gap_table,
    "scenario": _scenario_table,
}


def render(data):
    told = data["vhost"]
    lines = tables.machine(data, told["runs"])
    if data["machine"]["load"] > 1:
        lines += ["Other work went on meanwhile: these figures are no more "
                  "than an order of magnitude.", ""]
    for part, table in TABLES.items():
        mine = [r for r in told["rows"] if r["part"] == part]
        if mine:
            lines += table(mine)
    errors = sorted({f"- {r['part']}, {r['what']}, {r['of']}: {r['error']}"
                     for r in told["runs"] if "error" in r})
    if errors:
        lines += ["### Without figures", ""] + errors + [""]
    return "\n".join(lines).rstrip() + "\n"
