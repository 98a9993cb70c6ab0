"""Tensors made of several arrays, one after the other, on the host and on a GPU that is simulated."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import ml_dtypes
import numpy as np
import pytest

from tests.runtime.cuda.simulated import simulated
from zellige.diagnostics import ZelligeError
from zellige.ir.dtypes import bf16, f32
from zellige.runtime.execution import executor_named


@pytest.fixture(params=["host", "gpu"])
def executor(request: pytest.FixtureRequest) -> Iterator[Any]:
    if request.param == "host":
        yield executor_named("cpu")
    else:
        with simulated(1) as made:
            yield made


def test_arrays_make_up_a_tensor(executor: Any) -> None:
    rng = np.random.default_rng(1)
    pieces = [rng.normal(size=shape).astype(ml_dtypes.bfloat16) for shape in ((2, 6), (1, 6), (5, 6))]
    pieces[2] = np.asfortranarray(pieces[2])
    made = executor.gathered(pieces, (8, 6), bf16)
    assert made.initialised
    assert (made.numpy() == np.concatenate(pieces)).all()


@pytest.mark.parametrize(
    "pieces",
    [
        [np.zeros(5, np.float32)],
        [np.zeros(7, np.float32)],
        [np.zeros(3, np.float64)],
        [np.zeros(3, np.float32), np.zeros(6, np.float16)],
        [],
    ],
)
def test_arrays_that_do_not_are_refused(executor: Any, pieces: list[Any]) -> None:
    with pytest.raises(ZelligeError) as found:
        executor.gathered(pieces, (2, 3), f32)
    assert found.value.code == "ZL0502"
