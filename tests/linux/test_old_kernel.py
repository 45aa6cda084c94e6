# SPDX-License-Identifier: MIT
"""On Debian 12's kernel, which lacks newer interfaces, and without being root:
what takes their place, and what is said about it."""

import json
import re

import pytest

import tour

UFFD = "/dev/userfaultfd"
FIX = f"setfacl -m u:1000:rw {UFFD}"
ROADS = ["unix:/tmp/road0", "unix:/tmp/road1", "unix:/tmp/road2"]


def doctor(said):
    """{row: what it says}"""
    return {row["name"]: row for row in json.loads(said)["checks"]}


def test_doctor_says_what_is_used_instead(here):
    rows = doctor(here("ferry doctor --json"))
    for name in "kvm", "kvm-kernel-mode", "kvm-dirty-log", "userfaultfd":
        assert rows[name]["verdict"] == "ok", rows[name]
    assert rows["kernel"]["found"].startswith("Linux 6.1.")
    late = rows["userfaultfd-wp-async"]
    assert late["verdict"] == "fallback"
    assert late["found"] == "synchronous write protection only"
    assert "each first write to a page waits" in late["lost"]
    assert "Linux 6.7" in late["fix"]
    scan = rows["pagemap-scan"]
    assert scan["verdict"] == "fallback"
    assert scan["found"] == "/proc/self/pagemap is read"
    assert "asynchronous tracking" in scan["lost"]
    assert "Linux 6.7" in scan["fix"]


def test_a_program_moves_by_synchronous_write_protection(here):
    said = here("embed 16")
    assert " 0 bad pages" in said and "source: moved 16 MiB" in said


@pytest.fixture
def access(here):
    """access(True): the user may open the device."""
    def give(allowed):
        here(f"chown 0:{36 if allowed else 0} {UFFD}; chmod 660 {UFFD}")
    yield give
    give(False)


def test_an_ordinary_user_moves_a_bzimage(here, access):
    """One vCPU.  With access to userfaultfd by postcopy; without, that is
    refused with the exact fix, and precopy goes on to work."""
    access(True)
    guest = tour.boot(here, "a", "/bzimage", 1, user="user")
    guest.settled()
    guest.move(guest.prepare(here, "b", ROADS[0]), ROADS[0],
               "--postcopy")

    access(False)
    c = guest.prepare(here, "c", ROADS[1])
    code, said = guest.vm.migrate(ROADS[1], "--postcopy")
    assert code == 1 and FIX in said, said
    code, said = c.ferry("doctor --json")
    row = doctor(said)["userfaultfd"]
    assert code == 1 and row["verdict"] == "missing" and FIX in row["fix"]
    assert row["lost"].startswith("postcopy")

    guest.move(guest.prepare(here, "d", ROADS[2]), ROADS[2],
               "--precopy")
    guest.vm.ask("interrupts", r"DONE interrupts")
    assert re.search(r"\b4: .*IO-APIC.*ttyS0", guest.console())
    assert "NESTED" not in guest.console()  # what such have is not carried
    guest.check()
    guest.end()
