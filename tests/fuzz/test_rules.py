"""Each rule of the verifier is needed: without it, a wrong kernel is accepted or a right one refused."""

from __future__ import annotations

import pytest

from tests.fuzz.battery import battery
from tests.fuzz.named_rules import RIGHT, WRONG
from tests.fuzz.rules import Fate, fate
from tests.fuzz.switches import switches

CASES = {case.name: case for case in battery()}


@pytest.mark.parametrize("rule", [*WRONG, *RIGHT])
def test_without_the_rule_a_verdict_changes(rule: str) -> None:
    part, name = (WRONG | RIGHT)[rule]
    found = list(switches(part.partition(".")[0], part))
    assert found, "the rule is not where it was: see python -m tests.fuzz.rules"
    expected = Fate.ACCEPTS if rule in WRONG else Fate.REFUSES
    fates = {fate(switch, [CASES[name]])[0] for switch in found}
    assert expected in fates, fates


def test_the_verifier_with_nothing_switched_off_keeps_all_verdicts() -> None:
    few = [CASES[name] for name in {name for _, name in (WRONG | RIGHT).values()}]
    assert fate(None, few) == (Fate.UNSEEN, "")
