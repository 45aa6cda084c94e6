# SPDX-License-Identifier: MIT
"""The self-verifying guest in a machine without control or migration.

vmm-boot's moves=N saves the machine's state, loads it into a new machine and
frees the old one, N times, while the guest checks every page it rewrites.
"""

import os
import re
import subprocess
from pathlib import Path

import pytest

BUILD = Path(os.environ['FERRY_BUILD'])
BOOT = BUILD / 'tests/vm/vmm-boot'
GUEST = BUILD / 'guest/ferry-guest.elf'
LIMIT_S = 600


def boot(kernel, **keys):
    if not os.access('/dev/kvm', os.R_OK | os.W_OK):
        pytest.skip('/dev/kvm is missing or not permitted')
    words = [f'{key}={value}' for key, value in keys.items()]
    return subprocess.run([BOOT, kernel, *words], check=False, text=True,
                          stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, timeout=LIMIT_S)


def verified(text):
    return re.search(r'^VERIFIED pages=\d+ bad=0$', text, re.M)


@pytest.mark.parametrize('vcpus', [1, 2, 5])
def test_it_powers_off_with_every_page_verified(vcpus):
    done = boot(GUEST, vcpus=vcpus, ram=64, seconds=LIMIT_S,
                cmdline=f'seconds=2 cpus={vcpus}')
    assert done.returncode == 0, done.stdout
    assert verified(done.stdout), done.stdout
    assert f'cpus={vcpus} ' in done.stdout


def test_it_goes_from_machine_to_machine():
    done = boot(GUEST, vcpus=2, ram=64, moves=12, every=300,
                seconds=LIMIT_S, cmdline='seconds=6 cpus=2')
    assert done.returncode == 0, done.stdout
    assert verified(done.stdout), done.stdout
    assert re.search(r'^DONE .* bad=0 tsc_back=0 ', done.stdout, re.M)
