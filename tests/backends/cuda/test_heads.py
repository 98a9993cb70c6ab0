"""Heads of a prompt, several a program: what is generated against the interpreter, in Triton's interpreter."""

from __future__ import annotations

import numpy as np
from tests.backends.cuda.interpreted import Case, compare_all, function_of
from tests.backends.cuda.test_new_token import arrays_of

from zellige import bf16
from zellige.kernels.heads import head_bias_rope_rows, head_norm_rope_rows, head_rope_rows


def test_what_is_generated_gives_the_interpreters_numbers() -> None:
    """Programs across the borders of queries, keys and values, and a last one with a head that is not there."""
    random, cases = np.random.default_rng(6), []
    dims = dict(T=19, H=5, HK=3, HALF=16, C=64, NB=12, P=4)
    for kernel in (head_norm_rope_rows, head_rope_rows, head_bias_rope_rows):
        for heads in (1, 4):
            function = function_of(kernel, {"KV": bf16}, BH=heads)
            cases.append(Case(function, dims, arrays_of(function, dims, random), {"eps": 1e-6}))
    compare_all(cases, rtol=1e-2, atol=2e-2)
