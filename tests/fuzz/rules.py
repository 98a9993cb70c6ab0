"""Switches off each rule of the verifier, one at a time: some kernel's verdict must change, or a test of terms must fail.

``python -m tests.fuzz.rules`` goes through all switches (``switches.py``) with kernels whose verdict the tests fix
(``battery``) and prints which ones nobody notices; it exits 1 if there is one that ``equivalent.py`` does not explain.
"""

from __future__ import annotations

import argparse
import signal
import subprocess
import sys
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from enum import Enum
from functools import cache
from pathlib import Path
from time import perf_counter
from typing import Any

from tests.fuzz.equivalent import explained
from tests.fuzz.switches import DECIDING, PACKAGE, Switch, switched, switches
from zellige.ir.ops import Function
from zellige.runtime.kernel import Kernel

SECONDS = 20
"""Of processor time for one kernel; a verifier that takes longer has been broken."""


@dataclass(frozen=True)
class Case:
    """A kernel and its verdict: proved if there is no code, else refused with it."""

    name: str
    function: Function
    code: str
    solver: int = 1 << 30
    """How many obligations the solver decides at most."""


class Fate(Enum):
    """What came of a switch."""

    ACCEPTS = "a wrong kernel is accepted"
    SLOWER = "a rule no longer decides, the solver does"
    OTHER = "a wrong kernel is refused for something else"
    REFUSES = "a right kernel is refused"
    FAILS = "the verifier fails"
    TERMS = "a test of terms fails"
    UNSEEN = "nobody notices"


# --- the kernels whose verdicts are known


@cache
def battery() -> tuple[Case, ...]:
    """Kernels of the tests with their verdicts."""
    return (*_refused(), *_accepted(), *_pairs())


def _refused() -> Iterator[Case]:
    from tests.frontend import test_activity, test_ragged, test_relations
    from tests.rejected.test_rejected import FILES, header, kernel_in
    from tests.verify import test_refused

    for name, kernel in test_refused.KERNELS.items():
        yield _case(kernel, test_refused.EXPECTED[name])
    for path in FILES:
        if header(path).code >= "ZL02":
            yield _case(kernel_in(path), header(path).code)
    for test in (
        test_relations.test_a_relation_that_does_not_hold_is_refused, test_ragged.test_the_nearly_right_is_refused,
        test_activity.test_activity_that_does_not_suffice_is_refused,
    ):  # fmt: skip
        (mark,) = [m for m in test.pytestmark if m.name == "parametrize"]  # type: ignore[attr-defined]
        for function, codes in mark.args[1]:
            yield _case(_kernel(function), *([codes] if isinstance(codes, str) else sorted(codes)))


def _accepted() -> Iterator[Case]:
    from tests.examples.loading import ROOT, load
    from tests.frontend import test_ragged, test_relations
    from tests.fuzz import mutation
    from tests.verify import accepted

    for module in (accepted, test_relations, test_ragged):
        for kernel in vars(module).values():
            if isinstance(kernel, Kernel):
                yield _case(kernel, "")
    yield from (Case(f"{f.name} (library)", f, "") for f in mutation.library())
    for path in sorted((ROOT / "examples" / "tutorials").glob("*.py")):
        for kernel in vars(load(path)).values():
            if isinstance(kernel, Kernel):
                yield _case(kernel, "")


def _pairs() -> Iterator[Case]:
    from tests.verify.pairs import PAIRS
    from tests.verify.test_pairs import kernels

    for name, (code, _) in PAIRS.items():
        for i, function in enumerate(kernels(name)):
            yield Case(f"{name}, {i} (pairs)", function, code if i else "")


def _kernel(function: Any) -> Kernel:
    from zellige import kernel

    made = kernel(function)
    assert isinstance(made, Kernel)
    return made


def _case(kernel: Kernel, *codes: str) -> Case:
    name = f"{kernel.name} ({kernel.__module__.rpartition('.')[2]})"
    return Case(name, kernel.lower(*next(iter(kernel.variants()))), codes[0])


# --- one switch


def fate(switch: Switch | None, cases: Iterable[Case]) -> tuple[Fate, str]:
    """What a switch does to the verdicts of kernels: the first difference, and the kernel that shows it."""
    try:
        with switched(switch) as verifier:
            _no_examples()
            for case in cases:
                seen = _verdict(verifier, case)
                if seen is not None:
                    return seen, case.name
    except Exception as error:
        return Fate.FAILS, f"import: {type(error).__name__}"
    return Fate.UNSEEN, ""


def _no_examples() -> None:
    """Verdicts without the search for a counterexample, which decides nothing."""
    sys.modules[f"{PACKAGE}.findings"].search = lambda *a, **k: None  # type: ignore[attr-defined]


def _verdict(verifier: Any, case: Case) -> Fate | None:
    try:
        with _limited():
            verdict = verifier.verify(case.function)
    except Exception:
        return Fate.FAILS
    codes = {f.code for f in verdict.findings}
    if case.code in codes or (not case.code and not codes):
        return Fate.SLOWER if verdict.how().get("smt", 0) > case.solver else None
    return Fate.REFUSES if not case.code else Fate.OTHER if codes else Fate.ACCEPTS


class _TooLongError(Exception):
    pass


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
    """Whether ``tests/verify/test_terms.py`` fails with the switch made (in a process of its own)."""
    script = (
        "import sys, pytest\n"
        "from tests.fuzz.switches import switched, switches\n"
        f"switch = next(s for s in switches({switch.module!r}) if s.key == {switch.key!r})\n"
        "with switched(switch):\n"
        "    sys.exit(pytest.main(['-q', '-x', '-n0', '-p', 'no:cacheprovider', 'tests/verify/test_terms.py']))\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=300, check=False)
    return done.returncode != 0


# --- all of them


Traces = dict[str, tuple[frozenset[tuple[str, int]], float]]
"""Of each case: the lines (module, number) that its verification runs, and the seconds it takes."""


def traces(cases: Iterable[Case]) -> Traces:
    """What verifying each case runs."""
    found: Traces = {}
    with switched(None) as verifier:
        _no_examples()
        for case in cases:
            lines: set[tuple[str, int]] = set()

            def line(frame: Any, event: str, _: Any, lines: set[tuple[str, int]] = lines) -> Any:
                lines.add((frame.f_globals["__name__"].rpartition(".")[2], frame.f_lineno))
                return line

            def call(frame: Any, event: str, _: Any) -> Any:
                return line(frame, event, _) if frame.f_globals.get("__name__", "").startswith(PACKAGE) else None

            started = perf_counter()
            verifier.verify(case.function)
            seconds = perf_counter() - started
            sys.settrace(call)
            try:
                verifier.verify(case.function)
            finally:
                sys.settrace(None)
            found[case.name] = frozenset(lines), seconds
    return found


def concerned(switch: Switch, cases: Iterable[Case], known: Traces) -> list[Case]:
    """The cases that run a line of a switch, quick ones first."""
    places = {(switch.module, n) for n in switch.lines}
    return sorted((c for c in cases if known[c.name][0] & places), key=lambda c: known[c.name][1])


@dataclass(frozen=True)
class Result:
    """What became of a switch, and the kernel that shows it."""

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


def logged(path: Path) -> dict[str, Result]:
    """The results that a log has, by key."""
    lines = path.read_text().splitlines() if path.exists() else []
    found = [Result(Fate[fate], module, key, kernel) for fate, module, key, kernel in (l.split("\t") for l in lines)]
    return {result.key: result for result in found}


def _measured(within: float) -> Iterator[Case]:
    """The kernels that take at most so many seconds, each with the number of obligations that the solver decides."""
    with switched(None) as verifier:
        _no_examples()
        for case in battery():
            verdict = verifier.verify(case.function)
            if verdict.seconds <= within:
                yield replace(case, solver=verdict.how().get("smt", 0))


def results(modules: Iterable[str], only: str, done: dict[str, Result], within: float) -> Iterator[Result]:
    """What becomes of each switch. Those that are done are given as they were."""
    cases = list(_measured(within))
    what, kernel = fate(None, cases)
    if what is not Fate.UNSEEN:
        raise SystemExit(f"the verifier itself: {what.value} ({kernel})")
    known = traces(cases)
    everywhere: Counter[str] = Counter()
    for module in modules:
        telling: dict[str, Counter[str]] = defaultdict(Counter)
        for switch in switches(module, only):
            result = done.get(switch.key)
            place = switch.key.split(":")[0]
            if result is None:
                order = sorted(
                    concerned(switch, cases, known), key=lambda c: (-telling[place][c.name], -everywhere[c.name])
                )
                what, kernel = fate(switch, order)
                if what is Fate.UNSEEN and module in TERMS and terms_notice(switch):
                    what = Fate.TERMS
                result = Result(what, module, switch.key, kernel)
            telling[place][result.kernel] += 1
            everywhere[result.kernel] += 1
            yield result


def main() -> int:
    """Goes through the switches and says what came of them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--module", action="append", choices=DECIDING, help="only this one")
    parser.add_argument("--only", default="", help="only switches whose key has this in it")
    parser.add_argument("--verbose", action="store_true", help="print every switch and the kernel that shows it")
    parser.add_argument("--within", type=float, default=1e9, help="only with kernels that take at most so many seconds")
    parser.add_argument("--log", type=Path, help="keep results in this file, and go on from what it has")
    options = parser.parse_args()
    done = {} if options.log is None else logged(options.log)
    counts: dict[str, Counter[Fate]] = defaultdict(Counter)
    unseen = 0
    for result in results(options.module or DECIDING, options.only, done, options.within):
        counts[result.module][result.fate] += 1
        unseen += result.unexplained
        if result.unexplained or options.verbose:
            print(result.line(), flush=True)
        if options.log is not None and result.key not in done:
            with options.log.open("a") as log:
                log.write(result.line() + "\n")
    for module, fates in counts.items():
        print(f"{module:14} " + ", ".join(f"{n} {f.value}" for f, n in fates.items()))
    total = sum(counts.values(), Counter())
    print("all: " + ", ".join(f"{n} {f.value}" for f, n in total.items()) + f"; {unseen} of these unexplained")
    return 1 if unseen else 0


if __name__ == "__main__":
    sys.exit(main())
