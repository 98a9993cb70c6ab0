"""cvc5 agrees with z3 on every query of the library and the examples."""

from __future__ import annotations

import re
from collections import Counter

from tests.verify.second_solver import PATHS, Answers, answer, compared, contradict, emitted, status

UNDECIDED = 3
"""Of the queries that z3 proves, how many cvc5 may give up on. They count as not confirmed."""


def test_cvc5_confirms_every_proof_of_the_library_and_the_examples() -> None:
    answers: Answers = Counter()
    for query, first, second in compared(emitted(PATHS)):
        assert not contradict(first, second), f"z3 says {first}, cvc5 {second}:\n{query}"
        answers[first, second] += 1
    assert answers["unsat", "unsat"] >= 200, "so few proofs are asked that this says nothing"
    assert answers["unsat", "unknown"] <= UNDECIDED, answers


def test_a_proof_without_its_assumptions_is_contradicted() -> None:
    proof = next(q for q in emitted([PATHS[0] / "attention.py"]) if status(q) == "unsat")
    nothing = re.sub(r"\(assert.*(?=\(check-sat\))", "", proof, flags=re.DOTALL)
    assert answer(proof) == "unsat"
    assert contradict(status(nothing), answer(nothing))
