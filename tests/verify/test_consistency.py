"""What the verifier assumes does not contradict itself at sizes that a launch may have."""

from __future__ import annotations

import pytest

from tests.verify.consistency import examine, kernels
from tests.verify.test_pairs import kernels as pair
from zellige.verify import positions, terms

SHARES = 8


@pytest.mark.parametrize("share", range(SHARES))
def test_facts_are_possible_together(share: int) -> None:
    told = 0
    for number, (name, function) in enumerate(kernels(count=80, seed=20261129)):
        if number % SHARES == share:
            report = examine(function, seed=number, tries=2)
            assert not report.contradictions, f"{name}: {report.contradictions[0]}"
            told += report.possible
    assert told > 100


def test_facts_that_contradict_each_other_are_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    """A sort's order has as many positions as places; asked of a place that it has not, it would have one too few."""
    _, wrong = pair("a sort's order has the places that it has")
    assert not examine(wrong, tries=8).contradictions
    monkeypatch.setattr(positions, "permutes", lambda size, a, b: _without_places(a, b))
    assert examine(wrong, tries=8).contradictions


def _without_places(a: terms.App, b: terms.App) -> list[terms.Bool]:
    same = terms.equal(terms.of_atom(a), terms.of_atom(b))
    return [terms.implies(same, terms.equal(a.args[-1], b.args[-1]))]
