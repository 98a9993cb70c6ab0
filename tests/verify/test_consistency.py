"""What the verifier assumes does not contradict itself at sizes that a launch may have."""

from __future__ import annotations

import pytest

from tests.fuzz.kernels import lowered
from tests.verify import consistency
from tests.verify.consistency import examine, kernels, read_outside
from tests.verify.test_pairs import kernels as pair
from zellige.ir.ops import Function
from zellige.verify import contracts, positions, solver, terms, verify

SHARES = 8
TRIES = 40
"""So many choices of sizes that an axis is empty in one of them, and has one element in another."""

GUARDED = lowered(
    """@zl.kernel
def k(table: zl.In[zl.Permutation[N], N], x: zl.In[f32, N, K], *, y: zl.Out[f32, K]):
    t = zl.grid(K)
    s = 0
    if N > 0:
        s = table[zl.minimum(t, N - 1)]
    if s < N - 1:
        y[t] = x[s, t]
    else:
        y[t] = 1.0
""",
    "<guarded>",
)
READS_OUTSIDE = lowered(
    """@zl.kernel
def k(table: zl.In[zl.Permutation[N], N], x: zl.In[f32, N, K], *, y: zl.Out[f32, K]):
    t = zl.grid(K)
    s = table[zl.minimum(t, N - 1)]
    if s < N - 1:
        y[t] = x[s, t]
    else:
        y[t] = 1.0
""",
    "<reads outside>",
)
"""Of an empty table it reads element −1: the facts of that, 0 ≤ table[−1] ≤ −1, contradict each other."""


@pytest.mark.parametrize("share", range(SHARES))
def test_facts_are_possible_together(share: int) -> None:
    told = 0
    for number, (name, function) in enumerate(kernels(count=80, seed=20261129)):
        if number % SHARES == share:
            report = examine(name, function, tries=2)
            assert not report.contradictions, f"{name}: {report.contradictions[0]}"
            told += report.possible
    assert told > 100


def test_facts_that_contradict_each_other_are_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    """A sort's order has as many positions as places; asked of a place that it has not, it would have one too few."""
    _, wrong = pair("a sort's order has the places that it has")
    assert not examine("sort", wrong, tries=8).contradictions
    monkeypatch.setattr(positions, "permutes", lambda size, a, b: _without_places(a, b))
    assert examine("sort", wrong, tries=8).contradictions


def _without_places(a: terms.App, b: terms.App) -> list[terms.Bool]:
    same = terms.equal(terms.of_atom(a), terms.of_atom(b))
    return [terms.implies(same, terms.equal(a.args[-1], b.args[-1]))]


def test_facts_of_an_element_that_only_a_refused_load_reads_do_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    verdict = verify(READS_OUTSIDE)
    assert [f.code for f in verdict.findings] == ["ZL0201"]
    assert read_outside(READS_OUTSIDE, verdict) == {"table"}
    report = examine("outside", READS_OUTSIDE, TRIES)
    assert report.possible and not report.contradictions
    monkeypatch.setattr(consistency, "read_outside", lambda function, verdict: frozenset())
    contradictions = examine("outside", READS_OUTSIDE, TRIES).contradictions
    assert contradictions and all("dim:N = 0" in line for line in contradictions)


def test_facts_of_an_element_that_does_not_exist_count_in_an_accepted_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    """A verifier that forgot guards would assume something of element −1 of an empty table."""
    verdict = verify(GUARDED)
    assert verdict.proved and not read_outside(GUARDED, verdict)
    assert not examine("guarded", GUARDED, TRIES).contradictions
    told = solver._Closure._application
    monkeypatch.setattr(
        solver._Closure, "_application", lambda self, a: told(self, terms.make_app(a.function, a.args, terms.true()))
    )
    contradictions = examine("guarded", GUARDED, TRIES).contradictions
    assert contradictions and all("dim:N = 0" in line for line in contradictions)


@pytest.mark.parametrize("function", [GUARDED, READS_OUTSIDE], ids=["accepted", "refused"])
def test_facts_of_an_element_that_exists_count_in_every_kernel(
    function: Function, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No element of a table of one is 1 or more and below 1."""
    right = contracts.value_range
    monkeypatch.setattr(contracts, "value_range", lambda contract, extent: (1, right(contract, extent)[1]))
    assert any("dim:N = 1:" in line for line in examine("planted", function, TRIES).contradictions)
