"""``and``, ``or``, chains and ``x if c else y`` evaluate what Python evaluates, on every backend. What is proved: tests/verify/pairs."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import zellige as zl
from tests.backends.cuda.interpreted import compare, function_of
from zellige import ZelligeError, f32, i32
from zellige.ir import ops
from zellige.ir.walk import walk

M, N = zl.dims("M N")


@zl.kernel
def joined(x: zl.In[f32, M], s: zl.In[i32, N], *, y: zl.Out[f32, N, 4]):
    i = zl.grid(N)
    j = s[i]
    if j >= 0 and j < M and x[j] > 0.0:
        y[i, 0] = 1.0
    else:
        y[i, 0] = 0.0
    y[i, 1] = zl.where(j < 0 or j >= M or x[j] > 0.0, 1.0, 0.0)
    y[i, 2] = zl.where(not (0 <= j < M and x[j] <= 0.0), 1.0, 0.0)
    y[i, 3] = 1.0 if 0 <= j < M > 3 else 0.0


@zl.kernel
def chosen(x: zl.In[f32, M], b: zl.In[f32, N], s: zl.In[i32, N], *, y: zl.Out[f32, N, M]):
    i, c = zl.grid(N, M.tiles(4))
    j = s[i]
    value = x[j] if 0 <= j < M else -1
    y[i, c] = x[c] * value + (b[i] if i > 0 else 0.5) + (x[c] if j > 2 else x[c] * 2.0)


@zl.kernel
def searched(x: zl.In[f32, N, M], *, y: zl.Out[i32, N]):
    i = zl.grid(N)
    j = 0
    while zl.bounded(j < M and x[i, j] > 0.0, limit=M):
        j = j + 1
    y[i] = j.to(i32)


@zl.kernel
def divided(n: i32, d: i32, x: zl.In[f32, M], *, y: zl.Out[f32, M]):
    zl.requires(d >= 0 and (d == 0 or n >= d))
    m = zl.grid(M)
    y[m] = x[m] if d != 0 and n % d == 0 else -x[m]


@zl.kernel
def of_tiles(x: zl.In[f32, M], *, y: zl.Out[f32, M], z: zl.Out[f32, M]):
    c = zl.grid(M.tiles(4))
    y[c] = zl.where(-0.5 < x[c] < 0.5, 1.0, 0.0)
    z[c] = x[c] if x[c] > 0.0 else 0.0


X = np.array([0.5, -0.25, 2.0, -3.0, 0.0, 1.0, 0.25], np.float32)
S = np.array([-1, 0, 1, 3, 6, 7, 100, -5, 2], np.int32)
B = np.arange(9, dtype=np.float32)
ROWS = np.array([[1] * 7, [-1] * 7, [1, 1, 1, 0, 1, 1, 1]], np.float32)


def _inside(j: int) -> bool:
    return 0 <= j < 7


def _runs() -> dict[str, tuple[Any, dict[str, Any], dict[str, int], Any]]:
    """Kernel, arguments by name, dims, the outputs."""
    joined_by = [
        [_inside(j) and X[j] > 0, not _inside(j) or X[j] > 0, not (_inside(j) and X[j] <= 0), _inside(j)] for j in S
    ]
    chosen_by = [
        X * (X[j] if _inside(j) else -1) + (B[i] if i > 0 else 0.5) + (X if j > 2 else X * 2) for i, j in enumerate(S)
    ]
    positions = [7, 0, 3]
    return {
        "joined": (joined, {"x": X, "s": S}, {"M": 7, "N": 9}, {"y": np.array(joined_by, np.float32)}),
        "chosen": (chosen, {"x": X, "b": B, "s": S}, {"M": 7, "N": 9}, {"y": np.array(chosen_by, np.float32)}),
        "searched": (searched, {"x": ROWS}, {"M": 7, "N": 3}, {"y": np.array(positions, np.int32)}),
        "searched in nothing": (searched, {"x": ROWS[:, :0]}, {"M": 0, "N": 3}, {"y": np.zeros(3, np.int32)}),
        "divided": (divided, {"n": 6, "d": 3, "x": X}, {"M": 7}, {"y": X}),
        "divided by another": (divided, {"n": 6, "d": 4, "x": X}, {"M": 7}, {"y": -X}),
        "divided by 0": (divided, {"n": 6, "d": 0, "x": X}, {"M": 7}, {"y": -X}),
        "of tiles": (
            of_tiles, {"x": X}, {"M": 7}, {"y": (np.abs(X) < 0.5).astype(np.float32), "z": np.maximum(X, 0)},
        ),
    }  # fmt: skip


@pytest.mark.parametrize("name", _runs())
@pytest.mark.parametrize("backend", ["reference", "cpu"])
def test_they_mean_what_python_means(name: str, backend: str) -> None:
    kernel, given, _, wanted = _runs()[name]
    with zl.using(backend):
        found = kernel(**given)
    for tensor, want in zip(found if isinstance(found, tuple) else (found,), wanted.values(), strict=True):
        np.testing.assert_array_equal(tensor.numpy(), want)


@pytest.mark.parametrize("name", _runs())
def test_gpu_code_means_the_same(name: str) -> None:
    kernel, given, dims, wanted = _runs()[name]
    arrays = {k: v for k, v in given.items() if isinstance(v, np.ndarray)} | {
        k: np.full_like(v, 7) for k, v in wanted.items()
    }
    scalars = {k: v for k, v in given.items() if not isinstance(v, np.ndarray)}
    compare(function_of(kernel), dims, arrays, scalars, rtol=0, atol=0)
    compare(function_of(kernel), dims, arrays, scalars, fixed={}, rtol=0, atol=0)


def test_a_precondition_that_divides_by_zero_is_not_met() -> None:
    @zl.kernel
    def late(n: i32, d: i32, x: zl.In[f32, M], *, y: zl.Out[f32, M]):
        zl.requires(n % d == 0 and d > 0)
        m = zl.grid(M)
        y[m] = x[m]

    np.testing.assert_array_equal(late(6, 3, X).numpy(), X)
    for backend in ("reference", "cpu"):
        with zl.using(backend), pytest.raises(ZelligeError, match="ZL0507"):
            late(6, 0, X)


def test_a_precondition_on_what_is_loaded_is_refused_at_its_line() -> None:
    @zl.kernel
    def loaded(x: zl.In[f32, M], *, y: zl.Out[f32, M]):
        zl.requires(M > 0 and x[0] > 0.0)
        m = zl.grid(M)
        y[m] = x[m]

    with pytest.raises(ZelligeError, match="ZL0110") as caught:
        loaded.lower({}, {})
    assert caught.value.span is not None


def test_sides_that_cannot_go_wrong_are_computed_without_a_branch() -> None:
    @zl.kernel
    def plain(x: zl.In[f32, M], n: i32, *, y: zl.Out[f32, M]):
        m = zl.grid(M)
        first, value = x[m], x[m] + 1.0
        both = (0 <= n < M and first > 0.0) or not first < value
        y[m] = first if both and m < M else -value

    assert not any(isinstance(op, ops.If) for op in walk(plain.lower({}, {}).body))


@pytest.mark.parametrize("early", [False, True], ids=["loaded on the right", "loaded before"])
@pytest.mark.parametrize("either", [False, True], ids=["and", "or"])
def test_a_truth_value_is_inactive_where_its_right_side_was_looked_at_and_is(either: bool, early: bool) -> None:
    @zl.kernel
    def counted(x: zl.In[f32, M], n: i32, *, y: zl.Out[f32, M], EITHER: zl.Static, EARLY: zl.Static):
        m = zl.grid(M)
        if EARLY:
            value = x[zl.only(m, m < 3)]
            found = (n <= 0 or value >= 0.0) if EITHER else (n > 0 and value >= 0.0)
        else:
            found = (n <= 0 or x[zl.only(m, m < 3)] >= 0.0) if EITHER else (n > 0 and x[zl.only(m, m < 3)] >= 0.0)
        y[m] = zl.where(found.active, 1.0, 0.0)

    chosen = {"EITHER": either, "EARLY": early}
    for backend in ("reference", "cpu"):
        with zl.using(backend):
            np.testing.assert_array_equal(counted(X, 1, **chosen).numpy(), np.arange(7) < 3)
            np.testing.assert_array_equal(counted(X, 0, **chosen).numpy(), np.ones(7))
    for n in (0, 1):
        compare(function_of(counted, **chosen), {"M": 7}, {"x": X, "y": X.copy()}, {"n": n}, rtol=0, atol=0)


def test_what_the_left_side_implies_makes_nothing_inactive() -> None:
    @zl.kernel
    def kept(x: zl.In[f32, M], s: zl.In[zl.Index[M, zl.optional], N], *, y: zl.Out[f32, N]):
        i = zl.grid(N)
        j = s[i]
        value = x[zl.only(j, j.present)]
        found = value.active and value > 0.0 and x[zl.only(j, j.present)] < 9.0
        y[i] = zl.where(found.active, zl.where(found, 1.0, 0.0), 7.0)

    s = np.array([-1, 0, 1, 2], np.int32)
    for backend in ("reference", "cpu"):
        with zl.using(backend):
            np.testing.assert_array_equal(kept(X, s).numpy(), [0, 1, 0, 1])


@pytest.mark.parametrize(
    ("condition", "help"),
    [("n and x[m] > 0.0", "n != 0"), ("x[m] > 0.0 and n", "n != 0"), ("x[:] > 0.0 or n > 0", "|")],
)
def test_what_is_no_truth_value_is_refused(condition: str, help: str) -> None:
    from tests.fuzz.kernels import lowered

    source = f"@zl.kernel\ndef k(x: zl.In[f32, M], n: i32, *, y: zl.Out[f32, M]):\n    m = zl.grid(M)\n    y[m] = zl.where({condition}, 1.0, 0.0)\n"
    with pytest.raises(ZelligeError, match="ZL0105") as caught:
        lowered(source, f"<{condition}>")
    assert help in str(caught.value.help)
