# SPDX-License-Identifier: MIT
"""What `meson install` gives, used by a program that has nothing else."""

import os
import re
import signal
import subprocess
import time
from pathlib import Path

import pytest

SOURCE = Path(os.environ.get('FERRY_SOURCE',
                             Path(__file__).resolve().parents[2]))
BUILD = Path(os.environ.get('FERRY_BUILD', SOURCE / 'build'))
EXAMPLE = SOURCE / 'examples/embed.c'
TIMEOUT_S = 120


def run(*command, **more):
    done = subprocess.run(command, text=True, check=False,
                          stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, timeout=TIMEOUT_S, **more)
    assert done.returncode == 0, f'{command}: {done.stdout}'
    return done.stdout


class Installed:
    """A tree made by DESTDIR, and how to build against it."""

    def __init__(self, root):
        self.root = root
        run('meson', 'install', '-C', BUILD, '--no-rebuild', '--destdir',
            root)
        pc = self.find('ferry.pc')
        self.prefix = next(line.split('=', 1)[1].strip()
                           for line in pc.read_text().splitlines()
                           if line.startswith('prefix='))
        self.command = root / self.prefix.lstrip('/') / 'bin/ferry'
        self.env = os.environ | {
            'PKG_CONFIG_PATH': str(pc.parent),
            'PKG_CONFIG_SYSROOT_DIR': str(root),
            'LD_LIBRARY_PATH': str(self.find('libferry.so').parent),
        }

    def find(self, name):
        found = list(self.root.rglob(name))
        assert len(found) == 1, f'{name} is installed {len(found)} times'
        return found[0]

    def pkg_config(self, *options):
        return run('pkg-config', *options, 'ferry', env=self.env).split()

    def static(self):
        """The library itself, and what it needs."""
        return [self.find('libferry.a'),
                *(flag for flag in self.pkg_config('--static', '--libs')
                  if flag != '-lferry')]

    def compile(self, source, out, *libraries):
        run('gcc', '-std=c11', '-Wall', '-Werror', *self.pkg_config('--cflags'),
            '-o', out, source, *libraries)
        return out


@pytest.fixture(scope='session', name='installed')
def fixture_installed(tmp_path_factory):
    return Installed(tmp_path_factory.mktemp('dest'))


def test_all_that_is_promised_is_there(installed):
    for header in (SOURCE / 'include/ferry').glob('*.h'):
        installed.find(header.name)
    assert installed.find('libferry.a').stat().st_size > 0
    assert os.readlink(installed.find('libferry.so')) == 'libferry.so.0'
    for page in (SOURCE / 'docs/man').glob('*.[1-8]'):
        installed.find(page.name)
    assert os.access(installed.command, os.X_OK)


def test_the_installed_command_finds_its_library(installed):
    run(installed.command, '--help', env=installed.env)


def test_the_version_of_the_package_is_the_libraries(installed, tmp_path):
    source = tmp_path / 'version.c'
    source.write_text('#include <stdio.h>\n#include <ferry/ferry.h>\n'
                      'int main(void)\n'
                      '{ return puts(ferry_version()) < 0; }\n')
    program = installed.compile(source, tmp_path / 'version',
                                *installed.pkg_config('--libs'))
    shown = run(program, env=installed.env).strip()
    assert [shown] == installed.pkg_config('--modversion')


def test_the_example_runs_on_the_shared_library(installed, tmp_path):
    program = installed.compile(EXAMPLE, tmp_path / 'embed',
                              *installed.pkg_config('--libs'))
    run(program, env=installed.env)


def test_the_example_runs_on_the_static_library(installed, tmp_path):
    program = installed.compile(EXAMPLE, tmp_path / 'embed',
                              *installed.static())
    run(program)
    for words in ['x'], ['0'], ['-1'], ['64', '64']:
        done = subprocess.run([program, *words], text=True, check=False,
                              stderr=subprocess.PIPE)
        assert done.returncode == 2
        assert done.stderr.startswith('usage: embed [MiB]')


def test_the_example_leaves_no_child_behind(installed, tmp_path):
    """Its source goes before there was anything to wait for."""
    program = installed.compile(EXAMPLE, tmp_path / 'embed',
                                *installed.static())
    with subprocess.Popen([program, '64'], stdout=subprocess.DEVNULL,
                          start_new_session=True) as source:
        time.sleep(0.15)        # it waits 0.3 s before it moves
        source.kill()
        source.wait()
    deadline = time.monotonic() + TIMEOUT_S
    while time.monotonic() < deadline:
        try:
            os.killpg(source.pid, 0)
        except ProcessLookupError:
            return
        time.sleep(0.05)
    os.killpg(source.pid, signal.SIGKILL)
    pytest.fail('the child is still there')


def test_readmes_line_compiles_a_program(installed, tmp_path):
    line, = re.findall(r'^ {4}(cc .*program\.c .*)$',
                       (SOURCE / 'README.md').read_text(encoding='utf-8'),
                       re.M)
    (tmp_path / 'program.c').write_bytes(EXAMPLE.read_bytes())
    run('sh', '-c', line, cwd=tmp_path, env=installed.env)
