"""Kernels that are drawn and accepted, as Triton text, in Triton's interpreter against ours; on a GPU: ``tests/fuzz/on_gpus.py``."""

from __future__ import annotations

import numpy as np
import pytest
from tests.backends.cuda.interpreted import Case, compare_all
from tests.fuzz import campaign, kernels

from zellige.backends.cuda.lowering import lower
from zellige.backends.cuda.options import Options
from zellige.backends.reference import LaunchRefused, run
from zellige.diagnostics.errors import ZelligeError
from zellige.ir.walk import specialise
from zellige.verify import verify

SEEDS = range(20261129, 20261129 + 120)


@pytest.mark.parametrize("share", range(4))
def test_the_text_means_what_the_kernel_means(share: int) -> None:
    cases = []
    for seed in SEEDS[share::4]:
        try:
            function = kernels.draw(seed).lower()
        except ZelligeError:
            continue
        if not verify(function).proved:
            continue
        for given, order in list(campaign.launches(function, seed, 6, largest=4))[-2:]:
            try:
                after = given.copy()
                run(function, after.dims, after.arrays, after.scalars, order_seed=order, check=False)
                lower(specialise(function, given.dims), Options())
            except (LaunchRefused, ZelligeError):
                continue  # nothing to compare: the launch is refused, or GPUs have no form of it
            cases.append(Case(function, given.dims, given.arrays, given.scalars))
    assert len(cases) > 20
    compare_all(cases)


def test_carried_indices_take_turns() -> None:
    """All carried values change at once: each next one is worked out from those before."""
    source = """
@zl.kernel
def k(x: zl.In[f32, N], *, y: zl.Out[f32, M]):
    t = zl.grid(M)
    a, b = t * 0, t * 0 + N - 1
    total = 0.0
    for i in range(N):
        total = total + x[a]
        a, b = b, a
    y[t] = total
"""
    function = kernels.lowered(source, "<turns>")
    x = np.arange(1, 6, dtype=np.float32) ** 2
    found = compare_all([Case(function, {"M": 2, "N": 5}, {"x": x, "y": np.zeros(2, np.float32)})])
    np.testing.assert_array_equal(found[0]["y"], 3 * x[0] + 2 * x[4])
