"""Switches off each rule of the verifier, one at a time: some kernel's verdict must change, or a test of terms must fail.

``python -m tests.fuzz.rules --log FILE`` goes through all switches (``switches.py``), each in a process of its own, with those kernels
of the ``battery`` that run a line of it, quick ones first, up to the first whose verdict changes. It prints the table of
``docs/evidence.md``, and which switches nobody notices; it exits 1 if there is one that ``equivalent.py`` does not explain.
``FILE`` keeps the results, so that a run goes on where another stopped (several may share it: ``--share 1/2``, ``--share 2/2``); take
lines out of it to have their switches done again. After a change of the verifier begin with a new one: ``--hints OLD`` tries the kernel first
that noticed a switch then.
"""

from __future__ import annotations

import argparse
import multiprocessing
import resource
import signal
import sys
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import Enum
from functools import partial
from itertools import accumulate
from pathlib import Path
from time import monotonic
from typing import Any

from tests.fuzz.battery import Case, Cost, battery, costs, verdicts_only
from tests.fuzz.equivalent import explained
from tests.fuzz.switches import DECIDING, Switch, switched, switches

SECONDS = 10
"""Of processor time for one kernel (none needs half a second): a verifier that takes longer is slower, and no more is tried."""
MEMORY = 6 << 30
"""Bytes of addresses for a process with a changed verifier."""
FEW = 60
"""Kernels that a switch is put to before the tests of terms."""


class Fate(Enum):
    """What came of a switch."""

    ACCEPTS = "a wrong kernel is accepted"
    REFUSES = "a right one is refused"
    OTHER = "a wrong one is refused for something else"
    FAILS = "the verifier fails"
    TERMS = "a test of terms fails"
    SLOWER = "only slower"
    UNSEEN = "nobody notices"


# --- one switch


def fate(switch: Switch | None, cases: Iterable[Case], known: dict[str, Cost] | None = None) -> tuple[Fate, str]:
    """What a switch does to the verdicts of kernels: the first that changes. If none does, ``SLOWER`` where a kernel takes
    too long, or the solver has to decide more than is ``known``."""
    slower = ""
    try:
        with switched(switch) as verifier:
            verdicts_only()
            for case in cases:
                try:
                    with _limited():
                        verdict = verifier.verify(case.function)
                except _TooLongError:
                    return Fate.SLOWER, case.name
                except Exception:
                    return Fate.FAILS, case.name
                codes = {f.code for f in verdict.findings}
                if not case.code and codes:
                    return Fate.REFUSES, case.name
                if case.code and case.code not in codes:
                    return Fate.OTHER if codes else Fate.ACCEPTS, case.name
                if known is not None and verdict.how().get("smt", 0) > known[case.name].solver:
                    slower = slower or case.name
    except Exception as error:
        return Fate.FAILS, f"import: {type(error).__name__}"
    return (Fate.SLOWER, slower) if slower else (Fate.UNSEEN, "")


class _TooLongError(BaseException):
    """No part of the verifier catches it."""


@contextmanager
def _limited() -> Iterator[None]:
    def stop(*_: Any) -> None:
        raise _TooLongError

    old = signal.signal(signal.SIGPROF, stop)
    signal.setitimer(signal.ITIMER_PROF, SECONDS)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, old)


TERMS = ("lanes", "ranges", "solver", "substitution", "terms")
"""Modules that the tests of terms are about."""


def terms_notice(switch: Switch) -> bool:
    """Whether ``tests/verify/test_terms.py`` fails with the switch made. For a process of its own: pytest keeps modules."""
    import pytest

    with switched(switch):
        return (
            pytest.main(["-qqq", "-x", "-n0", "-p", "no:cacheprovider", "--no-header", "tests/verify/test_terms.py"])
            != 0
        )


def apart(work: Callable[[], Any], seconds: int = resource.RLIM_INFINITY) -> Any:
    """What ``work`` gives, done in a process of its own, which may use much memory, or so many seconds of processor time,
    or die: then None."""
    context = multiprocessing.get_context("fork")
    answers = context.SimpleQueue()

    def limited() -> None:
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
        resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds))
        answers.put(work())

    process = context.Process(target=limited)
    process.start()
    process.join()
    return None if answers.empty() else answers.get()


def examined(switch: Switch, order: list[Case], known: dict[str, Cost]) -> tuple[Fate, str]:
    """What becomes of a switch that is put to kernels in this order, and the kernel that shows it, or how many do not."""
    slower = ""
    first, rest = order[:FEW], order[FEW:]
    for part in (first, rest):
        what, kernel = apart(partial(fate, switch, part, known)) or (Fate.FAILS, "the process ended")
        if what is Fate.SLOWER:
            slower = slower or kernel
        elif what is not Fate.UNSEEN:
            return what, kernel
        if part is first and switch.module in TERMS and apart(partial(terms_notice, switch), 3 * SECONDS) is not False:
            return Fate.TERMS, "tests/verify/test_terms.py"
    return (Fate.SLOWER, slower) if slower else (Fate.UNSEEN, f"{len(order)}")


# --- all of them


@dataclass(frozen=True)
class Result:
    """What became of a switch, and the kernel that shows it (or how many of how many that run it do not)."""

    fate: Fate
    module: str
    key: str
    kernel: str

    @property
    def unexplained(self) -> bool:
        return self.fate is Fate.UNSEEN and explained(self.key) is None

    def line(self) -> str:
        """As it stands in a log."""
        return "\t".join((self.fate.name, self.module, self.key, self.kernel))


def logged(path: Path | None) -> dict[str, Result]:
    """The results that a log has, by key."""
    lines = path.read_text().splitlines() if path is not None and path.exists() else []
    found = [Result(Fate[fate], module, key, kernel) for fate, module, key, kernel in (l.split("\t") for l in lines)]
    return {result.key: result for result in found}


def results(
    todo: Iterable[Switch], known: dict[str, Cost], hints: dict[str, Result], budget: float
) -> Iterator[Result]:
    """What becomes of each switch, in order, with kernels that take ``budget`` seconds together (a quarter of it if
    the switch is explained). One that noticed it once goes first,
    then those that noticed others of its function."""
    by_speed = sorted(battery(), key=lambda case: known[case.name].seconds)
    telling: dict[str, Counter[str]] = defaultdict(Counter)
    for result in hints.values():
        telling[_function(result.key)][result.kernel] += 1
    for switch in todo:
        first = hints[switch.key].kernel if switch.key in hints else ""
        here = telling[_function(switch.key)]
        order = [case for case in by_speed if known[case.name].runs(switch.module, switch.lines)]
        order.sort(key=lambda case: (case.name != first, -here[case.name]))
        sums = accumulate(known[case.name].seconds for case in order)
        limit = budget if explained(switch.key) is None else budget / 4
        what, kernel = examined(switch, [c for c, spent in zip(order, sums, strict=True) if spent <= limit], known)
        here[kernel] += 1
        yield Result(what, switch.module, switch.key, f"{kernel} of {len(order)}" if what is Fate.UNSEEN else kernel)


def _function(key: str) -> str:
    return key.split(":")[0]


def table(done: dict[str, Result]) -> Iterator[str]:
    """What a log says of the switches that there are, as a table."""
    columns = [f for f in Fate if f is not Fate.UNSEEN]
    yield (
        "| module | switches | "
        + " | ".join(f.value for f in columns)
        + " | nobody notices: explained | not explained | not run |"
    )
    yield "|---" * (len(columns) + 5) + "|"
    total: Counter[str] = Counter()
    for module in DECIDING:
        counts: Counter[str] = Counter()
        for switch in switches(module):
            result = done.get(switch.key)
            counts["all"] += 1
            if result is None:
                counts["not run"] += 1
            elif result.fate is Fate.UNSEEN:
                counts["unexplained" if result.unexplained else "explained"] += 1
            else:
                counts[result.fate.name] += 1
        total += counts
        yield _row(module, counts)
    yield _row("all", total)


def _row(name: str, counts: Counter[str]) -> str:
    names = ("all", *(f.name for f in Fate if f is not Fate.UNSEEN), "explained", "unexplained", "not run")
    return f"| {name} | " + " | ".join(str(counts[n]) for n in names) + " |"


def main() -> int:
    """Goes through the switches and says what came of them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--log", type=Path, required=True, help="keep results in this file, and go on from what it has")
    parser.add_argument("--hints", type=Path, help="the log of an earlier run: which kernel noticed a switch then")
    parser.add_argument("--module", action="append", choices=DECIDING, help="only this one")
    parser.add_argument("--only", default="", help="only switches whose key has this in it")
    parser.add_argument(
        "--budget", type=float, default=1e9, help="only with kernels that together take so many seconds"
    )
    parser.add_argument("--share", default="1/1", help="K/N: the Kth of N shares of the switches")
    parser.add_argument("--seconds", type=float, default=1e9, help="stop after so long")
    options = parser.parse_args()
    known = costs(battery(), options.log.with_suffix(".costs"))
    started = monotonic()
    number, shares = map(int, options.share.split("/"))
    done, hints = logged(options.log), logged(options.hints)
    todo = [s for m in options.module or DECIDING for s in switches(m, options.only) if s.key not in done]
    todo.sort(key=lambda s: s.key in hints)  # first those that nobody noticed then
    for result in results(todo[number - 1 :: shares], known, hints | done, options.budget):
        print(result.line(), flush=True)
        with options.log.open("a") as log:
            log.write(result.line() + "\n")
        if monotonic() - started > options.seconds:
            break
    done = logged(options.log)
    print("\n".join(table(done)))
    unexplained = [result for result in done.values() if result.unexplained]
    for result in unexplained:
        print(f"not explained: {result.module}\t{result.key}\t{result.kernel}")
    return 1 if unexplained else 0


if __name__ == "__main__":
    sys.exit(main())
