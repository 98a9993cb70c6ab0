"""What a launch checks before anything runs."""

from __future__ import annotations

import numpy as np
import pytest

import zellige as zl
from zellige import ZelligeError, f32

M, N, K = zl.dims("M N K")


@zl.kernel
def scatter(x: zl.In[f32, M], at: zl.In[zl.Index[N, zl.distinct, zl.optional], M], *, y: zl.Mut[f32, N]):
    i = zl.grid(M)
    place = at[i]
    if place.present:
        y[place] = x[i]


@zl.kernel
def copy(x: zl.In[f32, M], *, y: zl.Out[f32, M]):
    i = zl.grid(M)
    y[i] = x[i]


@zl.kernel
def halves(x: zl.In[f32, 2 * M], *, y: zl.Out[f32, M], B: zl.Static = 4):
    zl.requires(M >= 2)
    i = zl.grid(M.tiles(B))
    y[i] = x[i] + x[i + M]


def refused(call, code: str) -> str:
    with zl.using("reference"), pytest.raises(ZelligeError) as caught:
        call()
    assert caught.value.code == code
    return caught.value.render()


def floats(n: int) -> np.ndarray:
    return np.arange(n, dtype=np.float32)


def test_duplicate_slots_are_refused_naming_both():
    text = refused(lambda: scatter(floats(3), np.array([2, 0, 2], np.int32), y=floats(4)), "ZL0505")
    assert "elements 0 and 2 are both 2" in text


def test_an_index_out_of_range_is_refused_with_its_place():
    text = refused(lambda: scatter(floats(2), np.array([0, 4], np.int32), y=floats(4)), "ZL0505")
    assert "element 1 is 4, outside [-1, 3]" in text


def test_absent_entries_write_nothing():
    y = floats(3)
    with zl.using("reference"):
        scatter(np.array([7, 8], np.float32), np.array([-1, 1], np.int32), y=y)
    np.testing.assert_array_equal(y, [0, 8, 2])


def test_an_output_that_shares_memory_with_an_input_is_refused():
    x = floats(8)
    refused(lambda: copy(x, y=x), "ZL0503")
    refused(lambda: copy(x[:4], y=x[3:7]), "ZL0503")


def test_inputs_may_share_memory():
    x = floats(4)
    with zl.using("reference"):
        np.testing.assert_array_equal(copy(x).numpy(), x)


def test_overlapping_coordinates_of_a_written_array_are_refused():
    base = floats(4)
    rows = np.lib.stride_tricks.as_strided(base, (4,), (0,), writeable=True)
    refused(lambda: copy(floats(4), y=rows), "ZL0503")


def test_shapes_that_disagree_are_refused():
    assert "dim M is 3" in refused(lambda: copy(floats(3), y=floats(4)), "ZL0502")
    refused(lambda: copy(floats(4).reshape(2, 2)), "ZL0502")


def test_a_dim_that_stands_only_in_a_product_must_be_told():
    refused(lambda: halves(floats(8)), "ZL0502")
    with zl.using("reference"):
        y = floats(4)
        halves(floats(8), y=y)
    np.testing.assert_array_equal(y, [4, 6, 8, 10])


def test_preconditions_are_checked_with_the_sizes():
    text = refused(lambda: halves(floats(2), y=floats(1)), "ZL0507")
    assert "M >= 2" in text and "M: 1" in text


def test_wrong_dtypes_and_unknown_arguments_are_refused():
    refused(lambda: copy(np.zeros(3)), "ZL0501")
    refused(lambda: copy(floats(3), z=floats(3)), "ZL0502")
    refused(lambda: copy(), "ZL0502")


def test_reading_a_tensor_that_nothing_wrote_is_refused():
    refused(lambda: copy(zl.empty((3,), f32)), "ZL0504")
    refused(lambda: zl.empty((3,), f32).numpy(), "ZL0504")


def test_writing_a_tensor_checks_the_contracts_it_keeps_and_loses_nothing():
    at = zl.index([0, 1], below=4, distinct=True)
    refused(lambda: at.write(np.array([3, 3], np.int32)), "ZL0505")
    np.testing.assert_array_equal(at.numpy(), [0, 1])
    at.write(np.array([3, 2], np.int32))
    np.testing.assert_array_equal(at.numpy(), [3, 2])


def test_a_borrowed_array_is_checked_at_every_use():
    at = zl.borrow(np.array([0, 1], np.int32))
    with zl.using("reference"):
        scatter(floats(2), at, y=floats(4))
    at.storage[1] = 0
    refused(lambda: scatter(floats(2), at, y=floats(4)), "ZL0505")


@zl.kernel
def first_of(at: zl.In[zl.Index[N], M], *, token: zl.Out[zl.Index[N], 1]):
    zl.requires(M >= 1)
    zl.grid(1)
    token[0] = at[0]


def test_a_dim_that_only_a_contract_names_is_passed_by_name():
    text = refused(lambda: first_of(np.array([3], np.int32)), "ZL0502")
    assert "N=…" in text
    with zl.using("reference"):
        assert first_of(np.array([3], np.int32), N=4).numpy()[0] == 3
    refused(lambda: first_of(np.array([4], np.int32), N=4), "ZL0505")
    refused(lambda: first_of(np.array([3], np.int32), N=4.5), "ZL0502")


@zl.kernel
def one_further(x: zl.In[f32, M], s: zl.i32, *, y: zl.Out[f32, M]):
    further = s + 1
    zl.requires(further >= 0)
    i = zl.grid(M)
    y[i] = x[zl.minimum(further, M - 1)]


@pytest.mark.parametrize("backend", ["reference", "cpu"])
def test_a_precondition_is_about_numbers_as_the_kernel_has_them(backend: str):
    with zl.using(backend):
        np.testing.assert_array_equal(one_further(floats(3), 0).numpy(), [1, 1, 1])
        with pytest.raises(ZelligeError) as caught:
            one_further(floats(3), (1 << 31) - 1)
    if backend == "cpu":  # -2^31 would be the index
        assert caught.value.code == "ZL0507"


@zl.kernel
def shifted(x: zl.In[f32, M], s: zl.i32, *, y: zl.Out[f32, M]):
    zl.requires(((s << 1) > 0) & ((s >> 1) < 3))
    i = zl.grid(M)
    y[i] = x[i]


def test_a_precondition_may_shift():
    with zl.using("cpu"):
        np.testing.assert_array_equal(shifted(floats(2), 5).numpy(), [0, 1])
    refused(lambda: shifted(floats(2), 6), "ZL0507")
    refused(lambda: shifted(floats(2), 1 << 30), "ZL0507")


@zl.kernel
def rescaled(x: zl.In[f32, M], n: zl.In[f32, N, 0], *, y: zl.Out[f32, 8]):
    zl.requires(M > 0)
    i = zl.grid(8)
    y[i] = x[zl.minimum(i, (M * N * N * N) // (N * N * N) - 1)]


@pytest.mark.parametrize(("n", "said"), [(1 << 22, "64 bits do not hold"), (0, "divides by (N*N*N) = 0")])
def test_an_extent_that_programs_cannot_work_out_is_refused(n: int, said: str):
    assert said in refused(lambda: rescaled(floats(8), np.zeros((n, 0), np.float32)), "ZL0502")


def test_a_shape_that_divides_by_nothing_is_refused():
    text = refused(lambda: halved(floats(8), np.zeros((0, 0), np.float32)), "ZL0502")
    assert "divides by N = 0" in text


@zl.kernel
def halved(x: zl.In[f32, M], n: zl.In[f32, N, 0], *, y: zl.Out[f32, M // N]):
    i = zl.grid(M // N)
    y[i] = 1.0


@zl.kernel
def taken(x: zl.In[f32, M], at: zl.In[zl.Index[M // N], K], n: zl.In[f32, N, 0], *, y: zl.Out[f32, K]):
    zl.requires(N > 0)
    i = zl.grid(K)
    y[i] = x[at[i]]


def test_a_contract_that_divides_by_nothing_is_refused():
    text = refused(lambda: taken(floats(8), np.zeros(2, np.int32), np.zeros((0, 0), np.float32)), "ZL0502")
    assert "divides by N = 0" in text


@zl.kernel
def inverted(x: zl.In[f32, M], s: zl.i32, *, y: zl.Out[f32, M]):
    other = ~s
    zl.requires(other >= 0)
    i = zl.grid(M)
    y[i] = x[zl.minimum(other, M - 1)]


def test_a_precondition_inverts_bits_as_the_kernel_does():
    with zl.using("cpu"):
        np.testing.assert_array_equal(inverted(floats(3), -2).numpy(), [1, 1, 1])
    refused(lambda: inverted(floats(3), 5), "ZL0507")


@zl.kernel
def logarithmic(x: zl.In[f32, M], s: f32, *, y: zl.Out[f32, M]):
    zl.requires((zl.log(s) < 1.0) & (zl.floor(1.0 / s) >= 0.0))
    i = zl.grid(M)
    y[i] = x[i]


@pytest.mark.parametrize(("s", "holds"), [(1.0, True), (0.0, True), (-1.0, False), (3.0, False)])
def test_a_precondition_may_be_about_any_float(s: float, holds: bool):
    with zl.using("cpu"):
        if holds:
            logarithmic(floats(2), s)
        else:
            refused(lambda: logarithmic(floats(2), s), "ZL0507")


@zl.kernel
def doubled_size(x: zl.In[zl.u8, M, N, K], s: zl.UpTo[K], *, y: zl.Mut[f32, 4]):
    t = zl.grid(1)
    y[2 - zl.minimum(M * N * s * 2 + t, 2)] = 7.0


def test_an_array_of_more_elements_than_proofs_assume_is_refused():
    """Its index was proved to fit 64 bits because of that: a segmentation fault on the CPU (2026-11-29)."""
    many = np.broadcast_to(np.zeros(1, np.uint8), (2**31 - 1, 2**31 - 1, 2))
    assert "elements" in refused(lambda: doubled_size(many, 2, y=floats(4)), "ZL0502")


@zl.kernel
def by_a_static(x: zl.In[f32, M], *, y: zl.Out[f32, M], S: zl.Static):
    i = zl.grid(M)
    first = S[0] if isinstance(S, tuple) else S
    y[i] = 5.0 if isinstance(first, bool) else x[i] / first if isinstance(first, float) else 7.0


@pytest.mark.parametrize("order", [1, -1])
def test_static_parameters_that_are_equal_but_not_the_same_are_told_apart(order: int):
    expected = [
        (0.0, np.inf),
        (-0.0, -np.inf),
        ((1,), 7),
        ((1.0,), 1),
        ((True,), 5),
        ((-0.0,), -np.inf),
        ((0.0,), np.inf),
    ]
    with zl.using("cpu"):
        for _ in range(2):
            for static, value in expected[::order]:
                assert by_a_static(np.ones(1, np.float32), S=static).numpy().tolist() == [value], static


@zl.kernel
def truthful(x: zl.In[f32, M], s: zl.i32, *, y: zl.Out[f32, M]):
    zl.requires((M > 0) & ~(s.to(zl.bool_)))
    i = zl.grid(M)
    y[i] = x[s]


def test_a_precondition_knows_two_truth_values_only():
    with zl.using("cpu"):
        np.testing.assert_array_equal(truthful(floats(3), 0).numpy(), [0, 0, 0])
    for s in (1, 2, -1, 100_000):  # ~2 is not 0, so it once passed for true
        refused(lambda s=s: truthful(floats(3), s), "ZL0507")


@zl.kernel
def beyond_five(*, x: zl.Mut[f32, M, N]):
    i, j = zl.grid(M - 5, N - 5)
    x[i, j] = 1.0


@zl.kernel
def beyond_five_by_rows(*, x: zl.Mut[f32, M, N]):
    i = zl.grid(M - 5)
    for j in range(N):
        x[i, j] = 1.0


@pytest.mark.parametrize("backend", ["reference", "cpu"])
def test_axes_of_a_grid_that_are_negative_do_not_multiply_to_programs(backend: str):
    with zl.using(backend):
        for kernel, rows, columns in ((beyond_five, 2, 3), (beyond_five_by_rows, 2, 3)):
            x = np.zeros((rows, columns), np.float32)
            with pytest.raises(ZelligeError, match=r"ZL0502.*counts programs or lanes"):
                kernel(x=x)
            assert not x.any()
        x = np.zeros((6, 7), np.float32)
        beyond_five(x=x)
        assert x.sum() == 2


@zl.kernel
def squared(x: zl.In[f32, 8], *, z: zl.Mut[f32, N], y: zl.Out[f32, 1]):
    zl.grid(1)
    low, _ = zl.sort(x[:])
    crossed, _ = zl.sort((zl.arange(N - 4)[:, None] + zl.arange(8)[None, :]).to(f32))
    y[0:1] = zl.sum(low) + zl.sum(crossed)


@pytest.mark.parametrize("backend", ["reference", "cpu"])
def test_a_tile_has_no_negative_extent(backend: str):
    with zl.using(backend):
        np.testing.assert_array_equal(squared(floats(8), z=floats(4)).numpy(), [28])
        with pytest.raises(ZelligeError, match=r"ZL0502.*\(N - 4\)"):
            squared(floats(8), z=floats(3))


@zl.kernel
def many(x: zl.In[f32, N, 0], *, y: zl.Out[f32, 1]):
    zl.requires(N > 0)
    a, b, c, d = zl.grid(N, N, N, N)
    if a + b + c + d == 0:
        y[a] = 1.0


def test_more_programs_than_are_counted():
    with zl.using("cpu"):
        np.testing.assert_array_equal(many(np.zeros((2, 0), np.float32)).numpy(), [1])
        big = zl.tensor(np.zeros((1 << 16, 0), np.float32))
        with pytest.raises(ZelligeError, match="ZL0516"):
            many(big)
        with pytest.raises(ZelligeError, match="ZL0516"), zl.record():
            many(big)
