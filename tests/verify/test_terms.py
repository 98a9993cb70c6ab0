"""Normal forms mean what was written, and what the small prover proves is true."""

from __future__ import annotations

from itertools import product
from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from tests.verify.evaluation import number, truth
from zellige.diagnostics import InternalError
from zellige.verify import terms
from zellige.verify.ranges import Ranges, Simplifier, known_nonneg
from zellige.verify.solver import Outcome, Solver, _monotone, _sign_lemmas
from zellige.verify.substitution import Renaming, replacing
from zellige.verify.terms import Bool, Int, const

NAMES = ("x", "y", "z")
LOW, HIGH = -3, 4
Expression = Any
"""An expression as nested tuples: built twice, as a term and as a number."""

leaves = st.one_of(st.sampled_from(NAMES), st.integers(-5, 5))
expressions = st.recursive(
    leaves,
    lambda inner: st.one_of(
        st.tuples(st.sampled_from(["+", "-", "*", "min", "max"]), inner, inner),
        st.tuples(st.sampled_from(["//", "%"]), inner, st.sampled_from([1, 2, 3, 4, 7, -2, -3, "d"])),
        st.tuples(st.just("if"), inner, inner, inner),
    ),
    max_leaves=8,
)


def term(e: Expression) -> Int:
    match e:
        case int():
            return const(e)
        case "d":
            return terms.variable("d", "dim", 1, 5)
        case str():
            return terms.variable(e, "lane", LOW, HIGH)
        case ("if", c, a, b):
            return terms.ite(terms.nonneg(term(c)), term(a), term(b))
        case (op, a, b):
            x, y = term(a), term(b)
            return {
                "+": lambda: x + y, "-": lambda: x - y, "*": lambda: x * y, "min": lambda: terms.minimum(x, y),
                "max": lambda: terms.maximum(x, y), "//": lambda: terms.div(x, y), "%": lambda: terms.mod(x, y),
            }[op]()  # fmt: skip
    raise TypeError(e)


def value(e: Expression, env: dict[str, int]) -> int:
    match e:
        case int():
            return e
        case str():
            return env[e]
        case ("if", c, a, b):
            return value(a if value(c, env) >= 0 else b, env)
        case (op, a, b):
            x, y = value(a, env), value(b, env)
            return {
                "+": lambda: x + y, "-": lambda: x - y, "*": lambda: x * y, "min": lambda: min(x, y),
                "max": lambda: max(x, y), "//": lambda: x // y, "%": lambda: x % y,
            }[op]()  # fmt: skip
    raise TypeError(e)


environments = st.fixed_dictionaries({**{n: st.integers(LOW, HIGH) for n in NAMES}, "d": st.integers(1, 5)})


@given(expressions, environments)
@settings(max_examples=300, deadline=None)
def test_a_normal_form_has_the_value_of_the_expression(e: Expression, env: dict[str, int]) -> None:
    with terms.session():
        assert number(term(e), env) == value(e, env)


@given(expressions, expressions, environments)
@settings(max_examples=200, deadline=None)
def test_comparisons_and_their_negations_are_exact(a: Expression, b: Expression, env: dict[str, int]) -> None:
    with terms.session():
        x, y = term(a), term(b)
        cases: list[tuple[Bool, bool]] = [
            (terms.le(x, y), value(a, env) <= value(b, env)),
            (terms.lt(x, y), value(a, env) < value(b, env)),
            (terms.equal(x, y), value(a, env) == value(b, env)),
        ]
        for claim, wanted in cases:
            assert truth(claim, env) == wanted
            assert truth(terms.negate(claim), env) != wanted


@given(expressions, expressions)
@settings(max_examples=150, deadline=None)
def test_what_the_small_prover_proves_is_true_everywhere(goal: Expression, fact: Expression) -> None:
    with terms.session():
        ranges = Ranges()
        t, f = term(goal), term(fact)
        low, high = ranges.interval(t)
        proved, conditional = ranges.nonneg(t), ranges.nonneg(t, (f,))
        for *xyz, d in product(range(LOW, HIGH + 1), range(LOW, HIGH + 1), (LOW, 0, HIGH), (1, 2, 5)):
            env = dict(zip((*NAMES, "d"), (*xyz, d), strict=True))
            v = value(goal, env)
            assert low <= v <= high
            assert not proved or v >= 0
            assert not conditional or v >= 0 or value(fact, env) < 0


@given(expressions, expressions, environments)
@settings(max_examples=200, deadline=None)
def test_simplifying_under_an_assumption_changes_nothing_where_it_holds(
    e: Expression, assumed: Expression, env: dict[str, int]
) -> None:
    with terms.session():
        assumption = terms.nonneg(term(assumed))
        simplified = Simplifier(Ranges(), assumption).int(term(e))
        assume(value(assumed, env) >= 0)
        assert number(simplified, env) == value(e, env)


@given(expressions, environments, st.integers(LOW, HIGH))
@settings(max_examples=150, deadline=None)
def test_substitution_commutes_with_evaluation(e: Expression, env: dict[str, int], shift: int) -> None:
    with terms.session():
        x = terms.make_var("x", "lane", LOW, HIGH)
        moved = replacing({x: terms.of_atom(x) * 2 + shift}).int(term(e))
        assert number(moved, env) == value(e, {**env, "x": 2 * env["x"] + shift})


@given(*(st.integers(-6, 6),) * 3)
def test_product_lemmas_are_true_of_numbers(a: int, b: int, c: int) -> None:
    with terms.session():
        lemmas = _sign_lemmas(const(a), const(b), const(a * b))
        lemmas += _monotone(const(a), const(b), const(c), const(a * b), const(a * c))
        assert all(lemma.kind == "true" for lemma in lemmas)


def test_one_name_with_two_meanings_is_an_internal_error() -> None:
    with terms.session():
        terms.variable("lane0", "lane", 0, 7)
        with pytest.raises(InternalError):
            terms.variable("lane0", "lane", 0, 15)


def test_a_renamed_program_shares_dims_and_has_its_own_bounds() -> None:
    with terms.session():
        dim = terms.variable("dim:M", "dim", 0, 100)
        pid = terms.variable("pid0", "pid", 0, dim - 1)
        lane = terms.variable("lane0", "lane", 0, pid)
        moved = Renaming("′").int(lane + dim)
        inner = [a for m, _ in moved.terms for a in m]
        assert [getattr(a, "name", "") for a in inner] == ["dim:M", "lane0′"]
        assert getattr(inner[1], "high", None) is Renaming("′").int(pid)


def test_facts_are_read_off_equalities_in_both_directions() -> None:
    with terms.session():
        x = terms.variable("x", "lane", LOW, HIGH)
        facts = known_nonneg((terms.equal(x, 2),))
        assert Ranges().nonneg(x - 2, facts) and Ranges().nonneg(2 - x, facts)


@pytest.mark.parametrize("exact", [True, False])
def test_the_solver_refuses_a_false_claim_about_a_product(exact: bool) -> None:
    with terms.session():
        n, p, q = (terms.variable(name, "dim", 0, 1000) for name in "npq")
        solver = Solver()
        inside = (terms.le(q, n - 1),)
        assert solver.prove(inside, terms.le(q * p + p, n * p), exact=exact) is Outcome.PROVED
        assert solver.prove(inside, terms.le(q * p + p + 1, n * p), exact=exact) is not Outcome.PROVED
