"""Each rule proves what is right, and refuses what differs from it in one place."""

from __future__ import annotations

import pytest

from tests.fuzz.campaign import first_trip
from tests.fuzz.kernels import lowered
from tests.fuzz.shapes import one_step_away
from tests.verify.pairs import PAIRS
from zellige.diagnostics.render import render
from zellige.ir.ops import Function
from zellige.verify import verify


def kernels(name: str) -> list[Function]:
    """The right kernel of a pair, then the wrong ones."""
    sources = one_step_away(PAIRS[name][1])
    return [
        lowered(source if "@zl" in source else "@zl.kernel" + source, f"<{name}, {i}>")
        for i, source in enumerate(sources)
    ]


@pytest.mark.parametrize("name", PAIRS)
def test_the_right_one_is_proved_and_the_wrong_ones_are_refused(name: str) -> None:
    right, *wrong = kernels(name)
    verdict = verify(right)
    assert verdict.proved, "\n\n".join(map(render, verdict.findings))
    assert first_trip(right, 1, 20) is None
    assert wrong
    for function in wrong:
        assert PAIRS[name][0] in {f.code for f in verify(function).findings}, function.source
