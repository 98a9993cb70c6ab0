"""AArch64 code in an emulator: what it computes, not how fast. Skipped where the emulator is not installed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.backends.cpu.emulated import AVAILABLE, run_emulated
from tests.backends.cpu.test_byte_dot import operands, product
from tests.kernels.quantised import BLOCKED, PLAIN, granule, random_weights
from zellige.ir.dtypes import ALL
from zellige.kernels.linear import linear_matrix, linear_vector

pytestmark = [
    pytest.mark.skipif(not AVAILABLE, reason="needs qemu-aarch64 and aarch64-linux-gnu-gcc"),
    pytest.mark.parametrize("name", ["aarch64", "aarch64-dotprod", "aarch64-i8mm"]),
]


@pytest.mark.slow
@pytest.mark.parametrize("kind", [*PLAIN, *BLOCKED])
def test_products_with_every_weight_format(name: str, kind: str, tmp_path: Path) -> None:
    t, n, k = 5, 33, 2 * max(32, granule(kind))
    packed, values = random_weights(np.random.default_rng(1), n, k, kind)
    x = np.random.default_rng(2).standard_normal((t, k)).astype(np.float32)
    want, size = x.astype(np.float64) @ values.astype(np.float64).T, (np.abs(x) @ np.abs(values).T).max()
    for kernel, statics, unit in ((linear_vector, {"BN": 32}, 2**-20), (linear_matrix, {"BM": 8, "BN": 32}, 2**-8)):
        y = np.full((t, n), np.nan, np.float32)
        function = kernel.lower(statics, {"W": ALL[kind]})
        run_emulated(function, {"T": t, "N": n, "K": k}, {"x": x, "w": packed, "y": y}, name, tmp_path)
        np.testing.assert_allclose(y, want, rtol=0, atol=unit * size)


@pytest.mark.parametrize(("m", "n", "k"), [(1, 1, 1), (1, 17, 64), (3, 5, 31), (17, 33, 100)])
def test_products_of_bytes_are_exact(name: str, m: int, n: int, k: int, tmp_path: Path) -> None:
    a, b = operands(m, n, k)
    c = np.full((m, n), -1, np.int32)
    function = product.lower({"BM": 16, "BN": 16}, {})
    run_emulated(function, {"M": m, "N": n, "K": k}, {"a": a, "b": b, "c": c}, name, tmp_path)
    np.testing.assert_array_equal(c, a.astype(np.int32) @ b.astype(np.int32).T)
