"""Correct kernels are proved, for all sizes."""

from __future__ import annotations

import pytest

from tests.verify import accepted
from zellige.diagnostics.render import render
from zellige.runtime.kernel import Kernel
from zellige.verify import verify

KERNELS = [k for k in vars(accepted).values() if isinstance(k, Kernel)]


@pytest.mark.parametrize("kernel", KERNELS, ids=lambda k: k.name)
def test_a_correct_kernel_is_proved(kernel: Kernel) -> None:
    verdict = verify(kernel.lower(*next(kernel.variants())))
    assert verdict.proved, "\n\n".join(map(render, verdict.findings))
    assert verdict.records
