"""Puts drawn kernels to the verifier and to the interpreter, and counts who was right.

``python -m tests.fuzz.campaign --count N --seed S`` prints the statistics, and the source of every kernel that the
verifier accepts although it can go wrong; it exits 1 if there is one.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import Enum

import numpy as np

from tests.fuzz import arguments, kernels
from tests.fuzz.arguments import Arguments, Impossible
from tests.fuzz.kernels import Drawn
from tests.fuzz.shrink import shrink
from zellige.backends.reference import LaunchRefused, Violation, run
from zellige.diagnostics.errors import ZelligeError
from zellige.ir import spec
from zellige.ir.ops import Function
from zellige.verify import verify


class Verdict(Enum):
    """What became of a drawn kernel."""

    NOT_IN_THE_LANGUAGE = "not in the language"
    ACCEPTED = "accepted, never tripped"
    UNSOUND = "accepted, but trips"
    REFUSED = "refused, and trips"
    IMPRECISE = "refused, but no launch trips"


@dataclass(frozen=True, slots=True)
class Outcome:
    """A drawn kernel, what became of it, and the launch that shows it (of those that trip)."""

    drawn: Drawn
    verdict: Verdict
    why: str = ""
    findings: str = ""
    seconds: float = 0.0


def launches(function: Function, seed: int, count: int, largest: int = 4) -> Iterator[tuple[Arguments, int]]:
    """Up to ``count`` launches at small sizes (all of them if there are no more), each with an order of programs."""
    rng = np.random.default_rng(seed)
    every = list(arguments.sizes(function, largest))
    rng.shuffle(every)  # type: ignore[arg-type]
    for attempt in range(count):
        dims = every[attempt % len(every)]
        if attempt % 7 == 6:
            dims = {name: int(rng.integers(0, 12)) for name in dims}
        if attempt % 2:
            dims = dims | {name: int(rng.choice(arguments.HUGE)) for name in arguments.free_dims(function)}
        try:
            yield arguments.draw(function, dims, rng), int(rng.integers(1 << 30))
        except Impossible:
            continue


def first_trip(function: Function, seed: int, count: int) -> Violation | None:
    """The first broken promise among ``count`` launches, or None."""
    for given, order in launches(function, seed, count):
        try:
            run(function, given.dims, given.arrays, given.scalars, order_seed=order)
        except LaunchRefused:
            continue
        except Violation as violation:
            violation.add_note(f"dims {given.dims}")
            return violation
    return None


def examine(
    drawn: Drawn, *, accepts: Callable[[Function], tuple[bool, str]], count: int, judge_refusals: bool = True
) -> Outcome:
    """Verifies a kernel and runs it. ``accepts`` gives the verdict and the findings' codes."""
    try:
        function = drawn.lower()
    except (ZelligeError, SyntaxError) as error:
        return Outcome(drawn, Verdict.NOT_IN_THE_LANGUAGE, str(error))
    spec.check(function)
    started = time.perf_counter()
    proved, findings = accepts(function)
    seconds = time.perf_counter() - started
    if not proved and not judge_refusals:
        return Outcome(drawn, Verdict.REFUSED, "", findings, seconds)
    trip = first_trip(function, drawn.seed, count)
    why = "" if trip is None else "\n".join([str(trip), *trip.__notes__])
    verdict = {
        (True, False): Verdict.ACCEPTED,
        (True, True): Verdict.UNSOUND,
        (False, True): Verdict.REFUSED,
        (False, False): Verdict.IMPRECISE,
    }[proved, trip is not None]
    return Outcome(drawn, verdict, why, findings, seconds)


def smaller(outcome: Outcome) -> str:
    """The source of a kernel that is accepted and trips, with everything left out that does not matter."""

    def fails(source: str) -> bool:
        again = examine(Drawn(outcome.drawn.seed, source), accepts=by_verifier, count=60, judge_refusals=False)
        return again.verdict is Verdict.UNSOUND

    return shrink(outcome.drawn.source, fails)


def by_verifier(function: Function) -> tuple[bool, str]:
    """The verifier's decision."""
    verdict = verify(function)
    return verdict.proved, " ".join(sorted({f.code for f in verdict.findings}))


def campaign(count: int, seed: int, launches_each: int, *, judge_refusals: bool = True) -> Iterator[Outcome]:
    """The outcomes of kernels drawn from ``seed``, ``seed`` + 1, …"""
    for number in range(count):
        yield examine(
            kernels.draw(seed + number), accepts=by_verifier, count=launches_each, judge_refusals=judge_refusals
        )


def main() -> int:
    """Runs a campaign from the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=500)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--launches", type=int, default=60, help="launches of each kernel")
    parser.add_argument("--show", choices=[v.name for v in Verdict], action="append", default=["UNSOUND"])
    options = parser.parse_args()
    counts: Counter[Verdict] = Counter()
    codes: Counter[str] = Counter()
    seconds = 0.0
    for outcome in campaign(options.count, options.seed, options.launches):
        counts[outcome.verdict] += 1
        seconds += outcome.seconds
        if outcome.verdict is Verdict.IMPRECISE:
            codes[outcome.findings] += 1
        if outcome.verdict.name in options.show:
            print(f"--- seed {outcome.drawn.seed}: {outcome.verdict.value} {outcome.findings}")
            print(outcome.drawn.source + outcome.why, flush=True)
            if outcome.verdict is Verdict.UNSOUND:
                print("smaller:\n" + smaller(outcome), flush=True)
    print(f"seed {options.seed}, {options.count} kernels, verified in {seconds:.1f} s")
    for verdict in Verdict:
        print(f"{counts[verdict]:6} {verdict.value}")
    right = counts[Verdict.ACCEPTED] + counts[Verdict.IMPRECISE]
    if right:
        print(
            f"precision: {counts[Verdict.ACCEPTED] / right:.1%} of the {right} kernels that no launch trips are accepted"
        )
    for code, number in codes.most_common():
        print(f"{number:6} imprecise with {code}")
    return 1 if counts[Verdict.UNSOUND] else 0


if __name__ == "__main__":
    sys.exit(main())
