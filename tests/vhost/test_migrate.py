# SPDX-License-Identifier: MIT
"""A Linux moves between two QEMUs, and its devices between our backends."""

import os

import pytest

from conftest import blk, net
from steps import capabilities, ended
from test_qemu import disk, goes_on

WAIT = "-incoming", "defer"
CAPS = {"precopy": ["events"],
        "postcopy": ["events", "postcopy-ram"],
        "preempt": ["events", "postcopy-ram", "postcopy-preempt"]}


def move(a, b, folder, mode):
    uri = f"unix:{folder}/moving"
    for vm in (a, b):
        capabilities(vm, *CAPS[mode])
    b.qmp("migrate-incoming", uri=uri)
    a.qmp("migrate-set-parameters", **{"max-bandwidth": 1 << 30})
    a.qmp("migrate", uri=uri)
    if mode != "precopy":
        a.qmp("migrate-start-postcopy")
    assert ended(a, "completed", "failed") == "completed", b.said()


@pytest.mark.parametrize("mode", [
    "precopy", pytest.param("postcopy", marks=pytest.mark.more),
    pytest.param("preempt", marks=pytest.mark.more)])
def test_the_network_goes_on(backend, guest, folder, mode):
    one = backend("net", "one", "--mode", "echo")
    two = backend("net", "two", "--mode", "echo")
    a = guest("a", *net(one))
    goes_on(a, "PING")
    b = guest("b", *net(two), *WAIT)
    move(a, b, folder, mode)
    a.poll()
    a.close()
    goes_on(b, "PING", times=20)
    assert b.log.text.count("LOST") <= 1, b.log.text[-2000:]
    b.close()
    before, after = one.end(), two.end()
    assert not before["broken"] + after["broken"], one.said() + two.said()
    if mode == "precopy":
        assert before["logged-pages"]
    else:
        assert after["waits"]


@pytest.mark.parametrize("mode", [
    pytest.param("postcopy", marks=pytest.mark.more), "preempt"])
def test_the_disk_goes_on(backend, guest, folder, mode):
    path = disk(folder)
    one = backend("blk", "one", "--disk", path)
    two = backend("blk", "two", "--disk", path, "--verbose")
    a = guest("a", *blk(one))
    goes_on(a, "DISK")
    b = guest("b", *blk(two), *WAIT)
    move(a, b, folder, mode)
    a.poll()
    a.close()
    goes_on(b, "DISK", times=10)
    b.close()
    before, after = one.end(), two.end()
    for figures in (before, after):
        assert figures["popped"] == figures["pushed"]
        assert not figures["broken"], one.said() + two.said()
    for word in "ADVISE", "LISTEN", "END":
        assert f"POSTCOPY_{word}" in two.said()


NOBODY = 65534
AS_NOBODY = ("setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}",
             "--clear-groups")


def test_an_ordinary_user_serves_postcopy(backend, guest, folder):
    """Without any permission on userfaultfd, a disk that the kernel reads and
    writes straight from and to guest memory, and a network."""
    if os.access("/dev/userfaultfd", os.R_OK, effective_ids=True) and \
            os.stat("/dev/userfaultfd").st_mode & 0o006:
        pytest.skip("here everybody may open /dev/userfaultfd")
    path = disk(folder)
    for each in folder, path:
        os.chown(each, NOBODY, NOBODY)
    for parent in folder.parents[:-2]:
        parent.chmod(parent.stat().st_mode | 0o055)
    drives = [backend("blk", f"disk{i}", "--disk", path, "--verbose",
                      before=AS_NOBODY) for i in (1, 2)]
    ports = [backend("net", f"net{i}", "--mode", "echo", before=AS_NOBODY)
             for i in (1, 2)]
    a = guest("a", *blk(drives[0]), *net(ports[0]))
    goes_on(a, "DISK", "PING")
    b = guest("b", *blk(drives[1]), *net(ports[1]), *WAIT)
    move(a, b, folder, "postcopy")
    a.poll()
    a.close()
    goes_on(b, "DISK", "PING", times=10)
    b.close()
    figures = [one.end() for one in drives + ports]
    assert not any(f["broken"] for f in figures)
    assert "POSTCOPY_END" in drives[1].said()
    assert figures[3]["waits"]
