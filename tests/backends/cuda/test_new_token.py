"""Decode attention from the product on, as it is scheduled on GPUs: what is generated against the interpreter, in Triton's interpreter."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
from tests.backends.cuda.interpreted import Case, compare_all, function_of

from zellige import bf16
from zellige.backends.cuda.options import Options
from zellige.ir.types import Role
from zellige.kernels.new_token import bias_rope_attend, combine_append, norm_rope_attend, rope_attend

B, C, NB, P, PAGES, HALF = 3, 64, 30, 4, 40, 64
EARLY = Options(
    num_warps=8, early=4, constant=frozenset(("keys", "values", "table", "length", "position", "cosine", "sine"))
)
"""As the engine runs them: what no earlier launch of a step writes is read first."""


def arrays_of(function: Any, dims: dict[str, int], random: np.random.Generator) -> dict[str, np.ndarray[Any, Any]]:
    """Random inputs that keep their contracts; outputs of NaN."""
    made: dict[str, np.ndarray[Any, Any]] = {}
    for array in function.arrays:
        shape = tuple(extent.evaluate(dims) for extent in array.shape)
        if array.contract is not None:
            bound = array.contract.bound.evaluate(dims)
            numbers = (
                random.permutation(bound)[: np.prod(shape)]
                if array.contract.distinct
                else random.integers(0, bound, shape)
            )
            made[array.name] = numbers.reshape(shape).astype(np.int32)
        else:
            held = ml_dtypes.bfloat16 if array.dtype is bf16 else np.float32
            numbers = np.full(shape, np.nan) if array.role is Role.OUT else random.standard_normal(shape)
            made[array.name] = numbers.astype(held)
    if "slot" in made:
        made["slot"][-1] = -1
    return made


def test_what_is_generated_gives_the_interpreters_numbers() -> None:
    random, cases = np.random.default_rng(5), []
    for kv_heads, groups, ways, size in ((2, 4, 4, 32), (1, 8, 4, 32), (2, 2, 2, 16)):
        dims = dict(B=B, HK=kv_heads, G=groups, HALF=HALF, HD=2 * HALF, C=C, NB=NB, P=P, PAGES=PAGES, SPLITS=ways)
        for kernel in (norm_rope_attend, bias_rope_attend, rope_attend, combine_append):
            function = function_of(
                kernel, {"KV": bf16}, **({} if kernel is combine_append else {"WAYS": ways, "BS": size})
            )
            used = {name: dims[name] for name in function.dims()}
            scalars = {"scale": 0.07, "eps": 1e-6}
            options = Options(num_warps=1) if kernel is combine_append else EARLY
            cases.append(Case(function, used, arrays_of(function, used, random), scalars, options=options))
    compare_all(cases, rtol=3e-2, atol=6e-2)
