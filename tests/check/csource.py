# SPDX-License-Identifier: MIT
"""What a C file includes, defines and names, as far as check-layers asks.

Not a compiler: it knows C in kernel layout, the preprocessor only for its
#include lines, and takes code in every branch of an #if.  Reading the source
needs no build, so the house can be checked before anything compiles.
"""

import re
from dataclasses import dataclass, field

TOKEN = re.compile(r'[A-Za-z_]\w*|[0-9][\w.]*|"|\S')
INCLUDE = re.compile(r'#\s*include\s*(?:<([^>]+)>|"([^"]+)"|(\S.*))')
ATOMIC = re.compile(r'\b_Atomic\s*\(([^()]*)\)')
IDENT = re.compile(r'[A-Za-z_]\w*\Z')

# Comments and literals, longest first; a literal's inside becomes nothing.
LITERAL = re.compile(
    r'//[^\n]*|/\*.*?\*/|"(?:\\.|[^"\\\n])*"|\'(?:\\.|[^\'\\\n])*\'', re.S)

# Words with parentheses that are not a declarator's.
NOISE = {'__attribute__', '_Alignas', 'alignas', '__typeof__', 'typeof',
         '__asm__', 'asm'}
TAGS = {'struct', 'union', 'enum'}
QUALIFIERS = {'static', 'const', 'volatile', 'extern', 'inline', '_Atomic',
              '_Thread_local', '__thread', 'register'}


@dataclass
class Include:
    line: int
    path: str
    kind: str           # 'system', 'quote' or 'macro'


@dataclass
class Function:
    name: str
    line: int
    lines: int          # of the body, braces included
    static: bool


@dataclass
class Variable:
    name: str
    line: int
    const: bool


@dataclass
class Struct:
    name: str
    line: int
    fields: int


@dataclass
class Source:
    lines: int = 0
    includes: list = field(default_factory=list)
    functions: list = field(default_factory=list)
    prototypes: list = field(default_factory=list)      # names
    variables: list = field(default_factory=list)       # of static storage
    structs: list = field(default_factory=list)
    words: set = field(default_factory=set)             # every identifier


@dataclass
class Token:
    text: str
    line: int
    body: list = None           # tokens inside, when this is a brace group


def read(path):
    with open(path, encoding='utf-8', errors='replace') as f:
        return parse(f.read())


def parse(text):
    src = Source(lines=text.count('\n'))
    plain = ATOMIC.sub(r'_Atomic \1', strip(text, src))
    tokens = tokenize(plain)
    src.words = {t.text for t in tokens if IDENT.match(t.text)}
    groups, _ = nest(tokens, 0)
    top_level(groups, src)
    return src


def strip(text, src):
    """Blank comments, literals and directives; note the #include lines."""
    def blank(m):
        kept = '"' if m.group()[0] in '"\'' else ' '
        return kept + '\n' * m.group().count('\n')

    plain = LITERAL.sub(blank, text).split('\n')
    # An #include's quotes are a literal too: look at the text as written.
    raw = text.split('\n')
    out, directive = [], False
    for i, line in enumerate(plain):
        starts = line.lstrip().startswith('#')
        if starts and not directive:
            note_include(raw[i], i + 1, src)
        directive = (starts or directive)
        out.append('' if directive else line)
        directive = directive and line.rstrip().endswith('\\')
    return '\n'.join(out)


def note_include(line, number, src):
    m = INCLUDE.match(line.strip())
    if not m:
        return
    kind = 'system' if m[1] else 'quote' if m[2] else 'macro'
    src.includes.append(Include(number, m[1] or m[2] or m[3], kind))


def tokenize(text):
    return [Token(m.group(), number)
            for number, line in enumerate(text.split('\n'), 1)
            for m in TOKEN.finditer(line)]


def nest(tokens, at):
    """Fold each { ... } into one token; returns the rest's position too."""
    out = []
    while at < len(tokens):
        t = tokens[at]
        if t.text == '{':
            inner, end = nest(tokens, at + 1)
            last = tokens[min(end, len(tokens)) - 1]
            out.append(Token('{}', t.line, inner + [Token('}', last.line)]))
            at = end
        elif t.text == '}':
            return out, at + 1
        else:
            out.append(t)
            at += 1
    return out, at


def top_level(tokens, src):
    head = []
    for t in tokens:
        if t.text == '{}' and [h.text for h in head] == ['extern', '"']:
            top_level(t.body[:-1], src)         # extern "C"
            head = []
        elif t.text == '{}' and is_function(head):
            add_function(head, t, src)
            head = []
        elif t.text == ';':
            add_declaration(head, src)
            head = []
        else:
            head.append(t)


def without_noise(head):
    """Drop attributes and the like, with their parentheses."""
    out, depth, skipping = [], 0, False
    for t in head:
        if t.text in NOISE:
            skipping = True
        elif skipping and t.text == '(':
            depth += 1
        elif skipping and t.text == ')':
            depth -= 1
            skipping = depth > 0
        elif not skipping:
            out.append(t)
    return out


def is_function(head):
    texts = [t.text for t in without_noise(head)]
    return '(' in texts and '=' not in texts


def declarator_name(head):
    """The identifier before the first parenthesis, or None; macros in
    capitals, such as FERRY_REQUIRES(...), do not count."""
    head = without_noise(head)
    for before, t in zip(head, head[1:]):
        if (t.text == '(' and IDENT.match(before.text)
                and not before.text.isupper()):
            return before
    return None


def add_function(head, body, src):
    name = declarator_name(head)
    if not name:
        return
    static = any(t.text == 'static' for t in head)
    last = body.body[-1].line
    src.functions.append(
        Function(name.text, name.line, last - body.line + 1, static))
    add_structs(body.body, src)
    add_static_locals(body.body, src)


def add_static_locals(tokens, src):
    at = 0
    while at < len(tokens):
        t = tokens[at]
        if t.body:
            add_static_locals(t.body, src)
        array_size = at > 0 and tokens[at - 1].text == '['
        if t.text == 'static' and not array_size:
            end = next((i for i in range(at, len(tokens))
                        if tokens[i].text == ';'), len(tokens))
            add_variables(tokens[at:end], src)
            at = end
        at += 1


def add_declaration(head, src):
    if not head:
        return
    add_structs(head, src)
    texts = [t.text for t in head]
    if texts[0] in ('typedef', '_Static_assert', 'static_assert'):
        return
    if 'extern' in texts and '=' not in texts:
        note_prototype(head, src)
        return
    if is_variable(head):
        add_variables(head, src)
    else:
        note_prototype(head, src)


def note_prototype(head, src):
    name = declarator_name(head)
    if name:
        src.prototypes.append(name.text)


def is_variable(head):
    texts = [t.text for t in without_noise(head)]
    if '=' in texts or '(' not in texts:
        return True
    # "int (*f)(void)" is a variable, "int f(void)" is none.
    return texts[texts.index('(') + 1:][:1] == ['*']


def split(tokens, separator):
    """Cut at separators outside parentheses and brackets."""
    parts, depth = [[]], 0
    for t in tokens:
        depth += (t.text in '([') - (t.text in ')]')
        if t.text == separator and depth == 0:
            parts.append([])
        else:
            parts[-1].append(t)
    return parts


def add_variables(head, src):
    """One declaration of static storage: judge each declarator."""
    specifiers = None
    for part in split(without_noise(head), ','):
        declarator = split(part, '=')[0]
        if specifiers is None:
            specifiers, declarator = split_specifiers(declarator)
        v = judge(specifiers, declarator)
        if v:
            src.variables.append(v)


def split_specifiers(tokens):
    """'static const struct x *const p[3]' -> up to x, from the first *."""
    cut = 0
    for i, t in enumerate(tokens):
        if t.text in ('*', '('):
            return tokens[:i], tokens[i:]
        if t.text == '[':
            break
        if IDENT.match(t.text) and t.text not in QUALIFIERS:
            cut = i
    named = tokens[cut - 1].text in TAGS if cut else False
    tag_only = named or any(t.body for t in tokens[cut:])
    return (tokens, []) if tag_only or not cut else (tokens[:cut], tokens[cut:])


def judge(specifiers, declarator):
    names = [t for t in declarator
             if IDENT.match(t.text) and t.text not in QUALIFIERS]
    if not names:
        return None             # "struct x;" or "enum { ... };"
    name = names[0]
    before = declarator[:declarator.index(name)]
    stars = [i for i, t in enumerate(before) if t.text == '*']
    where = before[stars[-1]:] if stars else specifiers
    const = any(t.text == 'const' for t in where)
    return Variable(name.text, name.line, const)


def add_structs(tokens, src):
    for i, t in enumerate(tokens):
        if not t.body:
            continue
        tag = [x.text for x in without_noise(tokens[max(0, i - 8):i])
               if x.text != 'packed'][-2:]
        if 'enum' in tag:
            continue
        if 'struct' in tag or 'union' in tag:
            name = tag[-1] if tag[-1] not in TAGS else '(unnamed)'
            src.structs.append(Struct(name, t.line, count_fields(t.body)))
        else:
            add_structs(t.body, src)


def count_fields(tokens):
    """Members, those of unnamed and nested structs too."""
    n = 0
    for member in split(tokens, ';')[:-1]:
        texts = [t.text for t in member]
        inner = [t for t in member if t.body and 'enum' not in texts[:1]]
        n += sum(count_fields(t.body) for t in inner)
        unnamed = inner and texts[-1] == '{}'
        if not unnamed:
            n += len(split(member, ','))
    return n
