# SPDX-License-Identifier: MIT
"""The C encoders and the reader written from docs/wire.md agree.

Usage: golden.py PROGRAM, where PROGRAM prints golden octets (golden.c).
Every golden line is parsed and compared with the values that golden.c was
told to encode; then octets are changed one by one, and the reader may refuse
them but must not fail in another way.
"""

import subprocess
import sys

import reader

SESSION = bytes(range(0xa0, 0xb0)).hex()
HELLO = {
    "name": "db1", "channels": (4, 1, 2), "software": "ferry 0.1.0",
    "blocks": {"ram": (1 << 30, 2 << 20, 0),
               "rom": (8192, 4096, 0xffffe000)},
    "facts": {"vcpus": (1, "2"), "cpu": (2, "sse2 avx")},
    "bulk": [("gpu", 1, 7)],
}
OPENING = [
    ("CONFIGURATION", "db1"), ("OPEN_RETURN_PATH", None), ("PING", 1),
    ("POSTCOPY_ADVISE", 0x201000),
]
LEASED = OPENING + [("LEASE", 10000)]
START = [("START", None), ("BLOCK", ("ram", 1 << 30)),
         ("BLOCK", ("rom", 8192))]
RANGES = ("ram", [(0, 0x200000), (0x10000000, 0x30000000)])
DEVICES = [("uart", (0, 1, b"\1\2\3")), ("nothing", (0, 1, b"")),
           ("ferry.run", (0, 1, b"\1"))]


def head(kind="main", index=0, features=0xbfff, mandatory=1):
    return {"type": kind, "index": index, "session": SESSION,
            "features": features, "mandatory": mandatory,
            "mac": bytes(range(0xc0, 0xe0)).hex()
            if features & 0x400 and mandatory else None}


def answer(features, verdict=(0, "")):
    return (head(features=features, mandatory=0),
            dict({k: HELLO[k] for k in HELLO if k != "channels"},
                 verdict=verdict))


PACKET = ("ram", [0x1000, 0x5000], [0x3ffff000],
          [b"\x11" * 4096, b"\x22" * 4096])
STATE = ("STATE", 0, 0x101, 7, b"state")

EXPECTED = {
    "precopy": (head(), HELLO, LEASED + START + [
        ("ZERO_RANGES", RANGES), ("BARRIER", 1), ("FINISH", 2),
        ("VERIFY", ("ram", 5, [7, 0x48c689ba])),
        ("PACKAGED", DEVICES), ("POSTCOPY_RUN", None), ("FINISH", 3)]),
    "postcopy": (head(), HELLO, OPENING + START + [
        ("BARRIER", 1), ("RAM_DISCARD", RANGES),
        ("PACKAGED", [("POSTCOPY_LISTEN", None)] + DEVICES),
        ("POSTCOPY_RUN", None), ("PING", 0), ("RENEW", 7), ("WATCH", 1),
        ("LOST", (3, 1)), ("FINISH", 2)]),
    "aborted": (head(), HELLO, OPENING + [
        ("ABORT", "does not converge: 3 passes, 900 MiB left")]),
    "answered": answer(0x2f) + ([
        ("PONG", 1), ("SYNCED", 1),
        ("REQ_PAGES_ID", (0x200000, 0x200000, "ram")),
        ("REQ_PAGES", (0, 0x400000)), ("BULK_CREDIT", (0, 1 << 40)),
        ("BULK_READY", 0), ("BULK_LOADED", (0, 5000000000)),
        ("LOADED", None), ("RUNNING", None),
        ("FAULTS", (3, 250, 70000)), ("LOST", (2, 63)), ("SHUT", 0)],),
    "failed": answer(0xbfff) + ([("ASK_LEASE", 7), ("DIFFERS", "verify"), ("REASON", "device uart: no?"),
                               ("SHUT", 1)],),
    "refused": answer(0, (5, "other size")) + ([],),
    "data": (head("data", 3), [PACKET, ("SYNC", 1), STATE]),
    "device": (head("device"), [STATE, ("LAST", 0, 0x300, 8)]),
    "urgent": (head("urgent"), [PACKET]),
}


def damage(kind, data):
    """Each octet (of the first 500) changed: Refused, or fine."""
    for at in range(min(len(data), 500)):
        for value in (0, 0xff):
            changed = data[:at] + bytes([value]) + data[at + 1:]
            try:
                reader.PARSERS[kind](changed)
            except (reader.Refused, UnicodeDecodeError):
                pass


def main():
    lines = subprocess.run([sys.argv[1]], check=True, text=True,
                           stdout=subprocess.PIPE).stdout.splitlines()
    seen, failed = set(), 0
    for line in lines:
        name, kind, octets = line.split("\t")
        data = bytes.fromhex(octets)
        got = reader.PARSERS[kind](data)
        seen.add(name)
        if got != EXPECTED.get(name):
            failed += 1
            print("not ok %s\n  read     %.600r\n  expected %.600r" %
                  (name, got, EXPECTED.get(name)))
        else:
            print("ok %s, %d octets" % (name, len(data)))
        damage(kind, data)
    if seen != set(EXPECTED):
        failed += 1
        print("not ok: missing", set(EXPECTED) - seen)
    return 1 if failed else 0


sys.exit(main())
