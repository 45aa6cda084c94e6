# SPDX-License-Identifier: MIT
"""TLS with a real QEMU at the other end: into park and out of it, by
certificates and by a key that both have, and AES whichever it is."""

import os
import subprocess

import pytest

import qemu
from conftest import Park
from proxy import Witness
from steps import (assert_same_ram, capabilities, ended, migrate, ram_of, runs,
                   start_postcopy)
from test_serve import Serve, lives

# Without AVX: see test_guest_migration.py.
GUEST = "cpus=2 mode=random mem=25% report=100 avx=0"
RAM_MB = 64
KINDS = ["x509", "psk"]


@pytest.fixture
def creds(folder):
    """make(kind) makes a folder of credentials, for both ends."""
    def make(kind, name="creds"):
        path = folder / f"{name}-{kind}"
        words = ["--psk", "qemu"] if kind == "psk" else []
        subprocess.run([os.environ["FERRY"], "tls-init", path, *words],
                       check=True)
        return path
    return make


def of_qemu(path, kind, end):
    return ["-object", f"tls-creds-{kind},id=tls0,dir={path},endpoint={end}"]


def of_ferry(path):
    return ["--set", f"tls-creds={path}"]


WAYS = {
    # capabilities, options of park, parameters
    "precopy": (["return-path"], [], {}),
    "one-way": ([], [], {}),
    "multifd": (["return-path", "multifd"], ["--multifd=2"],
                {"multifd-channels": 2}),
    "postcopy": (["postcopy-ram", "postcopy-preempt"], ["--preempt"], {}),
}


def park_it(vm, one, path, way):
    """The VM stops here, and all of it has come."""
    caps, _, parameters = WAYS[way]
    if caps:
        capabilities(vm, *caps)
    vm.qmp("migrate-set-parameters", **{
        "max-bandwidth": 1 << 30, "downtime-limit": 1000,
        "tls-creds": "tls0", "tls-hostname": "localhost", **parameters})
    one.wait_listening()
    (start_postcopy if way == "postcopy" else migrate)(vm, one.uri)
    assert ended(vm, "completed", "failed") == "completed", one.said()
    code, said = one.wait()
    assert code == 0, said


@pytest.mark.parametrize("kind, way", [
    ("x509", "precopy"), ("psk", "one-way"), ("x509", "multifd"),
    ("psk", "postcopy")])
def test_a_qemu_is_parked_with_tls_and_goes_on_in_another(folder, creds, kind,
                                                          way):
    qemu.require()
    path = creds(kind)
    one = Park(folder, *of_ferry(path), *WAYS[way][1])
    try:
        with qemu.Qemu(folder, "a", GUEST, ram_mb=RAM_MB,
                       args=of_qemu(path, kind, "client")) as vm:
            vm.wait_line("READY")
            park_it(vm, one, path, way)
            assert_same_ram(one.cat("pc.ram"), ram_of(vm, folder, RAM_MB))
        with qemu.Qemu(folder, "b", GUEST, ram_mb=RAM_MB, args=[
                "-incoming", "defer", *of_qemu(path, kind, "server")]) as vm:
            uri = f"unix:{folder}/b.in"
            words = [*of_ferry(path), "--set", "tls-hostname=localhost"]
            if way == "postcopy":
                capabilities(vm, "postcopy-ram", "postcopy-preempt")
                words.append("--preempt")
            elif way == "precopy":
                words.append("--precopy")
            elif way == "multifd":
                capabilities(vm, "multifd")
                vm.qmp("migrate-set-parameters", **{"multifd-channels": 2})
                words += ["--precopy", "--multifd=2"]
            else:
                capabilities(vm, "postcopy-ram")
            vm.qmp("migrate-set-parameters", **{"tls-creds": "tls0"})
            vm.qmp("migrate-incoming", uri=uri)
            Serve(one.image, uri, *words).done()
            lives(vm)
    finally:
        one.close()


@pytest.mark.parametrize("kind", KINDS)
def test_it_is_aes_whoever_is_at_which_end(folder, creds, kind):
    """Left to itself, a QEMU with a PSK would rather have ChaCha20."""
    qemu.require()
    path = creds(kind)
    one = Park(folder, *of_ferry(path))
    ways = []
    try:
        with qemu.Qemu(folder, "a", GUEST, ram_mb=RAM_MB,
                       args=of_qemu(path, kind, "client")) as vm:
            vm.wait_line("READY")
            one.wait_listening()
            ways.append(Witness(one.uri, f"{folder}/in"))
            one.uri = ways[0].uri
            park_it(vm, one, path, "precopy")
        with qemu.Qemu(folder, "b", GUEST, ram_mb=RAM_MB, args=[
                "-incoming", "defer", *of_qemu(path, kind, "server")]) as vm:
            capabilities(vm, "postcopy-ram")
            vm.qmp("migrate-set-parameters", **{"tls-creds": "tls0"})
            vm.qmp("migrate-incoming", uri=f"unix:{folder}/b.in")
            ways.append(Witness(f"unix:{folder}/b.in", f"{folder}/out"))
            Serve(one.image, ways[1].uri, *of_ferry(path), "--set",
                  "tls-hostname=localhost").done()
            lives(vm)
        into, out = [way.ciphers() for way in ways]
        assert into == ["AES-128-GCM"] and out, (into, out)
        # At a QEMU the order is ours, or its own.
        assert set(out) <= {"AES-128-GCM", "AES-256-GCM"}, out
    finally:
        for way in ways:
            way.close()
        one.close()


def test_a_qemu_without_tls_and_one_of_another_ca_are_refused(folder, creds):
    qemu.require()
    path, other = creds("x509"), creds("x509", "other")
    one = Park(folder, *of_ferry(path))
    try:
        with qemu.Qemu(folder, "a", GUEST, ram_mb=RAM_MB,
                       args=of_qemu(other, "x509", "client")) as vm:
            vm.wait_line("READY")
            capabilities(vm, "return-path")
            one.wait_listening()
            migrate(vm, one.uri)
            assert ended(vm, "completed", "failed") == "failed"
            assert runs(vm)
            qemu.wait_until("it is told", lambda: "does not speak TLS" in
                            one.said())
            vm.qmp("migrate-set-parameters", **{
                "tls-creds": "tls0", "tls-hostname": "localhost"})
            migrate(vm, one.uri)
            assert ended(vm, "completed", "failed") == "failed"
            assert runs(vm)
            qemu.wait_until("it is told", lambda: one.said().count(
                "turned a connection away") >= 2)
        assert one.process.poll() is None
    finally:
        one.close()
