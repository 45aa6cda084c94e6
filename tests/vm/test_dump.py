# SPDX-License-Identifier: MIT
"""`ferry dump` reads, to the last octet, what a QEMU sends: into a file, and
over TCP in both directions; and what two ferries say."""

import json
import subprocess
from collections import Counter

import pytest

import qemu
from capture import Capture
from steps import await_tidy, capabilities, ended

CMDLINE = "cpus=1 mode=random mem=25% report=100"


@pytest.fixture
def start(tmp_path, guest, monkeypatch):
    """QEMUs with the test guest."""
    monkeypatch.setenv("FERRY_GUEST", str(guest))
    qemu.require()
    started = []

    def make(name, *args):
        started.append(qemu.Qemu(tmp_path, name, CMDLINE, cpus=1, ram_mb=64,
                                 args=args))
        return started[-1]

    yield make
    for vm in started:
        vm.close()


def dump(ferry, *words, **how):
    done = subprocess.run([ferry, "dump", *map(str, words)], timeout=120,
                          capture_output=True, check=False, **how)
    return done.returncode, done.stdout.decode(), done.stderr.decode()


def records(ferry, *words):
    code, out, err = dump(ferry, "--json", *words)
    assert (code, err) == (0, "")
    return [json.loads(line) for line in out.splitlines()]


def finish(vm):
    assert ended(vm, "completed", "failed") == "completed"
    await_tidy(vm)          # only then has cat written all of it


def pages(found, *kinds):
    return sum(r["pages"] for r in found
               if r["record"] == "RAM" and r.get("what") in kinds)


@pytest.fixture
def stream(start, tmp_path):
    """A file that a QEMU migrated into."""
    source = start("a")
    source.wait_line("READY")
    source.qmp("migrate", uri=f"exec:cat > {tmp_path}/vm")
    finish(source)
    return tmp_path / "vm"


def test_a_file_of_qemu_is_read_to_the_last_octet(ferry, stream):
    found = records(ferry, stream)
    size = stream.stat().st_size
    assert sum(r["octets"] for r in found) == size
    assert found[0]["record"] == "FILE_HEADER"
    assert found[1]["machine"].startswith("pc-")
    assert found[-1]["record"] == "VMDESCRIPTION"
    memory = next(r["memory"] for r in found if r.get("what") == "MEM_SIZE")
    blocks = [r for r in found if r["record"] == "BLOCK"]
    assert sum(b["size"] for b in blocks) == memory
    assert pages(found, "PAGE", "ZERO") * 4096 >= memory
    devices = [r for r in found if r["record"] == "FULL"]
    assert {d["sized"] for d in devices} == {"description"}
    assert len(devices) == found[-1]["devices"]
    assert devices[-1]["name"] == "globalstate"


def test_a_pipe_a_summary_and_text_say_the_same(ferry, stream):
    found = Counter()
    for r in records(ferry, stream):
        name = " ".join(filter(None, (r["record"], r.get("what"))))
        found[name] += r.get("pages", 1) if r["record"] == "RAM" else 1
    with open(stream, "rb") as pipe:
        cat = subprocess.Popen(["cat"], stdin=pipe, stdout=subprocess.PIPE)
        code, out, err = dump(ferry, "--summary", "-", stdin=cat.stdout)
    cat.stdout.close()
    cat.wait()
    assert (code, err) == (0, "")
    counted = {line[:28].strip(): int(line[28:].split()[0])
               for line in out.splitlines()}
    assert counted == found
    code, out, err = dump(ferry, stream)
    assert (code, err) == (0, "")
    assert len(out.splitlines()) == len(records(ferry, stream))


@pytest.mark.parametrize("part", [0.001, 0.3, 0.9, 0.99, 0.9999])
def test_a_file_that_is_cut_is_refused_and_says_where(ferry, stream, part):
    size = int(stream.stat().st_size * part)
    with open(stream, "r+b") as file:
        file.truncate(size)
    code, out, err = dump(ferry, "--json", stream)
    assert code == 1
    last = json.loads(out.splitlines()[-1])
    assert last["record"] == "error"
    assert 0 <= last["offset"] <= size
    assert last["error"].startswith(f"0x{last['offset']:x}: ")
    assert last["error"] in err


def moved(start, tmp_path, *names):
    """The capture of a migration between two QEMUs with these capabilities."""
    source = start("a")
    source.wait_line("READY")
    target = start("b", "-incoming", "defer")
    for vm in source, target:
        if names:
            capabilities(vm, *names)
    target.qmp("migrate-incoming", uri="tcp:127.0.0.1:0")
    address = target.qmp("query-migrate")["socket-address"][0]
    path = tmp_path / "cap"
    with Capture(f"tcp:127.0.0.1:{address['port']}", path) as proxy:
        source.qmp("migrate", uri=proxy.uri)
        if "postcopy-ram" in names:
            source.qmp("migrate-start-postcopy")
        finish(source)
        finish(target)
    return path


def check_capture(ferry, path):
    """The records; each octet that was carried belongs to one."""
    found = records(ferry, path)
    told, carried = Counter(), Counter()
    for r in found:
        if r["record"] not in ("OPEN", "CLOSE"):
            told[r["connection"], r["to"]] += r["octets"]
    with open(path, "rb") as file:
        while head := file.read(15):
            conn, what = int.from_bytes(head[8:10], "big"), head[10]
            n = int.from_bytes(head[11:15], "big")
            file.seek(n, 1)
            if n:
                carried[conn, ("target", "source")[what]] += n
    assert told == carried
    return found


def replies(found):
    return [r["what"] for r in found if r["record"] == "REPLY"]


def test_precopy_over_tcp_is_read_both_ways(ferry, start, tmp_path):
    found = check_capture(ferry, moved(start, tmp_path, "return-path"))
    assert replies(found) == ["PONG", "SHUT"]
    assert any(r["record"] == "VMDESCRIPTION" for r in found)


def test_postcopy_over_tcp_is_read_both_ways(ferry, start, tmp_path):
    found = check_capture(ferry, moved(start, tmp_path, "postcopy-ram"))
    commands = [r["what"] for r in found if r["record"] == "COMMAND"]
    assert {"POSTCOPY_ADVISE", "RAM_DISCARD", "PACKAGED", "POSTCOPY_LISTEN",
            "POSTCOPY_RUN"} <= set(commands)
    assert replies(found)[-1] == "SHUT"
    inside = [r for r in found if r.get("depth")]
    assert inside[0]["what"] == "POSTCOPY_LISTEN"
    assert inside[-1]["what"] == "POSTCOPY_RUN"
    devices = [r for r in inside if r["record"] == "FULL"]
    assert len(devices) > 10
    assert devices[-1]["name"] == "globalstate"


def test_a_preempt_channel_is_known_by_its_company(ferry, start, tmp_path):
    found = check_capture(ferry, moved(start, tmp_path, "postcopy-ram",
                                       "postcopy-preempt"))
    assert any(r["record"] == "RAM" and r["connection"] == 1 for r in found)


def test_multifd_channels_are_read(ferry, start, tmp_path):
    found = check_capture(ferry, moved(start, tmp_path, "multifd"))
    assert sorted(r["channel"] for r in found
                  if r["record"] == "INIT") == [0, 1]
    packets = [r for r in found if r["record"] == "PACKET"]
    assert sum(r["normal"] for r in packets) > 100


@pytest.mark.parametrize("way", ["--precopy", "--postcopy"])
def test_what_two_ferries_say_is_read(ferry, cli, pair, tmp_path, way):
    _, target = pair()
    with Capture(target.address(), tmp_path / "cap") as proxy:
        done = cli("migrate", "a", proxy.uri, way)
        assert done.returncode == 0, done.stderr
        # It keeps main open while it has a migration to speak of.
        assert cli("quit", "a").returncode == 0
    found = check_capture(ferry, tmp_path / "cap")
    assert [r["what"] for r in found if r["record"] == "CHANNEL"][0] == "main"
    assert {"LOADED", "RUNNING", "SHUT"} <= set(replies(found))
    assert {r["sized"] for r in found if r["record"] == "FULL"} == {"itself"}


def test_other_files_are_refused(ferry, tmp_path):
    other = tmp_path / "other"
    other.write_bytes(b"\x7fELF" + bytes(100))
    broken = tmp_path / "broken"
    broken.write_bytes(b"FERRYIMG" + bytes(5000))
    empty = tmp_path / "empty"
    empty.write_bytes(b"")
    disk = tmp_path / "disk"
    disk.write_bytes(b"QFI\xfb" + bytes(100))
    for path, says in ((other, "not a migration's stream, nor a capture of "
                        "one, nor an image of a parked VM: it begins with "
                        "0x7f454c46"), (tmp_path, "directory"),
                       (empty, "there is nothing"), (disk, "a qcow2 disk"),
                       (broken, "image"), ("/dev/zero", "not a migration"),
                       (tmp_path / "none", "No such file")):
        code, out, err = dump(ferry, path)
        assert (code, out) == (1, "")
        assert says in err and err.count(str(path)) == 1
    for words in ((), ("a", "b"), ("--as=x", "a"), ("--offset=-1", "a")):
        assert dump(ferry, *words)[0] == 2
