"""Short forms of the soak; the long one is a command (`soak.py`)."""

from __future__ import annotations

import pytest
from soak import Soak


@pytest.mark.parametrize(("kind", "requests"), [("ledger", 1500), ("fused", 200), ("invariant", 150)])
def test_many_requests_leave_nothing_behind(kind: str, requests: int) -> None:
    seen = Soak(kind, seed=20, requests=requests).run()
    assert sum(seen.finished.values()) + seen.scored == requests
    assert min(seen.finished[reason] for reason in ("length", "stop", "cancelled")) > 0
    assert seen.preemptions > 0 and seen.cached_tokens > 0 and seen.scored > 0
    assert seen.compared > 0 or kind != "invariant"
    grown = seen.objects[-1] - seen.objects[6]  # (before that, shapes are met for the first time, which makes graphs)
    assert grown < 2000, f"Python objects over time: {seen.objects}"
