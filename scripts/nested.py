# SPDX-License-Identifier: MIT
"""The host of tests/linux, with a shell for people (scripts/nested)."""

import re
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(HERE / "tests/linux"))

import debian               # noqa: E402
import host                 # noqa: E402
import inside               # noqa: E402
from tsc import tsc_khz     # noqa: E402

WELCOME = """
This is Linux in an emulator. Its KVM runs Linux, slowly. Try:

  ferry doctor
  ferry run --name web --vcpus 2 --ram 1G --kernel vmlinuz \\
      --initrd initrd.gz --append console=ttyS0 </dev/null &
  ferry run --name web2 --vcpus 2 --ram 1G \\
      --incoming tcp:127.0.0.1:4444 </dev/null &
  ferry migrate web tcp:127.0.0.1:4444

"""


def readmes_init():
    """What README has one write into root/init."""
    text = (HERE / "README.md").read_text(encoding="utf-8")
    found = re.search(r"cat >root/init <<'EOF'\n(.*?)^ *EOF$", text,
                      re.M | re.S)
    return re.sub(r"^ {4}", "", found[1], flags=re.M).encode()


def guest(path):
    files = {"init": readmes_init(), "bin/busybox":
             debian.busybox().read_bytes()}
    return debian.initramfs(path, {name: (0o755, data)
                                   for name, data in files.items()})


def main():
    debian.need(host.QEMU, "qemu-system-x86")
    wrapper = (HERE / "tests/linux/host/ferry").read_bytes()
    with tempfile.TemporaryDirectory(prefix="ferry-nested-") as folder:
        files = {"usr/bin/ferry": inside.built("ferry-static"),
                 "bin/ferry": wrapper, "build/ferry": wrapper,
                 "vmlinuz": debian.bzimage().read_bytes(),
                 "initrd.gz": guest(Path(folder, "guest")).read_bytes(),
                 "welcome": WELCOME.encode()}
        initrd = host.archive(Path(folder, "host"), host.KVM, files)
        words = host.qemu(debian.bzimage(), initrd, tsc_khz())
        return subprocess.run([*words, "-serial", "mon:stdio"],
                              check=False).returncode


try:
    sys.exit(main())
except pytest.skip.Exception as why:
    print(f"nested: {why}", file=sys.stderr)
    sys.exit(77)
