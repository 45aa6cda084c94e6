# SPDX-License-Identifier: MIT
"""A migration between two QEMUs, which are known to lose nothing.

So a bad page in a migration by ferry is not the guest's fault.
"""

import pytest

import qemu


@pytest.fixture(autouse=True)
def _requirements():
    qemu.require()


def migrate(source, target, uri):
    source.qmp("migrate-set-parameters", **{
        "downtime-limit": 20000, "max-bandwidth": 1 << 40})
    source.qmp("migrate", uri=uri)

    def over():
        status = source.qmp("query-migrate")["status"]
        assert status != "failed", source.said() + target.said()
        return status == "completed"

    qemu.wait_until("the migration", over)


@pytest.mark.parametrize("mode", ["seq", "random", "db"])
def test_a_precopy_migration_loses_nothing(tmp_path, mode):
    # Some KVMs do not keep AVX from a guest whose QEMU knows nothing of it,
    # and what that does not know it does not carry.
    cmdline = f"mode={mode} cpus=2 mem=16M report=100 avx=0"
    uri = f"unix:{tmp_path}/channel"
    with qemu.Qemu(tmp_path, "a", cmdline, ram_mb=64) as source, \
         qemu.Qemu(tmp_path, "b", cmdline, ram_mb=64, log=source.log,
                   args=["-incoming", uri]) as target:
        source.wait_line("FERRY", 3)
        migrate(source, target, uri)
        log = source.poll()
        reports, iterations = len(log.all("FERRY")), log.last("FERRY")["iter"]
        target.wait_line("FERRY", reports + 3)
        assert log.last("FERRY")["iter"] > iterations
        assert target.verify()["pages"] == 4096
        assert log.bad_count == 0
        assert log.longest_gap_us > 0
