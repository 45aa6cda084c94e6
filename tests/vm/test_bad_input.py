# SPDX-License-Identifier: MIT
"""Bad input: one clear sentence, an exit code, and nothing lost."""

import os
import random
import socket
import struct
import subprocess
import threading
import time

import pytest

from conftest import check_pages, sentence
from ferryvm import QmpError
from proxy import Fuse

GUEST = "cpus=1 mode=random mem=8M report=100"


# ---- ferry run ------------------------------------------------------------------

def cut(path, folder, octets):
    """The first octets of a file."""
    out = f"{folder}/cut"
    with open(path, "rb") as whole, open(out, "wb") as part:
        part.write(whole.read()[:octets])
    return out


def with_memory(path, folder, octets):
    """A kernel whose first segment wants so much memory."""
    with open(path, "rb") as f:
        elf = bytearray(f.read())
    is64 = elf[4] == 2
    at = struct.unpack_from("<Q", elf, 32)[0] if is64 else \
        struct.unpack_from("<I", elf, 28)[0]
    size, count = struct.unpack_from("<HH", elf, 54 if is64 else 42)
    for i in range(count):
        if struct.unpack_from("<I", elf, at + i * size)[0] == 1:
            if is64:
                struct.pack_into("<Q", elf, at + i * size + 40, octets)
            else:
                struct.pack_into("<I", elf, at + i * size + 20, octets)
            break
    out = f"{folder}/large"
    with open(out, "wb") as f:
        f.write(elf)
    return out


def text_file(folder):
    out = f"{folder}/text"
    with open(out, "w") as f:
        f.write("What is this?\n" * 1000)
    return out


KERNELS = [
    (lambda guest, folder: text_file(folder), "is not a kernel"),
    (lambda guest, folder: "/dev/null", "not a regular file"),
    (lambda guest, folder: folder, "not a regular file"),
    (lambda guest, folder: f"{folder}/none", "No such file"),
    (lambda guest, folder: cut(guest, folder, 0), "is not a kernel"),
    (lambda guest, folder: cut(guest, folder, 40), "past the end"),
    (lambda guest, folder: cut(guest, folder, 100), "past the end"),
    (lambda guest, folder: cut(guest, folder, 20000), "past the end"),
    (lambda guest, folder: with_memory(guest, folder, 100 << 20),
     "does not fit"),
    (lambda guest, folder: with_memory(guest, folder, 0xffffffff),
     "does not fit"),
]


@pytest.mark.parametrize("make, reason", KERNELS)
def test_what_is_no_kernel_is_refused(kvm, cli, guest, folder, make, reason):
    done = cli("run", "--name", "a", "--serial", "null", "--ram", "64M",
               "--kernel", str(make(guest, folder)))
    assert done.returncode == 1
    assert reason in sentence(done.stderr)


def test_more_memory_than_the_machine_has_is_refused(kvm, cli, guest):
    total = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    gib = (total >> 30) + 2
    if gib > 64:
        pytest.skip("this machine has as much memory as a VM may have")
    done = cli("run", "--serial", "null", "--kernel", str(guest), "--ram",
               f"{gib}G")
    assert done.returncode == 1
    assert "this machine has only" in sentence(done.stderr)


@pytest.mark.parametrize("content", [b"", b"What is this?\n" * 1000,
                                     b"QEVM\0\0\0\3", b"QEVM\0\0\0\7"])
def test_a_file_that_is_no_migration_is_refused(kvm, cli, folder, content):
    with open(f"{folder}/image", "wb") as f:
        f.write(content)
    done = cli("run", "--name", "b", "--serial", "null", "--ram", "64M",
               "--incoming", f"file:{folder}/image")
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith("ferry: ")
    assert f"{folder}/image" in done.stderr


def test_a_name_is_given_once(make_vm, cli, guest):
    vm = make_vm("a", kernel=guest, append=GUEST)
    done = cli("run", "--name", "a", "--serial", "null", "--ram", "64M",
               "--kernel", str(guest))
    assert done.returncode == 1
    assert "already" in sentence(done.stderr)
    assert vm.status() == "running"


# ---- ferry migrate and the others -------------------------------------------------

@pytest.fixture
def source(make_vm, guest):
    vm = make_vm("a", ram="64M", vcpus=1, kernel=guest, append=GUEST)
    vm.serial.wait(lambda log: log.ready)
    return vm


def test_a_vm_that_is_not_there(cli):
    for words in (["migrate", "b", "tcp:127.0.0.1:1"], ["status", "b"],
                  ["cancel", "b"], ["start-postcopy", "b"], ["stop", "b"],
                  ["cont", "b"], ["quit", "b"]):
        done = cli(*words)
        assert done.returncode == 5, words
        assert "there is no VM 'b'" in sentence(done.stderr)


def test_a_socket_that_is_not_there(cli):
    for words in (["status", "/nonexistent/b"], ["quit", "./b"],
                  ["migrate", "/nonexistent/b", "/nonexistent/c"]):
        done = cli(*words)
        assert done.returncode == 5, words
        said = sentence(done.stderr)
        assert f"there is no socket {words[1]}" in said
        assert "-qmp unix:" in said and "ferry list" not in said


WORDS = [
    (["migrate"], "which VM"), (["migrate", "a"], "where to"),
    (["migrate", "a", "b", "c"], "too many"), (["status"], "which VM"),
    (["migrate", "a", "tcp:h:1", "--set", "warp=9"], "no parameter"),
    (["migrate", "a", "tcp:h:1", "--set", "warp"], "NAME=VALUE"),
    (["migrate", "a", "tcp:h:1", "--max-pause", "short"], "no time"),
    (["migrate", "a", "tcp:h:1", "--limit", "x"], "not a number"),
    (["migrate", "a", "tcp:h:1", "--passes", "1001"], "0 to 1000"),
    (["migrate", "a", "tcp:h:1", "--by", "-1"], "no time"),
    (["list", "a"], "no arguments"), (["doctor", "a"], "no arguments"),
    (["stop"], "which VM"), (["stop", "a", "b"], "one VM"),
]


@pytest.mark.parametrize("words, reason", WORDS)
def test_words_that_say_nothing(cli, words, reason):
    done = cli(*words)
    assert done.returncode == 2
    assert reason in sentence(done.stderr)


def test_addresses_where_nobody_is(source, cli):
    """Each leaves the VM running at the source; what is no address is wrong
    words."""
    for uri, code, reason in [
            ("tcp:127.0.0.1:1", 1, "Connection refused"),
            ("tcp:127.0.0.1:0", 1, "port 0"),
            ("tcp:nohost.invalid:1", 1, "look up"),
            ("tcp:1", 2, "no port"), ("pigeon:loft", 2, "is no address"),
            ("unix:/nonexistent/x", 1, "No such file"),
            ("file:/nonexistent/x", 1, "No such file"),
            ("fd:99", 1, "was not open"), ("", 2, "is no address")]:
        done = cli("migrate", "a", uri)
        assert done.returncode == code, uri
        assert reason in sentence(done.stderr)
        assert source.status() == "running"
    check_pages(source)


@pytest.mark.parametrize("option", [["--postcopy"], ["--passes", "2"]])
def test_a_file_carries_no_postcopy(source, cli, folder, option):
    done = cli("migrate", "a", f"file:{folder}/image", *option)
    assert done.returncode == 1
    assert "postcopy needs a way back" in sentence(done.stderr)
    assert source.status() == "running"
    assert not os.path.exists(f"{folder}/image")


def test_a_file_carries_precopy(source, make_vm, cli, folder):
    assert cli("migrate", "a", f"file:{folder}/image").returncode == 0
    target = make_vm("b", ram="64M", vcpus=1,
                     incoming=f"file:{folder}/image")
    target.wait_migration("completed")
    check_pages(target)


# ---- a target that does not fit ---------------------------------------------------

MISFITS = [
    # how the target differs, what both have
    ({"ram": "128M"}, "64 MiB on the source, 128 MiB on the target"),
    ({"ram": "32M"}, "64 MiB on the source, 32 MiB on the target"),
    ({"vcpus": 3}, '"1" on the source, "3" on the target'),
    ({"extra": ["--cpu-mask", "sse2"]}, "the target lacks 1 of the source's: "
                                        "sse2"),
    ({"extra": ["--hugepages", "2M"]},
     "4 KiB on the source, 2048 KiB on the target"),
]


@pytest.mark.sanitize
@pytest.mark.parametrize("how, reason", MISFITS)
def test_a_target_that_does_not_fit_refuses_and_waits_on(
        source, make_vm, cli, guest, huge_pages, how, reason):
    shape = {"ram": "64M", "vcpus": 1, **how}
    if "--hugepages" in shape.get("extra", []):
        huge_pages(64)
    target = make_vm("b", incoming="tcp:127.0.0.1:0", **shape)
    done = cli("migrate", "a", target.address())
    assert done.returncode == 1
    assert reason in sentence(done.stderr)
    sent = source.qmp("query-migrate")
    assert sent["x-ferry-where"] == "source"
    assert sent["ram"]["transferred"] < 65536
    assert source.status() == "running"
    check_pages(source)

    assert target.migration() == "setup"
    fits = make_vm("c", kernel=guest, append=GUEST, **shape)
    fits.serial.wait(lambda log: log.ready)
    fits.migrate(target, "postcopy")
    fits.wait_migration("completed")
    target.wait_migration("completed")
    check_pages(target)


# ---- peers that are none ------------------------------------------------------------

def answer_http(sock):
    sock.recv(4096)
    sock.sendall(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")


def answer_noise(sock):
    sock.sendall(random.Random(1).randbytes(65536))
    while sock.recv(65536):
        pass


def answer_nothing(sock):
    while sock.recv(65536):
        pass


def hang_up(sock):
    pass


def reset(sock):
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER,
                    struct.pack("ii", 1, 0))


def echo(sock):
    while data := sock.recv(65536):
        sock.sendall(data)


@pytest.fixture
def peer():
    """A server on TCP that does the given to whoever comes; its URI."""
    listener = socket.create_server(("127.0.0.1", 0))
    threads = []

    def serve(do):
        def meet(sock):
            try:
                do(sock)
            except OSError:
                pass
            sock.close()

        def wait():
            while True:
                try:
                    sock, _ = listener.accept()
                except OSError:
                    return
                threads.append(threading.Thread(target=meet, args=[sock]))
                threads[-1].start()

        threads.append(threading.Thread(target=wait))
        threads[-1].start()
        return "tcp:127.0.0.1:%d" % listener.getsockname()[1]

    yield serve
    listener.shutdown(socket.SHUT_RDWR)
    listener.close()
    for thread in threads:
        thread.join(10)


@pytest.mark.parametrize("do", [answer_http, answer_noise, answer_nothing,
                                hang_up, reset, echo])
@pytest.mark.parametrize("option", [["--precopy"], ["--postcopy"]])
def test_a_peer_that_is_no_migration(source, cli, peer, do, option):
    done = cli("migrate", "a", peer(do), *option, "--set",
               "x-ferry-timeout=500")
    assert done.returncode == 1
    assert "the VM is: source" in sentence(done.stderr)
    assert source.status() == "running"
    check_pages(source)


def visit(target, say):
    _, host, port = target.address().split(":")
    sock = socket.create_connection((host, int(port)))
    sock.sendall(say)
    return sock


def come_and_go(target):
    for _ in range(100):
        visit(target, b"").close()


def stand_silent(target):
    return [visit(target, b"") for _ in range(50)]


def begin_and_stand(target):
    return [visit(target, say) for say in (b"F", b"QEV", b"QEVM", b"FERRY",
                                           b"QEVM\0\0\0\3")]


def talk_http(target):
    return [visit(target, b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
            for _ in range(20)]


def talk_noise(target):
    noise = random.Random(2)
    return [visit(target, noise.randbytes(4096)) for _ in range(20)]


@pytest.mark.sanitize
@pytest.mark.parametrize("do", [come_and_go, stand_silent, begin_and_stand,
                                talk_http, talk_noise])
def test_strangers_do_not_keep_a_target_from_its_source(source, make_vm, do):
    target = make_vm("b", ram="64M", vcpus=1, incoming="tcp:127.0.0.1:0")
    fds = target.fds()
    guests = do(target) or []
    assert target.migration() == "setup"
    source.migrate(target, "postcopy")
    source.wait_migration("completed")
    target.wait_migration("completed")
    for sock in guests:
        sock.close()
    check_pages(target)
    deadline = time.monotonic() + 120
    while target.fds() > fds + 8:       # some are the migration's
        assert time.monotonic() < deadline, target.fds()
        time.sleep(0.05)


def test_all_connections_of_one_migration_may_be_at_the_door(source, make_vm):
    """1 main, 64 data, 8 urgent and 64 device ones: nobody is shown out."""
    target = make_vm("b", ram="64M", vcpus=1, incoming="tcp:127.0.0.1:0",
                     extra=["--set", "x-ferry-timeout=60000"])
    host, port = target.address()[4:].rsplit(":", 1)
    threads, every = target.threads(), 1 + 64 + 8 + 64
    guests = [socket.create_connection((host, int(port)))
              for _ in range(every)]
    deadline = time.monotonic() + 120
    while target.threads() < threads + every:
        assert time.monotonic() < deadline, (threads, target.threads())
        time.sleep(0.01)
    source.migrate(target, "postcopy")
    source.wait_migration("completed")
    target.wait_migration("completed")
    for sock in guests:
        sock.close()
    check_pages(target)


class Drip(threading.Thread):
    """Many connections that say a good opening, an octet now and then, and come
    again when they are shown out."""

    OPENING = bytes.fromhex("46455252 0001 0030 0001 0000 00000000") + \
        bytes(range(1, 17)) + bytes(16)

    def __init__(self, target, connections):
        super().__init__(daemon=True)
        host, port = target.address()[4:].rsplit(":", 1)
        self.address, self.n = (host, int(port)), connections
        self.ended, self.most = False, 0
        self.target, self.said = target, 0

    def again(self):
        try:
            return socket.create_connection(self.address)
        except OSError:             # nobody listens any more
            return socket.socket()

    def one_round(self, guests):
        for i, (sock, at) in enumerate(guests):
            try:
                sock.send(self.OPENING[at:at + 1])
                guests[i] = sock, (at + 1) % len(self.OPENING)
                self.said += 1
            except OSError:
                sock.close()
                guests[i] = self.again(), 0
        self.most = max(self.most, self.target.threads())

    def run(self):
        guests = [(socket.create_connection(self.address), 0)
                  for _ in range(self.n)]
        while not self.ended:
            self.one_round(guests)
            time.sleep(0.02)
        for sock, _ in guests:
            sock.close()


def test_slow_strangers_cost_little(source, make_vm):
    target = make_vm("b", ram="64M", vcpus=1, incoming="tcp:127.0.0.1:0")
    threads, own = target.threads(), target.memory()["own"]
    drip = Drip(target, 400)
    drip.start()
    while drip.said < 3000:
        time.sleep(0.01)
    # Those that have just been shown out are still seen for a moment.
    assert drip.most <= threads + 160 + 40, (threads, drip.most)
    assert target.memory()["own"] < own + (16 << 20)
    assert target.migration() == "setup"
    source.migrate(target, "postcopy")
    source.wait_migration("completed")
    target.wait_migration("completed")
    drip.ended = True
    drip.join()
    check_pages(target)


# ---- a target that means ill ------------------------------------------------------


class Greedy(Fuse):
    """Whenever the target says something on main, thousands of requests for one
    page go with it."""

    PAGES = b"".join([
        struct.pack(">HHQIB6s", 3, 19, 0, 4096, 6, b"pc.ram"),
        struct.pack(">HHQI", 4, 12, 0, 4096) * 4000])
    greedy = False

    def passes(self, sock, data):
        data = super().passes(sock, data)
        # What it says comes in whole messages, and is short.
        if not data or not self.greedy or sock in self.near or \
                len(data) > 4096:
            return data
        return data + self.PAGES


def requests(source):
    return source.qmp("query-migrate")["ram"]["postcopy-requests"]


def test_a_flood_of_requests_costs_the_source_little(source, make_vm):
    target = make_vm("b", ram="64M", vcpus=1, incoming="tcp:127.0.0.1:0")
    way = Greedy(target.address())
    try:
        source.migrate(way.uri, "postcopy",
                       {"x-ferry-background-push": False,
                        "x-ferry-timeout": 1000})
        source.wait_migration("postcopy-active")
        own = source.memory()["own"]
        way.greedy, most = True, 0
        end = time.monotonic() + 60
        while requests(source) < 30000 and time.monotonic() < end:
            most = max(most, source.memory()["own"])
            time.sleep(0.02)
        assert requests(source) >= 30000
        assert most < own + (16 << 20), (own, most)
        assert source.status() != "running"
        way.greedy = False
        source.set({"x-ferry-background-push": True})
        while source.migration() != "completed":    # on this link or the next
            assert time.monotonic() < end + 60, source.qmp("query-migrate")
            time.sleep(0.02)
        target.wait_migration("completed")
    finally:
        way.close()
    check_pages(target)


# ---- what the system refuses ------------------------------------------------------

def as_root():
    if os.geteuid():
        pytest.skip("needs root: for a mount namespace of its own")
    if subprocess.run(["unshare", "-m", "true"], check=False).returncode:
        pytest.skip("no mount namespaces here")


UNPRIVILEGED = """
mknod "$1/kvm" c 10 232 && chmod 666 "$1/kvm" &&
mount --bind "$1/kvm" /dev/kvm && shift &&
exec setpriv --reuid 65534 --regid 65534 --clear-groups "$@"
"""


@pytest.fixture
def nobody(folder, ferry):
    """Words before a command that is to run without any privilege, but with
    access to KVM."""
    as_root()
    with open("/proc/sys/vm/unprivileged_userfaultfd") as allowed:
        if allowed.read().strip() != "0":
            pytest.skip("userfaultfd is permitted to everybody here (sysctl "
                        "vm.unprivileged_userfaultfd)")
    words = ["unshare", "-m", "sh", "-c", UNPRIVILEGED, "sh", folder]
    os.chmod(folder, 0o777)
    if subprocess.run([*words, "sh", "-c", 'test -x "$1" && : <>/dev/kvm',
                       "sh", ferry], check=False,
                      stderr=subprocess.DEVNULL).returncode:
        pytest.skip("nobody cannot be given /dev/kvm or the build folder")
    os.unlink(f"{folder}/kvm")
    return words


def test_without_userfaultfd_there_is_precopy_and_a_reason(
        source, make_vm, cli, nobody):
    target = make_vm("b", ram="64M", vcpus=1, incoming="tcp:127.0.0.1:0",
                     wrapper=nobody)
    done = cli("migrate", "a", target.address(), "--postcopy")
    assert done.returncode == 1
    said = sentence(done.stderr)
    assert "userfaultfd" in said
    assert "vm.unprivileged_userfaultfd=1" in said or \
        "/dev/userfaultfd" in said
    assert source.status() == "running"

    other = make_vm("c", ram="64M", vcpus=1, incoming="tcp:127.0.0.1:0",
                    wrapper=["sh", "-c", 'rm -f "$1/kvm"; shift; exec "$@"',
                             "sh", source.folder, *nobody])
    assert cli("migrate", "a", other.address(), "--precopy").returncode == 0
    check_pages(other)


def test_a_full_disk(make_vm, guest, cli, folder):
    as_root()
    os.mkdir(f"{folder}/full")
    source = make_vm("a", ram="64M", vcpus=1, kernel=guest, append=GUEST,
                     wrapper=["unshare", "-m", "sh", "-c", 'mount -t tmpfs '
                              '-o size=2M none "$1" && shift && exec "$@"',
                              "sh", f"{folder}/full"])
    source.serial.wait(lambda log: log.ready)
    done = cli("migrate", "a", f"file:{folder}/full/image")
    assert done.returncode == 1
    assert "No space left on device" in sentence(done.stderr)
    assert source.status() == "running"
    check_pages(source)
    assert cli("migrate", "a", f"file:{folder}/image").returncode == 0


def test_a_dialect_is_told_and_checked(source, make_vm):
    """What the user says of the peer is believed; the peer says the rest."""
    target = make_vm("b", ram="64M", vcpus=1, incoming="tcp:127.0.0.1:0")
    with pytest.raises(QmpError, match="none of ferry, qemu"):
        source.set({"x-ferry-peer": "xen"})
    source.migrate(target, "precopy", {"x-ferry-peer": "qemu"})
    source.wait_migration("completed")
    target.wait_migration("completed")
    check_pages(target)


# ---- descriptors ----------------------------------------------------------------

def descriptors(vm):
    return {int(fd) for fd in os.listdir(f"/proc/{vm.process.pid}/fd")}


def test_only_a_descriptor_that_was_given_can_be_migrated_through(
        make_vm, guest):
    vm = make_vm("a", ram="64M", vcpus=1, kernel=guest, append=GUEST,
                 extra=["--shared"])
    target = make_vm("b", ram="64M", vcpus=1, incoming="defer")
    for fd in descriptors(vm):
        with pytest.raises(QmpError, match="was not open"):
            vm.qmp("migrate", uri=f"fd:{fd}")
    vm.serial.wait(lambda log: log.ready)
    for fd in descriptors(target):
        with pytest.raises(QmpError, match="was not open"):
            target.qmp("migrate-incoming", uri=f"fd:{fd}")
    check_pages(vm)


def test_a_descriptor_that_was_given_carries_a_vm(make_vm, guest, folder):
    vm = make_vm("a", ram="64M", vcpus=1, kernel=guest, append=GUEST,
                 wrapper=["sh", "-c", f'exec "$@" 9<>{folder}/image', "sh"])
    vm.migrate("fd:9", "precopy")
    vm.wait_migration("completed")
    assert os.path.getsize(f"{folder}/image") > 0


def test_park_and_serve_take_only_a_descriptor_that_was_given(
        make_vm, guest, cli, folder, ferry):
    vm = make_vm("a", ram="64M", vcpus=1, kernel=guest, append=GUEST)
    assert cli("migrate", "a", f"file:{folder}/stream").returncode == 0
    assert vm.status() == "postmigrate"
    image = f"{folder}/image"
    for fd in range(16):
        done = cli("park", f"fd:{fd}", image)
        assert done.returncode == 1
        assert "was not open" in sentence(done.stderr)
    with open(f"{folder}/stream", "rb") as stream:
        subprocess.run([ferry, "park", f"fd:{stream.fileno()}", image],
                       pass_fds=[stream.fileno()], check=True, timeout=120)
    for fd in range(16):
        done = cli("serve", image, f"fd:{fd}")
        assert done.returncode == 1
        assert "was not open" in sentence(done.stderr)
    assert cli("dump", "--verify", image).returncode == 0


# ---- without stdin, stdout or stderr --------------------------------------------

CLOSED = ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"]


def closing(which):
    """Words before a command, so that it starts without these."""
    return ["sh", "-c", f'exec "$@" {which}', "sh"]


@pytest.mark.parametrize("closed", CLOSED)
def test_closed_standard_descriptors_stay_nobodys(make_vm, guest, closed):
    vm = make_vm("a", ram="64M", vcpus=1, kernel=guest, append=GUEST,
                 wrapper=closing(closed))
    for fd in range(3):
        at = os.readlink(f"/proc/{vm.process.pid}/fd/{fd}")
        assert at == "/dev/null" or at.endswith(".stderr"), at
    # What is typed before the guest has set its port up is lost.
    vm.serial.wait(lambda log: log.ready)
    check_pages(vm)


@pytest.mark.parametrize("closed", CLOSED)
def test_a_console_on_closed_descriptors_holds_nothing_up(make_vm, guest,
                                                          closed):
    vm = make_vm("a", ram="64M", vcpus=1, kernel=guest, serial="stdio",
                 append=GUEST, wrapper=closing(closed))
    target = make_vm("b", ram="64M", vcpus=1, incoming="tcp:127.0.0.1:0",
                     serial="stdio", wrapper=closing(closed))
    vm.migrate(target, "postcopy")
    vm.wait_migration("completed")
    assert target.status() == "running"
    for each in vm, target:
        each.qmp("quit")
        assert each.wait_exit() == 0


class Closed:
    """The command line, started without some of 0, 1 and 2."""

    def __init__(self, ferry, folder, closed):
        self.ferry, self.folder, self.closed = str(ferry), folder, closed
        self.silent = ">&-" in closed.split()

    def __call__(self, *words):
        done = subprocess.run(
            [*closing(self.closed), self.ferry, *words], timeout=120,
            env=dict(os.environ, FERRY_RUNTIME_DIR=self.folder),
            capture_output=True, check=False)
        self.said = done.stderr
        assert not (self.silent and done.stdout)
        return done.returncode

    def prints(self, *words):
        """A command that has nothing to do but to print."""
        assert self(*words) == (1 if self.silent else 0), words
        if self.closed == ">&-":
            assert b"write the answer: Bad file descriptor" in self.said


@pytest.fixture(params=CLOSED)
def closed(request, ferry, folder):
    return Closed(ferry, folder, request.param)


def test_commands_without_standard_descriptors_end_as_they_should(
        closed, make_vm, guest, folder):
    """What could not be printed makes a command fail; where a VM is, is said
    by the exit code all the same."""
    source = make_vm("a", ram="64M", vcpus=1, kernel=guest, append=GUEST)
    target = make_vm("b", ram="64M", vcpus=1, incoming="tcp:127.0.0.1:0")
    source.serial.wait(lambda log: log.ready)
    for words in (["status", "a"], ["list"], ["list", "--json"], ["params"],
                  ["--version"], ["help"]):
        closed.prints(*words)
    assert closed("doctor") in (0, 1)
    assert closed("status", "nobody") == 5
    assert closed("migrate", "a", f"file:{folder}/stream",
                  "--set", "x-ferry-peer=nobody") == 2
    assert closed("migrate", "a", target.address()) == 0
    target.wait_migration("completed")
    check_pages(target)
    assert closed("migrate", "b", f"file:{folder}/stream") == 0
    closed.prints("dump", f"{folder}/stream")
    assert closed("dump", "-") == 1
    assert closed("serve", f"{folder}/stream", "tcp:127.0.0.1:1") == 1
    assert closed("status", "--watch", "a") == 0
    assert closed("quit", "a") == 0
    assert source.wait_exit() == 0
