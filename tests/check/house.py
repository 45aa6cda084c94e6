# SPDX-License-Identifier: MIT
"""The rules of the house: who may include whom, and the budgets.

The table in docs/DESIGN.md ("folder | may include | ...") is the rule; there
is no copy of it here.  Problems fail the check, warnings do not.
"""

import re
import statistics
from collections import defaultdict
from pathlib import Path

import csource

# No file-scope state here: two migrations in one process must not meet.
LIBRARY = {'base', 'wire', 'chan', 'mem', 'dev', 'send', 'recv', 'mig', 'vu'}

FILE_LINES, FUNCTION_LINES, STRUCT_FIELDS, KNOT_FILES = 600, 100, 25, 2

# ISO C, which is all a public header may ask for.
LIBC = {'assert.h', 'errno.h', 'inttypes.h', 'limits.h', 'stdarg.h',
        'stdbool.h', 'stddef.h', 'stdint.h', 'stdio.h', 'stdlib.h',
        'string.h', 'time.h'}

PUBLIC = 'include/ferry'
ROW = re.compile(r'\|\s*((?:`[\w/]+/`\s*)+)\|([^|]*)\|')
HEADER = re.compile(r'\|\s*folder\s*\|\s*may include\s*\|')


class House:
    """The C files of one tree, each read once, and what is wrong."""

    def __init__(self, root):
        self.root = Path(root)
        self.problems = []
        self.warnings = []
        self.rules = self.read_rules()
        self.files = {p: csource.read(self.root / p) for p in self.c_files()}

    def problem(self, where, text):
        self.problems.append(f'{where}: {text}')

    def c_files(self):
        folders = ('include', 'src', 'tools', 'tests', 'bench', 'examples',
                   'guest', 'backends')
        found = []
        for top in folders:
            for path in (self.root / top).rglob('*.[ch]'):
                found.append(path.relative_to(self.root).as_posix())
        return sorted(found)

    # ---- the table ----------------------------------------------------

    def read_rules(self):
        """{'src/wire': {'base'}, ..., 'tests': None}; None: anything."""
        doc = self.root / 'docs/DESIGN.md'
        rules, inside = {}, False
        for line in doc.read_text(encoding='utf-8').splitlines():
            inside = bool(HEADER.match(line)) or \
                inside and line.startswith('|')
            row = ROW.match(line) if inside else None
            if row:
                allowed = self.parse_allowed(row[2])
                for folder in re.findall(r'`([\w/]+)/`', row[1]):
                    rules[folder] = allowed
        if not rules:
            self.problem('docs/DESIGN.md',
                         'no table "folder | may include"')
        return rules

    @staticmethod
    def parse_allowed(cell):
        words = cell.replace('`', '').replace(',', ' ').split()
        if words == ['anything']:
            return None
        return set(words) - {'-'}

    def folder_of(self, path):
        """The row of the table that a file falls under, or None."""
        parts = path.split('/')[:-1]
        while parts and '/'.join(parts) not in self.rules:
            parts.pop()
        return '/'.join(parts) or None

    # ---- includes -----------------------------------------------------

    def check_includes(self):
        for path, src in self.files.items():
            folder = self.folder_of(path)
            if folder is None:
                self.problem(path, 'its folder is not in the table of '
                             'docs/DESIGN.md')
                continue
            for inc in src.includes:
                self.check_include(path, folder, inc)
            self.check_order(path, src.includes)

    def check_include(self, path, folder, inc):
        where = f'{path}:{inc.line}'
        if inc.kind == 'macro':
            self.problem(where, f'#include {inc.path}: name the file')
        elif '..' in inc.path.split('/'):
            self.problem(where, f'"{inc.path}": no .. in an #include')
        elif folder == PUBLIC:
            self.check_public(where, inc)
        elif inc.kind == 'quote':
            self.check_layer(where, folder, inc.path)
        elif inc.path.split('/')[0] in self.short_names():
            self.problem(where, f'<{inc.path}>: a folder of ours is '
                         'included with quotes')

    def check_public(self, where, inc):
        ours = inc.path.startswith('ferry/')
        if inc.kind != 'system' or not (ours or inc.path in LIBC):
            self.problem(where, f'{inc.path}: a public header includes '
                         '<ferry/...> and ISO C headers only')

    def short_names(self):
        return {f.split('/')[1] for f in self.rules if f.startswith('src/')}

    def check_layer(self, where, folder, included):
        allowed = self.rules[folder]
        own = folder.split('/')[-1]
        target = included.split('/')[0] if '/' in included else ''
        if allowed is None:
            return
        if not target:
            # Outside src/ a program's own files stand beside each other.
            if folder.startswith('src/'):
                self.problem(where, f'"{included}": write '
                             f'"{own}/{included}"')
        elif target == 'ferry':
            self.problem(where, f'"{included}": public headers are '
                         'included as <ferry/...>')
        elif target != own and target not in allowed:
            may = ' '.join(sorted(allowed)) or 'nothing else'
            self.problem(where, f'{folder}/ may not include '
                         f'"{included}" (allowed: {may})')

    def check_order(self, path, includes):
        """Own header, then <system>, then "folder/file.h"."""
        own = self.own_header(path)
        if own and includes and includes[0].path != own:
            self.problem(path, f'"{own}" must be included first')
        # Several files may share one header, so whichever of ours is the
        # first of all counts as the own one.
        rest = includes[1:] if path.endswith('.c') else includes
        quoted = False
        for inc in rest:
            if quoted and inc.kind == 'system':
                self.problem(f'{path}:{inc.line}',
                             f'<{inc.path}> after a "folder/file.h"')
            quoted = quoted or (inc.kind == 'quote' and inc.path != own)

    def own_header(self, path):
        """The header of a .c file's own name, as it would be included."""
        header = path[:-2] + '.h'
        if not path.endswith('.c') or header not in self.files:
            return None
        return header[len('src/'):] if header.startswith('src/') \
            else header.split('/')[-1]

    # ---- state --------------------------------------------------------

    def check_state(self):
        for path, src in self.files.items():
            parts = path.split('/')
            if parts[0] != 'src' or parts[1] not in LIBRARY:
                continue
            for v in src.variables:
                if not v.const:
                    self.problem(f'{path}:{v.line}',
                                 f'{v.name}: no mutable variable of static '
                                 'storage in a library folder')

    # ---- budgets ------------------------------------------------------

    def check_budgets(self, allowed):
        """allowed: {(kind, name)}; what is there may exceed its budget."""
        used = set()

        def warn(kind, name, text):
            if (kind, name) in allowed:
                used.add((kind, name))
            else:
                self.warnings.append(f'{kind} {name}: {text}')

        for path, src in self.files.items():
            if path.startswith('tests/'):
                continue
            if src.lines > FILE_LINES:
                warn('file', path, f'{src.lines} lines, budget {FILE_LINES}')
            for f in src.functions:
                if f.lines > FUNCTION_LINES:
                    warn('function', f'{path}:{f.name}',
                         f'{f.lines} lines, budget {FUNCTION_LINES}')
            for s in src.structs:
                if s.fields > STRUCT_FIELDS:
                    warn('struct', f'{path}:{s.name}',
                         f'{s.fields} fields, budget {STRUCT_FIELDS}')
        for knot in self.knots():
            warn('knot', '+'.join(knot),
                 f'reach each other: {self.ties(knot)}')
        for kind, name in sorted(allowed - used):
            self.warnings.append(f'{kind} {name}: within its budget, '
                                 'the exception can go')

    def knots(self):
        """Sets of more than KNOT_FILES .c files of one folder that all
        reach each other through the names of non-static functions."""
        by_folder = defaultdict(list)
        for path in self.files:
            if path.startswith(('src/', 'tools/')) and path.endswith('.c'):
                by_folder[path.rsplit('/', 1)[0]].append(path)
        for paths in by_folder.values():
            edges = self.edges(paths)
            for knot in components(paths, edges):
                if len(knot) > KNOT_FILES:
                    yield sorted(knot)

    def ties(self, knot):
        """'a.c>b.c by f, ...': what to cut, one name for each edge."""
        home = self.homes(knot)
        short = {p: p.split('/')[-1] for p in knot}
        found = {}
        for p in knot:
            for w in sorted(self.files[p].words):
                if home.get(w, p) != p:
                    found.setdefault((p, home[w]), w)
        return ', '.join(f'{short[a]}>{short[b]} by {w}'
                         for (a, b), w in found.items())

    def homes(self, paths):
        return {f.name: p for p in paths
                for f in self.files[p].functions if not f.static}

    def edges(self, paths):
        home = self.homes(paths)
        return {p: {home[w] for w in self.files[p].words
                    if w in home and home[w] != p} for p in paths}

    def figures(self):
        """One line about the code that ships."""
        mine = {p: s for p, s in self.files.items()
                if not p.startswith('tests/')}
        sizes = sorted(f.lines for s in mine.values() for f in s.functions)
        if not sizes:
            return 'no functions'
        return (f'{len(mine)} files, {sum(s.lines for s in mine.values())} '
                f'lines, {len(sizes)} functions: median '
                f'{statistics.median_low(sizes)}, p95 '
                f'{sizes[int(len(sizes) * .95)]} lines')


def components(nodes, edges):
    """Strongly connected components, by mutual reach: folders are small."""
    reach = {n: reachable(n, edges) for n in nodes}
    seen = set()
    for n in nodes:
        if n not in seen:
            knot = {n} | {m for m in reach[n] if n in reach[m]}
            seen |= knot
            yield knot


def reachable(start, edges):
    found, todo = set(), [start]
    while todo:
        new = edges[todo.pop()] - found
        found |= new
        todo.extend(new)
    return found
