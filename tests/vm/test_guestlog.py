# SPDX-License-Identifier: MIT
"""The reader of the guest's lines, without a guest."""

import math

import pytest

from guestlog import GuestLog, parse

BOOT = (b"SeaBIOS (version 1.16.2)\r\n"
        b"WARN unknown key: console=ttyS0\n"
        b"MAP page=0 addr=0x172000 pages=100\n"
        b"MAP page=100 addr=0x100000000 pages=50\n"
        b"INIT pages=150 total=150\n"
        b"READY pages=150 cpus=2 mode=db tsc_khz=2500000\n")
REPORT = (b"FERRY t=1.002 iter=10 pages=9 mbps=3 gap_us=77 bad=0 "
          b"tsc_back=0\n")


def test_every_line_comes_out_whole_wherever_the_data_is_cut():
    data = BOOT + REPORT
    for cut in range(len(data)):
        log = GuestLog()
        log.feed(data[:cut])
        log.feed(data[cut:])
        assert [line.word for line in log.lines] == [
            "WARN", "MAP", "MAP", "INIT", "READY", "FERRY"]


def test_values_have_their_types():
    log = GuestLog()
    log.feed(BOOT + REPORT)
    assert log.ready["mode"] == "db"
    assert log.ready["tsc_khz"] == 2500000
    assert log.last("FERRY")["t"] == 1.002
    assert log.all("MAP")[0]["addr"] == 0x172000


def test_a_sample_has_its_gaps_by_their_length():
    sample = parse("TRACE us=10012 iter=96 gap_us=99 gaps=0:93,7:2,26:1")
    assert sample["us"] == 10012 and sample["gap_us"] == 99
    assert sample["gaps"] == {1: 93, 128: 2, math.inf: 1}
    assert parse("TRACE us=10012 iter=0 gap_us=0")["gaps"] == {}
    assert parse("TRACED samples=1")["samples"] == 1


def test_pages_are_found_in_the_map():
    log = GuestLog()
    log.feed(BOOT)
    assert log.address(0) == 0x172000
    assert log.address(99) == 0x172000 + 99 * 4096
    assert log.address(100) == 1 << 32
    with pytest.raises(KeyError):
        log.address(150)


def test_a_histogram_has_numbers_for_bounds():
    line = parse("HIST <=1us:5 <=1024us:2 >33554432us:1")
    assert line.values == {1: 5, 1024: 2, math.inf: 1}


def test_an_empty_histogram_is_one():
    assert parse("HIST").values == {}


def test_the_total_counts_more_bad_pages_than_were_printed():
    log = GuestLog()
    log.feed("BAD page=5 expect=4 found=3 kind=stale cpu=1 addr=0x177000\n")
    assert log.bad_count == 1
    assert log.bad[0]["kind"] == "stale"
    log.feed("FERRY t=2.000 iter=1 pages=1 mbps=1 gap_us=5000 bad=31 "
             "tsc_back=0\n")
    assert log.bad_count == 31


def test_the_longest_gap_is_over_all_lines():
    log = GuestLog()
    log.feed(REPORT)
    log.feed(REPORT.replace(b"=77", b"=400000"))
    log.feed(REPORT)
    assert log.longest_gap_us == 400000


@pytest.mark.parametrize("text", [
    "PANIC cpu=0 vector=6 error=0x0 rip=0x10bab0 rsp=0x122f48 cr2=0x0",
    "FATAL mem= is more than there is",
])
def test_a_dead_guest_says_why(text):
    log = GuestLog()
    assert log.dead is None
    log.feed(text + "\n")
    assert log.dead == text


def test_what_others_say_is_passed_over():
    log = GuestLog()
    log.feed(b"\x00\xff\x1b[2J noise\nFERRYBOAT t=1\n\n")
    assert log.lines == []
