"""Would drawn kernels have found it? Puts holes back that were mended, one at a time, and draws kernels until one is accepted and trips.

``python -m tests.fuzz.sensitivity --count N --seed S`` prints a table: the hole (a switch of ``switches.py``) and the number of kernels
drawn until it was found, or that N did not find it. It exits 1 if a hole was not found.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from functools import partial

from tests.fuzz import kernels
from tests.fuzz.battery import verdicts_only
from tests.fuzz.campaign import first_trip
from tests.fuzz.rules import apart
from tests.fuzz.switches import Switch, switched, switches
from zellige.diagnostics.errors import ZelligeError
from zellige.ir.ops import Function

HOLES: dict[str, tuple[str, str]] = {
    "what is known of a carried value, where its branch is not taken": (
        "invariants", "_facts.facts: without condition `terms.implies(app.guard",
    ),
    "a carried tile at lanes that it has not": ("symbolic", "_carried: without part of conjunction `self._exist"),
    "a tile at lanes that it has not": ("symbolic", "_load: without part of conjunction `self._exist"),
    "a load where its branch is not taken": ("symbolic", "_load: without part of conjunction `self.path"),
    "a load outside its mask": ("symbolic", "_load: without part of conjunction `active"),
    "a sort's order beyond its places": ("positions", "permutes: without part of conjunction `*places"),
    "more bits than a type has": ("bits", "known: without condition `terms.implies(fit"),
    "programs that there are not": ("substitution", "Placed.call: without part of conjunction `self._guard"),
    "the least number by −1": ("overflow", "_may_be_least: returns False"),
    "a loop that does not run": ("invariants", "_assume: without condition `terms.implies(runs"),
    "the condition of a loop, asked once more": ("symbolic", "path: without condition of a case `place.which == 1"),
    "a loop's invariant, at its start": ("invariants", "_starts: returns True"),
    "quotients and remainders by two numbers": ("races", "_joined: without and `qa.denominator is"),
}  # fmt: skip
"""The module of the rule that closes a hole, and a part of the switch's key."""


def drawn(count: int, seed: int) -> Iterator[tuple[int, Function]]:
    """Drawn kernels that are in the language, with how many were drawn up to there."""
    for number in range(count):
        try:
            yield number + 1, kernels.draw(seed + number).lower()
        except (ZelligeError, SyntaxError):
            continue


def found_after(switch: Switch, count: int, seed: int, launches: int) -> int | None:
    """How many kernels are drawn until one is accepted with the switch made, and trips; None if ``count`` do not find it."""
    with switched(switch) as verifier:
        verdicts_only()
        for number, function in drawn(count, seed):
            try:
                accepted = verifier.verify(function).proved
            except Exception:
                return number  # a verifier that fails is noticed, too
            if accepted and first_trip(function, seed + number - 1, launches) is not None:
                return number
    return None


def main() -> int:
    """Puts each hole back."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--launches", type=int, default=60, help="launches of each accepted kernel")
    parser.add_argument("--hole", default="", help="only those with this in their name")
    options = parser.parse_args()
    missed = 0
    for name, (module, part) in HOLES.items():
        if options.hole not in name:
            continue
        (switch,) = switches(module, part)
        number = apart(partial(found_after, switch, options.count, options.seed, options.launches))
        missed += number is None
        print(f"| {name} | {'not in ' + str(options.count) if number is None else number} |", flush=True)
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
