"""A right kernel and wrong ones that differ from it in one place, for each rule that a verdict may rest on.

``⟨right|wrong|…⟩``: the first choice is proved, each other one is refused with the code.
"""

from __future__ import annotations

from tests.verify.pairs import arithmetic, bounds, contracts, facts, loops, partition, relations, unreached, values

PAIRS: dict[str, tuple[str, str]] = (
    arithmetic.PAIRS
    | bounds.PAIRS
    | contracts.PAIRS
    | facts.PAIRS
    | loops.PAIRS
    | partition.PAIRS
    | relations.PAIRS
    | unreached.PAIRS
    | values.PAIRS
)
