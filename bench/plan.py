# SPDX-License-Identifier: MIT
"""What is measured: guests, modes, sizes, and how often."""

import itertools
from dataclasses import dataclass

from ends import Mode
from moving import Row

MODES = {m.name: m for m in (
    Mode("precopy", "precopy", False),
    Mode("pass1", "precopy+postcopy", False),
    Mode("pass1-urgent", "precopy+postcopy", True),
    Mode("postcopy", "postcopy", False),
    Mode("postcopy-urgent", "postcopy", True),
)}
MODE_TEXT = {
    "precopy": "precopy",
    "pass1": "1 pass + postcopy, one channel",
    "pass1-urgent": "1 pass + postcopy, urgent channel",
    "postcopy": "postcopy at once, one channel",
    "postcopy-urgent": "postcopy at once, urgent channel",
}

GUESTS = {
    "idle": "mode=idle",
    "100M": "mode=random mem=25% rate=100M",
    "full": "mode=random mem=25%",
    "db": "mode=db mem=25%",
}
GUEST_TEXT = {
    "idle": "idle: watches the clock",
    "100M": "rewrites 100 MiB/s at random in 25% of RAM",
    "full": "the same without a limit",
    "db": "hash table over 25% of RAM, 60% reads",
}

# Of these three the most rounds are made.
KEY_MODES = ("precopy", "pass1-urgent", "postcopy-urgent")
KEY_GUEST = "100M"
SMALL, LARGE = 1024, 4096


@dataclass
class Part:
    rows: list
    rounds: int


def row(mode, guest, ram_mib):
    return Row(MODES[mode], guest, GUESTS[guest], ram_mib)


def cross(modes, guests, sizes):
    return [row(m, g, s) for s, g, m in
            itertools.product(sizes, guests, modes)]


def quick():
    return [Part(cross(KEY_MODES, [KEY_GUEST], [SMALL]), 3)]


def default():
    """Everything at 1 GiB, a choice at 4 GiB."""
    key = cross(KEY_MODES, [KEY_GUEST], [SMALL])
    keys = [r.key for r in key]
    rest = [r for r in cross(MODES, GUESTS, [SMALL]) if r.key not in keys]
    large = cross(KEY_MODES, [KEY_GUEST], [LARGE])
    return [Part(key, 5), Part(rest, 3), Part(large, 3)]


def chosen(modes, guests, sizes, rounds):
    """What the command line asks for; what it does not name: all, 1 GiB."""
    return [Part(cross(modes or MODES, guests or GUESTS, sizes or [SMALL]),
                 rounds or 3)]


def turns(parts):
    """(row, round) in the order to measure: round by round over everything,
    so that a change of the machine's temper meets all rows alike."""
    most = max(part.rounds for part in parts)
    for number in range(most):
        for part in parts:
            if number < part.rounds:
                for r in part.rows:
                    yield r, number


def weighed(parts):
    """The rows whose memory is looked at: those measured most, and one of
    another size to see what grows with the guest."""
    rows = [r for part in parts for r in part.rows]
    key = [r for r in rows if r.guest == KEY_GUEST and
           r.mode.name in KEY_MODES and r.ram_mib == rows[0].ram_mib]
    other = [r for r in rows if r.guest == KEY_GUEST and
             r.mode.name == "postcopy-urgent" and
             r.ram_mib != rows[0].ram_mib]
    return (key or rows[:1]) + other[:1]
