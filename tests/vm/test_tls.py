# SPDX-License-Identifier: MIT
"""TLS between two VMs of `ferry run`: every way to move, what is refused and in
which words, and that whoever comes with other credentials, or none, disturbs
nothing.
"""

import os
import shutil
import socket
import ssl
import subprocess
import time

import pytest

from conftest import check_pages
from ferryvm import QmpError
from proxy import Fuse, Witness

from test_recover import await_end, await_loss, finish, hold


@pytest.fixture
def creds(cli, folder):
    """make("name", words...) makes a folder of credentials."""
    def make(name, *words):
        path = f"{folder}/{name}"
        done = cli("tls-init", path, *words)
        assert done.returncode == 0, done.stderr
        return path
    return make


def tls(path):
    return ["--set", f"tls-creds={path}"]


@pytest.fixture
def secure(make_vm, guest, creds):
    """(source, target, credentials): both with TLS."""
    def make(path=None, ram="64M", target_words=(), **settings):
        path = path or creds("creds")
        source = make_vm("a", kernel=guest, ram=ram,
                         append="cpus=2 mode=random mem=25% report=100",
                         extra=tls(path))
        target = make_vm("b", incoming="tcp:127.0.0.1:0", ram=ram,
                         extra=[*tls(path), *target_words])
        source.serial.wait(lambda log: log.ready)
        return source, target, path
    return make


# ---- what works -----------------------------------------------------------------

WAYS = [("precopy", 1, 0), ("postcopy", 2, 1), ("precopy+postcopy", 1, 1)]


@pytest.mark.sanitize
@pytest.mark.parametrize("mode, channels, kind", WAYS)
def test_a_vm_moves_with_tls(secure, creds, mode, channels, kind):
    path = creds("psk", "--psk", "qemu") if kind else creds("x509")
    source, target, _ = secure(path)
    source.migrate(target, mode, {"multifd-channels": channels,
                                  "x-ferry-verify": True,
                                  "downtime-limit": 60000})  # slow is fine
    source.wait_migration("completed")
    target.wait_migration("completed")
    check_pages(target)


@pytest.mark.parametrize("words", [[], ["--psk", "qemu"]], ids=["x509", "psk"])
def test_it_is_aes_on_every_connection(secure, creds, words):
    source, target, _ = secure(creds("creds", *words))
    way = Witness(target.address())
    try:
        source.migrate(way.uri, "postcopy", {"multifd-channels": 2})
        await_end(source)
        await_end(target)
        # main, 2 data and urgent
        assert way.ciphers() == ["AES-128-GCM"] * 4
    finally:
        way.close()


class Listener(Fuse):
    """Keeps what the source says first, on each connection."""

    def __init__(self, *how):
        self.first = {}
        super().__init__(*how)

    def passes(self, sock, data):
        if sock in self.near and data:
            self.first.setdefault(sock, data)
        return super().passes(sock, data)


def test_every_connection_is_encrypted_and_recovery_too(secure):
    """The link is lost and found, and nothing but TLS was ever said."""
    source, target, _ = secure()
    fuse = Listener(target.address())
    try:
        hold(source, fuse.uri, {"multifd-channels": 3})
        fuse.blow()
        await_loss(source)
        fuse.mend()
        finish(source, target, 1)
        # main, 3 data and urgent, twice
        assert len(fuse.first) >= 10
        assert all(d[:2] == b"\x16\x03" for d in fuse.first.values())
    finally:
        fuse.close()


def test_the_credentials_are_read_anew_for_each_migration(secure, creds):
    source, target, path = secure()
    other = creds("other")
    kept = f"{path}-kept"
    os.rename(path, kept)
    shutil.copytree(other, path)
    source.migrate(target)
    with pytest.raises(RuntimeError, match="CA|refused"):
        source.wait_migration("completed")
    shutil.rmtree(path)
    os.rename(kept, path)
    source.migrate(target)
    source.wait_migration("completed")
    check_pages(target)


# ---- what is refused before anything begins ----------------------------------------

def spoil_mode(path):
    os.chmod(f"{path}/client-key.pem", 0o640)


def spoil_key(path):
    os.unlink(f"{path}/client-key.pem")


def spoil_ca(path):
    os.unlink(f"{path}/ca-cert.pem")


def spoil_pem(path):
    with open(f"{path}/client-cert.pem", "w") as f:
        f.write("nothing")


def spoil_pair(path):
    shutil.copy(f"{path}/server-key.pem", f"{path}/client-key.pem")


def spoil_all(path):
    shutil.rmtree(path)


SPOILT = [(spoil_mode, "chmod 600"), (spoil_key, "client-key.pem: No such"),
          (spoil_ca, "ca-cert.pem: No such"), (spoil_pem, "client-cert.pem"),
          (spoil_pair, "client-key.pem"), (spoil_all, "No such")]


def test_bad_folders_are_told_at_once(secure, creds):
    source, target, path = secure()
    for number, (spoil, text) in enumerate(SPOILT):
        bad = f"{path}-{number}"
        shutil.copytree(path, bad)
        spoil(bad)
        source.set({"tls-creds": bad})
        with pytest.raises(QmpError, match="tls-creds.*" + text):
            source.qmp("migrate", uri=target.address())
        assert source.status() == "running"
    source.set({"tls-creds": path})
    source.migrate(target)
    source.wait_migration("completed")


BROKEN = {"empty": lambda data: b"", "half": lambda data: data[:len(data) // 2],
          "noise": lambda data: bytes(range(256)) * 2}


@pytest.mark.parametrize("how", BROKEN)
@pytest.mark.parametrize("name, what", [
    ("ca-cert.pem", "certificate"), ("server-cert.pem", "certificate"),
    ("server-key.pem", "private key")])
def test_a_file_that_is_not_whole_is_told_by_name(cli, creds, name, what, how):
    path = creds("creds")
    with open(f"{path}/{name}", "r+b") as f:
        data = BROKEN[how](f.read())
        f.seek(0)
        f.truncate()
        f.write(data)
    done = cli("run", "--incoming", "tcp:127.0.0.1:0", "--ram", "32M",
               *tls(path))
    assert done.returncode == 2
    assert f"{path}/{name} holds no {what} that is whole" in done.stderr


@pytest.mark.parametrize("text, said", [
    ("", "no user"), ("# nobody\n", "no user"),
    ("qemu\n", "hexadecimal digits"), ("qemu:00\n", "hexadecimal digits")])
def test_a_target_without_keys_is_refused(cli, creds, text, said):
    path = creds("psk", "--psk", "alice")
    with open(f"{path}/keys.psk", "w") as f:
        f.write(text)
    done = cli("run", "--incoming", "tcp:127.0.0.1:0", "--ram", "32M",
               *tls(path))
    assert done.returncode == 2
    assert "keys.psk" in done.stderr and said in done.stderr


def test_a_psk_that_others_may_read_is_refused(cli, creds, folder):
    path = creds("psk", "--psk", "alice")
    with open(f"{path}/keys.psk") as f:
        assert f.read().startswith("alice:")
    os.chmod(f"{path}/keys.psk", 0o644)
    done = cli("run", "--incoming", "tcp:127.0.0.1:0", "--ram", "32M",
               *tls(path))
    assert done.returncode == 1
    assert "keys.psk" in done.stderr and "chmod 600" in done.stderr


def test_tls_init_overwrites_nothing_and_keeps_keys_close(cli, creds, folder):
    path = creds("creds", "--host", "host1")
    for name in os.listdir(path):
        mode = os.stat(f"{path}/{name}").st_mode & 0o777
        assert mode == (0o600 if name.endswith("-key.pem") else 0o644)
    done = cli("tls-init", path)
    assert done.returncode == 1 and "is there already" in done.stderr
    shown = subprocess.run(["openssl", "x509", "-noout", "-text", "-in",
                            f"{path}/server-cert.pem"], check=True,
                           capture_output=True).stdout.decode()
    assert "DNS:host1" in shown and "IP Address:127.0.0.1" in shown


# ---- who is refused, while a migration runs -------------------------------------------

def refused(source, uri, text, **settings):
    """The attempt fails in these words, and the VM goes on here."""
    source.set(settings)
    source.qmp("migrate", uri=uri)
    with pytest.raises(RuntimeError, match=text):
        source.wait_migration("completed")
    assert source.status() == "running"


def dial(target):
    host, port = target.address()[4:].rsplit(":", 1)
    return socket.create_connection((host, int(port)), timeout=30)


def context(path, cert=True):
    ctx = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    ctx.load_verify_locations(f"{path}/ca-cert.pem")
    if cert:
        ctx.load_cert_chain(f"{path}/client-cert.pem",
                            f"{path}/client-key.pem")
    return ctx


def greet(target, path, cert=True):
    return context(path, cert).wrap_socket(dial(target),
                                           server_hostname="localhost")


def is_dropped(sock):
    """Whatever it says of it; and not because we waited long enough."""
    if sock.fileno() < 0:       # as early as in the handshake
        return True
    sock.settimeout(60)
    try:
        while sock.recv(4096):
            pass
    except TimeoutError:
        return False
    except OSError:
        pass
    sock.close()
    return True


def plain(target, path):
    sock = dial(target)
    sock.sendall(b"QEVM\0\0\0\3" + b"x" * 60)
    return sock


def no_certificate(target, path):
    sock = greet(target, path, cert=False)
    try:
        sock.sendall(b"FERR" + bytes(44))
    except OSError:
        pass
    return sock


def half_a_hello(target, path):
    sock = dial(target)
    sock.sendall(bytes.fromhex("1603010200010001fc0303"))
    sock.shutdown(socket.SHUT_WR)
    return sock


def nonsense(target, path):
    sock = dial(target)
    sock.sendall(b"\x16\x03\x01\x00\x20" + b"\xff" * 32)
    return sock


def header(kind, features=0x7ff, size=80):
    """A channel header of a session that the stranger made up."""
    return (b"FERR" + bytes([0, 1]) + size.to_bytes(2, "big") +
            bytes([0, kind, 0, 0, 0, 0, 0, 0]) + b"S" * 16 +
            features.to_bytes(8, "big") + bytes(8) + bytes(size - 48))


def a_data_channel(target, path):
    sock = greet(target, path)
    sock.sendall(header(2))
    return sock


def a_main_that_comes_back(target, path):
    sock = greet(target, path)
    head = bytearray(header(1))
    head[40:48] = (0x7ff & ~0x200).to_bytes(8, "big")
    sock.sendall(bytes(head) + bytes([0, 0, 0, 1, 0]))
    return sock


def tls12(target, path):
    ctx = context(path)
    ctx.maximum_version = ssl.TLSVersion.TLSv1_2
    sock = dial(target)
    try:
        return ctx.wrap_socket(sock, server_hostname="localhost")
    except ssl.SSLError:
        return sock


STRANGERS = [(plain, "does not speak TLS"),
             (no_certificate, "no certificate"),
             (half_a_hello, "TLS: "),
             (nonsense, "TLS: "),
             (a_data_channel, "belongs to no migration"),
             (a_main_that_comes_back,
              "turned a connection away (from 127.0.0.1)"),
             (tls12, "TLS: ")]


def test_strangers_are_refused_in_words_and_disturb_nothing(secure):
    source, target, path = secure()
    hold(source, target.address())
    said = 0
    for come, text in STRANGERS:
        sock = come(target, path)
        assert is_dropped(sock), come.__name__
        deadline = time.monotonic() + 120
        while text not in target.stderr()[said:]:
            assert time.monotonic() < deadline, \
                (come.__name__, target.stderr()[said:])
            time.sleep(0.02)
        said = len(target.stderr())
    source.set({"x-ferry-background-push": True})
    await_end(target)
    await_end(source)
    check_pages(target)


def test_who_is_slow_in_the_handshake_holds_up_nobody(secure):
    """More of them than there are places, each an octet now and then."""
    source, target, path = secure()
    slow = [dial(target) for _ in range(20)]
    for sock in slow:
        sock.sendall(b"\x16\x03\x01")
    source.migrate(target, "postcopy")
    while source.migration() != "completed":
        for sock in slow:
            try:
                sock.sendall(b"\x00")
            except OSError:
                pass
        time.sleep(0.1)
    target.wait_migration("completed")
    check_pages(target)
    for sock in slow:
        sock.close()


def test_the_wrong_peer_is_refused_in_words(make_vm, secure, creds):
    source, target, path = secure()
    other = creds("other")
    mixed = creds("mixed", "--host", "elsewhere")
    shutil.copy(f"{path}/ca-cert.pem", f"{mixed}/ca-cert.pem")
    uri = target.address()
    refused(source, uri, "not signed by the CA", **{"tls-creds": other})
    refused(source, uri, "the peer refused", **{"tls-creds": mixed})
    refused(source, uri, "for another host than 'elsewhere'",
            **{"tls-creds": path, "tls-hostname": "elsewhere"})
    source.set({"tls-hostname": "localhost"})
    # Without TLS at one end.
    clear = make_vm("c", incoming="tcp:127.0.0.1:0", ram="64M")
    refused(source, clear.address(), "TLS: .*(closed|TLS)")
    clear.wait_said("the peer speaks TLS, and tls-creds is not set")
    with pytest.raises(QmpError, match="tls-hostname is set and tls-creds"):
        refused(source, uri, "", **{"tls-creds": ""})
    refused(source, uri, "closed|reset|no answer", **{"tls-hostname": ""})
    target.wait_said("does not speak TLS")
    # All that has changed nothing.
    source.set({"tls-creds": path})
    source.migrate(target)
    source.wait_migration("completed")
    check_pages(target)


def test_only_who_is_named_may_come(secure, creds):
    path = creds("creds", "--host", "web1.example")
    source, target, _ = secure(path, target_words=[
        "--set", "tls-authz=db*;CN=web2.example*"])
    refused(source, target.address(), "the peer refused|Access")
    target.wait_said("tls-authz does not let")


def test_a_unix_socket_needs_a_name_for_the_certificate(make_vm, secure,
                                                        creds, folder):
    source, _, path = secure()
    target = make_vm("c", incoming=f"unix:{folder}/in", ram="64M",
                     extra=tls(path))
    with pytest.raises(QmpError, match="set tls-hostname"):
        source.qmp("migrate", uri=target.address())
    source.migrate(target, settings={"tls-hostname": "localhost"})
    source.wait_migration("completed")
    check_pages(target)


def test_an_empty_word_takes_credentials_away(make_vm, secure, cli):
    source, _, _ = secure()
    clear = make_vm("c", incoming="tcp:127.0.0.1:0", ram="64M")
    done = cli("migrate", "a", clear.address(), "--set", "tls-creds=")
    assert done.returncode == 0, done.stderr
    check_pages(clear)


def test_migrate_refuses_tls_on_one_side(make_vm, secure, cli):
    """Nothing is set, and nobody is dialled."""
    source, target, path = secure()
    clear = make_vm("c", incoming="tcp:127.0.0.1:0", ram="64M")
    done = cli("migrate", "a", "c")
    assert done.returncode == 1
    assert "tls-creds is set at a and not at c" in done.stderr
    done = cli("migrate", "a", "b", "--set", "tls-creds=")
    assert done.returncode == 1
    assert "tls-creds is set at b and not at a" in done.stderr
    assert source.qmp("query-migrate-parameters")["tls-creds"] == path
    done = cli("migrate", "a", "b", "--set", "tls-authz=*")
    assert done.returncode == 1
    assert "tls-authz cannot be set: the target listens" in done.stderr
    for vm, state in (source, None), (target, "setup"), (clear, "setup"):
        assert vm.migration() == state
    assert cli("migrate", "a", "b").returncode == 0
    check_pages(target)


def test_a_listener_in_the_clear_is_warned_of(make_vm, creds):
    anywhere = make_vm("a", incoming="tcp:0.0.0.0:0", ram="32M")
    anywhere.wait_said("without TLS")
    here = make_vm("b", incoming="tcp:127.0.0.1:0", ram="32M")
    assert "TLS" not in here.stderr()
    locked = make_vm("c", incoming="tcp:0.0.0.0:0", ram="32M",
                     extra=tls(creds("creds")))
    assert "TLS" not in locked.stderr()
