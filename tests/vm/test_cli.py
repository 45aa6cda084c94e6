# SPDX-License-Identifier: MIT
"""The command line, as a person and as a script use it."""

import fcntl
import json
import os
import pty
import re
import select
import shutil
import signal
import socket
import struct
import subprocess
import sys
import termios
import time

import pytest

from conftest import check_pages

COMMANDS = ["run", "migrate", "start-postcopy", "cancel", "status", "list",
            "doctor", "stop", "cont", "quit"]
CRAWL = ["--limit", "100K"]


@pytest.fixture
def two(pair):
    return pair(ram="64M")


# ---- help -----------------------------------------------------------------------

@pytest.mark.parametrize("command", COMMANDS)
def test_help_has_an_example(cli, command):
    done = cli(command, "--help")
    assert done.returncode == 0
    assert re.search(rf"Examples?:\s+ferry {command}\b", done.stdout)
    assert not done.stderr


def test_help_names_all_commands_and_exit_codes(cli):
    for words in ["help"], ["--help"]:
        done = cli(*words)
        assert done.returncode == 0
        for command in COMMANDS:
            assert f"\n  {command} " in done.stdout
        for code in range(6):
            assert f"\n  {code}  " in done.stdout


def test_no_command_and_an_unknown_one(cli):
    assert cli().returncode == 2
    done = cli("teleport")
    assert done.returncode == 2
    assert "no command 'teleport'" in done.stderr


# ---- what there is ----------------------------------------------------------------

def test_list(two, cli, make_vm):
    source, target = two
    done = cli("list", "--json")
    assert done.returncode == 0
    rows = {row["name"]: row for row in json.loads(done.stdout)}
    assert rows["a"] == {"name": "a", "status": "running",
                         "migration": "none", "pid": source.process.pid}
    assert rows["b"] == {"name": "b", "status": "inmigrate",
                         "migration": "setup", "pid": target.process.pid}
    lines = cli("list").stdout.splitlines()
    assert [line.split()[0] for line in lines] == ["a", "b"]


def test_list_of_nothing(cli):
    done = cli("list")
    assert (done.returncode, done.stdout) == (0, "")
    assert json.loads(cli("list", "--json").stdout) == []


def test_a_folder_that_may_not_be_read_is_no_empty_one(ferry, folder):
    """For root too, without the right to read everything."""
    locked = os.path.join(folder, "locked")
    os.mkdir(locked, 0)
    words = [str(ferry)]
    if os.geteuid() == 0:
        if not shutil.which("setpriv"):
            pytest.skip("as root it takes setpriv")
        words = ["setpriv", "--bounding-set",
                 "-dac_override,-dac_read_search", *words]
    for command, code in (["list"], 1), (["list", "--json"], 1), \
            (["status", "a"], 5), (["quit", "a"], 5):
        done = subprocess.run([*words, *command], text=True, check=False,
                              env=dict(os.environ, FERRY_RUNTIME_DIR=locked),
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        assert (done.returncode, done.stdout) == (code, "")
        assert locked in done.stderr
        assert "Permission denied" in done.stderr
        assert "(set FERRY_RUNTIME_DIR to have it elsewhere)" in done.stderr


@pytest.fixture
def nobody(ferry, folder):
    """The command as a user who may do nothing, in a folder of his own."""
    if os.geteuid() or not shutil.which("setpriv"):
        pytest.skip("takes root, and setpriv")
    home = os.path.join(folder, "nobody")
    os.mkdir(home)
    os.chown(home, 65534, 65534)
    os.chmod(folder, 0o755)
    env = {key: value for key, value in os.environ.items()
           if key not in ("FERRY_RUNTIME_DIR", "XDG_RUNTIME_DIR")}

    def run(*words, before=(), **more):
        done = subprocess.run(
            [*run.command, *before, ferry, *words], env=env | more, cwd="/",
            text=True, check=False, stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        if "setpriv: failed to execute" in done.stderr:
            pytest.skip("nobody may not even read the command")
        return done
    run.home = home
    run.command = ["setpriv", "--reuid=65534", "--regid=65534",
                   "--clear-groups", "--inh-caps=-all"]
    return run


def test_a_user_who_may_not_is_told_what_to_do(nobody, guest):
    """The same words as doctor's."""
    vm = ["run", "--name", "n", "--ram", "64M", "--kernel", str(guest)]
    done = nobody(*vm)
    assert done.returncode == 1
    assert "/run/ferry (set FERRY_RUNTIME_DIR to have it" in done.stderr
    rows = json.loads(nobody("doctor", "--json").stdout)["checks"]
    kvm, = (row for row in rows if row["name"] == "kvm")
    if kvm["verdict"] == "ok":
        pytest.skip("everybody may use this /dev/kvm")
    done = nobody(*vm, FERRY_RUNTIME_DIR=nobody.home)
    assert done.returncode == 1
    assert kvm["fix"] in done.stderr


def test_a_vm_that_died_is_listed_as_that(two, cli, make_vm, guest, folder):
    source, _ = two
    source.kill()
    with open(f"{folder}/notes.qmp", "w") as notes:
        notes.write("no socket")
    rows = {row["name"]: row for row in json.loads(
        cli("list", "--json").stdout)}
    assert rows["a"] == {"name": "a", "status": "dead",
                         "socket": source.qmp_path}
    assert rows["b"]["status"] == "inmigrate"
    assert rows["notes"] == {"name": "notes", "status": "no answer"}
    assert f"rm {source.qmp_path}\n" in cli("list").stdout
    done = cli("status", "a")
    assert done.returncode == 5
    assert "is dead" in done.stderr and source.qmp_path in done.stderr
    assert "no socket" in cli("status", "notes").stderr
    # Nothing has to be cleared away first.
    make_vm("a", ram="64M", kernel=guest, append="cpus=2")
    assert cli("status", "a").returncode == 0


def test_a_name_that_is_taken_says_by_whom(two, cli, guest):
    source, _ = two
    done = cli("run", "--name", "a", "--ram", "64M", "--kernel", str(guest))
    assert done.returncode == 1
    assert f"process {source.process.pid} listens at" in done.stderr
    assert source.qmp_path in done.stderr
    assert "another --name or --qmp" in done.stderr
    assert source.status() == "running"


def test_a_vm_that_hangs_is_no_dead_one(two, cli):
    source, _ = two
    source.freeze()
    try:
        row = json.loads(cli("list", "--json").stdout)[0]
        assert row == {"name": "a", "status": "no answer"}
        said = cli("status", "a")
        assert said.returncode == 5
        assert f"a: its process, {source.process.pid}, is stopped: kill " \
            f"-CONT {source.process.pid}" in said.stderr
    finally:
        source.signal(signal.SIGCONT)


def test_status(two, cli):
    source, target = two
    said = json.loads(cli("status", "a", "--json").stdout)
    assert said["vm"]["status"] == "running"
    assert said["migration"] == {}
    assert cli("migrate", "a", target.address()).returncode == 0
    said = json.loads(cli("status", "a", "--json").stdout)
    assert said["vm"]["status"] == "postmigrate"
    assert said["migration"]["status"] == "completed"
    assert said["migration"]["x-ferry-where"] == "target"
    target.wait_migration("completed")
    text = cli("status", "b").stdout
    assert re.search(r"VM +running\nmigration +completed", text)
    assert "where      target (safe to start: target)" in text
    # a socket is as good as a name
    assert cli("status", target.qmp_path).stdout == text


def test_stop_cont_quit(two, cli):
    source, _ = two
    assert cli("stop", "a").returncode == 0
    assert source.status() == "paused"
    assert cli("cont", "a").returncode == 0
    assert source.status() == "running"
    assert cli("quit", "a").returncode == 0
    assert source.wait_exit() == 0
    assert cli("status", "a").returncode == 5


def test_watch_ends_with_the_migration(two, cli):
    source, target = two
    source.migrate(target, "precopy", {"max-bandwidth": 100_000})
    source.wait_migration("active")
    watch = cli.start("status", "a", "--watch", "--json")
    first = json.loads(watch.stdout.readline())
    assert first["migration"]["status"] == "active"
    source.set({"max-bandwidth": 0})
    rest = watch.communicate(timeout=60)[0].splitlines()
    assert watch.returncode == 0
    assert json.loads(rest[-1])["migration"]["status"] == "completed"


def test_watch_ends_with_the_code_of_the_outcome(two, cli):
    source, target = two
    assert cli("status", "a", "--watch").returncode == 0    # there is none
    source.migrate(target, "precopy", {"max-bandwidth": 100_000})
    source.wait_migration("active")
    watch = cli.start("status", "a", "--watch")
    assert watch.stdout.readline()
    assert cli("cancel", "a").returncode == 0
    watch.communicate(timeout=60)
    assert watch.returncode == 1
    assert cli("status", "a", "--watch").returncode == 1
    assert cli("status", "a").returncode == 0


def test_there_is_nothing_to_cancel(two, cli):
    source, target = two

    def refused(state):
        done = cli("cancel", "a")
        assert done.returncode == 1
        assert f"nothing to cancel: the migration is {state}" in done.stderr
    refused("none")
    assert cli("migrate", "a", target.address()).returncode == 0
    refused("completed")
    source.qmp("migrate_cancel")        # as in QEMU, no error


def test_there_is_nothing_to_take_to_postcopy(two, cli):
    source, target = two

    def refused(vm, state):
        done = cli("start-postcopy", vm)
        assert done.returncode == 1
        assert f"to postcopy: the migration is {state}" in done.stderr
    refused("a", "none")
    assert cli("migrate", "a", target.address()).returncode == 0
    refused("a", "completed")


def test_what_never_connected_has_sent_nothing(two, cli):
    assert cli("migrate", "a", "tcp:127.0.0.1:9").returncode == 1
    said = json.loads(cli("status", "a", "--json").stdout)["migration"]
    assert said["ram"]["x-ferry-distinct"] == 0
    assert re.search(r"migration +failed +0%$", cli("status", "a").stdout,
                     re.M)


def test_passes_are_those_that_were_and_an_end_has_no_eta(two, cli):
    source, target = two
    assert cli("migrate", "a", target.address(), "--passes", "1",
               "--detach", "--set",
               "x-ferry-background-push=off").returncode == 0
    source.wait_migration("postcopy-active")
    assert re.search(r"postcopy-active +\d+%  pass 1\b",
                     cli("status", "a").stdout)
    target.kill()
    source.wait_migration("postcopy-paused")
    said = cli("status", "a").stdout
    assert "pass 1" in said and "ETA" not in said


def test_watch_writes_each_line_at_once(two, cli):
    """Also into a pipe."""
    source, target = two
    source.migrate(target, "precopy", {"max-bandwidth": 100_000})
    source.wait_migration("active")
    watch = cli.start("status", "a", "--watch")
    assert watch.stdout.readline() == b"VM         running\n"
    assert watch.poll() is None
    source.set({"max-bandwidth": 0})
    watch.communicate(timeout=60)


def test_the_target_tells_how_far_it_is(two, cli):
    source, target = two
    source.migrate(target, "precopy", {"max-bandwidth": 2_000_000})

    def ram():
        said = json.loads(cli("status", "b", "--json").stdout)["migration"]
        return said.get("ram", {})
    deadline = time.monotonic() + 60
    while ram().get("transferred", 0) < 1_000_000:
        assert time.monotonic() < deadline, ram()
        time.sleep(0.05)
    now = ram()
    assert 0 < now["x-ferry-distinct"] < now["total"] == 64 << 20
    assert now["x-ferry-distinct"] + now["remaining"] == now["total"]
    text = cli("status", "b").stdout
    assert re.search(r"migration +active +\d+%", text), text
    assert "pass" not in text
    source.set({"max-bandwidth": 0})
    target.wait_migration("completed")
    assert re.search(r"completed +100%", cli("status", "b").stdout)


def test_figures_can_be_read(two, cli):
    """The source knows how many faults there were, but not their waits."""
    source, target = two
    assert cli("migrate", "a", target.address(),
               "--postcopy").returncode == 0
    target.wait_migration("completed")
    told = {}
    for vm in "ab":
        text = cli("status", vm, "--json").stdout
        assert not re.search(r"\.\d{4}", text)
        told[vm] = json.loads(text)["migration"]
    assert told["a"]["ram"]["mbps"] > 0
    assert told["a"]["x-ferry-pause-us"] > 0
    assert "p50-us" in told["b"]["x-ferry-faults"]
    assert set(told["a"].get("x-ferry-faults", {})) <= {"count", "target-p99-us"}


def test_doctor(cli):
    done = cli("doctor", "--json")
    said = json.loads(done.stdout)
    assert done.returncode == (0 if said["ok"] else 1)
    rows = {row["name"]: row for row in said["checks"]}
    assert {"kvm", "userfaultfd"} <= set(rows)
    for row in rows.values():
        assert row["verdict"] in ("ok", "fallback", "missing")
        assert row["found"]
        if row["verdict"] != "ok":
            assert row["lost"] or row["fix"], row
    text = cli("doctor").stdout
    assert all(name in text for name in rows)


# Begins a program that may not use the system call userfaultfd (323), as by a
# container's seccomp profile: load its number, compare, EPERM, allow.
FORBID = """
import ctypes, os, struct, sys
lines = [(0x20, 0, 0, 0), (0x15, 0, 1, 323), (6, 0, 0, 0x50001),
         (6, 0, 0, 0x7fff0000)]
code = ctypes.create_string_buffer(
    b"".join(struct.pack("<HBBI", *line) for line in lines))
prog = struct.pack("<HxxxxxxQ", len(lines), ctypes.addressof(code))
prctl = ctypes.CDLL(None, use_errno=True).prctl
if prctl(38, 1, 0, 0, 0) or prctl(22, 2, prog, 0, 0):
    sys.exit(77)
os.execv(sys.argv[1], sys.argv[1:])
"""
NO_CALL = [sys.executable, "-c", FORBID]
WAYS = "userfaultfd-device", "userfaultfd-call", "userfaultfd-user-mode"
GET_FEATURES, GET_PROTOCOL_FEATURES, PAGEFAULT = 1, 15, 8


def offers_postcopy(path):
    """The backend there."""
    said = []
    with socket.socket(socket.AF_UNIX) as peer:
        peer.settimeout(60)
        peer.connect(path)
        for request in GET_FEATURES, GET_PROTOCOL_FEATURES:
            peer.sendall(struct.pack("<III", request, 1, 0))
            said.append(peer.recv(20, socket.MSG_WAITALL))
    return bool(struct.unpack("<IIIQ", said[1])[3] >> PAGEFAULT & 1)


@pytest.mark.parametrize("forbidden", ["", "userfaultfd"])
def test_doctor_says_what_a_backend_of_this_user_will_offer(
        nobody, build, forbidden):
    """What is forbidden is a system call, as in many containers."""
    words = NO_CALL if forbidden else []
    path = os.path.join(nobody.home, "net.sock")
    done = nobody("doctor", "--json", before=words)
    if done.returncode == 77:
        pytest.skip("nobody may not be forbidden a system call (seccomp)")
    rows = {row["name"]: row for row in json.loads(done.stdout)["checks"]}
    backend = build / "backends/ferry-vhost-net"
    with subprocess.Popen([*nobody.command, *words, backend, "--socket", path,
                           "--mode", "echo"]) as process:
        try:
            while not os.path.exists(path):
                assert process.poll() is None
                time.sleep(0.01)
            offered = offers_postcopy(path)
        finally:
            process.kill()
    row = rows["vhost-user-postcopy"]
    assert offered == (row["verdict"] == "ok"), row
    assert offered == any(rows[way]["verdict"] == "ok" for way in WAYS)
    assert rows["userfaultfd"]["verdict"] == "missing" or \
        any(rows[way]["verdict"] == "ok" for way in WAYS[:2])
    assert "PAGEFAULT" in row["found"]
    if not offered:
        assert row["lost"].startswith("postcopy") and row["fix"]
    if forbidden:
        assert "Operation not permitted" in rows[WAYS[2]]["found"]


def test_a_linux_that_would_stay_silent_is_warned_about(cli, folder, guest):
    """Where KVM emulates kernels; not the test guest, which has none."""
    rows = json.loads(cli("doctor", "--json").stdout)["checks"]
    emulated = [row["verdict"] for row in rows
                if row["name"] == "kvm-kernel-mode"] == ["fallback"]
    image = f"{folder}/bzimage"
    with open(image, "wb") as file:
        file.write(bytes(0x202) + b"HdrS" + bytes(4096))
    done = cli("run", "--kernel", image)
    assert done.returncode == 1         # it is none
    warned = "Linux will not get anywhere here" in done.stderr
    assert warned == emulated, done.stderr
    assert done.stderr.count("\n") == 1 + warned
    run = cli.start("run", "--name", "g", "--ram", "64M", "--serial", "null",
                    "--kernel", str(guest), "--append", "seconds=1")
    assert "anywhere" not in run.communicate(timeout=60)[1].decode()
    assert run.returncode == 0


@pytest.mark.parametrize("size, why", [
    ("99999999999999999999", "is more than any machine has"),
    ("99999999999999999999G", "is more than any machine has"),
    ("99999999999T", "is more than any machine has"),
    ("-1", "is no size"), ("1X", "is no size"), ("1GG", "is no size"),
    ("G", "is no size")])
def test_a_size_is_said_as_it_was_given(cli, size, why):
    done = cli("run", f"--ram={size}", "--kernel", "/dev/null")
    assert done.returncode == 2
    assert f"'{size}' {why}" in done.stderr


@pytest.mark.parametrize("words, why", [
    (["--precopy", "--postcopy"], "only one of"),
    (["--passes", "2", "--precopy"], "only one of"),
    (["--postcopy", "--passes", "0"], "only one of"),
    (["--by", "0s"], "'0s' is too short"),
    (["--by", "0.4ms"], "'0.4ms' is too short"),
])
def test_words_that_contradict_each_other(cli, words, why):
    done = cli("migrate", "a", "tcp:127.0.0.1:1", *words)
    assert done.returncode == 2
    assert why in done.stderr


# ---- migrate ----------------------------------------------------------------------

@pytest.mark.parametrize("option, mode", [
    ([], None), (["--precopy"], "precopy"), (["--postcopy"], "postcopy"),
    (["--passes", "1"], "postcopy"), (["--max-pause", "50ms"], None),
    (["--by", "30s"], None), (["--throttle"], None)])
def test_migrate(two, cli, option, mode):
    source, target = two
    done = cli("migrate", "a", target.address(), "--json", *option)
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    assert said["status"] == "completed"
    assert said["x-ferry-where"] == "target"
    if mode == "precopy":
        assert said["ram"]["postcopy-bytes"] == 0
    if mode == "postcopy":
        assert said["ram"]["postcopy-bytes"] > 0
    target.wait_migration("completed")
    check_pages(target)


def test_migrate_says_what_it_did(two, cli):
    _, target = two
    done = cli("migrate", "a", target.address())
    assert re.fullmatch(r"a is at tcp:127\.0\.0\.1:\d+; \d+ ms, "
                        r"pause \d+ ms\n", done.stdout)
    assert done.stderr == ""        # no terminal: no progress


def test_a_vm_that_is_paused_does_not_run_there(two, cli):
    _, target = two
    assert cli("stop", "a").returncode == 0
    done = cli("migrate", "a", target.address())
    assert done.stdout.startswith(f"a is at {target.address()}, paused; ")
    assert target.status() == "paused"


def test_a_vm_that_was_asked_runs_there(make_vm, guest, cli):
    make_vm("a", kernel=guest, append="cpus=1", ram="64M")
    target = make_vm("b", ram="64M", incoming="defer")
    assert cli("migrate", "a", "b").stdout.startswith("a runs at b; ")
    assert target.status() == "running"


def test_a_vm_is_not_given_away_to_a_device(two, cli):
    source, _ = two
    done = cli("migrate", "a", "file:/dev/null")
    assert done.returncode == 1
    assert "only a regular file keeps what is written" in done.stderr
    assert source.status() == "running"
    check_pages(source)


def test_migrate_detached(two, cli):
    source, target = two
    assert cli("migrate", "a", target.address(), "--detach",
               *CRAWL).returncode == 0
    source.wait_migration("active")
    done = cli("migrate", "a", target.address())
    assert done.returncode == 1
    assert "in progress" in done.stderr
    source.set({"max-bandwidth": 0})
    source.wait_migration("completed")


# ---- on a terminal ------------------------------------------------------------------

class Terminal:
    """A command that has a terminal for stderr, and Ctrl-C."""

    def __init__(self, cli, *words, columns=0):
        self.master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ,
                    struct.pack("HHHH", 25, columns, 0, 0))
        self.process = cli.start(*words, stdin=slave, stderr=slave,
                                 preexec_fn=lambda: self._own(slave))
        os.close(slave)
        self.text = ""

    @staticmethod
    def _own(slave):
        os.setsid()
        fcntl.ioctl(slave, termios.TIOCSCTTY, 0)

    def wait(self, pattern, timeout=60):
        deadline = time.monotonic() + timeout
        while not re.search(pattern, self.text):
            assert time.monotonic() < deadline, self.text
            if select.select([self.master], [], [], 0.1)[0]:
                try:
                    self.text += os.read(self.master, 4096).decode()
                except OSError:         # the other end is closed
                    assert re.search(pattern, self.text), self.text

    def type(self, text):
        os.write(self.master, text.encode())

    def end(self):
        out, _ = self.process.communicate(timeout=60)
        while select.select([self.master], [], [], 0.1)[0]:
            try:
                self.text += os.read(self.master, 4096).decode()
            except OSError:
                break
        os.close(self.master)
        return self.process.returncode, out.decode()


def test_progress_on_a_terminal(two, cli):
    source, target = two
    shown = Terminal(cli, "migrate", "a", target.address(), "--precopy",
                     *CRAWL)
    shown.wait(r"active +\d+%  pass 1")
    source.set({"max-bandwidth": 0})
    code, out = shown.end()
    assert code == 0
    assert "\ra" in shown.text or "\r" in shown.text
    assert re.search(r"completed +100% .* pause \d+ ms", shown.text)
    assert out.startswith("a is at tcp:")


@pytest.mark.parametrize("columns", [30, 47])
def test_progress_fits_the_terminal(two, cli, columns, monkeypatch):
    monkeypatch.delenv("COLUMNS", raising=False)
    source, target = two
    shown = Terminal(cli, "migrate", "a", target.address(), "--precopy",
                     *CRAWL, columns=columns)
    shown.wait("active")
    source.set({"max-bandwidth": 0})
    code, _ = shown.end()
    assert code == 0
    lines = re.findall(r"\033\[K([^\r\n]*)", shown.text)
    assert max(map(len, lines)) == columns - 1, lines


def test_ctrl_c_in_precopy_cancels(two, cli):
    source, target = two
    shown = Terminal(cli, "migrate", "a", target.address(), *CRAWL)
    shown.wait("active")
    shown.type("\x03")
    code, _ = shown.end()
    assert code == 1
    assert "cancelled" in shown.text
    assert source.migration() == "cancelled"
    assert source.status() == "running"
    check_pages(source)


def test_ctrl_c_in_postcopy_detaches(two, cli):
    source, target = two
    shown = Terminal(cli, "migrate", "a", target.address(), "--postcopy",
                     "--set", "x-ferry-background-push=off")
    shown.wait("postcopy-active")
    shown.type("\x03")
    code, _ = shown.end()
    assert code == 3
    assert source.migration() == "postcopy-active"
    source.set({"x-ferry-background-push": True})
    source.wait_migration("completed")
    target.wait_migration("completed")
    check_pages(target)


def test_who_ends_the_command_ends_the_migration(two, cli):
    source, target = two
    move = cli.start("migrate", "a", target.address(), *CRAWL)
    source.wait_migration("active")
    move.terminate()
    _, said = move.communicate(timeout=60)
    assert move.returncode == 1
    assert b"migration cancelled" in said and said.count(b"\n") == 1
    assert source.migration() == "cancelled"
    check_pages(source)


def test_who_ends_the_command_too_late_is_told_that_it_goes_on(two, cli):
    source, target = two
    move = cli.start("migrate", "a", target.address(), "--postcopy",
                     "--set", "x-ferry-background-push=off")
    source.wait_migration("postcopy-active")
    move.terminate()
    _, said = move.communicate(timeout=60)
    assert move.returncode == 3
    assert b"it cannot be cancelled any more (" in said
    assert b"): the migration goes on; see `ferry status a`\n" in said
    assert said.count(b"\n") == 1
    source.set({"x-ferry-background-push": True})
    target.wait_migration("completed")


def test_a_killed_command_leaves_the_migration_alone(two, cli):
    source, target = two
    move = cli.start("migrate", "a", target.address(), *CRAWL)
    source.wait_migration("active")
    move.send_signal(signal.SIGKILL)
    move.wait()
    source.set({"max-bandwidth": 0})
    source.wait_migration("completed")


def test_the_source_dies_under_the_command(two, cli):
    """Nobody is left who could tell where the VM is."""
    source, target = two
    move = cli.start("migrate", "a", target.address(), *CRAWL)
    source.wait_migration("active")
    source.kill()
    _, said = move.communicate(timeout=60)
    assert move.returncode == 4
    assert re.search(r"does not answer any more(: .*)?; it was .*; .* see "
                     r"`ferry status` there$", said.decode().strip())


def test_messages_go_to_stderr_and_results_to_stdout(two, cli):
    done = cli("status", "nobody")
    assert done.stdout == "" and done.stderr
    done = cli("status", "a")
    assert done.stdout and done.stderr == ""


def test_it_cannot_write(two, ferry, folder):
    """A full disk, or a reader that is gone, is not success."""
    env = dict(os.environ, FERRY_RUNTIME_DIR=folder)
    with open("/dev/full", "w") as full:
        done = subprocess.run([ferry, "status", "--json", "a"], env=env,
                              stdout=full, stderr=subprocess.PIPE,
                              check=False)
    assert done.returncode == 1
    assert b"No space left" in done.stderr
