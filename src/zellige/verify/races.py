"""Two programs, one array: no store of one hits what the other stores or loads. And within one store: no two lanes meet.

Accesses are compared by coordinates. A second program is the first with its ids, iterations and lanes renamed.
"""

from __future__ import annotations

from collections.abc import Iterator

from zellige.ir import ops
from zellige.ir.extent import Const
from zellige.verify import terms
from zellige.verify.obligations import Access, Claim, Kind
from zellige.verify.ranges import Ranges, known_nonneg, linear_in
from zellige.verify.substitution import Renaming, variables_of
from zellige.verify.symbolic import Symbols
from zellige.verify.terms import App, Atom, Bool, Div, Int, Var, of_atom

OTHER = "′"


def race_pairs(found: list[Access]) -> Iterator[tuple[Access, Access]]:
    """Pairs of accesses that must not meet between programs; the first one writes."""
    writes = [a for a in found if not isinstance(a.op, ops.Load)]
    for i, write in enumerate(writes):
        for other in found:
            if other.array != write.array:
                continue
            if isinstance(other.op, ops.Load) or (writes.index(other) >= i and not _commute(write, other)):
                yield write, other


def _commute(a: Access, b: Access) -> bool:
    return isinstance(a.op, ops.Update) and isinstance(b.op, ops.Update) and a.op.op is b.op.op


def race_claim(symbols: Symbols, write: Access, other: Access) -> Claim:
    """Two different programs do not meet in these accesses."""
    rename = Renaming(OTHER)
    theirs = tuple(rename.int(c) for c in other.coordinates)
    same_program = terms.conjunction(terms.equal(p, rename.int(p)) for p in symbols.programs)
    meeting = [terms.equal(a, b) for a, b in zip(write.coordinates, theirs, strict=True)]
    shown = {f"axis {k}": c for k, c in enumerate(write.coordinates)}
    return Claim(
        Kind.RACE, "ZL0301", write.op.span, (write.active, rename.bool(other.active), *meeting), same_program,
        f"no other program {other.verb} what one {write.verb} in '{write.array}'", shown, (write.block, other.block),
        write.lanes + tuple(rename.int(lane) for lane in other.lanes), write.array, others=(other.op.span,),
        present=(*_here(symbols, write), *map(rename.int, _here(symbols, other))),
    )  # fmt: skip


def _here(symbols: Symbols, access: Access) -> tuple[Int, ...]:
    return (*symbols.scope(access.block), *access.lanes)


def lanes_claim(symbols: Symbols, access: Access) -> Claim | None:
    """Two different active lanes of one store go to different elements. None if the store has one lane."""
    if isinstance(access.op, ops.Load | ops.Update) or all(e == Const(1) for e in access.shape):
        return None
    rename = Renaming(OTHER, frozenset(("lane",)))
    theirs = tuple(rename.int(c) for c in access.coordinates)
    meeting = [terms.equal(a, b) for a, b in zip(access.coordinates, theirs, strict=True)]
    same = terms.conjunction(terms.equal(lane, rename.int(lane)) for lane in access.lanes)
    shown = {f"axis {k}": c for k, c in enumerate(access.coordinates)}
    return Claim(
        Kind.LANES, "ZL0302", access.op.span, (access.active, rename.bool(access.active), *meeting), same,
        f"lanes of one store to '{access.array}' go to different elements", shown, (access.block,),
        access.lanes + tuple(rename.int(lane) for lane in access.lanes), access.array,
        present=(*_here(symbols, access), *map(rename.int, access.lanes)),
    )  # fmt: skip


# --- the rule that decides most of them ------------------------------------------------------------------------------


def tiles_apart(ranges: Ranges, one: Access, two: Access, given: frozenset[Var], wanted: frozenset[Var]) -> bool:
    """Rule *partition*: meeting lanes agree on every variable in ``wanted``, given that they agree on ``given``.

    If coordinate k is r + a·x + w in both accesses, where r is built from variables on which both sides agree, a is one
    number for both, and 0 ≤ w ≤ a − 1 on each side (so a ≥ 1), then equal coordinates have equal x (and equal w): the mixed-radix
    argument. x then counts as agreed, which may settle other coordinates. Where a coordinate is ⌊y/d⌋ and another y mod d,
    equal pairs have equal y. Equal elements of a distinct array, where neither is absent, come from equal positions.
    """
    agreed = set(given)
    known = known_nonneg(terms.conjuncts(one.active)), known_nonneg(terms.conjuncts(two.active))
    equations = [(a, b) for a, b in zip(one.coordinates, two.coordinates, strict=True)]
    equations += list(_joined(equations))
    changed = True
    while changed and not wanted <= agreed:
        changed = False
        for a, b in list(equations):
            for fresh in _consequences(ranges, a, b, agreed, known, one, two):
                if isinstance(fresh, Var):
                    if fresh not in agreed:
                        agreed.add(fresh)
                        changed = True
                elif fresh not in equations:
                    equations.append(fresh)
                    changed = True
    return wanted <= agreed


def _joined(equations: list[tuple[Int, Int]]) -> Iterator[tuple[Int, Int]]:
    """From ⌊y/d⌋ and y mod d in both accesses: y."""
    for a, b in equations:
        qa, qb = a.atom, b.atom
        if (
            isinstance(qa, Div)
            and isinstance(qb, Div)
            and qa.denominator is qb.denominator
            and not differing(qa.denominator)
        ):
            remainders = (qa.numerator - qa.denominator * a, qb.numerator - qb.denominator * b)
            if remainders in equations:
                yield qa.numerator, qb.numerator


def _consequences(
    ranges: Ranges,
    a: Int,
    b: Int,
    agreed: set[Var],
    known: tuple[tuple[Int, ...], tuple[Int, ...]],
    one: Access,
    two: Access,
) -> Iterator[Var | tuple[Int, Int]]:
    ra, free_a = _without_agreed(a, agreed)
    rb, free_b = _without_agreed(b, agreed)
    if ra is not rb or not free_a.terms or not free_b.terms:
        return
    for x in [x for m, _ in free_a.terms for x in m]:
        if isinstance(x, Var) and x in agreed:
            continue
        split_a, split_b = linear_in(free_a, x), linear_in(free_b, x)
        if split_a is None or split_b is None or split_a[0] is not split_b[0] or _mentions(split_a[0], agreed):
            continue
        factor, wa = split_a
        wb = split_b[1]
        if all(
            ranges.nonneg(w, k, 3) and ranges.nonneg(factor - 1 - w, k, 3) for w, k in ((wa, known[0]), (wb, known[1]))
        ):
            yield from _equal_atoms(x, one, two, ranges)
            if wa.terms and wb.terms:
                yield wa, wb
            return


def _equal_atoms(x: Atom, one: Access, two: Access, ranges: Ranges) -> Iterator[Var | tuple[Int, Int]]:
    if isinstance(x, Var):
        yield x
    elif isinstance(x, App) and x.function.injective:
        # the term stands in both accesses, so its guard holds on both sides; absent entries are −1
        sides = (known_nonneg((*terms.conjuncts(a.active), *terms.conjuncts(x.guard))) for a in (one, two))
        if all(ranges.nonneg(of_atom(x), known, 2) for known in sides):
            for argument in x.args:
                yield argument, argument


def _without_agreed(t: Int, agreed: set[Var]) -> tuple[Int, Int]:
    """t as (what both programs agree on, the rest)."""
    common, rest = terms.const(0), terms.const(0)
    for m, c in t.terms:
        part = terms.of_monomial(m, c)
        if _mentions(part, agreed):
            rest = rest + part
        else:
            common = common + part
    return common, rest


def _mentions(t: Int, agreed: set[Var]) -> bool:
    """Whether t has a variable on which the sides may differ."""
    return any(v.kind in ("pid", "iteration", "lane") and v not in agreed for v in variables_of(t))


def differing(*parts: Int | Bool) -> frozenset[Var]:
    """Variables of a program: ids, iterations and lanes."""
    return frozenset(v for v in variables_of(*parts) if v.kind in ("pid", "iteration", "lane"))
