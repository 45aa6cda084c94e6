# SPDX-License-Identifier: MIT
"""A sample of tests/combos.py's combinations, by the program of combo.c.

The seed is said first; FERRY_CUTS_FROM sets it.  What failed runs again with
it as the program's only argument.
"""

import argparse
import os
import subprocess
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)),
                                ".."))

import combos  # noqa: E402

AT_ONCE = 500       # in one process


def parse_arguments():
    p = argparse.ArgumentParser(description=__doc__)
    p.add_argument("program", help="flow-combo")
    p.add_argument("--ways", type=int, default=3,
                   help="each so many words that go together come together")
    p.add_argument("--most", type=int, default=None, help="no more than so "
                   "many: those that come first have most together")
    p.add_argument("--all", metavar="WORDS", help="all that have these words, "
                   "with '/' between them")
    return p.parse_args()


def chosen(args, seed):
    if args.all is None:
        return combos.sample(args.ways, seed)[:args.most]
    words = set(args.all.split("/")) - {""}
    return [c for c in combos.everything() if words <= set(c)]


def main():
    args, seed = parse_arguments(), combos.seed()
    names = ["/".join(words) for words in chosen(args, seed)]
    print(f"# {len(names)} combinations; again: FERRY_CUTS_FROM={seed} "
          f"{args.program} NAME", flush=True)
    env = os.environ | {"FERRY_CUTS_FROM": str(seed)}
    for at in range(0, len(names), AT_ONCE):
        rc = subprocess.run([args.program, *names[at:at + AT_ONCE]], env=env,
                            check=False).returncode
        if rc:
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
