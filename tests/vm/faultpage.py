# SPDX-License-Identifier: MIT
"""A page of docs/ that says what comes of each fault in each phase.  A test
sees its rows, a run of CI a part of them; FERRY_RENEW=1 writes what was seen.

A helper of tests, not a test.
"""

import os
from pathlib import Path

# All rows, or one in so many, others in each run.
STEP = int(os.environ.get("FERRY_FAULTS_STEP", "1"))
FROM = int(os.environ.get("FERRY_CUTS_FROM", "0"))


class FaultPage:
    """columns: of the table, but for the fault.  rows: (phase, fault), in
    their order."""

    def __init__(self, path, head, columns, rows):
        self.path, self.head, self.rows = Path(path), head, rows
        self.columns = ["fault", *columns]
        self.seen = {}

    def some(self):
        return self.rows[FROM % STEP::STEP]

    def text(self, said):
        out = [self.head]
        for phase in dict.fromkeys(phase for phase, _ in self.rows):
            out.append(f"## In {phase}\n\n| {' | '.join(self.columns)} |\n"
                       f"|{'---|' * len(self.columns)}")
            out += [f"| {row[1]} | {said[row]} |" for row in self.rows
                    if row[0] == phase and row in said]
            out.append("")
        return "\n".join(out)

    def said(self):
        """{(phase, fault): the rest of its row} as the page has it now."""
        found, phase = {}, None
        for line in self.path.read_text(encoding="utf-8").splitlines():
            if line.startswith("## In "):
                phase = line[6:]
            elif phase and line.startswith("| ") and \
                    not line.startswith("| fault |"):
                fault, rest = line[2:-2].split(" | ", 1)
                found[phase, fault] = rest
        return found

    def check(self, phase, fault, outcome):
        self.seen[phase, fault] = outcome
        if not os.environ.get("FERRY_RENEW"):
            assert outcome == self.said()[phase, fault]

    def check_all(self):
        """It has all rows and no others, behind the rows' tests."""
        if os.environ.get("FERRY_RENEW"):
            old = self.said() if self.path.exists() else {}
            self.path.write_text(self.text({**old, **self.seen}),
                                 encoding="utf-8")
        said = self.said()
        assert set(said) == set(self.rows)
        assert self.path.read_text(encoding="utf-8") == self.text(said)
