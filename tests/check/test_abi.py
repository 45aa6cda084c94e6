# SPDX-License-Identifier: MIT
"""What programs built with libferry rely on is still there, and scripts/abi
would say so if it were not."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

SOURCE = Path(os.environ.get('FERRY_SOURCE',
                             Path(__file__).resolve().parents[2]))
BUILD = Path(os.environ.get('FERRY_BUILD', SOURCE / 'build'))
LIBRARY = BUILD / 'src/libferry.so'


def abi(*options):
    done = subprocess.run([SOURCE / 'scripts/abi', '--library', LIBRARY,
                           *options], text=True, check=False,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    return done.returncode, done.stdout


def test_the_library_keeps_its_promises():
    assert abi() == (0, '')


# Why, the header, what is replaced in it by what, and what is said of it.
CHANGES = [
    ('a field of another size', 'vm.h', 'uint64_t gpa;		/* guest',
     'uint32_t gpa;		/* guest',
     'breaks programs: field ferry_block.gpa: was at 32, 8 octets, uint64_t'),
    ('a field in the middle', 'event.h', '	uint64_t setup_ns;',
     '	uint64_t setup_ns, new_ns;',
     'breaks programs: field ferry_stats.pause_ns: was at 32'),
    ('a field that is gone', 'vm.h', '	uint64_t fd_offset;', '	/**/',
     'breaks programs: field ferry_block.fd_offset is gone'),
    ('another parameter', 'source.h', 'int timeout_ms,', 'long timeout_ms,',
     'breaks programs: function ferry_source_wait: was FERRY_0.1, int ('),
    ('a constant of another value', 'err.h', 'FERRY_E_PEER		= 13',
     'FERRY_E_PEER		= 15',
     'breaks programs: enum ferry_err_code FERRY_E_PEER: was 13, is 15'),
    ('a struct without a size that grows', 'err.h', 'char	msg[240];',
     'char	msg[240];\n	int more;',
     'breaks programs: struct ferry_err: was 248 octets, is 252 octets'),
    ('a field at the end', 'event.h', '};\n\n#define FERRY_STATS_INIT',
     '	uint64_t more;\n};\n\n#define FERRY_STATS_INIT',
     'new: field ferry_stats.more at 792, 8 octets, uint64_t'),
    ('a constant more', 'err.h', 'FERRY_E_NOTCONVERGED	= 14,',
     'FERRY_E_NOTCONVERGED	= 14, FERRY_E_NEW = 15,',
     'new: enum ferry_err_code FERRY_E_NEW 15'),
]


@pytest.mark.parametrize('why, header, old, new, said', CHANGES,
                         ids=[c[0] for c in CHANGES])
def test_a_change_is_seen(tmp_path, why, header, old, new, said):
    include = tmp_path / 'include'
    shutil.copytree(SOURCE / 'include', include)
    path = include / 'ferry' / header
    text = path.read_text(encoding='utf-8')
    assert text.count(old) == 1, why
    path.write_text(text.replace(old, new), encoding='utf-8')

    promised = tmp_path / 'abi.txt'
    shutil.copy(SOURCE / 'tests/check/abi.txt', promised)
    options = ['--include', include, '--promised', promised]
    code, shown = abi(*options)
    assert code == 1 and said in shown
    breaks = said.startswith('breaks')
    assert ('breaks programs' in shown) == breaks
    assert 'scripts/abi --renew' in shown

    # What breaks nothing may be promised; the rest only by force.
    assert abi('--renew', *options)[0] == (1 if breaks else 0)
    assert abi(*options)[0] == (1 if breaks else 0)
    assert abi('--renew', '--force', *options)[0] == 0
    assert abi(*options) == (0, '')


def relink(folder, soname, without=''):
    """The library anew, with another soname or with a function less."""
    text = (SOURCE / 'src/ferry.map').read_text(encoding='utf-8')
    names = folder / 'ferry.map'
    names.write_text(text.replace(f'\t{without};\n', ''), encoding='utf-8')
    subprocess.run(
        ['cc', '-shared', '-o', folder / 'libferry.so',
         f'-Wl,-soname,{soname}', f'-Wl,--version-script={names}',
         '-Wl,--whole-archive', BUILD / 'src/libferry.a',
         '-Wl,--no-whole-archive', '-pthread'], check=True)
    return folder / 'libferry.so'


def test_a_function_that_is_gone_is_missed(tmp_path):
    library = relink(tmp_path, 'libferry.so.0', 'ferry_source_cancel')
    code, shown = abi('--library', library)
    assert code == 1
    assert 'breaks programs: function ferry_source_cancel is gone' in shown


def test_with_a_new_soname_all_may_change(tmp_path):
    library = relink(tmp_path, 'libferry.so.1', 'ferry_source_cancel')
    promised = tmp_path / 'abi.txt'
    shutil.copy(SOURCE / 'tests/check/abi.txt', promised)
    options = ['--library', library, '--promised', promised]
    assert abi('--renew', *options)[0] == 0
    assert abi(*options) == (0, '')
