"""Heads of a prompt from the product to queries, keys and the cache: programs with several heads give what those with one give."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pytest

import zellige as zl
from zellige import bf16, f8e4m3, f32, i32
from zellige.ir.dtypes import DType
from zellige.ir.ops import Load
from zellige.ir.types import ContractKind
from zellige.ir.walk import walk
from zellige.kernels.heads import head_bias_rope_rows, head_norm_rope_rows, head_rope_rows
from zellige.runtime.contracts import Fact
from zellige.runtime.tensor import tensor

T, H, HK, HALF, PAGE, PAGES, C = 21, 5, 3, 8, 4, 9, 32
HEADS = H + 2 * HK
KERNELS = [head_norm_rope_rows, head_rope_rows, head_bias_rope_rows]
Array = np.ndarray[Any, Any]


def integers(values: Any, bound: int, **flags: bool) -> zl.Tensor:
    made = tensor(np.asarray(values, np.int32), i32)
    made.learn(Fact(ContractKind.INDEX, bound, **flags))
    return made


def rotated(kernel: Any, dtype: DType, heads: int, executor: str) -> dict[str, Array]:
    """The bits of all that a launch with ``heads`` heads a program may write, whose memory was NaN before."""
    rng = np.random.default_rng(3)

    def random(*shape: int) -> zl.Tensor:
        return tensor(rng.standard_normal(shape).astype(np.float32), bf16)

    def nan(dtype: DType, *shape: int) -> zl.Tensor:
        return tensor(np.full(shape, np.nan, np.float32), dtype)

    with zl.using(executor):
        qkv, norms, bias = random(T, HEADS, 2 * HALF), [random(2 * HALF) for _ in range(2)], random(HEADS, 2 * HALF)
        angles, slot = rng.uniform(0, 6, (C, HALF)), rng.permutation(PAGE * PAGES)[:T]
        slot[4] = -1
        places = (
            integers(rng.integers(0, C, T), C),
            integers(slot, PAGE * PAGES, distinct=True, optional=True),
            *(tensor(f(angles).astype(np.float32), f32) for f in (np.cos, np.sin)),
        )
        out = {"q": nan(bf16, T, H, 2 * HALF), "k": nan(bf16, T, HK, 2 * HALF)}
        out |= {name: nan(dtype, PAGES, PAGE, HK, 2 * HALF) for name in ("keys", "values")}
        if kernel is head_norm_rope_rows:
            kernel(qkv, *norms, *places, 1e-6, **out, BH=heads)
        elif kernel is head_bias_rope_rows:
            kernel(bias, *places, qkv=qkv, **out, BH=heads)
        else:
            kernel(qkv, *places, **out, BH=heads)
        return {name: array.numpy().view(np.uint8).copy() for name, array in {**out, "qkv": qkv}.items()}


@pytest.mark.parametrize("dtype", [bf16, f8e4m3], ids=lambda d: d.name)
@pytest.mark.parametrize("kernel", KERNELS, ids=lambda k: k.name)
@pytest.mark.parametrize(("heads", "executor"), [(3, "cpu"), (4, "cpu"), (4, "reference")])
def test_several_heads_a_program_give_the_bits_that_one_gives(
    kernel: Any, dtype: DType, heads: int, executor: str
) -> None:
    """Programs across the borders of queries, keys and values, and a last one with heads that are not there."""
    want = rotated(kernel, dtype, 1, executor)
    for name, bits in rotated(kernel, dtype, heads, executor).items():
        np.testing.assert_array_equal(bits, want[name], err_msg=name)


@pytest.mark.parametrize("kernel", KERNELS, ids=lambda k: k.name)
def test_the_angles_are_loaded_once_for_all_heads_of_a_program(kernel: Any) -> None:
    statics, dtypes = next(iter(kernel.variants()))
    sizes = dict(T=64, H=H, HK=HK, HALF=HALF, C=C, NB=PAGES, P=PAGE)
    for heads, programs in ((1, HEADS), (4, 3), (16, 1)):
        function = kernel.lower({**statics, "BH": heads}, dtypes)
        assert [axis.programs.evaluate(sizes) for axis in function.grid] == [4, programs]
        loads = Counter(op.array for op in walk(function.body) if isinstance(op, Load))
        assert loads["cosine"] == loads["sine"] == 1 and loads["qkv"] >= heads
