"""A schedule from the tables serves sizes and types beside the measured ones: where it wants too much shared memory, fewer stages do."""

from __future__ import annotations

from typing import Any

import pytest

import zellige as zl
from zellige.diagnostics import ZelligeError
from zellige.ir.dtypes import bf16, f32
from zellige.kernels.batch import linear_rows
from zellige.runtime.cuda import executor as module
from zellige.runtime.cuda import tuned
from zellige.runtime.cuda.executor import CudaExecutor


def recorded(monkeypatch: pytest.MonkeyPatch, stages: int, compile: Any) -> list[int]:
    """The stages of the compilations that were tried for f32 results, by an entry with so many."""
    tried: list[int] = []

    def noting(function: Any, dims: Any, target: Any, options: Any, cache: Any) -> Any:
        tried.append(options.num_stages)
        return compile(function, dims, target, options, None)

    entry = {"statics": {"BM": 128, "BN": 128, "BK": 64}, "options": {"num_warps": 8, "num_stages": stages}}
    monkeypatch.setattr(tuned, "_nearest", lambda *args, **kwargs: entry)
    monkeypatch.setattr(module, "compile", noting)
    gpu = CudaExecutor(None, "sm_90")
    x, w, y = gpu.zeros((256, 1024), bf16), gpu.zeros((128, 1024), bf16), gpu.empty((256, 128), f32)
    try:
        with zl.using(gpu), zl.record():
            linear_rows(x, w, y=y)
    except ZelligeError as error:
        assert error.code == "ZL0905"
        tried.append(-1)
    return tried


def test_as_many_stages_as_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    tried = recorded(monkeypatch, 9, module.compile)  # 32 kB a stage, 227 kB in a block
    assert tried == list(range(9, tried[-1] - 1, -1)) and 1 < tried[-1] < 9


@pytest.mark.parametrize(("facts", "tried"), [({"shared bytes": 300_000}, [3, 2, 1, -1]), ({}, [3, -1])])
def test_what_fewer_stages_do_not_mend_is_an_error(
    monkeypatch: pytest.MonkeyPatch, facts: dict[str, Any], tried: list[int]
) -> None:
    def refusing(*args: Any) -> Any:
        raise ZelligeError("ZL0905", "refused", facts=facts)

    assert recorded(monkeypatch, 3, refusing) == tried
