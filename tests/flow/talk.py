# SPDX-License-Identifier: MIT
"""What two ferries really say is what docs/wire.md says.

Usage: talk.py TALK, where TALK is the program of talk.c.
Between its source and its target stands a listener; the reader written from
docs/wire.md (tests/unit/wire/reader.py) then takes every octet of every
connection apart, and the rules that it cannot see in one direction alone are
checked here.
"""

import os
import socket
import subprocess
import sys
import tempfile
import threading

sys.path.insert(0, os.path.join(os.path.dirname(__file__), "../unit/wire"))

import reader  # noqa: E402

PAGES = 1024

# What is asked for, and whether postcopy follows (None: the policy's choice).
MODES = {
    "precopy": (False, ["postcopy-ram", "off"]),
    "precopy on 3 channels": (False, ["postcopy-ram", "off",
                                      "multifd-channels", "3"]),
    "precopy, zlib": (False, ["postcopy-ram", "off",
                              "multifd-channels", "2",
                              "multifd-compression", "zlib"]),
    "the default policy": (None, []),
    "a pass, then postcopy": (True, ["x-ferry-precopy-passes", "1"]),
    "postcopy at once": (True, ["x-ferry-precopy-passes", "0",
                                "multifd-channels", "2"]),
    "postcopy without urgent": (True, ["x-ferry-precopy-passes", "0",
                                       "postcopy-preempt", "off"]),
    "a bulk device among pages": (False, ["postcopy-ram", "off",
                                          "bulk", "1"]),
    "bulk devices on 2 channels": (True, ["x-ferry-precopy-passes", "1",
                                          "x-ferry-device-channels", "2",
                                          "bulk", "3"]),
}


def may_postcopy():
    with open("/proc/sys/vm/unprivileged_userfaultfd") as f:
        return (os.geteuid() == 0 or f.read().strip() == "1" or
                os.access("/dev/userfaultfd", os.R_OK | os.W_OK))


class Listener:
    """Passes connections on, and keeps what they carry."""

    def __init__(self, at, to):
        self.to, self.heard, self.threads = to, [], []
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.bind(at)
        self.sock.listen()
        self.start(self.accept)

    def start(self, what, *args):
        t = threading.Thread(target=what, args=args, daemon=True)
        self.threads.append(t)
        t.start()

    def accept(self):
        while True:
            try:
                near = self.sock.accept()[0]
            except OSError:
                return
            far = socket.socket(socket.AF_UNIX)
            far.connect(self.to)
            there, back = bytearray(), bytearray()
            self.heard.append((there, back))
            self.start(self.carry, near, far, there)
            self.start(self.carry, far, near, back)

    @staticmethod
    def carry(a, b, kept):
        try:
            while data := a.recv(1 << 16):
                kept += data
                b.sendall(data)
        except OSError:
            pass
        for s, how in (a, socket.SHUT_RD), (b, socket.SHUT_WR):
            try:
                s.shutdown(how)
            except OSError:
                pass

    def close(self):
        self.sock.shutdown(socket.SHUT_RDWR)
        self.sock.close()
        for t in self.threads:
            t.join(30)


def record(talk, parameters):
    with tempfile.TemporaryDirectory() as d:
        near, far = os.path.join(d, "near"), os.path.join(d, "far")
        listener = Listener(near, far)
        try:
            subprocess.run([talk, "unix:" + far, "unix:" + near, *parameters],
                           check=True, timeout=120)
        finally:
            listener.close()
        return listener.heard


def names(records):
    return [r[0] for r in records]


def check_pages(packets, records, postcopy):
    """Rules 5 and 6, and that every page came."""
    known, zeroed = {}, set()
    for name, value in records:
        if name == "ZERO_RANGES":
            for start, size in value[1]:
                zeroed |= set(range(start // 4096, (start + size) // 4096))
    for channel, (_, said) in packets.items():
        barriers = 0
        for p in said:
            if p[0] in ("SYNC", "STATE", "LAST"):
                barriers += p[0] == "SYNC"
                continue
            for offset in p[1] + p[2]:
                known.setdefault(offset // 4096, []).append(
                    (barriers, channel))
    assert len(set(known) | zeroed) == PAGES, "pages are missing"
    if not postcopy:
        # Between two barriers a page goes over one channel; which one, may
        # change at a barrier (a slow one's are dealt anew).
        for page, ways in known.items():
            assert len({way[0] for way in ways}) == len(set(ways)), page


def check_bulk(packets, messages, devices):
    """2.6: each device's packets, without gaps, up to LAST; within what was
    granted in the end; and what T says of them, in its place."""
    sent = {}
    for channel, (_, said) in packets.items():
        for p in said:
            if p[0] in ("STATE", "LAST"):
                sent.setdefault(p[1], {})[p[3]] = p
    assert set(sent) == set(range(devices))
    for device, of in sent.items():
        assert sorted(of) == list(range(len(of))), "gaps"
        assert [p[0] for _, p in sorted(of.items())] == (
            ["STATE"] * (len(of) - 1) + ["LAST"])
        limits = [m[1][1] for m in messages
                  if m[0] == "BULK_CREDIT" and m[1][0] == device]
        assert limits == sorted(limits) and limits[-1] > max(of)
    before = names(messages)[:names(messages).index("LOADED")]
    for word in ("BULK_READY", "BULK_LOADED"):
        assert before.count(word) == devices, word
        assert names(messages).count(word) == devices, word


def check_pongs(pings, pongs):
    """Rule 10: each is answered, in order; only PONG 0 comes unasked, as it
    does from a side that was slow."""
    rest = iter(pongs)
    for ping in pings:
        for pong in rest:
            if pong == ping:
                break
            assert pong == 0, "PONG %d, PING %d" % (pong, ping)
        else:
            raise AssertionError("PING %d is not answered" % ping)
    assert not any(rest), "a PONG that nobody asked for"


def check(what, wanted, heard):
    mains = [h for h in heard if h[1]]
    assert len(mains) == 1, "one connection goes both ways"
    head, hello, records = reader.parse_main(bytes(mains[0][0]))
    answer, theirs, messages = reader.parse_return(bytes(mains[0][1]))
    packets = {}
    for there, back in heard:
        if not back:
            h, said = reader.parse_packets(bytes(there))
            assert h["session"] == head["session"]
            packets[h["type"], h["index"]] = h, said

    assert answer["session"] == head["session"]
    assert answer["features"] & ~head["features"] == 0
    assert head["mandatory"] & ~answer["features"] == 0
    assert head["mandatory"] & 1, "commit is mandatory"
    assert theirs["verdict"][0] == 0
    assert theirs["blocks"] == hello["blocks"]
    assert theirs.get("bulk") == hello.get("bulk")
    data, urgent, device = hello["channels"]
    assert set(packets) == ({("data", i) for i in range(data)} |
                            {("urgent", i) for i in range(urgent)} |
                            {("device", i) for i in range(device)})

    assert answer["features"] & 1 << 8, "recover"
    assert records.pop() == ("HEARD", None)
    while records[-1] == ("PING", 0):   # signs of life: T reads no more
        records.pop()
    said = names(records)
    postcopy = "POSTCOPY_RUN" in said[:-1]
    assert said[-1] == ("FINISH" if postcopy else "POSTCOPY_RUN"), said[-1]
    assert wanted in (None, postcopy)

    marks = [r[1] for r in records if r[0] in ("BARRIER", "FINISH")]
    for channel, (_, p) in packets.items():
        assert [x[1] for x in p if x[0] == "SYNC"] == (
            [] if channel[0] == "device" else marks), channel
    synced = [m[1] for m in messages if m[0] == "SYNCED"]
    assert synced == [r[1] for r in records if r[0] == "BARRIER"]
    check_pongs([r[1] for r in records if r[0] == "PING"],
                [m[1] for m in messages if m[0] == "PONG"])
    turns = [m for m in names(messages) if m in ("LOADED", "RUNNING", "SHUT")]
    assert turns == ["LOADED", "RUNNING", "SHUT"], turns
    assert messages[-1] == ("SHUT", 0)
    check_pages(packets, records, postcopy)
    check_bulk(packets, messages, len(hello.get("bulk", [])))
    assert bool(head["features"] & 1 << 11) == ("bulk" in hello)

    devices = names(dict(records)["PACKAGED"])
    assert devices == ["POSTCOPY_LISTEN"] * postcopy + ["toy", "ferry.run"]
    print("ok %s: %d records, %d messages, %d packets%s" %
          (what, len(records), len(messages),
           sum(len(p[1]) for p in packets.values()),
           ", postcopy" if postcopy else ""))


def main():
    failed = 0
    for what, (wanted, parameters) in MODES.items():
        if wanted and not may_postcopy():
            continue
        try:
            check(what, wanted, record(sys.argv[1], parameters))
        except (AssertionError, reader.Refused,
                subprocess.SubprocessError) as e:
            failed += 1
            print("not ok %s: %s" % (what, repr(e)[:500]))
    if failed:
        return 1
    if not may_postcopy():
        print("skipped: postcopy, there is no userfaultfd for this user")
        return 77
    return 0


sys.exit(main())
