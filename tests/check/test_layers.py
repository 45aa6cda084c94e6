# SPDX-License-Identifier: MIT
"""tests/check-layers refuses small bad trees, each for one reason."""

import subprocess
import sys
from pathlib import Path

import pytest

CHECK = Path(__file__).resolve().parent.parent / 'check-layers'

TABLE = '''
| folder | may include | one line |
|---|---|---|
| `include/ferry/` | - | public |
| `src/base/` | - | floor |
| `src/wire/` | base | codec |
| `src/mig/` | base, wire | conductor |
| `src/vmm/` | base | not a library |
| `tests/` `bench/` | anything | |
'''

GOOD = {
    'include/ferry/err.h': '#include <stddef.h>\nint ferry_err(void);\n',
    'src/base/err.h': '#include <errno.h>\n#include <ferry/err.h>\n',
    'src/base/err.c': '#include "base/err.h"\n#include <stdio.h>\n'
                      'static const char *const names[] = { "a", "b" };\n'
                      'int ferry_err(void) { return !names[0]; }\n',
    'src/wire/ram.c': '#include <string.h>\n#include "base/err.h"\n',
    'tests/unit/t.c': '#include "help.h"\n#include <stdio.h>\n'
                      '#include "mig/x.h"\nstatic int counter;\n',
}


def run(tmp_path, files, table=TABLE):
    for name, text in ({'docs/DESIGN.md': table} | files).items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return subprocess.run([sys.executable, CHECK, tmp_path], text=True,
                          capture_output=True, check=False)


def test_a_good_tree_passes_and_says_nothing_but_its_figures(tmp_path):
    done = run(tmp_path, GOOD)
    assert (done.returncode, done.stdout) == (
        0, '4 files, 10 lines, 1 functions: median 1, p95 1 lines\n')


# What is wrong, the file, its text, what the message must name.
BAD = [
    ('an upward include', 'src/base/a.c', '#include "wire/ram.h"',
     'src/base/ may not include "wire/ram.h"'),
    ('a sideways include', 'src/vmm/a.c', '#include "mig/mig.h"',
     'src/vmm/ may not include "mig/mig.h"'),
    ('a folder nobody knows', 'src/base/a.c', '#include "lib/x.h"',
     'may not include "lib/x.h"'),
    ('a file in a folder without a row', 'src/new/a.c', 'int ferry_a;',
     'not in the table'),
    ('a bare own header', 'src/base/a.c', '#include "err.h"',
     'write "base/err.h"'),
    ('dots', 'src/wire/a.c', '#include "../base/err.h"', 'no ..'),
    ('dots in a test', 'tests/a.c', '#include "../src/base/err.h"', 'no ..'),
    ('quotes around a public header', 'src/base/a.c',
     '#include "ferry/err.h"', 'included as <ferry/...>'),
    ('brackets around an own folder', 'src/base/a.c',
     '#include <wire/ram.h>', 'included with quotes'),
    ('a computed include', 'src/base/a.c', '#include HEADER',
     'name the file'),
    ('own header not first', 'src/base/err.c',
     '#include <stdio.h>\n#include "base/err.h"', 'must be included first'),
    ('a system header last', 'src/wire/a.c',
     '#include "wire/ram.h"\n#include "base/err.h"\n#include <stdio.h>',
     '<stdio.h> after'),
    ('a system header last in a header', 'src/wire/a.h',
     '#include "base/err.h"\n#include <stdio.h>', '<stdio.h> after'),
    ('a public header that needs Linux', 'include/ferry/a.h',
     '#include <linux/kvm.h>', 'ISO C headers only'),
    ('a public header that needs us', 'include/ferry/a.h',
     '#include "base/err.h"', 'ISO C headers only'),
    ('an include behind an #if', 'src/base/a.c',
     '#ifdef X\n# include "wire/ram.h"\n#endif', 'may not include'),
]


@pytest.mark.parametrize('why, path, text, message', BAD,
                         ids=[b[0] for b in BAD])
def test_a_bad_include_fails(tmp_path, why, path, text, message):
    done = run(tmp_path, GOOD | {path: text + '\n'})
    assert done.returncode == 1, why
    assert message in done.stdout


STATE = [
    'int ferry_count;',
    'static int count;',
    'static int a = 1, b;',
    'static struct x { int y; } z;',
    'static const char *name;',
    'static const char *names[] = { "a" };',
    'static int (*hook)(void);',
    'static int (*hooks[])(void) = { 0 };',
    'static _Thread_local int last;',
    'static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;',
    'static struct ops ops = { .f = g };',
    'static int f(void)\n{\n\tstatic int calls;\n\treturn calls++;\n}',
    'static int f(void)\n{\n\tif (1) {\n\t\tstatic char buf[8];\n\t}\n}',
    '#ifdef X\nstatic int count;\n#endif',
    'static _Atomic(int) count;',
    'static int table[] __attribute__((aligned(64))) = { 1 };',
]

NO_STATE = [
    'extern "C" {\nint f(int a, char *b);\n}',
    'static const int limit = 3;',
    'static const struct { int a; } rows[] = { { 1 }, { 2 } };',
    'static const char *const names[] = { "int x;", "{" };',
    'static int (*const hook)(void) = f;',
    'struct x;\nstruct y { int a; };\nenum z { A, B };\ntypedef int t;',
    'static int f(int a[static 4]);',
    'static int f(void)\n{\n\tstatic const int n = 1;\n\tint m;\n'
    '\treturn n + m;\n}',
    'int f(void) __attribute__((format(printf, 1, 2)));',
    'FERRY_REQUIRES(x) int f(void)\n{\n\treturn 0;\n}',
    '/* static int x; */ // int y;\n#define X static int x;',
    '#define X \\\n\tstatic int x;\nint f(void);',
    '_Static_assert(sizeof(int) == 4, "int");',
]


@pytest.mark.parametrize('text', STATE)
def test_state_in_a_library_folder_fails(tmp_path, text):
    done = run(tmp_path, {'src/base/a.c': text + '\n'})
    assert done.returncode == 1
    assert 'no mutable variable' in done.stdout


@pytest.mark.parametrize('text', STATE)
def test_state_elsewhere_is_allowed(tmp_path, text):
    assert run(tmp_path, {'src/vmm/a.c': text + '\n'}).returncode == 0


@pytest.mark.parametrize('text', NO_STATE)
def test_what_is_no_state_passes(tmp_path, text):
    done = run(tmp_path, {'src/base/a.c': text + '\n'})
    assert done.returncode == 0, done.stdout


def test_a_program_outside_src_includes_its_own_files_by_name(tmp_path):
    table = TABLE.replace('| `tests/`', '| `tools/` | base | |\n| `tests/`')
    files = {'tools/a.c': '#include "a.h"\n\n#include <stdio.h>\n\n'
             '#include "base/err.h"\n', 'tools/a.h': ''}
    assert run(tmp_path, files, table).returncode == 0
    files['tools/a.c'] += '#include "wire/ram.h"\n'
    assert run(tmp_path, files, table).returncode == 1


def big_function(lines):
    return 'int f(void)\n{\n' + '\ta();\n' * lines + '}\n'


def big_struct(fields):
    return 'struct s {\n' + ''.join(f'\tint f{i}, *g{i};\n'
                                    for i in range(fields // 2)) + '};\n'


BUDGETS = [
    ('file src/base/a.c', '\n' * 601, '\n' * 600),
    ('function src/base/a.c:f', big_function(99), big_function(98)),
    ('struct src/base/a.c:s', big_struct(26), big_struct(24)),
    ('struct src/base/a.c:s',
     'struct s {\n\tstruct {\n' + '\tint a;\n' * 24 + '\t} b;\n\tint c;\n};\n',
     'struct s {\n\tstruct {\n' + '\tint a;\n' * 24 + '\t};\n\tint c;\n};\n'),
]


@pytest.mark.parametrize('what, over, under', BUDGETS)
def test_over_budget_warns_and_passes(tmp_path, what, over, under):
    done = run(tmp_path, {'src/base/a.c': over})
    assert done.returncode == 0
    assert f'warning: {what}: ' in done.stdout
    done = run(tmp_path, {'src/base/a.c': under})
    assert 'warning' not in done.stdout


def test_a_listed_exception_is_silent_and_an_idle_one_is_not(tmp_path):
    allowed = {'tests/check/allowed': '# why\nfile src/base/a.c a table\n'}
    done = run(tmp_path, {'src/base/a.c': '\n' * 601} | allowed)
    assert 'warning' not in done.stdout
    done = run(tmp_path, {'src/base/a.c': '\n'} | allowed)
    assert 'warning: file src/base/a.c: within its budget' in done.stdout


def test_an_exception_without_a_reason_fails(tmp_path):
    done = run(tmp_path, {'tests/check/allowed': 'file src/base/a.c\n'})
    assert done.returncode == 1


def ring(n):
    return {f'src/base/f{i}.c': f'int f{i}(void)\n{{\n\treturn '
            f'f{(i + 1) % n}();\n}}\n' for i in range(n)}


def test_a_knot_of_three_files_warns_and_of_two_does_not(tmp_path):
    assert 'warning: knot src/base/f0.c+src/base/f1.c+src/base/f2.c' in \
        run(tmp_path / 'a', ring(3)).stdout
    assert 'warning' not in run(tmp_path / 'b', ring(2)).stdout


def test_static_functions_of_one_name_tie_no_knot(tmp_path):
    files = {k: 'static ' + v for k, v in ring(3).items()}
    assert 'warning' not in run(tmp_path, files).stdout


def test_a_design_without_the_table_fails(tmp_path):
    done = run(tmp_path, GOOD, table='# nothing here\n')
    assert done.returncode == 1
    assert 'no table' in done.stdout
