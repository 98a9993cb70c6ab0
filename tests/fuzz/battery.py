"""The kernels whose verdicts tests fix, and what verifying each of them takes."""

from __future__ import annotations

import hashlib
import json
import sys
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from time import process_time
from types import SimpleNamespace
from typing import Any

import z3

from tests.fuzz.switches import FOLDER, PACKAGE, switched
from zellige.ir.ops import Function
from zellige.ir.printer import portable_text
from zellige.runtime.kernel import Kernel


@dataclass(frozen=True)
class Case:
    """A kernel and its verdict: proved if there is no code, else refused with it."""

    name: str
    function: Function
    code: str


@cache
def battery() -> tuple[Case, ...]:
    """Kernels of the tests with their verdicts; no two have one name."""
    found, names = [], Counter[str]()
    for case in (*_refused(), *_accepted(), *_pairs()):
        names[case.name] += 1
        again = names[case.name]
        found.append(case if again == 1 else replace(case, name=f"{case.name}, {again}"))
    return tuple(found)


def _refused() -> Iterator[Case]:
    from tests.frontend import test_activity, test_ragged, test_relations
    from tests.rejected.test_rejected import FILES, header, kernel_in
    from tests.verify import test_refused, test_unsafe

    for name, kernel in test_refused.KERNELS.items():
        yield _case(kernel, test_refused.EXPECTED[name])
    yield _case(_kernel(test_unsafe.through_another_file), "ZL0201")
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


# --- what verifying takes


@dataclass(frozen=True)
class Cost:
    """Of a case: the lines of the verifier that it runs, by module; seconds; obligations that the solver decides."""

    lines: dict[str, frozenset[int]]
    seconds: float
    solver: int

    def runs(self, module: str, lines: range) -> bool:
        """Whether one of the lines is run."""
        return not self.lines.get(module, frozenset()).isdisjoint(lines)


def verdicts_only() -> None:
    """Inside ``switched``: no search for counterexamples, which decides nothing, and one context of z3 for all kernels."""
    sys.modules[f"{PACKAGE}.findings"].search = lambda *a, **k: None  # type: ignore[attr-defined]
    context = z3.Context()
    shared = SimpleNamespace(**(vars(z3) | {"Context": lambda: context}))
    sys.modules[f"{PACKAGE}.solver"].z3 = shared  # type: ignore[attr-defined]


def costs(cases: Iterable[Case], file: Path) -> dict[str, Cost]:
    """The cost of each case, from ``file``; measured, and kept there, for cases that are new or if the verifier changed."""
    verifier = hashlib.sha256(b"".join(p.read_bytes() for p in sorted(FOLDER.glob("*.py")))).hexdigest()
    kept = json.loads(file.read_text()) if file.exists() else {}
    known = kept.get("cases", {}) if kept.get("verifier") == verifier else {}
    found = {}
    for case in cases:
        text = hashlib.sha256(portable_text(case.function)[0].encode()).hexdigest()
        if case.name not in known or known[case.name]["kernel"] != text:
            known[case.name] = {"kernel": text, **_measured(case)}
        one = known[case.name]
        found[case.name] = Cost({m: frozenset(l) for m, l in one["lines"].items()}, one["seconds"], one["solver"])
    new = file.with_suffix(".new")
    new.write_text(json.dumps({"verifier": verifier, "cases": known}))
    new.replace(file)
    return found


def _measured(case: Case) -> dict[str, Any]:
    lines: dict[str, set[int]] = {}

    def line(frame: Any, event: str, _: Any) -> Any:
        lines.setdefault(frame.f_globals["__name__"].rpartition(".")[2], set()).add(frame.f_lineno)
        return line

    def call(frame: Any, event: str, _: Any) -> Any:
        return line(frame, event, _) if frame.f_globals.get("__name__", "").startswith(PACKAGE) else None

    with switched(None) as verifier:
        verdicts_only()
        started = process_time()
        verdict = verifier.verify(case.function)
        seconds = process_time() - started
        sys.settrace(call)
        try:
            verifier.verify(case.function)
        finally:
            sys.settrace(None)
    return {
        "seconds": seconds, "solver": verdict.how().get("smt", 0), "lines": {m: sorted(l) for m, l in lines.items()},
    }  # fmt: skip
