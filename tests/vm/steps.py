# SPDX-License-Identifier: MIT
"""What tests do to a QEMU that migrates, and see of it."""


def capabilities(vm, *names):
    vm.qmp("migrate-set-capabilities", capabilities=[
        {"capability": name, "state": True} for name in names])


def status(vm):
    return vm.qmp("query-migrate").get("status")


def ended(vm, *ends):
    """Which of these states came."""
    try:
        return vm.wait("the end", lambda: status(vm) in ends and status(vm))
    except AssertionError as why:
        raise AssertionError(f"{why}: {vm.qmp('query-migrate')}") from why


def runs(vm):
    return vm.qmp("query-status")["running"]


def ram_of(vm, folder, ram_mb):
    """What a stopped one has, the holes for devices included."""
    path = folder / "ram"
    vm.qmp("pmemsave", val=0, size=ram_mb << 20, filename=str(path))
    return path.read_bytes()


def assert_same_ram(mine, theirs):
    """But for what devices overlay below 1 MiB."""
    differ = [at for at in range(0, len(theirs), 4096)
              if mine[at:at + 4096] != theirs[at:at + 4096] and
              not 0xa0000 <= at < 0x100000]
    assert len(mine) == len(theirs)
    assert not differ, f"{len(differ)} pages differ, first {differ[0]:#x}"
