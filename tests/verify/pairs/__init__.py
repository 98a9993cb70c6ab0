"""A right kernel and wrong ones that differ from it in one place, for each rule that a verdict may rest on.

``⟨right|wrong|…⟩``: the first choice is proved, each other one is refused with the code.
"""

from __future__ import annotations

from tests.verify.pairs import (
    arithmetic,
    bounds,
    conditions,
    contracts,
    facts,
    loops,
    opted_out,
    partition,
    relations,
    sums,
    unreached,
    values,
)

PAIRS: dict[str, tuple[str, str]] = (
    arithmetic.PAIRS
    | bounds.PAIRS
    | conditions.PAIRS
    | contracts.PAIRS
    | facts.PAIRS
    | loops.PAIRS
    | opted_out.PAIRS
    | partition.PAIRS
    | relations.PAIRS
    | sums.PAIRS
    | unreached.PAIRS
    | values.PAIRS
)
