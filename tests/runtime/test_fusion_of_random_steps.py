"""Random recorded steps, fused wherever that is found possible, leave in all memory that others may read the bits of the plain steps.

The steps alias: slices that overlap, columns of a wider array, arrays written in place, in part, on one path, by gathers, updates
and other views; the host's permission to drop contents is drawn, too."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import zellige as zl
from tests.runtime import step_kernels as k
from zellige import ZelligeError, bf16
from zellige.ir.types import Role
from zellige.runtime.graph import Graph
from zellige.runtime.tensor import Tensor

KERNELS: list[tuple[Any, str, dict[str, Any]]] = [
    # kernel, kinds of its arrays in the order of its signature, scalars
    (k.scaled, "mm", {"by": 0.7}),
    (k.added, "mmm", {}),
    (k.accumulated, "mm", {}),
    (k.tripled, "m", {}),
    (k.read_again, "mmm", {}),
    (k.even_lanes, "mm", {}),
    (k.even_rows, "mm", {}),
    (k.padded, "mm", {}),
    (k.mirrored, "mm", {}),
    (k.rotated, "mm", {}),
    (k.backwards, "mm", {}),
    (k.centred, "mm", {}),
    (k.centred_in_place, "m", {}),
    (k.summed, "mv", {}),
    (k.column_maxima, "mw", {}),
    (k.row_added, "mvm", {}),
    (k.column_added, "mvm", {}),
    (k.product, "mmm", {}),
    (k.greatest, "mi", {}),
    (k.following, "ivi", {}),
    (k.halved_index, "vi", {}),
    (k.any_integer, "ri", {}),
    (k.gathered, "mim", {}),
    (k.scattered, "mpm", {}),
    (k.scattered_into, "mpm", {}),
    (k.sorted_order, "vp", {}),
    (k.ragged, "mom", {}),
    (k.noisy, "mm", {"seed": 11}),
    (k.numbered, "mm", {}),
    (k.shortened, "mh", {}),
    (k.short_products, "hhh", {}),
    (k.widened, "hm", {}),
    (k.guarded, "mrm", {}),
    (k.constant, "m", {}),
    (k.running, "mm", {}),
    (k.twice_stored, "mm", {}),
]


class _World:
    """Tensors by kind: matrices, vectors, 16-bit matrices, indices, permutations, raw integers, offsets. Two worlds of a seed are equal."""

    def __init__(self, n: int, seed: int, shift: int) -> None:
        rng = np.random.default_rng(seed)
        matrix = lambda *shape: zl.tensor(rng.standard_normal(shape).astype(np.float32))
        tall, wide = matrix(2 * n, n), matrix(n, 2 * n)
        separate = [matrix(n, n) for _ in range(4)]
        short = zl.tensor(rng.standard_normal((3, n, n)), bf16)
        vectors = [matrix(n), matrix(n), *([separate[0][n // 2], wide[0][:n]] if n else [])]
        indices = [zl.index(rng.integers(0, max(n, 1), n), below=max(n, 1)) for _ in range(2)]
        orders = [zl.tensor(rng.permutation(n).astype(np.int32)) for _ in range(2)]
        raw = zl.tensor(rng.integers(0, max(n, 1), n).astype(np.int32))
        starts = zl.tensor(np.array([0, n // 3, n // 2, n], np.int32))
        views = [tall[:n], tall[n:], tall[shift : shift + n], wide[:, :n], wide[:, n:], wide[:, shift : shift + n]]
        self.tensors: dict[str, list[Tensor]] = {
            "m": separate * 2 + views, "v": vectors, "w": vectors[:2], "h": [short[0], short[1], short[2]], "i": indices, "p": orders,
            "r": [raw, indices[0]], "o": [starts],
        }  # fmt: skip
        self.whole: list[Tensor] = [tall, wide, *separate, short, *vectors[:2], *indices, *orders, raw, starts]


def _bits(tensor: Tensor) -> np.ndarray:
    return tensor.storage.reshape(-1).view(f"u{tensor.storage.itemsize}")


def _addresses(tensor: Tensor) -> np.ndarray:
    """Where each element is."""
    steps = zip(np.indices(tensor.shape), tensor.storage.strides, strict=True)
    return (tensor.storage.__array_interface__["data"][0] + sum(i * step for i, step in steps)).reshape(-1)


Choice = tuple[int, tuple[int, ...]]


def _recorded(world: _World, choices: list[Choice]) -> Graph:
    """The launches that are legal, recorded."""
    last: dict[str, Tensor] = {}
    with zl.record() as graph:
        for which, places in choices:
            kernel, kinds, scalars = KERNELS[which]
            arrays = kernel.signature.arrays
            tensors = [
                last[kind] if at % 3 == 0 and kind in last and array.role is not Role.OUT else pool[at % len(pool)]
                for kind, at, array in zip(kinds, places, arrays.values(), strict=False)
                if (pool := world.tensors[kind])
            ]
            try:
                kernel(**dict(zip(arrays, tensors, strict=True)), **scalars)
            except ZelligeError as error:
                assert error.code in ("ZL0503", "ZL0505", "ZL0507"), error  # aliasing, contracts, preconditions
            else:
                written = zip(kinds, tensors, arrays.values(), strict=True)
                last.update((kind, tensor) for kind, tensor, array in written if array.role is not Role.IN)
    return graph


def _choices(draw: Callable[[Any], Any]) -> list[Choice]:
    one = st.tuples(st.integers(0, len(KERNELS) - 1), st.tuples(*[st.integers(0, 13)] * 3))
    return list(draw(st.lists(one, min_size=2, max_size=7)))


def _resized(plain: Graph, fused: Graph, sizes: dict[str, int]) -> bool:
    """Makes both graphs smaller; False if that is refused, which the fused one may do more often."""
    for graph in (plain, fused):
        try:
            graph.resize(**sizes)
        except ZelligeError as error:
            assert error.code in ("ZL0505", "ZL0507", "ZL0521"), error
            return False
    return True


def check(draw: Callable[[Any], Any], accepted: Callable[[], bool]) -> int:
    """Draws a step and compares; the number of launches that went into others."""
    n, seed = draw(st.sampled_from((5, 6, 9, 1, 0))), draw(st.integers(0, 1 << 16))
    choices, shift = _choices(draw), draw(st.integers(0, n))
    plain_world, fused_world = _World(n, seed, shift), _World(n, seed, shift)
    plain, recorded = _recorded(plain_world, choices), _recorded(fused_world, choices)
    pool = [*fused_world.whole, *fused_world.tensors["m"][8:]]
    temporaries = [pool[i % len(pool)] for i in draw(st.lists(st.integers(0, len(pool) - 1), max_size=5))]
    fused = recorded.fused(temporaries, lambda _: accepted())
    dropped = np.concatenate([_addresses(t) for t in temporaries] or [np.zeros(0, np.int64)])
    for sizes in (None, None, draw(st.fixed_dictionaries({}, optional=dict.fromkeys("MP", st.integers(0, n))))):
        if sizes and not _resized(plain, fused, sizes):
            break
        try:
            plain.replay()
        except ZelligeError as error:
            assert sizes and error.code in ("ZL0505", "ZL0522"), error  # values that are too large for fewer rows
            break
        fused.replay()
        for ours, theirs in zip(fused_world.whole, plain_world.whole, strict=True):
            kept = ~np.isin(_addresses(ours), dropped)
            np.testing.assert_array_equal(_bits(ours)[kept], _bits(theirs)[kept])
    return len(plain) - len(fused)


@pytest.mark.slow
@settings(max_examples=150, deadline=None)
@given(st.data())
def test_random_steps_leave_the_same_memory(data: st.DataObject) -> None:
    every = data.draw(st.booleans())
    check(data.draw, lambda: every or data.draw(st.booleans()))
