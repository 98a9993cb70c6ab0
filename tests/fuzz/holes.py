"""Holes that the verifier once had, and how to open each again: a switch of ``switches.py``, or a change of its source.

Left out are those that the interpreter cannot show: offsets beyond 32 bits need arrays of as many elements, and conditions on floats a host
that rounds otherwise."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

from tests.fuzz.switches import FOLDER, Switch, switches


@dataclass(frozen=True)
class Hole:
    """A part of a switch's key, or a piece of source and what stood there."""

    module: str
    part: str
    before: str = ""

    def switch(self) -> Switch:
        """What opens it. ValueError if the source has no such place."""
        if not self.before:
            (one,) = switches(self.module, self.part)
            return one
        path = FOLDER / f"{self.module}.py"
        source = path.read_text()
        if source.count(self.part) != 1:
            raise ValueError(f"{path} has {source.count(self.part)} places {self.part!r}")
        changed = source.replace(self.part, self.before)
        return Switch(
            self.module, range(1 << 30), f"{self.module}: {self.part}", partial(compile, changed, str(path), "exec")
        )


HOLES: dict[str, Hole] = {
    "what is known of a carried value, where its branch is not taken": Hole(
        "invariants", "_facts.facts: without condition `terms.implies(app.guard",
    ),
    "a carried tile at lanes that it has not": Hole("symbolic", "_carried: without part of conjunction `self._exist"),
    "a tile at lanes that it has not": Hole("symbolic", "_load: without part of conjunction `self._exist"),
    "a load where its branch is not taken": Hole("symbolic", "_load: without part of conjunction `self.path"),
    "a load outside its mask": Hole("symbolic", "_load: without part of conjunction `active"),
    "a sort's order beyond its places": Hole("positions", "permutes: without part of conjunction `*places"),
    "more bits than a type has": Hole("bits", "known: without condition `terms.implies(fit"),
    "programs that there are not": Hole("substitution", "Placed.call: without part of conjunction `self._guard"),
    "the least number by −1": Hole("overflow", "_may_be_least: returns False"),
    "a loop that does not run": Hole("invariants", "_assume: without condition `terms.implies(runs"),
    "the condition of a loop, asked once more": Hole("symbolic", "isinstance(op, For) or which == 1 else", "True else"),
    "a loop's invariant, at its start": Hole("invariants", "_starts: returns True"),
    "quotients and remainders by two numbers": Hole("races", "_joined: without and `qa.denominator is"),
    "what a loop keeps, where its branch is not taken": Hole("symbolic", "_carried: without part of conjunction `self.path"),
    "the last of no iterations": Hole("symbolic", "_ended.facts: without condition `terms.implies(terms.lt(0, n), last"),
    "coordinates of a second output": Hole(
        "coverage", "enumerate(param.shape)\n    )", "enumerate(next(a for a in symbols.function.arrays if a.role.name == 'OUT').shape)\n    )",
    ),
    "offsets of a program that there is not": Hole(
        "segments", "return [terms.implies(app.guard, fact) for fact in known]", "return list(known)"),
    "offsets of no lengths": Hole("relations", "ends_claim: always"),
    "offsets that nothing stores": Hole(
        "verifier", "elif param.role is Role.OUT and not relations.by_distinct_values(param)", "elif False"),
    "a permutation of fewer elements": Hole("relations", "by_distinct_values: returns True for `param.shape"),
    "the largest of nothing": Hole("positions", "reduced_at: le for `terms.lt(0, size"),
    "sums and products of any size": Hole("overflow", "_can_grow: returns False for `op.op in _GROWS"),
    "the step past a loop's end": Hole("overflow", "width_claims: never `isinstance(op, ops.For)"),
    "the program of a witness": Hole("coverage", "moved = _Moved(solver, in_range)", "moved = _Moved(solver, terms.true())"),
}  # fmt: skip
