# SPDX-License-Identifier: MIT
"""`ferry migrate` that does not begin: the exit code tells where the VM is."""

import json

import pytest

ANYWHERE = "tcp:127.0.0.1:9"
HALF_WAY = ["--postcopy", "--detach", "--set", "x-ferry-background-push=off"]


@pytest.fixture
def two(pair):
    return pair(ram="64M")


def test_a_vm_that_is_split_is_not_called_safe(two, cli):
    """While postcopy goes on, and when the target is gone for good."""
    source, target = two
    assert cli("migrate", "a", target.address(), *HALF_WAY).returncode == 0
    source.wait_migration("postcopy-active")
    for vm in "ab":
        done = cli("migrate", vm, ANYWHERE, "--json")
        assert done.returncode == 3
        assert "; the VM is: split" in done.stderr
        said = json.loads(done.stdout)
        assert said["x-ferry-where"] == "split"
        assert said["x-ferry-refused"] in done.stderr
    target.kill()
    source.wait_migration("postcopy-paused")
    done = cli("migrate", "a", ANYWHERE)
    assert done.returncode == 3
    assert "; the VM is: split" in done.stderr


def test_a_vm_that_is_away_is_not_called_safe_here(two, cli):
    source, target = two
    done = cli("migrate", "b", ANYWHERE)        # it has not come
    assert done.returncode == 5
    assert "not here yet" in done.stderr
    assert cli("migrate", "a", target.address()).returncode == 0
    done = cli("migrate", "a", ANYWHERE, "--json")
    assert done.returncode == 5
    assert "; the VM is: target" in done.stderr
    assert json.loads(done.stdout)["x-ferry-where"] == "target"
    assert source.status() == "postmigrate"
    # At the target it is at home.
    target.wait_migration("completed")
    assert cli("migrate", "b", ANYWHERE).returncode == 1
    assert target.status() == "running"


def test_a_vm_that_moves_is_still_at_the_source(two, cli):
    source, target = two
    assert cli("migrate", "a", target.address(), "--detach", "--limit",
               "100K").returncode == 0
    source.wait_migration("active")
    done = cli("migrate", "a", ANYWHERE, "--json")
    assert done.returncode == 1
    assert json.loads(done.stdout)["x-ferry-where"] == "source"


@pytest.mark.parametrize("words", [["nobody", ANYWHERE], ["nobody", "foo:"],
                                   ["nobody", "nobody"]])
def test_who_wants_json_gets_it_whatever_is_wrong(cli, words):
    done = cli("migrate", "--json", *words)
    said = json.loads(done.stdout)
    assert list(said) == ["x-ferry-refused"]
    assert said["x-ferry-refused"] in done.stderr


# ---- addresses --------------------------------------------------------------------

@pytest.mark.parametrize("address", [
    "foo:bar", "tcp:1.2.3.4", "tcp:", "tcp:host:", "tcp:[::1]", "unix:",
    "file:", "fd:", ":4444", "TCP:host:1", ""])
def test_wrong_addresses_are_wrong_words(cli, address):
    """Nobody is asked for the VM: there is none."""
    done = cli("migrate", "nobody", address)
    assert done.returncode == 2
    assert f"'{address}'" in done.stderr


@pytest.mark.parametrize("address", [
    "exec:cat", "vsock:2:1", "tcp:host:http", "tcp:host:1,to=9", "fd:name",
    "tcp:host:70000"])
def test_what_only_a_qemu_would_take(two, cli, address):
    """The VM is not asked, and nothing is set."""
    source, _ = two
    done = cli("migrate", "a", address, "--limit", "12345")
    assert done.returncode == 2
    assert f"address '{address}': " in done.stderr
    params = source.qmp("query-migrate-parameters")
    assert params["max-bandwidth"] != 12345
