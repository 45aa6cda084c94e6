# SPDX-License-Identifier: MIT
"""QMP of a real `ferry run`: as QEMU's, whatever a client sends."""

import json
import shutil
import subprocess
import threading
import time

import pytest

from ferryvm import Qmp, QmpError, connect

QEMU = "qemu-system-x86_64"


class Raw:
    """A connection on which octets are sent as they are."""

    def __init__(self, path, negotiate=True):
        self.sock = connect(path)
        self.sock.settimeout(30)
        self.file = self.sock.makefile("rb")
        self.greeting = self.read()
        if negotiate:
            assert self.ask({"execute": "qmp_capabilities"}) == {"return": {}}

    def send(self, data):
        if not isinstance(data, bytes):
            data = json.dumps(data).encode() + b"\n"
        self.sock.sendall(data)

    def read(self):
        """The next answer; events are passed over.  None: closed."""
        while True:
            line = self.file.readline()
            if not line:
                return None
            assert line.endswith(b"\r\n"), line
            said = json.loads(line)
            if "event" not in said:
                return said

    def ask(self, data):
        self.send(data)
        return self.read()

    def error(self, data):
        return self.ask(data)["error"]

    def alive(self):
        answer = self.ask({"execute": "query-name", "id": "still there"})
        return answer == {"return": {"name": "a"}, "id": "still there"}

    def close(self):
        self.file.close()
        self.sock.close()


@pytest.fixture
def vm(make_vm, guest):
    vm = make_vm("a", ram="64M", vcpus=1, kernel=guest,
                 append="cpus=1 mem=8M report=100")
    vm.serial.wait(lambda log: log.ready)
    return vm


@pytest.fixture
def raw(vm):
    connections = []

    def make(**how):
        connections.append(Raw(vm.qmp_path, **how))
        return connections[-1]

    yield make
    for connection in connections:
        connection.close()


# ---- form -----------------------------------------------------------------------

def test_the_greeting_and_what_must_follow_it(raw):
    client = raw(negotiate=False)
    version = client.greeting["QMP"]["version"]
    assert set(version) == {"qemu", "package"}
    assert all(isinstance(version["qemu"][k], int)
               for k in ("major", "minor", "micro"))
    assert client.greeting["QMP"]["capabilities"] == ["oob"]

    early = client.error({"execute": "query-status"})
    assert early["class"] == "CommandNotFound"
    assert "capabilities negotiation" in early["desc"]
    wrong = client.error({"execute": "qmp_capabilities",
                          "arguments": {"enable": ["warp"]}})
    assert wrong["class"] == "GenericError"
    assert client.ask({"execute": "qmp_capabilities", "id": 7}) == {
        "return": {}, "id": 7}
    assert client.alive()
    again = client.error({"execute": "qmp_capabilities"})
    assert again["class"] == "CommandNotFound"


WRONG = [
    # request, class, part of the description
    ({"execute": "warp"}, "CommandNotFound", "has not been found"),
    ({"execute": 5}, "GenericError", "must be a string"),
    ({"execute": None}, "GenericError", "must be a string"),
    ({"exec": "stop"}, "GenericError", "unexpected"),
    ({}, "GenericError", "lacks member 'execute'"),
    ([], "GenericError", "must be a JSON object"),
    ("stop", "GenericError", "must be a JSON object"),
    ({"execute": "stop", "arguments": []}, "GenericError",
     "must be an object"),
    ({"execute": "stop", "arguments": {"now": True}}, "GenericError",
     "'now' is unexpected"),
    ({"execute": "migrate"}, "GenericError", "'uri' is missing"),
    ({"execute": "migrate", "arguments": {"uri": 5}}, "GenericError",
     "expected: string"),
    ({"execute": "migrate", "arguments": {"uri": "tcp:h:1", "detach": 1}},
     "GenericError", "expected: boolean"),
    ({"execute": "migrate", "arguments": {"uri": "tcp:h:1", "blk": True}},
     "GenericError", "unexpected"),
    ({"execute": "migrate", "arguments": {"uri": "tcp:h:1", "resume": True}},
     "GenericError", "Cannot resume"),
    ({"execute": "migrate-set-capabilities"}, "GenericError", "is missing"),
    ({"execute": "migrate-set-capabilities",
      "arguments": {"capabilities": [{"capability": "warp",
                                      "state": True}]}},
     "GenericError", "does not accept value 'warp'"),
    ({"execute": "migrate-set-capabilities",
      "arguments": {"capabilities": [{"capability": "postcopy-ram"}]}},
     "GenericError", "state' is missing"),
    ({"execute": "migrate-set-capabilities",
      "arguments": {"capabilities": ["postcopy-ram"]}},
     "GenericError", "missing"),
    ({"execute": "migrate-set-capabilities",
      "arguments": {"capabilities": [{"capability": "postcopy-ram",
                                      "state": "on"}]}},
     "GenericError", "expects boolean"),
    ({"execute": "migrate-set-parameters", "arguments": {"warp": 9}},
     "GenericError", "'warp' is unexpected"),
    ({"execute": "migrate-set-parameters",
      "arguments": {"downtime-limit": "long"}}, "GenericError", "expects"),
    ({"execute": "migrate-set-parameters",
      "arguments": {"downtime-limit": -1}}, "GenericError", "expects"),
    ({"execute": "migrate-set-parameters",
      "arguments": {"downtime-limit": 2000001}}, "GenericError",
     "outside 0 to 2000000"),
    ({"execute": "migrate-set-parameters",
      "arguments": {"multifd-channels": 0}}, "GenericError", "outside"),
    ({"execute": "migrate-set-parameters",
      "arguments": {"x-ferry-push-order": "sideways"}}, "GenericError",
     "none of linear, near, hot"),
    ({"exec-oob": "query-status"}, "GenericError", "unexpected"),
]


def test_wrong_requests_are_answered_and_do_no_harm(raw, vm):
    client = raw()
    before = vm.qmp("query-migrate-parameters"), vm.qmp(
        "query-migrate-capabilities")
    for request, kind, desc in WRONG:
        error = client.error(request)
        assert error["class"] == kind, request
        assert desc in error["desc"], request
    assert client.alive()
    assert vm.status() == "running"
    assert before == (vm.qmp("query-migrate-parameters"),
                      vm.qmp("query-migrate-capabilities"))


BROKEN = [b"hello\n", b"{\n}]\n", b'{"execute" "stop"}\n', b"\x00\xff\xfe\n",
          b"{'a': nope}\n", b']\n', b'\xc3\x28\n']


def test_what_is_no_json_is_answered_with_an_error(raw):
    """However many errors it takes, the connection finds back."""
    for broken in BROKEN:
        client = raw()
        client.send(broken + b'\n{"execute": "query-name", "id": 99}\n')
        said = client.read()
        assert said["error"]["class"] == "GenericError", broken
        while "id" not in said:
            said = client.read()
        assert said == {"return": {"name": "a"}, "id": 99}
        client.close()


@pytest.mark.parametrize("huge", [
    b'{"execute": "' + 10_000_000 * b"x" + b'"}\n',
    b'{"execute": "query-name", "id": [' + 5_000_000 * b"1," + b"1]}\n",
    100_000 * b"[" + 100_000 * b"]" + b"\n",
    100_000 * b'{"a":' + b"\n",
], ids=["long", "wide", "deep", "endless"])
def test_huge_json_is_refused(raw, vm, huge):
    before = vm.memory()["own"]
    client = raw()
    try:
        client.send(huge)
        said = client.read()
    except ConnectionError:
        said = None
    assert said is None or "error" in said
    assert raw().alive()
    assert vm.memory()["own"] < before + (16 << 20)


def test_octet_by_octet(raw):
    client = raw()
    for octet in json.dumps({"execute": "query-name", "id": "x"}).encode():
        client.send(bytes([octet]))
        time.sleep(0.001)
    assert client.read() == {"return": {"name": "a"}, "id": "x"}


def test_no_newlines_are_needed(raw):
    client = raw()
    client.send(b'{"execute":"query-name","id":1}{"execute":"query-name",'
                b'"id":2} \t{"execute":"query-name","id":3}')
    assert [client.read()["id"] for _ in range(3)] == [1, 2, 3]


@pytest.mark.parametrize("value", [
    0, -1, 1.5, "text", True, [], {"a": [1, {"b": None}]},
    "\u00e9\u20ac\U0001f600\"\\\n", 2**63 - 1])
def test_an_id_comes_back_as_it_was(raw, value):
    answer = raw().ask({"execute": "query-name", "id": value})
    assert answer["id"] == value


def test_many_requests_at_once_are_answered_in_order(raw):
    client = raw()
    client.send(b"".join(json.dumps({"execute": "query-name", "id": i})
                         .encode() + b"\n" for i in range(500)))
    assert [client.read()["id"] for _ in range(500)] == list(range(500))


# ---- several clients ----------------------------------------------------------------

def test_two_clients_hear_the_same_events(vm):
    other = Qmp(vm.qmp_path)
    vm.qmp.forget_events()
    vm.qmp("stop")
    other("cont")
    for client in vm.qmp, other:
        client.wait_event("RESUME")
        assert [e["event"] for e in client.events] == ["STOP", "RESUME"]
        for event in client.events:
            assert set(event["timestamp"]) == {"seconds", "microseconds"}
    other.close()


def test_who_does_not_read_does_not_hold_up_the_others(raw, vm):
    lazy = raw()
    before = vm.memory()["own"]

    def flood():
        try:
            while True:
                lazy.sock.send(b'{"execute": "query-commands"}\n' * 100)
        except OSError:
            pass

    lazy.sock.settimeout(2)
    thread = threading.Thread(target=flood)
    thread.start()
    for _ in range(200):
        assert vm.status() == "running"
    thread.join()
    assert raw().alive()
    assert vm.memory()["own"] < before + (8 << 20)


def test_a_client_that_goes_in_the_midst_of_it(raw):
    for piece in b"", b'{"execute": "quer', b'{"execute": "query-name"}\n':
        client = raw()
        client.send(piece)
        client.sock.close()
    assert raw().alive()


def test_oob_is_agreed_upon_and_then_used(raw):
    client = raw(negotiate=False)
    client.ask({"execute": "qmp_capabilities",
                "arguments": {"enable": ["oob"]}})
    assert client.ask({"exec-oob": "query-status", "id": 1})["return"][
        "running"] is True
    refused = client.error({"exec-oob": "stop", "id": 2})
    assert "oob" in refused["desc"].lower()
    assert client.alive()


# ---- as QEMU ------------------------------------------------------------------------

QUERIES = ["query-status", "query-version", "query-commands",
           "query-migrate", "query-migrate-capabilities",
           "query-migrate-parameters"]

# What QEMU has here and ferry does not do (compression, TLS, COLO, ...).
NOT_OURS = {
    "query-migrate-parameters": (
        "announce-", "block-", "compress-", "cpu-throttle-tailslow",
        "decompress-", "throttle-trigger-threshold", "tls-",
        "x-checkpoint-delay", "xbzrle-"),
    "query-migrate/ram": ("dirty-sync-missed-zero-copy", "skipped"),
}


@pytest.fixture
def qemu(folder):
    if not shutil.which(QEMU):
        pytest.skip(f"{QEMU} is not installed")
    path = f"{folder}/qemu"
    process = subprocess.Popen(
        [QEMU, "-accel", "tcg", "-m", "8", "-nodefaults", "-no-user-config",
         "-display", "none", "-qmp", f"unix:{path},server=on,wait=off"],
        stdin=subprocess.DEVNULL)
    try:
        yield Qmp(path, lambda: process.poll() is None)
    finally:
        process.kill()
        process.wait()


def kind(value):
    return "number" if type(value) in (int, float) else type(value).__name__


def compare(where, theirs, ours):
    """Every key of theirs is in ours, and of the same type."""
    assert kind(theirs) == kind(ours), where
    if isinstance(theirs, list) and theirs and ours:
        compare(f"{where}[]", theirs[0], ours[0])
    if not isinstance(theirs, dict):
        return
    for key, value in theirs.items():
        if not key.startswith(NOT_OURS.get(where, ("\n",))):
            assert key in ours, (where, key)
            compare(f"{where}/{key}", value, ours[key])


@pytest.mark.parametrize("command", QUERIES)
def test_queries_have_the_shape_of_qemus(vm, qemu, command):
    compare(command, qemu(command), vm.qmp(command))


def test_a_migration_has_the_shape_of_qemus(vm, qemu, folder):
    qemu("migrate-set-capabilities",
         capabilities=[{"capability": "events", "state": True}])
    for client, uri in (qemu, "exec:cat >/dev/null"), (
            vm.qmp, f"file:{folder}/image"):
        client.forget_events()
        client("migrate", uri=uri)
        client.wait_event("MIGRATION", status="completed")
    compare("query-migrate", qemu("query-migrate"), vm.qmp("query-migrate"))
    compare("query-status", qemu("query-status"), vm.qmp("query-status"))
    assert vm.status() == qemu("query-status")["status"] == "postmigrate"
    for name in "STOP", "MIGRATION", "MIGRATION_PASS":
        theirs = [e for e in qemu.events if e["event"] == name]
        ours = [e for e in vm.qmp.events if e["event"] == name]
        compare(name, theirs[0], ours[0])


def test_the_commands_that_were_promised(vm):
    have = {c["name"] for c in vm.qmp("query-commands")}
    assert have >= {
        "qmp_capabilities", "migrate", "migrate-incoming",
        "migrate-set-capabilities", "query-migrate-capabilities",
        "migrate-set-parameters", "query-migrate-parameters",
        "query-migrate", "migrate-start-postcopy", "migrate_cancel",
        "query-status", "stop", "cont", "quit", "query-version",
        "query-commands"}


def test_what_a_client_of_qemu_asks_for_first(vm):
    """Capabilities that ferry has always; they cannot be taken away."""
    for name in "events", "return-path":
        vm.set({name: True})
        with pytest.raises(QmpError, match=name):
            vm.set({name: False})


# ---- parameters -----------------------------------------------------------------------

def all_parameters(vm):
    return vm.qmp("query-migrate-parameters")


def test_parameters_are_as_they_were_set(vm):
    new = {"downtime-limit": 77, "max-bandwidth": 12345678,
           "max-postcopy-bandwidth": 2345678, "multifd-channels": 4,
           "cpu-throttle-initial": 33, "x-ferry-push-order": "linear",
           "x-ferry-background-push": False, "x-ferry-by": 60000}
    before = all_parameters(vm)
    vm.qmp("migrate-set-parameters", **new)
    assert all_parameters(vm) == {**before, **new}
    with pytest.raises(QmpError):       # all or nothing
        vm.qmp("migrate-set-parameters", **{"downtime-limit": 1,
                                            "multifd-channels": 100000})
    assert all_parameters(vm) == {**before, **new}


def test_capabilities_are_as_they_were_set(vm):
    def states():
        return {c["capability"]: c["state"]
                for c in vm.qmp("query-migrate-capabilities")}

    before = states()
    for name in "postcopy-ram", "auto-converge", "release-ram":
        vm.set({name: not before[name]})
        assert states() == {**before, name: not before[name]}
        vm.set({name: before[name]})


def test_some_may_be_set_while_a_migration_runs(pair):
    source, target = pair(ram="64M")
    source.migrate(target, "precopy", {"max-bandwidth": 100_000,
                                       "multifd-channels": 1})
    source.wait_migration("active")
    source.set({"downtime-limit": 500, "max-bandwidth": 200_000})
    with pytest.raises(QmpError, match="cannot be changed now"):
        source.set({"multifd-channels": 2})
    with pytest.raises(QmpError, match="in progress"):
        source.set({"postcopy-ram": True})
    assert all_parameters(source)["downtime-limit"] == 500
    assert all_parameters(source)["multifd-channels"] == 1
    source.set({"max-bandwidth": 0})
    source.wait_migration("completed")


# ---- events ------------------------------------------------------------------------------

def story(client):
    """Events as words: states and passes by their value."""
    words = []
    for event in client.events:
        data = event.get("data", {})
        words.append(data.get("status") or event["event"])
    return words


STORIES = {
    "precopy": (["setup", "active", "MIGRATION_PASS", "device", "STOP",
                 "completed"],
                ["setup", "active", "device", "RESUME", "completed"]),
    "precopy+postcopy": (["setup", "active", "MIGRATION_PASS", "device",
                          "STOP", "postcopy-active", "completed"],
                         ["setup", "active", "device", "RESUME",
                          "postcopy-active", "completed"]),
    "postcopy": (["setup", "active", "device", "STOP", "postcopy-active",
                  "completed"],
                 ["setup", "active", "device", "RESUME", "postcopy-active",
                  "completed"]),
}


def without_repeats(words):
    return [w for i, w in enumerate(words) if i == 0 or w != words[i - 1]]


@pytest.mark.sanitize
@pytest.mark.parametrize("mode", STORIES)
def test_events_tell_the_whole_story(pair, mode):
    source, target = pair(ram="64M", incoming="defer")
    target.qmp.forget_events()
    target.qmp("migrate-incoming", uri="tcp:127.0.0.1:0")
    source.qmp.forget_events()
    source.migrate(target, mode)
    for vm, told in zip((source, target), STORIES[mode]):
        vm.qmp.wait_event("MIGRATION", status="completed")
        assert without_repeats(story(vm.qmp)) == told
    passes = [e["data"]["pass"] for e in source.qmp.events
              if e["event"] == "MIGRATION_PASS"]
    assert passes == list(range(1, len(passes) + 1))


def test_the_end_is_an_event_too(vm):
    vm.qmp("quit")
    assert vm.qmp.wait_event("SHUTDOWN")["data"] == {
        "guest": False, "reason": "host-qmp-quit"}
