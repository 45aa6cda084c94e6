# SPDX-License-Identifier: MIT
"""The link is lost for good in postcopy: both halves are dumped and merged, and
the VM goes on from the image, with all of its memory."""

import json
import os
import re
import time

import pytest

from conftest import check_pages, sentence
from ferryvm import PATIENCE, QmpError
from proxy import Proxy, Road

GUEST = "cpus=2 mode=random mem=60% report=100"
NO_PUSH = {"x-ferry-background-push": False}


# Less than what the guest uses, however late the link is cut.
CROSSES = 48 << 20


def cut(source, target, settings=(), after=0):
    """In postcopy, for good."""
    road = Road(target.address())
    road.pass_only(CROSSES)
    source.migrate(road.uri, "postcopy", settings)
    for vm in source, target:   # both miss the other when nothing goes over
        vm.wait_migration("postcopy-active", "postcopy-paused")
    while target.qmp("query-migrate")["x-ferry-faults"]["count"] < after:
        pass
    road.close()
    target.wait_migration("postcopy-paused")
    source.wait_migration("postcopy-paused")


def await_waiting(target, cli):
    """Its vCPU waits, and that is told of while it does."""
    end = time.monotonic() + PATIENCE
    while True:
        faults = target.qmp("query-migrate")["x-ferry-faults"]
        if faults["waiting-us"] > 500000:
            break
        assert time.monotonic() < end, faults
        time.sleep(0.05)
    assert faults["waiting"] and faults["max-us"] >= faults["waiting-us"]
    shown = cli("status", "b").stdout
    assert re.search(r"guest +waits for \d+ pages?, since", shown), shown


def dump(cli, folder, name):
    path = f"{folder}/{name}.half"
    done = cli("rescue", "dump", name, path, "--json")
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    assert said["bytes"] == os.path.getsize(path)
    assert os.stat(path).st_mode & 0o777 == 0o600
    return path, said["side"]


def merge(cli, folder, a, b, name="image"):
    path = f"{folder}/{name}"
    done = cli("rescue", "merge", a, b, path, "--json")
    assert done.returncode == 0, done.stderr
    return path, json.loads(done.stdout)


def go_on(make_vm, image, extra=()):
    vm = make_vm("c", extra=["--image", image, *extra])
    vm.wait_migration("completed")
    assert vm.status() == "running"
    check_pages(vm)


@pytest.mark.parametrize("how, after", [
    ({}, 100), ({"extra": ["--shared"]}, 100),
    ({"extra": ["--hugepages", "2M"]}, 3)],
    ids=["private", "shared", "2 MiB pages"])
def test_a_vm_whose_vcpus_all_wait_is_put_together(pair, cli, make_vm,
                                                   folder, huge_pages, how,
                                                   after):
    if "--hugepages" in how.get("extra", []):
        huge_pages(2 * 64)
    source, target = pair(append=GUEST, **how)
    cut(source, target, NO_PUSH, after=after)
    await_waiting(target, cli)
    a, side = dump(cli, folder, "a")
    assert side == "source"
    b, side = dump(cli, folder, "b")
    assert side == "target"
    # Nobody comes back to this one.
    with pytest.raises(QmpError, match="half was dumped"):
        target.qmp("cont")
    with pytest.raises(QmpError, match="handed over .* half was dumped"):
        source.qmp("cont")
    for words in ["a"], ["b", "tcp:127.0.0.1:0"]:
        done = cli("recover", *words)
        assert done.returncode == 1
        assert "half was dumped" in sentence(done.stderr)
    for name in "ab":
        shown = cli("status", name).stdout
        assert "half was dumped" in shown and "looking" not in shown
        assert re.search(rf"dumped +to \S+/{name}.half, ", shown), shown
        assert "ferry recover" not in shown and "rescue merge" in shown
        assert float(re.search(r"([\d.]+) s without", shown)[1]) > 0
    image, said = merge(cli, folder, b, a)
    assert 0 < said["from-target"] and 0 < said["from-source"]
    assert said["from-target"] + said["from-source"] == said["pages"]
    for vm in source, target:
        vm.qmp("quit")
        assert vm.wait_exit() == 0, vm.stderr()
    go_on(make_vm, image, **how)


def test_what_was_pushed_and_changed_comes_from_the_target(pair, cli, make_vm,
                                                           folder):
    source, target = pair(append=GUEST)
    cut(source, target, {"max-postcopy-bandwidth": 20_000_000}, after=100)
    dumped = [dump(cli, folder, name)[0] for name in "ab"]
    image, said = merge(cli, folder, *dumped)
    assert said["from-target"] > 100
    with make_vm("d", incoming="tcp:127.0.0.1:0") as away:
        done = cli("serve", image, away.address())
        assert done.returncode == 0, done.stderr
        check_pages(away)
    go_on(make_vm, image)


def test_there_are_no_halves_of_a_whole_vm(pair, cli, folder):
    source, target = pair(append=GUEST)
    for name in "ab":
        done = cli("rescue", "dump", name, f"{folder}/half")
        assert done.returncode == 1
        assert "lost its link in postcopy" in sentence(done.stderr)
    assert not os.path.exists(f"{folder}/half")
    check_pages(source)


def test_a_file_that_is_there_is_not_written_over(pair, cli, folder):
    source, target = pair(append=GUEST)
    cut(source, target, NO_PUSH, after=10)
    path = f"{folder}/half"
    with open(path, "w") as file:
        file.write("mine")
    done = cli("rescue", "dump", "a", path)
    assert done.returncode == 1 and "File exists" in sentence(done.stderr)
    with open(path) as file:
        assert file.read() == "mine"


def test_no_image_is_a_sentence(cli, folder):
    path = f"{folder}/none"
    with open(path, "wb") as file:
        file.write(bytes(100000))
    for image in path, f"{folder}/missing":
        done = cli("run", "--image", image)
        assert done.returncode == 1
        assert image in sentence(done.stderr)


def test_a_vm_of_another_shape_does_not_start_from_an_image(
        pair, cli, make_vm, folder):
    source, target = pair(append=GUEST)
    cut(source, target, NO_PUSH, after=10)
    image, _ = merge(cli, folder, *[dump(cli, folder, n)[0] for n in "ab"])
    done = cli("run", "--image", image, "--ram", "64M", "--vcpus", "2",
               "--name", "e", "--serial", "null")
    assert done.returncode == 1
    assert "128 MiB of RAM, not 64: give --ram 128M" in sentence(done.stderr)
    done = cli("run", "--image", image, "--ram", "128M", "--vcpus", "1",
               "--name", "e", "--serial", "null")
    assert done.returncode == 1
    assert "2 vCPUs, not 1: give --vcpus 2" in sentence(done.stderr)


class Spoiler(Proxy):
    """Changes an octet, each time that so much has gone by; most hit a page."""

    EACH = 2 << 20

    def __init__(self, *args):
        self.left = self.EACH
        super().__init__(*args)

    def passes(self, sock, data):
        if sock not in self.near:
            return data
        self.left -= len(data)
        if self.left >= 0 or len(data) < 1 << 14:
            return data
        self.left = self.EACH
        at = len(data) // 2
        return data[:at] + bytes([data[at] ^ 1]) + data[at + 1:]


def test_a_page_that_came_wrong_does_not_get_into_the_image(pair, cli, folder,
                                                            make_vm):
    source, target = pair(append=GUEST)
    spoiler = Spoiler(target.address())
    source.migrate(spoiler.uri, "postcopy", {"x-ferry-verify": True})
    end = time.monotonic() + PATIENCE
    while True:
        told = source.qmp("query-migrate")
        if told.get("x-ferry-verified"):
            break
        assert time.monotonic() < end, told
        time.sleep(0.05)
    assert told["x-ferry-verified"] == "wrong", told
    for vm in source, target:
        vm.wait_migration("postcopy-paused")
    for name, way in ("a", "rescue"), ("b", "are at the source"):
        shown = cli("status", name).stdout
        assert "reason     " in shown and "verify: block " in shown, shown
        assert "looking" not in shown, shown
        assert re.search(f"ways out .*{way}", shown), shown
    halves = [dump(cli, folder, name)[0] for name in "ab"]
    words = ["rescue", "merge", *halves, f"{folder}/image"]
    done = cli(*words)
    if done.returncode:         # the guest has changed one since
        assert "the guest has changed it since" in sentence(done.stderr)
        assert not os.path.exists(f"{folder}/image")
        done = cli(*words, "--accept-mismatch")
    assert done.returncode == 0, done.stderr
    assert re.search(r"warning: block \S+ page \d+ came wrong", done.stderr)
    spoiler.close()
