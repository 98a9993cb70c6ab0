"""Recorded launches on the CPU: which of them run side by side."""

from __future__ import annotations

import numpy as np

import zellige as zl
from zellige import f32
from zellige.runtime.graph import Graph
from zellige.runtime.tensor import zeros

N = zl.dims("N")


@zl.kernel
def doubled(x: zl.In[f32, N], *, y: zl.Out[f32, N]):
    i = zl.grid(N)
    y[i] = x[i] * 2.0


@zl.kernel
def add_to(x: zl.In[f32, N], *, y: zl.Mut[f32, N]):
    i = zl.grid(N)
    y[i] = y[i] + x[i]


def barriers(graph: Graph) -> list[bool]:
    """Of each launch: whether it waits for all before it."""
    return [not launch[4] for launch in graph._recording.native._launches]


def test_launches_that_share_only_what_they_read_run_side_by_side():
    x, a, b = (zeros((8,), f32) for _ in range(3))
    with zl.using("cpu"), zl.record() as graph:
        doubled(x, y=a)
        doubled(x, y=b)
    assert barriers(graph) == [True, False]


def test_a_launch_waits_for_what_it_reads_and_for_readers_of_what_it_writes():
    x, a, b = (zeros((8,), f32) for _ in range(3))
    with zl.using("cpu"), zl.record() as graph:
        doubled(x, y=a)
        doubled(a, y=b)  # reads what was written
        doubled(x, y=a)  # writes what is being read
        add_to(x, y=a)  # writes what is being written
    assert barriers(graph) == [True, True, True, True]


def test_a_launch_waits_for_any_of_those_that_run_side_by_side():
    x, a, b, c = (zeros((8,), f32) for _ in range(4))
    with zl.using("cpu"), zl.record() as graph:
        doubled(x, y=a)
        doubled(x, y=b)
        doubled(a, y=c)
    assert barriers(graph) == [True, False, True]


def test_views_of_one_memory_are_told_apart_by_address():
    x, whole = zeros((8,), f32), np.zeros(16, np.float32)
    lower, upper, middle = (zl.borrow(part) for part in (whole[:8], whole[8:], whole[4:12]))
    with zl.using("cpu"), zl.record() as graph:
        doubled(x, y=lower)
        doubled(x, y=upper)
        doubled(x, y=middle)
    assert barriers(graph) == [True, False, True]
