"""Concrete numbers for a claim that fails: small sizes first."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from zellige.ir import ops
from zellige.ir.ops import Block
from zellige.verify import terms
from zellige.verify.obligations import Claim
from zellige.verify.races import OTHER
from zellige.verify.solver import SHRINK_LIMIT, Answer, Solver
from zellige.verify.substitution import Renaming, atoms_of, variables_of
from zellige.verify.symbolic import Symbols
from zellige.verify.terms import App, Bool, Int

SIZES: tuple[tuple[int, int | None], ...] = (
    (1, 2), (1, 4), (1, 16), (0, 2), (0, 4), (0, 8), (0, 16), (0, 64), (0, 256), (0, 4096), (0, None),
)  # fmt: skip
"""Bounds on dims that are tried in turn: without empty axes first, which say less, then with them."""
UNBOUNDED: tuple[tuple[int, int | None], ...] = ((1, None), (0, None))
"""For what only fails at large sizes."""


@dataclass(frozen=True)
class Example:
    """A counterexample: facts to show, in order, and the values behind them."""

    facts: Mapping[str, Any]
    values: Mapping[str, int]
    certain: bool
    """Whether it only uses what is known exactly, so that a real run would show it."""


def search(
    symbols: Symbols, solver: Solver, claim: Claim, sizes: tuple[tuple[int, int | None], ...] = SIZES
) -> Example | None:
    """The first counterexample found with dims between the given sizes in turn (None: any size)."""
    denied = (*claim.hypotheses(), terms.negate(claim.goal))
    dims = [symbols.dim(name) for name in sorted(symbols.function.dims())]
    places = _places(claim)
    for least, size in sizes:
        low = [terms.le(least, d) for d in dims]
        answer = solver.find((*denied, *low), [] if size is None else [terms.le(d, size) for d in dims])
        if answer is not None:
            if size is None:
                answer = _evenly(solver, denied, dims, answer)
            answer = _shrunk(solver, (*denied, *low), dims, answer)
            fixed = [terms.equal(d, answer.value(d)) for d in dims]
            return describe(symbols, claim, _shrunk(solver, (*denied, *fixed), places, answer))
    return None


def _places(claim: Claim) -> list[Int]:
    """Iterations, programs and lanes of a claim, as variables."""
    order = {"iteration": 0, "pid": 1, "lane": 2}
    found = [t for t in claim.present if isinstance(v := t.atom, terms.Var) and v.kind in order]
    return sorted(dict.fromkeys(found), key=lambda t: order[t.atom.kind] if isinstance(t.atom, terms.Var) else 0)


def _evenly(solver: Solver, denied: tuple[Bool, ...], dims: list[Int], answer: Answer) -> Answer:
    """The same failure with the largest dim as small as possible."""
    low, high = 0, max((answer.value(d) for d in dims), default=0)
    while low < high:
        middle = (low + high) // 2
        smaller = solver.find(denied, [terms.le(d, middle) for d in dims], SHRINK_LIMIT)
        if smaller is None:
            low = middle + 1
        else:
            answer, high = smaller, min(middle, max(smaller.value(d) for d in dims))
    return answer


def _shrunk(solver: Solver, denied: tuple[Bool, ...], dims: list[Int], answer: Answer) -> Answer:
    """The same failure with numbers that are not negative made smaller, one after the other, by halving."""
    fixed: list[Bool] = []
    for d in dims:
        low, high = 0, answer.value(d)
        while low < high:
            middle = (low + high) // 2
            others = [terms.le(e, answer.value(e)) for e in dims]
            smaller = solver.find(denied, (*fixed, *others, terms.le(d, middle)), SHRINK_LIMIT)
            if smaller is None:
                low = middle + 1
            else:
                answer, high = smaller, min(middle, smaller.value(d))
        fixed.append(terms.le(d, high))
    return answer


def describe(symbols: Symbols, claim: Claim, answer: Answer) -> Example:
    """The numbers of a counterexample, named as the author knows them."""
    facts: dict[str, Any] = {}
    values: dict[str, int] = {}
    for name in sorted(symbols.function.dims()):
        values[name] = answer.value(symbols.dim(name))
    if values:
        facts["sizes"] = ", ".join(f"{name} = {value}" for name, value in values.items())
    scalars = [v for v in variables_of(*claim.assumptions, claim.goal) if v.kind == "scalar"]
    for v in scalars:
        facts[f"scalar {v.name.removeprefix('scalar:')}"] = answer.value(terms.of_atom(v))
    rename = Renaming(OTHER)
    two = claim.code == "ZL0301"
    for position, block in enumerate(claim.places or ()):
        other = two and position == 1
        ids = tuple(rename.int(p) if other else p for p in symbols.programs)
        label = "program" if not two else "another program" if other else "one program"
        if ids:
            facts[label] = _tuple(answer.value(p) for p in ids)
        for number, line in iterations(symbols, block):
            term = rename.int(number) if other else number
            facts[f"iteration of the loop at line {line}" + (" (the other program)" if other else "")] = answer.value(
                term
            )
    lanes = [lane for lane in claim.lanes if lane.constant is None]
    if lanes and not two and claim.code != "ZL0302":
        facts["lane"] = _tuple(answer.value(lane) for lane in lanes)
    if claim.code == "ZL0302":
        half = len(claim.lanes) // 2
        facts["lanes"] = " and ".join(
            _tuple(answer.value(lane) for lane in part) for part in (claim.lanes[:half], claim.lanes[half:])
        )
    if claim.code in ("ZL0301", "ZL0302"):
        facts["element"] = f"{claim.array}[{', '.join(str(answer.value(c)) for c in claim.shown.values())}]"
    else:
        for name, term in claim.shown.items():
            facts[name] = answer.value(term)
    for app, value in dict(answer.applications).items():
        place = [answer.value(i) for i in app.args]
        shape = symbols.function.array(app.function.shown).shape
        if all(0 <= i < answer.value(symbols.extent(e)) for i, e in zip(place, shape, strict=True)):
            facts[f"{app.function.shown}[{', '.join(map(str, place))}]"] = value
    uncertain = any(
        isinstance(a, App) and a.function.approximate for a in atoms_of(*claim.assumptions, claim.goal, guards=False)
    )
    return Example(facts, values, not uncertain)


def iterations(symbols: Symbols, block: Block) -> list[tuple[Int, int]]:
    """Iteration numbers of the loops around a block, outermost first, with their lines."""
    found: list[tuple[Int, int]] = []
    here: Block | None = block
    while here is not None:
        place = symbols.places[here]
        if isinstance(place.owner, ops.For | ops.While):
            found.append((symbols.iteration(place.owner, place.which), place.owner.span.line))
        here = place.parent
    return found[::-1]


def _tuple(values: Any) -> str:
    return "(" + ", ".join(map(str, values)) + ")"
