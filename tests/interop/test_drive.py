# SPDX-License-Identifier: MIT
"""`ferry migrate` and `ferry status` drive QEMUs.

The guest says whether its memory is right, and counts on."""

import json
import os
import re
import shlex
import signal
import socket
import subprocess
import threading
import time
from pathlib import Path

import pytest

import qemu
from cutter import Cutter
from ferryvm import Vm
from proxy import Fuse, Proxy
from steps import runs, status

# Some KVMs do not keep AVX from a guest whose QEMU knows nothing of it.
GUEST = "cpus=2 mode=random mem=25% report=100 avx=0"
# Faster than any link here: precopy alone gets nowhere.
BUSY = "cpus=2 mode=seq mem=50% report=100 avx=0"
RAM_MB = 128
# That guest is still in precopy, however late anybody looks: each word comes
# before its end.
SLOW = ["--limit", "1M", "--max-pause", "1ms"]
# It has memory and asks for hardly any of it: how long postcopy takes is up to
# max-postcopy-bandwidth.
STILL = "cpus=2 mode=idle mem=25% touch=all report=100 avx=0"
GOOD_PREEMPT = 800      # the version from which on ferry sets it by itself


@pytest.fixture
def vms(folder):
    """Makes QEMUs; .ctl is the socket that ferry is given."""
    qemu.require()
    made = []

    def make(name, *args, guest=GUEST, **how):
        how.setdefault("ram_mb", RAM_MB)
        ctl = f"{folder}/{name}.ctl"
        vm = qemu.Qemu(folder, name, guest, args=[
            "-qmp", f"unix:{ctl},server=on,wait=off", *args], **how)
        vm.ctl = ctl
        made.append(vm)
        return vm

    yield make
    for vm in made:
        vm.close()


@pytest.fixture
def two(vms):
    """(QEMU with a busy guest, QEMU that waits for it)"""
    def make(guest=GUEST, incoming="defer", **how):
        source = vms("a", guest=guest)
        target = vms("b", "-incoming", incoming, guest=guest, **how)
        source.wait_line("FERRY", 3)
        return source, target
    return make


@pytest.fixture
def ferry(folder):
    """The command, in the test's folder."""
    started = []

    def start(*words):
        started.append(subprocess.Popen(
            [os.environ["FERRY"], *words], text=True,
            env=dict(os.environ, FERRY_RUNTIME_DIR=str(folder)),
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=subprocess.PIPE))
        return started[-1]

    def run(*words):
        process = start(*words)
        out, err = process.communicate(timeout=150)
        return subprocess.CompletedProcess(words, process.returncode, out,
                                           err)

    run.start = start
    yield run
    for process in started:
        if process.poll() is None:
            process.kill()
        process.communicate()


def lives(vm):
    """It counts on, and every page is right."""
    vm.wait("it runs", lambda: runs(vm))
    before = len(vm.poll().all("FERRY"))
    vm.wait_line("FERRY", before + 3)
    assert vm.verify()["bad"] == 0
    assert vm.log.bad_count == 0


def moved(done, source, target):
    assert done.returncode == 0, done.stderr
    assert not runs(source)
    lives(target)


def caps(vm):
    return {c["capability"] for c in vm.qmp("query-migrate-capabilities")
            if c["state"]}


# ---- modes ------------------------------------------------------------------------

MODES = {
    # words; capabilities that both have then; the guest
    "no words": ([], {"postcopy-ram"}, GUEST),
    "precopy": (["--precopy"], set(), GUEST),
    "one pass, then postcopy": (["--passes", "1", "--max-pause", "1ms",
                                 "--limit", "20M"], {"postcopy-ram"}, BUSY),
    "postcopy": (["--postcopy", *SLOW], {"postcopy-ram"}, GUEST),
    "preempt": (["--postcopy", *SLOW, "--set",
                 "postcopy-preempt=on"],
                {"postcopy-ram", "postcopy-preempt"}, GUEST),
    "multifd": (["--set", "multifd=on", "--set", "multifd-channels=3"],
                {"multifd"}, GUEST),
    "multifd with zlib": (["--set", "multifd=on", "--set",
                           "multifd-compression=zlib", "--max-pause", "60s"],
                          {"multifd"}, GUEST),
    "multifd with zstd": (["--set", "multifd=on", "--set",
                           "multifd-compression=zstd", "--max-pause", "60s"],
                          {"multifd"}, GUEST),
    "xbzrle": (["--precopy", "--set", "xbzrle=on", "--set",
                "xbzrle-cache-size=67108864"], set(), GUEST),
}


@pytest.mark.parametrize("mode", MODES)
def test_a_qemu_moves_to_a_qemu(two, ferry, mode):
    words, on, guest = MODES[mode]
    source, target = two(guest)
    done = ferry("migrate", *words, source.ctl, target.ctl)
    moved(done, source, target)
    assert re.fullmatch(rf"{source.ctl} runs at {target.ctl}; \d+ ms"
                        r"(, pause \d+ ms)?\n", done.stdout)
    assert done.stderr == ""
    both = {"postcopy-ram", "postcopy-preempt", "multifd"}
    if "postcopy-ram" in on and qemu.version() >= GOOD_PREEMPT:
        on = on | {"postcopy-preempt"}
    assert caps(source) & both == caps(target) & both == on
    said = source.qmp("query-migrate")["ram"]
    # Which it is without words depends on who is faster.
    if mode != "no words":
        assert (said["postcopy-bytes"] > 0) == ("postcopy" in mode or
                                                mode == "preempt")
    assert (said["multifd-bytes"] > 0) == ("multifd" in mode)
    if "multifd" in mode:
        def of(vm):
            p = vm.qmp("query-migrate-parameters")
            return p["multifd-channels"], p["multifd-compression"]
        assert of(source) == of(target)


class Hasty(Proxy):
    """To the QMP socket of a source that has completed before it knows how
    long that took."""

    hidden = 3              # answers in which it does not
    said = b""              # a line that has not ended

    def passes(self, sock, data):
        if sock in self.near or not data:
            return data
        *lines, self.said = (self.said + data).split(b"\n")
        return b"".join(map(self.hide, lines))

    def hide(self, line):
        changed = re.sub(rb'"total-time": \d+', b'"total-time": 0', line)
        if b'"completed"' not in line or changed == line or not self.hidden:
            return line + b"\n"
        self.hidden -= 1
        return changed + b"\n"


def test_how_long_it_took_is_waited_for(idle, ferry, folder):
    source, target = idle()
    way = Hasty(f"unix:{source.ctl}", f"{folder}/hasty.ctl")
    done = ferry("migrate", f"{folder}/hasty.ctl", target.ctl)
    assert done.returncode == 0, done.stderr
    assert way.hidden == 0
    took = source.qmp("query-migrate")["total-time"]
    assert f"; {took} ms" in done.stdout
    way.close()


def test_precopy_that_gets_nowhere_becomes_postcopy(two, ferry):
    source, target = two(BUSY)
    done = ferry("migrate", "--limit", "20M", "--max-pause", "1ms",
                 source.ctl, target.ctl, "--json")
    moved(done, source, target)
    said = json.loads(done.stdout)
    assert said["ram"]["postcopy-bytes"] > 0
    assert said["x-ferry-where"] == said["x-ferry-safe"] == "target"


def test_it_runs_there_by_the_deadline(two, ferry):
    source, target = two(BUSY)
    process = ferry.start("migrate", *SLOW, "--by", "3s", "--passes", "900",
                          source.ctl, target.ctl)
    # Precopy alone does not get there.
    target.wait("it runs there", lambda: runs(target))
    assert process.wait(60) == 0
    lives(target)


# ---- what cannot work -------------------------------------------------------------

def settings(*vms):
    return [(caps(vm), vm.qmp("query-migrate-parameters")) for vm in vms]


def refused(done, code, *sentences):
    assert done.returncode == code, done.stderr
    assert done.stdout == ""
    lines = done.stderr.splitlines()
    assert len(lines) == 1 or lines[1].startswith("Try `ferry"), done.stderr
    for text in sentences:
        assert text in done.stderr


@pytest.fixture
def idle(vms):
    """Two that have hardly any memory and are not busy."""
    def make(*args, incoming="defer", ram_mb=16, **how):
        return (vms("a", guest="cpus=2 idle=1", ram_mb=16),
                vms("b", "-incoming", incoming, *args,
                    guest="cpus=2 idle=1", ram_mb=ram_mb, **how))
    return make


SHAPES = {
    # how the target is made; what is said of it
    "another machine": (dict(args=["-machine", "q35"]),
                        r"is a pc-i440fx-V and .* a pc-q35-V: start .*"
                        r" with -machine pc-i440fx-V"),
    "more memory": (dict(ram_mb=32), "has 16 MiB of RAM and .* 32 MiB"),
    "more vCPUs": (dict(cpus=3), "has 2 vCPUs and .* 3"),
}


@pytest.mark.parametrize("shape", SHAPES)
def test_a_target_of_another_shape_is_refused(idle, ferry, shape):
    how, why = SHAPES[shape]
    how = dict(how)
    source, target = idle(*how.pop("args", []), **how)
    done = ferry("migrate", source.ctl, target.ctl)
    refused(done, 1)
    why = why.replace("-V", f"-{qemu.version_name()}")
    assert re.search(why, done.stderr), done.stderr
    assert runs(source) and status(target) is None


QEMU_SAYS = "QEMU V."

WORDS = [
    # words; exit code; what is said of them
    (["--set", "x-ferry-prefault-forward=1"], 2,
     "x-ferry-prefault-forward is ferry run's; a QEMU does not have it"),
    (["--set", "multifd=yes"], 2, "on or off"),
    (["--set", "xbzrle-cache-size=big"], 2, "not a number"),
    (["--set", "pause-before-switchover=on"], 2, "nothing that"),
    (["--set", "multifd=on", "--set", "multifd-compression=lzma"], 2,
     "'lzma' is none of none, zlib, zstd"),
    (["--set", "xbzrle-cache-size=5000"], 1, QEMU_SAYS),
    (["--listen", "tcp:0.0.0.0:0"], 2, "say one by which it can be reached"),
    (["--listen", "pigeon:"], 1, QEMU_SAYS),
    (["--detach", "--passes", "3"], 2, "cannot be detached from"),
]


OLD_WORDS = [
    (["--set", "multifd=on", "--postcopy"], 1,
     "multifd and postcopy together need QEMU 10.2"),
    (["--set", "mapped-ram=on"], 1, "has no capability mapped-ram"),
    (["--set", "zero-page-detection=none"], 1,
     "has no parameter zero-page-detection"),
]
# Of 10.0; 10.2 does it.
NEW_WORDS = [
    (["--set", "multifd=on", "--postcopy"], 1, QEMU_SAYS),
    (["--set", "zero-page-detection=pigeon"], 1, QEMU_SAYS),
]


@pytest.mark.sanitize
def test_words_that_cannot_be_obeyed_are_refused(idle, ferry):
    source, target = idle()
    more = OLD_WORDS if qemu.version() < 900 else NEW_WORDS
    before = settings(source, target)
    for words, code, why in more + WORDS:
        why = why.replace("QEMU V.", f"QEMU {qemu.version_name()}.")
        refused(ferry("migrate", *words, source.ctl, target.ctl), code, why)
        assert runs(source) and status(source) is None, words
        assert settings(source, target) == before, words
    # None of this stands in the way of the next.
    done = ferry("migrate", source.ctl, target.ctl)
    assert done.returncode == 0 and runs(target), done.stderr


@pytest.mark.sanitize
def test_a_target_that_could_not_listen_says_so(idle, ferry):
    """In 10.0 it is of no use any more; in 7.2 it may try again."""
    source, target = idle()
    before = settings(source, target)
    refused(ferry("migrate", "--listen", "unix:/nonexistent/socket",
                  source.ctl, target.ctl), 1,
            f"QEMU {qemu.version_name()}.", "says: ", "/nonexistent/socket")
    assert settings(source, target) == before
    assert runs(source) and status(source) is None
    done = ferry("migrate", source.ctl, target.ctl)
    if qemu.version() < 1000:
        assert done.returncode == 0 and runs(target), done.stderr
    else:
        refused(done, 1, "could not, start it again")
        assert runs(source)


@pytest.mark.sanitize
def test_sides_that_are_not_what_they_should_be_are_refused(idle, ferry,
                                                            folder):
    source, target = idle()
    refused(ferry("migrate", source.ctl, source.ctl), 2, "the same VM")
    refused(ferry("migrate", target.ctl, source.ctl), 5,
            "waits for one itself")
    refused(ferry("migrate", target.ctl, "tcp:127.0.0.1:1"), 5,
            "waits for one itself")
    refused(ferry("migrate", source.ctl, f"{folder}/c.ctl"), 5,
            "there is no socket")
    refused(ferry("migrate", source.ctl, "tcp:127.0.0.1:1", "--listen",
                  "tcp:127.0.0.1:2"), 2, "--listen is for a target")
    assert ferry("migrate", source.ctl, target.ctl).returncode == 0
    refused(ferry("migrate", target.ctl, source.ctl), 1,
            "does not wait for a VM (it is: postmigrate)")
    for where in target.ctl, "tcp:127.0.0.1:1":
        refused(ferry("migrate", source.ctl, where), 5,
                "has given its VM away (postmigrate)")


def test_what_blocks_a_migration_is_said_in_qemus_words(vms, ferry):
    """And before anything is set or told to listen."""
    disk = ["-drive", "file=null-co://,if=none,id=n", "-device",
            "nvme,serial=1,drive=n"]
    source = vms("a", *disk, guest="cpus=2 idle=1", ram_mb=16)
    target = vms("b", "-incoming", "defer", *disk, guest="cpus=2 idle=1",
                 ram_mb=16)
    for where in target.ctl, "tcp:127.0.0.1:1":
        refused(ferry("migrate", source.ctl, where), 1, "QEMU says: ",
                "nvme")
    assert "socket-address" not in target.qmp("query-migrate")
    assert not caps(source) and not caps(target) and runs(source)


# What the target was given before it was told to listen; what ferry says.
LISTENS = {
    "multifd": (["--set", "multifd=off"], "multifd is off at"),
    "channels": (["--set", "multifd-channels=3"],
                 "multifd-channels is 3 at .* and 2 at .*: pages would be "
                 "lost without an error; it listens already"),
    "compression": (["--set", "multifd-compression=zlib"],
                    "multifd-compression is zlib at .* and none at"),
}


@pytest.mark.parametrize("what", LISTENS)
def test_what_a_target_listens_with_cannot_be_changed(idle, ferry, what):
    words, why = LISTENS[what]
    source, target = idle()
    target.qmp("migrate-set-capabilities", capabilities=[
        {"capability": "multifd", "state": True}])
    target.qmp("migrate-incoming", uri="tcp:127.0.0.1:0")
    done = ferry("migrate", *words, source.ctl, target.ctl)
    refused(done, 1)
    assert re.search(why, done.stderr), done.stderr
    # Without words the source does as the target does.
    done = ferry("migrate", source.ctl, target.ctl)
    assert done.returncode == 0 and runs(target), done.stderr
    assert "multifd" in caps(source)
    assert source.qmp("query-migrate")["ram"]["multifd-bytes"] > 0


def test_a_target_that_listens_without_multifd_is_not_sent_it(idle, ferry):
    source, target = idle(incoming="tcp:127.0.0.1:0")
    done = ferry("migrate", "--set", "multifd=on", source.ctl, target.ctl)
    refused(done, 1, "multifd is on at", "pages would be lost")
    assert runs(source)


# ---- an address, where nobody can be asked ------------------------------------------

@pytest.mark.sanitize
def test_multifd_left_on_is_not_sent_to_an_address(idle, ferry, folder):
    source, target = idle(incoming=f"unix:{folder}/in")
    source.qmp("migrate-set-capabilities", capabilities=[
        {"capability": "multifd", "state": True}])
    refused(ferry("migrate", source.ctl, f"unix:{folder}/in"), 1,
            "multifd is on at", "lost without an error")
    done = ferry("migrate", "--set", "multifd=off", source.ctl,
                 f"unix:{folder}/in")
    assert done.returncode == 0 and runs(target), done.stderr
    assert done.stderr == ""


def test_a_source_that_reached_nobody_is_still_the_source(idle, ferry):
    source, _ = idle()
    for _ in range(2):
        done = ferry("migrate", "--precopy", source.ctl, "tcp:127.0.0.1:1")
        assert done.returncode == 1, done.stderr
        said = json.loads(ferry("status", "--json", source.ctl).stdout)
        assert said["migration"]["x-ferry-role"] == "source", said
    refused(ferry("migrate", "--postcopy", source.ctl, "exec:cat"), 1,
            "one-way")
    assert runs(source)


def test_it_says_what_the_side_at_an_address_must_have(idle, ferry, folder):
    source, target = idle()
    target.qmp("migrate-set-capabilities", capabilities=[
        {"capability": "multifd", "state": True}])
    target.qmp("migrate-incoming", uri=f"unix:{folder}/in")
    done = ferry("migrate", "--precopy", "--set", "multifd=on", source.ctl,
                 f"unix:{folder}/in")
    assert done.returncode == 0 and runs(target), done.stderr
    assert done.stderr == ("ferry: the target must have: multifd on, "
                           "multifd-channels 2, multifd-compression none\n")


def test_postcopy_needs_somebody_who_answers(idle, ferry, folder):
    source, _ = idle()
    uri = f"exec:cat >{folder}/out"
    refused(ferry("migrate", "--postcopy", source.ctl, uri), 1, "one-way")
    done = ferry("migrate", source.ctl, uri)
    assert done.returncode == 0, done.stderr
    assert f"is in {uri}" in done.stdout


def test_ferry_and_qemu_do_not_migrate_to_each_other(vms, ferry, folder):
    qemu_vm = vms("a", guest="cpus=2 idle=1", ram_mb=16)
    with Vm(os.environ["FERRY"], folder, "f", ram="16M",
            incoming="defer") as waits:
        refused(ferry("migrate", qemu_vm.ctl, "f"), 1,
                "is a QEMU and f is ferry run", "`ferry park`")
        refused(ferry("migrate", "--set", "multifd=on", "f", qemu_vm.ctl), 2,
                "multifd is a QEMU's")
        assert waits.alive()


def test_one_vm_of_ferry_moves_to_another(ferry, folder):
    qemu.require()
    path = os.environ["FERRY"]
    with Vm(path, folder, "f", ram="64M", kernel=os.environ["FERRY_GUEST"],
            append=GUEST) as source, \
            Vm(path, folder, "g", ram="64M", incoming="defer") as target:
        source.serial.wait(lambda log: log.ready)
        done = ferry("migrate", "f", "g", "--passes", "1")
        assert done.returncode == 0, done.stderr
        assert done.stdout.startswith("f runs at g; ")
        assert target.serial.ask("v", "VERIFIED")["bad"] == 0
        assert source.status() == "postmigrate"
        back = ferry("migrate", "g", "f")
        refused(back, 1, "f does not wait for a VM")


# ---- what goes wrong on the way ---------------------------------------------------

def start_slowly(ferry, source, target, *words):
    process = ferry.start("migrate", *SLOW, *words, source.ctl, target.ctl)
    source.wait("pages", lambda: source.qmp("query-migrate").get(
        "ram", {}).get("transferred", 0) > 1 << 20)
    return process


def ended(process):
    out, err = process.communicate(timeout=150)
    return subprocess.CompletedProcess([], process.returncode, out, err)


def test_a_target_that_dies_in_precopy_leaves_the_vm_where_it_is(two, ferry):
    source, target = two()
    process = start_slowly(ferry, source, target, "--precopy")
    target.process.kill()
    done = ended(process)
    refused(done, 1, "migration failed", "the VM is: source")
    lives(source)


@pytest.mark.sanitize
def test_a_target_that_dies_in_postcopy_takes_the_vm_with_it(two, ferry):
    source, target = two(STILL)
    process = ferry.start("migrate", "--postcopy", *SLOW, "--set",
                          "max-postcopy-bandwidth=1M", source.ctl,
                          target.ctl)
    target.wait("it runs there", lambda: runs(target))
    time.sleep(0.3)
    target.process.kill()
    done = ended(process)
    refused(done, 4, "the VM is: lost", "which has ended")
    assert not runs(source)


@pytest.mark.parametrize("tenths", [0, 1, 2, 4, 8, 16, 24])
def test_whenever_the_target_dies_the_code_says_where_the_vm_is(two, ferry,
                                                                tenths):
    source, target = two(BUSY)
    process = ferry.start("migrate", "--passes", "1", "--limit", "60M",
                          "--set", "max-postcopy-bandwidth=20M", source.ctl,
                          target.ctl)
    time.sleep(tenths / 10)
    ran = runs(target)
    target.process.kill()
    done = ended(process)
    assert done.returncode in ([0, 4] if ran else [0, 1, 3, 4, 5]), done.stderr
    # It may have got all of it between that look and its death.
    assert done.returncode or status(source) == "completed"
    if done.returncode in (1, 5):
        if "it is stopped there" in done.stderr:
            source.qmp("cont")      # as it says
        lives(source)
    else:
        assert not runs(source), done.stderr


SHUT = b"\0\1\0\4\0\0\0\0"


class Eater(Proxy):
    """Between two QEMUs; takes the target's last word, and hangs up or is
    silent."""

    def __init__(self, path, hangs_up):
        os.rename(path, f"{path}.real")
        self.hangs_up, self.ate = hangs_up, False
        super().__init__(f"unix:{path}.real", str(path))

    def hears(self, sock):
        return sock in self.near or not self.ate

    def passes(self, sock, data):
        if sock in self.near or not data.endswith(SHUT):
            return data
        self.ate = True
        return b""

    def drop(self, sock):
        if self.hangs_up or not self.ate or sock in self.near:
            super().drop(sock)


BOTH = 3, "it ran on both sides for a moment", "failed"

LAST_WORDS = {
    # words; hangs up; before QEMU 10.0, and from then on: exit code; what is
    # said; the source's state
    "in precopy": (["--precopy"], True, BOTH, BOTH),
    "in precopy, silently": (
        ["--precopy"], False,
        (3, "would go on if its connection broke", "active"),
        (3, "would go on if its connection broke", "device")),
    "in postcopy": (
        ["--postcopy", *SLOW], True,
        (0, "the source did not hear of it", "postcopy-active"), BOTH),
}


@pytest.mark.parametrize("when", LAST_WORDS)
def test_a_lost_last_word_does_not_make_two_of_the_vm(two, ferry, folder,
                                                      when):
    words, hangs_up, old, new = LAST_WORDS[when]
    code, why, state = old if qemu.version() < 1000 else new
    path = folder / "in"
    source, target = two(incoming=f"unix:{path}")
    eater = Eater(path, hangs_up)
    done = ferry("migrate", *words, source.ctl, target.ctl, "--json")
    assert eater.ate
    assert done.returncode == code, done.stderr
    assert why in done.stderr
    assert json.loads(done.stdout)["x-ferry-safe"] == "target"
    assert status(source) == state
    assert not runs(source)
    lives(target)
    assert not runs(source)
    source.process.kill()
    eater.close()


def test_a_source_that_dies_under_the_command(two, ferry):
    source, target = two()
    process = start_slowly(ferry, source, target, "--precopy")
    source.process.kill()
    refused(ended(process), 4, "does not answer any more")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_in_precopy_cancels(two, ferry, number):
    source, target = two()
    process = start_slowly(ferry, source, target)
    process.send_signal(number)
    refused(ended(process), 1, "migration cancelled: told to stop",
            "the VM is: source")
    assert status(source) == "cancelled"
    lives(source)


def test_an_interrupt_in_postcopy_only_stops_watching(two, ferry):
    """This QEMU would obey, and the VM would be lost."""
    source, target = two(STILL)
    process = ferry.start("migrate", "--postcopy", *SLOW, "--set",
                          "max-postcopy-bandwidth=1M", source.ctl, target.ctl)
    target.wait("it runs there", lambda: runs(target))
    process.send_signal(signal.SIGTERM)
    refused(ended(process), 3, "it cannot be cancelled any more (",
            f"): the migration goes on; see `ferry status {source.ctl}`")
    refused(ferry("cancel", source.ctl), 1, "the target has taken over")
    refused(ferry("cont", source.ctl), 1, "was given to the target")
    for vm in source, target:
        refused(ferry("quit", vm.ctl), 1, "that would lose it")
    source.qmp("migrate-set-parameters", **{"max-postcopy-bandwidth": 0})
    source.wait("the end", lambda: status(source) == "completed")
    lives(target)
    refused(ferry("cont", source.ctl), 1, "was given to the target")
    assert ferry("stop", target.ctl).returncode == 0
    assert not runs(target)
    assert ferry("cont", target.ctl).returncode == 0
    lives(target)
    assert ferry("quit", source.ctl).returncode == 0
    assert source.process.wait(10) == 0


def test_a_command_that_is_killed_leaves_the_migration_alone(two, ferry):
    source, target = two()
    process = start_slowly(ferry, source, target, "--precopy")
    process.kill()
    source.qmp("migrate-set-parameters", **{"max-bandwidth": 1 << 40,
                                            "downtime-limit": 20000})
    source.wait("the end", lambda: status(source) == "completed")
    lives(target)


def test_precopy_that_gets_nowhere_is_given_up(two, ferry):
    source, target = two(BUSY)
    done = ferry("migrate", "--precopy", *SLOW, "--by", "1s", source.ctl,
                 target.ctl)
    refused(done, 1, "precopy does not get there: after 0 passes",
            "the VM is: source")
    lives(source)


# ---- status ---------------------------------------------------------------------------

@pytest.mark.sanitize
def test_status_of_a_qemu_has_the_shape_of_ferrys(two, ferry):
    source, target = two(STILL)

    def said(vm):
        done = ferry("status", "--json", vm.ctl)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)
    assert said(source)["migration"] == {}
    assert said(target)["vm"]["status"] == "inmigrate"
    text = ferry("status", source.ctl).stdout
    assert re.match(r"VM +running\nmigration +none", text), text

    process = ferry.start("migrate", "--postcopy", *SLOW, "--set",
                          "max-postcopy-bandwidth=1M", source.ctl, target.ctl)
    target.wait("it runs there", lambda: runs(target))
    process.kill()
    process.wait()
    for vm, role in (source, "source"), (target, "target"):
        m = said(vm)["migration"]
        assert m["status"] == "postcopy-active"
        assert (m["x-ferry-role"], m["x-ferry-where"], m["x-ferry-safe"]) == (
            role, "split", "none")
    text = ferry("status", source.ctl).stdout
    assert re.search(r"migration +postcopy-active +\d+%  pass \d ", text), text
    assert "where      split (safe to start: none)" in text
    target.type("v")        # it asks for all that is missing
    source.wait("requests", lambda: source.qmp("query-migrate")["ram"][
        "postcopy-requests"])
    m = said(source)["migration"]
    assert m["x-ferry-faults"]["count"] >= m["ram"]["postcopy-requests"] > 0
    watch = ferry.start("status", "--watch", source.ctl)
    source.qmp("migrate-set-parameters", **{"max-postcopy-bandwidth": 0})
    assert watch.wait(60) == 0
    for vm in source, target:
        assert said(vm)["migration"]["x-ferry-where"] == "target"
    lives(target)


# ---- what the documentation tells to type ---------------------------------------------

PAGE = Path(__file__).resolve().parents[2] / "docs/QEMU.md"


def lines_of(section):
    """The commands of a section, in order."""
    text = PAGE.read_text(encoding="utf-8").split(f"\n## {section}\n")[1]
    return re.findall(r"^    (\S.*)", text.split("\n## ")[0], re.M)


class Operator:
    """Does what a line says; hosts and files are the test's folder's."""

    def __init__(self, folder, vms, ferry):
        self.folder, self.vms, self.ferry = folder, vms, ferry
        self.vm, self.background = None, []

    def here(self, line):
        line = re.sub(r"tcp:host(\d):\d+", rf"unix:{self.folder}/in\1", line)
        line = line.replace("web.ferry", f"{self.folder}/web.ferry")
        return re.sub(r"/run/(\w)\.qmp", rf"{self.folder}/\1.ctl", line)

    def do(self, line):
        if line.startswith("qemu-system-x86_64 ... "):
            name = re.search(r"/run/(\w)\.qmp", line)[1]
            args = re.findall(r"-incoming \S+", line)
            self.vm = self.vms(name, *" ".join(args).split())
            return
        if line.startswith("{"):
            order = json.loads(self.here(line))
            self.vm.qmp(order["execute"], **order["arguments"])
            return
        assert line.startswith("ferry "), line
        words = shlex.split(self.here(line))[1:]
        if words[-1] == "&":
            self.background.append(self.ferry.start(*words[:-1]))
            qemu.wait_until("it listens", lambda: qemu.listens(
                words[-3].removeprefix("unix:")))
            return
        done = self.ferry(*words)
        assert done.returncode == 0, done.stderr

    def wait(self):
        for process in self.background:
            _, err = process.communicate(timeout=150)
            assert process.returncode == 0, err


# Each begins with a QEMU of its own: it is told to listen once.
@pytest.mark.parametrize("section", [
    "Park and resume", "Resume over several connections"])
def test_the_commands_to_park_and_resume_do_what_the_page_says(
        vms, ferry, folder, section):
    operator = Operator(folder, vms, ferry)
    [start] = lines_of("Before")
    operator.do(start)
    source = operator.vm
    source.wait_line("FERRY", 3)
    park, move, *resume = lines_of("Park and resume")
    if section != "Park and resume":
        resume = lines_of(section)
    operator.do(park)
    operator.do(move)
    operator.wait()             # the image is ready by then
    assert resume[0].startswith("qemu"), resume
    for line in resume:
        operator.do(line)
    assert operator.vm is not source and not runs(source)
    lives(operator.vm)


def test_the_commands_to_take_up_a_park_do_what_the_page_says(vms, ferry,
                                                              folder):
    source = vms("a")
    source.wait_line("FERRY", 3)
    operator = Operator(folder, None, ferry)
    park, move, resume = lines_of("When the connection to park breaks")
    operator.do(park)
    way = Cutter(folder, f"unix:{folder}/in2", 12 << 20)
    broken = ferry(*shlex.split(operator.here(move))[1:3], way.uri,
                   "--postcopy", *SLOW)
    assert broken.returncode == 3, broken.stderr
    source.wait("it is paused", lambda: status(source) == "postcopy-paused")
    way.close()
    operator.vm = source
    operator.do(resume)
    operator.wait()
    assert status(source) == "completed"
    assert os.path.exists(f"{folder}/web.ferry")


@pytest.mark.parametrize("number", [0, 1, 2])
def test_the_commands_to_move_do_what_the_page_says(two, ferry, folder,
                                                    number):
    source, target = two()
    line = lines_of("From QEMU to QEMU")[number]
    if "b.qmp" not in line:
        target.qmp("migrate-set-capabilities", capabilities=[
            {"capability": "multifd", "state": True}])
        target.qmp("migrate-incoming", uri=f"unix:{folder}/in2")
    Operator(folder, None, ferry).do(line)
    assert not runs(source)
    lives(target)


def test_a_link_between_qemus_is_recovered_by_two_words(two, ferry, folder):
    """The target first, then the source."""
    source, target = two(STILL)
    # What ferry sets at the source, if it knows the target's address only.
    names = ["postcopy-ram"] + ["postcopy-preempt"] * (
        qemu.version() >= GOOD_PREEMPT)
    target.qmp("migrate-set-capabilities", capabilities=[
        {"capability": name, "state": True} for name in names])
    target.qmp("migrate-incoming", uri=f"unix:{folder}/in2")
    way = Fuse(f"unix:{folder}/in2")
    move = ferry.start("migrate", source.ctl, way.uri, "--postcopy", *SLOW,
                       "--set", "max-postcopy-bandwidth=1M")
    for vm in source, target:
        vm.wait("it runs there", lambda vm=vm: status(vm) ==
                "postcopy-active")
    way.blow()
    assert move.wait(60) == 3
    for vm in source, target:
        vm.wait("it is paused", lambda vm=vm: status(vm) == "postcopy-paused")
    again = f"unix:{folder}/again"
    assert ferry("recover", source.ctl).returncode == 2
    assert ferry("recover", target.ctl, again).stdout == (
        f"{target.ctl}: listens at {again}, too\n")
    source.qmp("migrate-set-parameters", **{"max-postcopy-bandwidth": 0})
    done = ferry("recover", source.ctl, again)
    assert done.stdout == (
        f"{source.ctl}: recovered; all of the VM is at {again}\n")
    moved(done, source, target)
    way.close()


# ---- recover, towards somebody who is not the target ------------------------------

class Liar:
    """Lets everybody in, and is silent or hangs up."""

    def __init__(self, path, silent):
        self.uri, self.silent, self.guests = f"unix:{path}", silent, []
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(str(path))
        self.listener.listen()
        threading.Thread(target=self.receive, daemon=True).start()

    def receive(self):
        while True:
            self.guests.append(self.listener.accept()[0])
            if not self.silent:
                self.guests[-1].close()


@pytest.fixture
def paused(vms, ferry, folder):
    """A source whose park was cut off in postcopy; and that park's process."""
    source = vms("a")
    source.wait_line("FERRY", 3)
    park = ferry.start("park", f"unix:{folder}/in", f"{folder}/image")
    qemu.wait_until("it listens", lambda: qemu.listens(f"{folder}/in"))
    way = Cutter(folder, f"unix:{folder}/in", 12 << 20)
    broken = ferry("migrate", *SLOW, source.ctl, way.uri, "--postcopy")
    assert broken.returncode == 3, broken.stderr
    source.wait("it is paused", lambda: status(source) == "postcopy-paused")
    way.close()
    return source, park


LIES = {
    # silent; words; interrupted by; what is said; so also by one from 10.0 on,
    # which sees a connection that was closed
    "it hangs up": (False, ["--wait", "1"], None, (
        "postcopy-recover for 1 s: who took the connection at",
        "what was still with it is lost"), ("postcopy-paused: ",)),
    "it is silent": (True, ["--wait", "1"], None, (
        "postcopy-recover for 1 s: who took the connection at",
        "what was still with it is lost"), (
            "postcopy-recover for 1 s: who took", "migrate-pause")),
    "nobody waits any more": (True, ["--wait", "600"], signal.SIGINT, (
        "not waited for any more, it goes on by itself (postcopy-recover)",
        "; see `ferry status "), ("not waited for any more",)),
}


@pytest.mark.parametrize("lie", LIES)
def test_a_source_that_met_a_stranger_is_not_waited_for_in_silence(
        paused, ferry, folder, lie):
    silent, words, number, old, new = LIES[lie]
    source, _ = paused
    stranger = Liar(folder / "stranger", silent)
    process = ferry.start("recover", *words, source.ctl, stranger.uri)
    if number:
        source.wait("somebody is met", lambda: status(source) ==
                    "postcopy-recover")
        process.send_signal(number)
    done = ended(process)
    old_one = qemu.version() < 1000
    refused(done, 3, *(old if old_one else new))
    if old_one:
        assert "the VM is: split" in done.stderr
        refused(ferry("recover", source.ctl, stranger.uri), 3,
                "it is postcopy-recover, and the VM is: split")


def test_whatever_is_wrong_a_vm_that_is_split_is_said_to_be(paused, ferry,
                                                            folder, vms):
    """No other target can have it, there or not."""
    source, _ = paused
    other = vms("b", "-incoming", "defer")
    refused(ferry("migrate", source.ctl, f"{folder}/nowhere.ctl"), 3,
            "there is no socket", "; the VM is: split")
    refused(ferry("migrate", source.ctl, other.ctl), 3, "; the VM is: split")
    other.process.kill()
    other.process.wait()
    refused(ferry("migrate", source.ctl, other.ctl), 3, "is dead",
            "; the VM is: split")
