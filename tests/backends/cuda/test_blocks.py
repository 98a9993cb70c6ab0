"""Packed weight formats in generated Triton code, against the interpreter (which agrees with the gguf package to the bit)."""

from __future__ import annotations

import numpy as np
import pytest
from tests.backends.cuda.interpreted import compare, function_of
from tests.kernels.quantised import BLOCKED, random_blocks

from zellige.backends.cuda.options import Options
from zellige.ir.dtypes import ALL
from zellige.kernels.embedding import embed


@pytest.mark.parametrize("kind", BLOCKED)
def test_rows_of_every_format_are_unpacked(kind: str) -> None:
    width = 256
    arrays = {
        "ids": np.array([2, 0, 3], np.int32), "table": random_blocks(np.random.default_rng(1), 4, width, kind),
        "y": np.full((3, width), np.nan, np.float32),
    }  # fmt: skip
    compare(function_of(embed, {"W": ALL[kind]}), {"T": 3, "V": 4, "D": width}, arrays)


@pytest.mark.parametrize("kind", ["Q8_0", "Q4_K"])
def test_rows_with_others_between_them(kind: str) -> None:
    width = 256
    arrays = {
        "ids": np.array([2, 0, 3], np.int32), "table": random_blocks(np.random.default_rng(1), 12, width, kind)[::3],
        "y": np.full((3, width), np.nan, np.float32),
    }  # fmt: skip
    options = Options(layouts={"table": (3 * width, 1)})
    compare(function_of(embed, {"W": ALL[kind]}), {"T": 3, "V": 4, "D": width}, arrays, options=options)
