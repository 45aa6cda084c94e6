# SPDX-License-Identifier: MIT
"""The manual pages: mandoc finds nothing to warn about, and they say what the headers
say.  tests/check/test_words.py compares them with the command."""

import os
import re
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


@pytest.mark.parametrize('page', PAGES, ids=lambda p: p.name)
def test_the_pages_that_it_refers_to_exist(page):
    found = re.findall(r'^\.(?:It )?Xr (\S+) (\d)',
                       page.read_text(encoding='utf-8'), re.M)
    ours = {p.name for p in PAGES}
    assert found
    assert {f'{name}.{section}' for name, section in found} - ours == set()


def header(name):
    """A public header without comments, directives and extern "C"."""
    path = SOURCE / f'include/ferry/{name}.h'
    text = re.sub(r'/\*.*?\*/', ' ', path.read_text(encoding='utf-8'),
                  flags=re.S)
    return re.sub(r'^#(?:.*\\\n)*.*$', '', text, flags=re.M)


def prototypes(name):
    """{function: its declaration without blanks}"""
    found = re.findall(
        r'^((?:\w+ )+\**)(ferry_\w+)(\([^;{}]*?\));', header(name), re.M)
    return {f: re.sub(r'\s', '', f'{ret}{f}{args}') for ret, f, args in found}


def synopsis(page):
    """The same of a page's .Ft, .Fo, .Fa and .Fc."""
    found = {}
    for ret, name, args in re.findall(
            r'^\.Ft (.*)\n\.Fo (\w+)\n((?:\.Fa .*\n)*)\.Fc$', page, re.M):
        joined = ','.join(line[4:] for line in args.splitlines())
        found[name] = re.sub(r'["\s]', '', f'{ret}{name}({joined})')
    return found


HEADERS = sorted(p.stem for p in SOURCE.glob('include/ferry/*.h')
                 if p.stem not in ('ferry', 'sized'))


@pytest.mark.parametrize('name', HEADERS)
def test_the_page_of_a_header_has_its_functions(name):
    page = (SOURCE / f'docs/man/ferry_{name}.3').read_text(encoding='utf-8')
    declared = prototypes(name)
    assert declared, 'no functions found'
    assert synopsis(page) == declared
    title = page.split('.Sh LIBRARY')[0]
    named = re.findall(r'^\.Nm (\w+)', title, re.M)
    assert set(named) == set(declared) | {f'ferry_{name}'}
    body = page.split('.Sh DESCRIPTION')[1]
    assert [f for f in declared if f'Fn {f}' not in body] == []


@pytest.mark.parametrize('name', HEADERS)
def test_the_page_of_a_header_names_its_types_and_constants(name):
    page = (SOURCE / f'docs/man/ferry_{name}.3').read_text(encoding='utf-8')
    words = set(re.findall(r'\w+', page))
    text = header(name)
    wanted = set(re.findall(r'\b(?:struct|enum) (ferry_\w+) \{', text))
    wanted |= set(re.findall(r'\bFERRY_\w+', text))
    for body in re.findall(r'\bstruct ferry_\w+ \{(.*?)^\}', text,
                           re.M | re.S):
        wanted |= set(re.findall(r'\(\*(\w+)\)\(', body))
        plain = re.sub(r'\([^;]*\)', '', body)
        wanted |= set(re.findall(r'(\w+)(?:\[\w+\])?\s*[;,]', plain))
    assert wanted - words == set()


def test_the_overview_names_each_page():
    page = (SOURCE / 'docs/man/ferry.3').read_text(encoding='utf-8')
    assert set(re.findall(r'^\.It Xr ferry_(\w+) 3', page, re.M)) == set(
        HEADERS)
