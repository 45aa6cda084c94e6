# SPDX-License-Identifier: MIT
"""The command's help is the truth; manual page and completion follow it."""

import os
import re
import subprocess
from pathlib import Path

import pytest

SOURCE = Path(os.environ.get('FERRY_SOURCE',
                             Path(__file__).resolve().parents[2]))
FERRY = Path(os.environ.get('FERRY', SOURCE / 'build/ferry'))

# Sets up what bash would, and prints what it would offer.
COMPLETE = '''
source "$1/tools/ferry.bash"; shift
COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1))
_ferry
printf '%s\\n' "${COMPREPLY[@]}"
'''


def help_of(*command):
    return subprocess.run([FERRY, *command, '--help'], text=True, check=True,
                          stdout=subprocess.PIPE).stdout


def commands():
    return re.findall(r'^  ([a-z][a-z-]*)  ', help_of(), re.M)


def options(command):
    found = re.findall(r'^ {2,6}(?:-., )? *--([a-z-]+)', help_of(command),
                       re.M)
    return set(found) - {'help', 'usage'}


def completions(*words):
    done = subprocess.run(
        ['bash', '-c', COMPLETE, 'bash', SOURCE, FERRY, *words], text=True,
        stdout=subprocess.PIPE, check=True)
    return set(done.stdout.split())


def manual(command):
    """What ferry.1 says of a command: its .Ss, up to the next section."""
    page = (SOURCE / 'docs/man/ferry.1').read_text(encoding='utf-8')
    for part in re.split(r'^\.S[sh] ', page, flags=re.M):
        title = re.match(r'ferry ([a-z-]+(?: \| [a-z-]+)*)', part)
        if title and command in title[1].split(' | '):
            return part
    return ''


def test_there_are_commands_and_options():
    assert 'migrate' in commands()
    assert 'max-pause' in options('migrate')


@pytest.mark.parametrize('command', commands())
def test_the_manual_knows_the_command_and_its_options(command):
    text = manual(command)
    assert text, f'{command} is not in ferry.1'
    named = set(re.findall(r'Fl \\-([a-z][a-z-]+)', text))
    assert options(command) - named == set()
    everywhere = set().union(*(options(c) for c in commands()))
    assert named - everywhere == set()


def test_completion_offers_the_commands():
    assert completions('') == set(commands())
    assert completions('st') == {c for c in commands()
                                 if c.startswith('st')}


@pytest.mark.parametrize('command', commands())
def test_completion_offers_the_options(command):
    offered = {o.strip('-=') for o in completions(command, '--')}
    assert offered - {'help', 'usage'} == options(command)
