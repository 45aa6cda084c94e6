# SPDX-License-Identifier: MIT
"""Backends of an ordinary user, who may open no userfaultfd but one for user
mode, and a VM of `ferry run` that moves between them."""

import os
import shutil

import pytest

from conftest import has
from test_ferry_migrate import ASKED_ONLY, BUSY, FULL_SPEED, arrived
from test_ferry_run import goes_on
from test_qemu import disk

NOBODY = 65534
AS_NOBODY = ("setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}",
             "--clear-groups", "--inh-caps=-all")


def gives_way(folder):
    """Nobody gets to the folder, whose files are his."""
    for parent in folder.parents[:-2]:
        parent.chmod(parent.stat().st_mode | 0o055)
    os.chown(folder, NOBODY, NOBODY)


@pytest.fixture
def theirs(backend, make_vm, folder):
    """A busy guest and a process that waits for it, the four backends
    nobody's."""
    if os.geteuid() or not shutil.which("setpriv"):
        pytest.skip("takes root, and setpriv")
    gives_way(folder)
    path = disk(folder)
    os.chown(path, NOBODY, NOBODY)
    ends = [[backend("net", f"net-{name}", "--mode", "echo", before=AS_NOBODY),
             backend("blk", f"disk-{name}", "--disk", path, before=AS_NOBODY)]
            for name in "ab"]
    for one in sum(ends, []):
        assert os.stat(one.socket).st_uid == NOBODY
    a = make_vm("a", [has(one) for one in ends[0]], BUSY)
    b = make_vm("b", [has(one) for one in ends[1]],
                incoming="tcp:127.0.0.1:0")
    a.there, b.there = ends
    goes_on(a, "NET", "got", 20)
    goes_on(a, "DISK", "reads", 20)
    return a, b


def test_precopy_marks_what_they_wrote(theirs):
    a, b = theirs
    a.migrate(b, "precopy", {"max-bandwidth": 1_000_000})
    a.wait_migration("active")
    goes_on(a, "DISK", "reads", 20)
    a.set(FULL_SPEED)
    arrived(a, b)
    for one in a.there:
        assert one.at_end["logged-pages"]


def test_postcopy_brings_the_pages_that_they_wait_for(theirs):
    a, b = theirs
    a.migrate(b, "postcopy", ASKED_ONLY)
    b.wait_migration("postcopy-active")
    goes_on(b, "NET", "got", 5)
    goes_on(b, "DISK", "reads", 5)
    a.set(FULL_SPEED)
    arrived(a, b)
    for one in b.there:
        assert one.at_end["waits"]
