# SPDX-License-Identifier: MIT
"""What can be combined in a migration between two ferries, and samples of it.

A combination is one word of each axis, joined by '/'.  tests/flow/combo.c
knows what the words mean within one process, tests/vm/test_combos.py between
VMs of `ferry run`.
"""

import itertools
import os
import random

AXES = {
    "mode": ("precopy", "both", "postcopy"),
    "data": ("d1", "d2", "d4"),
    "urgent": ("u0", "u1", "u2"),
    "tls": ("clear", "x509", "psk"),
    "bulk": ("nobulk", "mixed", "apart"),   # on data or on device channels
    # What is lost.  calm: nothing; pass, stop: the network, in a pass or
    # while the VM stands, and then a second try; undecided: main, when the
    # target starts the VM; cut, twice: main, in postcopy; data, request: one
    # channel of many, which nobody may notice; octet: any channel, anywhere.
    "loss": ("calm", "pass", "stop", "undecided", "cut", "twice", "data",
             "request", "octet"),
    "pack": ("plain", "zlib", "zstd", "auto"),
    "lease": ("nolease", "lease"),
    "verify": ("trust", "verify"),
    "pages": ("4k", "2m"),
}

BEHIND = ("cut", "twice", "data", "request")    # the switchover


def is_possible(c):
    """Not all that is lost is there to be lost."""
    if c["mode"] == "precopy" and (c["loss"] in BEHIND or c["urgent"] != "u0"):
        return False
    if c["loss"] == "data" and c["data"] == "d1":
        return False
    return c["loss"] != "request" or c["urgent"] != "u0"


def everything(axes=None):
    axes = axes or AXES
    for words in itertools.product(*axes.values()):
        if is_possible(dict(zip(axes, words))):
            yield words


def tuples(words, ways):
    return itertools.combinations(enumerate(words), ways)


def sample(ways, seed, axes=None):
    """So many that each `ways` words that go together are in one of them."""
    chance = random.Random(seed)
    left = list(everything(axes))
    chance.shuffle(left)
    owed = {t for words in left for t in tuples(words, ways)}
    chosen = []
    while owed:
        at = chance.randrange(len(left))
        few = left[at:at + 40] or left[:40]
        best = max(few, key=lambda w: sum(t in owed for t in tuples(w, ways)))
        news = owed.intersection(tuples(best, ways))
        if not news:        # rare ones are left: who has one of them?
            best = next(w for w in left if not owed.isdisjoint(
                tuples(w, ways)))
            news = owed.intersection(tuples(best, ways))
        owed -= news
        chosen.append(best)
    return chosen


def seed():
    """Another in each run, and always said."""
    return int(os.environ.get("FERRY_CUTS_FROM", "") or
               random.randrange(100000))
