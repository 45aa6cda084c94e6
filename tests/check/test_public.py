# SPDX-License-Identifier: MIT
"""The public API as others meet it: headers, exported names, version."""

import os
import re
import subprocess
from pathlib import Path

import pytest

import csource

SOURCE = Path(os.environ.get('FERRY_SOURCE',
                             Path(__file__).resolve().parents[2]))
BUILD = Path(os.environ.get('FERRY_BUILD', SOURCE / 'build'))
INCLUDE = SOURCE / 'include'
# Not of libferry, but of a library of its own.
OTHERS = {'ferry/vhost.h'}
HEADERS = sorted(p.relative_to(INCLUDE).as_posix()
                 for p in INCLUDE.glob('ferry/*.h'))

COMPILERS = {
    'c11': ['gcc', '-x', 'c', '-std=c11', '-pedantic-errors'],
    'c17-clang': ['clang', '-x', 'c', '-std=c17', '-pedantic-errors'],
    'c++17': ['g++', '-x', 'c++', '-std=c++17', '-pedantic-errors'],
}


@pytest.mark.parametrize('name', HEADERS)
def test_a_header_fits_80_columns(name):
    text = (INCLUDE / name).read_text(encoding='utf-8').expandtabs(8)
    assert [line for line in text.splitlines() if len(line) > 80] == []


LIBRARIES = {
    # its headers, its version script, what is built of it
    'libferry': (set(HEADERS) - OTHERS, 'src/ferry.map', 'src/libferry'),
    # the names of error codes are in both
    'libferry-vhost': (OTHERS | {'ferry/err.h'}, 'src/vu/ferry-vhost.map',
                       'src/vu/libferry-vhost'),
}


def declared(library):
    """Functions of its public headers."""
    return {name for header in LIBRARIES[library][0]
            for name in csource.read(INCLUDE / header).prototypes}


def mapped(library):
    """Names between global: and local: of its version script."""
    text = (SOURCE / LIBRARIES[library][1]).read_text(encoding='utf-8')
    text = re.sub(r'/\*.*?\*/', '', text, flags=re.S)
    names = []
    for part in re.findall(r'global:(.*?)(?:local:|\})', text, re.S):
        names += part.replace(';', ' ').split()
    return names


def nm(library, *options):
    """[(type, name)] of the symbols that a library defines."""
    out = subprocess.run(['nm', *options, '--defined-only', library],
                         text=True, capture_output=True, check=True).stdout
    rows = [line.split() for line in out.splitlines()]
    return [(r[1], r[2]) for r in rows if len(r) == 3]


@pytest.mark.parametrize('compiler', COMPILERS)
@pytest.mark.parametrize('header', HEADERS)
def test_each_header_compiles_alone(header, compiler):
    done = subprocess.run(
        [*COMPILERS[compiler], '-Wall', '-Wextra', '-Werror',
         '-fsyntax-only', f'-I{INCLUDE}', '-'],
        input=f'#include <{header}>\nextern int more;\n', text=True, capture_output=True,
        check=False)
    assert done.returncode == 0, done.stderr


def test_each_header_is_in_the_one_that_includes_all():
    all_of_it = csource.read(INCLUDE / 'ferry/ferry.h').includes
    assert {i.path for i in all_of_it} == (
        set(HEADERS) - {'ferry/ferry.h'} - OTHERS)


def test_each_header_is_installed():
    text = (INCLUDE / 'meson.build').read_text(encoding='utf-8')
    assert set(re.findall(r"'(ferry/\w+\.h)'", text)) == set(HEADERS)


@pytest.mark.parametrize('library', LIBRARIES)
def test_the_map_names_what_the_headers_declare(library):
    names = mapped(library)
    assert sorted(names) == sorted(declared(library))
    assert names == sorted(names), 'keep the version script in order'


def built(library, suffix):
    return BUILD / (LIBRARIES[library][2] + suffix)


@pytest.mark.parametrize('library', LIBRARIES)
def test_the_library_exports_what_the_map_names(library):
    exported = {name.split('@')[0] for kind, name in
                nm(built(library, '.so'), '-D') if kind != 'A'}
    assert exported == set(mapped(library))


@pytest.mark.parametrize('library', LIBRARIES)
def test_names_in_the_static_library_are_ours(library):
    strangers = {name for kind, name in nm(built(library, '.a'), '-g')
                 if not name.startswith('ferry_')}
    assert strangers == set()


def test_the_header_has_the_version_of_the_project():
    header = (INCLUDE / 'ferry/version.h').read_text(encoding='utf-8')
    meson = (SOURCE / 'meson.build').read_text(encoding='utf-8')
    numbers = re.findall(r'FERRY_VERSION_(?:MAJOR|MINOR|MICRO)\s+(\d+)',
                         header)
    assert re.search(r"version : '([\d.]+)'", meson)[1] == '.'.join(numbers)


