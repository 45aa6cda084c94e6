# SPDX-License-Identifier: MIT
"""The manual pages: mandoc finds nothing to warn about."""

import os
import subprocess
from pathlib import Path

import pytest

SOURCE = Path(os.environ.get('FERRY_SOURCE',
                             Path(__file__).resolve().parents[2]))
PAGES = sorted(SOURCE.glob('docs/man/*.[1-8]'))


@pytest.mark.parametrize('page', PAGES, ids=lambda p: p.name)
def test_a_page_is_clean(page):
    done = subprocess.run(['mandoc', '-T', 'lint', '-W', 'warning', page],
                          text=True, capture_output=True, check=False)
    assert (done.returncode, done.stdout) == (0, '')


def test_each_page_is_installed():
    text = (SOURCE / 'docs/meson.build').read_text(encoding='utf-8')
    assert [p.name for p in PAGES if f"'man/{p.name}'" not in text] == []
