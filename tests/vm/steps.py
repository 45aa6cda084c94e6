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


def has_tidied_up(vm):
    return not any(one["type"] == "migration" for one in vm.qmp("query-yank"))


def await_tidy(vm):
    """Of a migration that has ended.  A QEMU 7.2 whose multifd channels were
    cut may not come to that: docs/QEMU.md."""
    vm.wait("its clean-up", lambda: has_tidied_up(vm))


def migrate(vm, uri):
    """It may have migrated before.  A QEMU 7.2 that is told again while it
    tidies up dies of it, now and then: docs/QEMU.md."""
    await_tidy(vm)
    vm.qmp("migrate", uri=uri)


def start_postcopy(vm, uri):
    """Of a busy guest, after some pages of precopy, which with such a pause
    does not end by itself, however late anybody looks."""
    vm.qmp("migrate-set-parameters", **{"max-bandwidth": 1 << 20,
                                        "downtime-limit": 1})
    migrate(vm, uri)
    vm.wait("pages", lambda: vm.qmp("query-migrate").get("ram", {}).get(
        "transferred", 0) > 1 << 18)
    vm.qmp("migrate-start-postcopy")


def go_on(vm):
    """Where it was, after its migration was completed."""
    await_tidy(vm)
    vm.qmp("cont")


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
