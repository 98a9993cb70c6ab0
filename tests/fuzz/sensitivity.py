"""Would drawn kernels have found it? Puts holes into the verifier, one at a time, and asks whether a drawn kernel falls into it.

``python -m tests.fuzz.sensitivity --count N --seed S`` draws N kernels and keeps those that the verifier refuses and that trip; then, for each
hole (``holes.py``: those that the verifier once had, as switches of ``switches.py`` or as changes of its source), it prints the number
of kernels drawn until one of these is accepted, or that there is none. ``--switches`` does so for every switch with which a wrong kernel of the
tests is accepted (``switches.log``), and prints how many are found. It exits 1 if a hole was not found.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from time import monotonic

from tests.fuzz import kernels
from tests.fuzz.battery import verdicts_only
from tests.fuzz.campaign import Verdict, by_verifier, examine
from tests.fuzz.holes import HOLES
from tests.fuzz.rules import Fate, apart, logged
from tests.fuzz.switches import DECIDING, Switch, switched, switches
from zellige.ir.ops import Function

LOG = Path(__file__).with_name("switches.log")
SECONDS = 120
"""Of processor time for one hole."""


@dataclass(frozen=True)
class Wrong:
    """A drawn kernel that is refused and trips, and how many were drawn up to it."""

    number: int
    function: Function


def wrong_ones(count: int, seed: int, launches: int) -> list[Wrong]:
    """The drawn kernels that a hole may let through."""
    found = []
    for number in range(count):
        drawn = kernels.draw(seed + number)
        if examine(drawn, accepts=by_verifier, count=launches).verdict is Verdict.REFUSED:
            found.append(Wrong(number + 1, drawn.lower()))
    return found


def found_after(switch: Switch, wrong: list[Wrong]) -> int:
    """How many kernels are drawn until a wrong one is accepted with the switch made; 0 if none is."""
    with switched(switch) as verifier:
        verdicts_only()
        for one in wrong:
            try:
                if verifier.verify(one.function).proved:
                    return one.number
            except Exception:  # a verifier that fails accepts nothing
                continue
    return 0


def main() -> int:
    """Puts each hole in."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--launches", type=int, default=60, help="launches of each kernel")
    parser.add_argument("--hole", default="", help="only those with this in their name")
    parser.add_argument("--switches", action="store_true", help="every switch with which a wrong kernel is accepted")
    options = parser.parse_args()
    started = monotonic()
    wrong = wrong_ones(options.count, options.seed, options.launches)
    print(f"{len(wrong)} of {options.count} kernels are refused and trip ({monotonic() - started:.0f} s)", flush=True)
    if options.switches:
        noticed = {key for key, result in logged(LOG).items() if result.fate is Fate.ACCEPTS}
        todo = {s.key: s for module in DECIDING for s in switches(module) if s.key in noticed}
    else:
        todo = {name: hole.switch() for name, hole in HOLES.items()}
    missed = 0
    for name, switch in todo.items():
        if options.hole in name:
            number = apart(partial(found_after, switch, wrong), SECONDS)
            missed += not number
            said = {None: "not within its time", 0: f"not in {options.count}"}.get(number, number)
            print(f"| {name} | {said} |", flush=True)
    print(f"{len(todo) - missed} of {len(todo)} found")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
