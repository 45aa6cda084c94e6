# SPDX-License-Identifier: MIT
"""What a QEMU from 10.0 on has beside one of 7.2, and the two of them, one
after the other, with a VM that was parked in between.

FERRY_QEMU=newer (scripts/newer qemu), or the path of one.
"""

import json
import os
import subprocess

import pytest

import qemu
from steps import (assert_same_ram, await_tidy, capabilities, ended, migrate,
                   ram_of, runs, start_postcopy, status)

# Without AVX: see test_guest_migration.py.
GUEST = "cpus=2 mode=random mem=25% report=100 avx=0"
RAM_MB = 64
INSTALLED = "qemu-system-x86_64"
WAIT = "-incoming", "defer"
FAST = {"max-bandwidth": 1 << 30, "downtime-limit": 5000}


@pytest.fixture
def make(folder):
    """Makes QEMUs of a machine type."""
    qemu.require()
    if qemu.version() < 1000:
        pytest.skip(f"this is about QEMU 10.0 and later, {qemu.QEMU} is "
                    f"{qemu.version_name()}")
    made = []

    def one(name, machine, *args, **how):
        made.append(qemu.Qemu(folder, name, GUEST, ram_mb=RAM_MB, args=[
            "-machine", machine, *args], **how))
        if WAIT[0] not in args:
            made[-1].wait_line("READY")
        return made[-1]

    yield one
    for vm in made:
        vm.close()


def ferry(*words):
    done = subprocess.run([os.environ["FERRY"], *map(str, words)], text=True,
                          timeout=150, check=False, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT)
    assert done.returncode == 0, done.stdout
    return done.stdout


def parked(vm, one, folder, postcopy):
    """All of it is in the image."""
    one.wait_listening()
    if postcopy:
        start_postcopy(vm, one.uri)
    else:
        vm.qmp("migrate-set-parameters", **FAST)
        migrate(vm, one.uri)
    assert ended(vm, "completed", "failed") == "completed", one.said()
    check(vm, one, folder)


def check(vm, one, folder):
    code, said = one.wait()
    assert code == 0, said
    assert_same_ram(one.cat("pc.ram"), ram_of(vm, folder, RAM_MB))


def served(vm, one, folder, *words, caps=()):
    """It goes on there."""
    if caps:
        capabilities(vm, *caps)
    vm.qmp("migrate-incoming", uri=f"unix:{folder}/in")
    ferry("serve", "--quiet", *words, one.image, f"unix:{folder}/in")
    vm.wait("it runs", lambda: runs(vm))
    assert vm.verify()["bad"] == 0 and not vm.log.bad


POSTCOPY = "postcopy-ram", "postcopy-preempt"

# The machine type decides about the protocol, whatever the version is: how
# multifd is synchronised and zero pages are sent, when the preempt channel
# comes, whether SWITCHOVER_START is said.
MACHINES = ["pc-i440fx-7.2", "pc-i440fx-8.2", "pc-i440fx-9.2",
            "pc-i440fx-10.0", "pc-q35-10.0"]


@pytest.mark.parametrize("machine", MACHINES)
def test_machines_of_all_ages_are_parked_and_go_on(make, park, folder,
                                                   machine):
    """By multifd, back by postcopy; by postcopy, back by multifd."""
    source = make("a", machine)
    capabilities(source, "return-path", "multifd")
    source.qmp("migrate-set-parameters", **{"multifd-channels": 3})
    one = park("--multifd=3", name="one")
    parked(source, one, folder, False)
    there = make("b", machine, *WAIT)
    served(there, one, folder, "--preempt", caps=POSTCOPY)

    capabilities(there, *POSTCOPY)
    two = park("--preempt", name="two")
    parked(there, two, folder, True)
    served(make("c", machine, *WAIT), two, folder, "--precopy",
           "--multifd=2", caps=["multifd"])


@pytest.mark.parametrize("detection", ["none", "legacy", "multifd"])
def test_zero_pages_come_in_each_way(make, park, folder, detection):
    source = make("a", "pc-i440fx-10.0")
    capabilities(source, "return-path", "multifd")
    source.qmp("migrate-set-parameters",
               **{"zero-page-detection": detection})
    one = park("--multifd=2")
    parked(source, one, folder, False)
    # Three quarters were never touched.
    disk = os.stat(one.image).st_blocks * 512
    assert (disk < (RAM_MB << 20) / 2) == (detection != "none")


def test_a_word_is_asked_for_before_the_switchover(make, park, folder):
    """switchover-ack: without park's the source would not end; serve is said
    it by a target."""
    source = make("a", "pc-i440fx-10.0")
    capabilities(source, "return-path", "switchover-ack")
    one = park("--switchover-ack")
    parked(source, one, folder, False)
    served(make("b", "pc-i440fx-10.0", *WAIT), one, folder, "--precopy",
           caps=["return-path", "switchover-ack"])


@pytest.mark.parametrize("preempt", [False, True], ids=["plain", "preempt"])
def test_postcopy_that_was_paused_is_resumed(make, park, folder, preempt):
    """By QEMU's own command, and twice."""
    source = make("a", "pc-i440fx-10.0")
    capabilities(source, *POSTCOPY[:1 + preempt])
    source.qmp("migrate-set-parameters", **{"max-postcopy-bandwidth": 4 << 20})
    one = park(*["--preempt"] * preempt)
    one.wait_listening()
    start_postcopy(source, one.uri)
    for _ in range(2):
        source.wait("postcopy", lambda: status(source) == "postcopy-active")
        # Behind the package: paused in the midst of that, it is nobody's.
        source.wait("pages", lambda: source.qmp("query-migrate")["ram"]
                    ["postcopy-bytes"] > 0)
        before = one.said()
        source.qmp("migrate-pause")
        ended(source, "postcopy-paused")
        assert not runs(source)
        try:
            qemu.wait_until("park knows", lambda before=before: "waiting for "
                            "the source" in one.said()[len(before):])
        except AssertionError as why:
            raise AssertionError(f"{why}; it said: {one.said()}") from why
        source.qmp("migrate", uri=one.uri, resume=True)
    source.qmp("migrate-set-parameters", **{"max-postcopy-bandwidth": 0})
    assert ended(source, "completed", "failed") == "completed", one.said()
    check(source, one, folder)


def test_a_mapped_ram_file_is_dumped_to_the_last_octet(make, folder):
    source = make("a", "pc-i440fx-10.0")
    capabilities(source, "mapped-ram")
    source.qmp("migrate-set-parameters", **FAST)
    source.qmp("migrate", uri=f"file:{folder}/out")
    assert ended(source, "completed", "failed") == "completed"
    await_tidy(source)
    said = ferry("dump", "--json", folder / "out")
    records = [json.loads(line) for line in said.splitlines()]
    assert any(record.get("type") == "PAGES" or "PAGES" in record.values()
               for record in records), said[-2000:]


# ---- with the installed one -------------------------------------------------


@pytest.mark.parametrize("way", ["up", "down"])
def test_versions_of_qemu_follow_each_other(make, park, folder, way):
    """Parked by one, it goes on in the other, and from there in the first."""
    programs = [INSTALLED, qemu.QEMU]
    here, there = programs if way == "up" else reversed(programs)
    machine = "pc-i440fx-7.2"
    source = make("a", machine, program=here)
    capabilities(source, *POSTCOPY)
    one = park("--preempt", name="one")
    parked(source, one, folder, True)
    other = make("b", machine, *WAIT, program=there)
    served(other, one, folder, "--precopy")

    capabilities(other, "return-path", "multifd")
    two = park("--multifd=2", name="two")
    parked(other, two, folder, False)
    served(make("c", machine, *WAIT, program=here), two, folder, "--preempt",
           caps=POSTCOPY)
