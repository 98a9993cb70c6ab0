"""Products of single tokens with a sum for a run of columns: what is generated against the interpreter, in Triton's interpreter."""

from __future__ import annotations

import numpy as np
from tests.backends.cuda.interpreted import Case, compare_all, function_of
from tests.backends.cuda.test_new_token import arrays_of

from zellige import f32
from zellige.backends.cuda.options import Options
from zellige.kernels import decode, moe


def test_what_is_generated_gives_the_interpreters_numbers() -> None:
    """Loops that stay, and loops that are written out, with a last run that is not whole."""
    random, cases = np.random.default_rng(8), []
    kernels = (
        decode.norm_linear,
        decode.norm_swiglu,
        decode.linear_residual,
        moe.expert_norm_swiglu,
        moe.expert_residual,
    )
    for kernel in kernels:
        for depth, early in ((77, 0), (96, 4)):
            dims = dict(T=2, N=6, F=6, D=depth, E=4, C=2)
            function = function_of(kernel, {"Y": f32}, BN=2, BK=32, RUN=8)
            used = {name: dims[name] for name in function.dims()}
            options = Options(num_warps=1, early=early, constant=frozenset(("w", "gate", "up", "down", "g")))
            cases.append(Case(function, used, arrays_of(function, used, random), {"eps": 1e-6}, options=options))
    compare_all(cases, rtol=2e-2, atol=2e-2)
