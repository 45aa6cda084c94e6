# SPDX-License-Identifier: MIT
"""Reads what the test guest says on its serial port (guest/README.md).

    log = GuestLog()
    log.feed(data)              # bytes as they come, cut anywhere
    log.ready, log.bad, log.last("FERRY")["gap_us"]

After a migration, feed the destination's output behind the source's: a line
that was begun here and ended there comes out whole.
"""

import math
from dataclasses import dataclass, field

LAST_BUCKET = 26                # of TRACE's gaps: longer than all others

WORDS = frozenset({
    "WARN", "FATAL", "MAP", "INIT", "READY", "FERRY", "HIST", "BAD", "RESET",
    "SUMMARY", "TRACE", "TRACED", "VERIFIED", "DONE", "PANIC", "NET",
    "NETHIST", "DISK", "DISKHIST", "DISKBAD",
})


@dataclass
class Line:
    """One line; line["gap_us"] is a number, line["kind"] a word."""

    word: str
    text: str
    values: dict = field(default_factory=dict)

    def __getitem__(self, key):
        return self.values[key]

    def get(self, key, default=None):
        return self.values.get(key, default)


def _value(text):
    try:
        if text.startswith("0x"):
            return int(text, 16)
        return float(text) if "." in text else int(text)
    except ValueError:
        return text


def _gaps(words):
    """HIST's "<=8us:3 >33554432us:1" as {8: 3, inf: 1}."""
    gaps = {}
    for word in words:
        bound, _, count = word.partition("us:")
        if bound.startswith("<="):
            gaps[int(bound[2:])] = int(count)
        else:
            gaps[math.inf] = int(count)
    return gaps


def _traced(text):
    """TRACE's "0:93,7:2" as {1: 93, 128: 2}; the last one is infinity."""
    pairs = (pair.split(":") for pair in text.split(",") if pair)
    return {2 ** int(i) if int(i) < LAST_BUCKET else math.inf: int(n)
            for i, n in pairs}


def parse(text):
    """A Line, or None for what the guest does not say (a BIOS, say)."""
    word, _, rest = text.partition(" ")
    if word not in WORDS:
        return None
    line = Line(word, text)
    if word.endswith("HIST"):
        line.values = _gaps(rest.split())
    elif word not in ("WARN", "FATAL"):
        pairs = (pair.partition("=") for pair in rest.split())
        line.values = {key: _value(value) for key, _, value in pairs}
    if word == "TRACE":
        line.values["gaps"] = _traced(str(line.get("gaps", "")))
    return line


class GuestLog:
    def __init__(self):
        self.lines = []
        self.bad = []           # BAD lines
        self._rest = ""

    def feed(self, data):
        """Takes bytes or text; returns the lines that were completed."""
        if isinstance(data, bytes):
            data = data.decode("ascii", "replace")
        *whole, self._rest = (self._rest + data).split("\n")
        new = [line for line in map(parse, (t.rstrip("\r") for t in whole))
               if line]
        self.lines += new
        self.bad += [line for line in new if line.word == "BAD"]
        return new

    def all(self, word):
        return [line for line in self.lines if line.word == word]

    def last(self, word):
        """The newest line of this kind, or None."""
        return next((line for line in reversed(self.lines)
                     if line.word == word), None)

    @property
    def ready(self):
        return self.last("READY")

    @property
    def done(self):
        return self.last("DONE")

    @property
    def dead(self):
        """Why the guest cannot go on, or None."""
        line = self.last("PANIC") or self.last("FATAL")
        return line.text if line else None

    @property
    def bad_count(self):
        """All findings the guest told of (BAD lines stop after 20)."""
        told = [line["bad"] for line in self.lines
                if line.word in ("FERRY", "SUMMARY", "DONE")]
        return max(told[-1:] + [len(self.bad)])

    @property
    def longest_gap_us(self):
        """Over all that was said so far."""
        return max((line["gap_us"] for line in self.lines
                    if "gap_us" in line.values), default=0)

    def address(self, page):
        """Physical address of a page."""
        for line in self.all("MAP"):
            index = page - line["page"]
            if 0 <= index < line["pages"]:
                return line["addr"] + index * 4096
        raise KeyError(f"no MAP line covers page {page}")
