"""Kernels that Python understands in one way and a compiler easily in another: each is refused, for none may mean something else.

All of them were accepted once, with a meaning of ours (2026-11-29). ``tests/frontend/golden/habits.txt`` has the words about each.
"""

from __future__ import annotations

import zellige as zl
from zellige import f32, i32

M, N = zl.dims("M N")

total = 2.0


@zl.inline
def counted(y, t, v):
    y[t] = y[t] + v
    return v


def helper(n):
    return 1.0 if n == 3 else 2.0


def loop_variable_after_its_loop(x: zl.In[f32, N], *, y: zl.Out[f32, 1]):
    k = 0
    s = 0.0
    for k in range(N):
        s = s + x[k]
    y[0] = s + x.load(zl.only(k, k < N))


def truth_of_an_extent_and(flag: i32, *, y: zl.Mut[f32, N]):
    y[:] = zl.full(N, 1.0, f32)
    if N - 3 and flag > 0:
        y[:] = zl.full(N, 2.0, f32)


def truth_of_an_extent_chooses(*, y: zl.Mut[f32, N]):
    y[:] = zl.full(N, 1.0 if N - 3 else 2.0, f32)


def truth_of_an_extent_asserted(*, y: zl.Mut[f32, N]):
    assert N - 3
    y[:] = zl.full(N, 1.0, f32)


def extent_beside_a_float(*, y: zl.Mut[f32, N]):
    y[:] = zl.full(N, 1.0 if N == 3.0 else 2.0, f32)


def shapes_compared_whole(x: zl.In[f32, M], *, y: zl.Mut[f32, N]):
    y[:] = zl.full(N, 1.0 if x.shape == y.shape else 2.0, f32)


def extent_among_numbers(*, y: zl.Mut[f32, N]):
    y[:] = zl.full(N, 1.0 if N in (3, 4) else 2.0, f32)


def extent_that_is_another(x: zl.In[f32, M], *, y: zl.Mut[f32, N]):
    y[:] = zl.full(N, 1.0 if N is M else 2.0, f32)


def extent_in_plain_python(*, y: zl.Mut[f32, N]):
    y[:] = zl.full(N, helper(N), f32)


def extents_counted(x: zl.In[f32, M, N], *, y: zl.Mut[f32, N]):
    y[:] = zl.full(N, 1.0 * x.shape.count(1), f32)


def any_of_comparisons(flag: i32, *, y: zl.Mut[f32, N]):
    y[:] = zl.full(N, 1.0 if any((flag > 0, flag < -5)) else 2.0, f32)


def all_of_comparisons(flag: i32, *, y: zl.Mut[f32, N]):
    y[:] = zl.full(N, 1.0 if all([flag > 0, flag < 5]) else 2.0, f32)


def pairs_of_scalars_compared(a: i32, b: i32, *, y: zl.Mut[f32, N]):
    y[:] = zl.full(N, 1.0 if (a, b) == (b, a) else 2.0, f32)


def scalars_filtered(a: i32, b: i32, *, y: zl.Mut[i32, N]):
    for part in zl.unroll(filter(None, (a, b))):
        y[:] = zl.full(N, part, i32)


def larger_by_a_key(a: i32, b: i32, *, y: zl.Mut[i32, N]):
    y[:] = zl.full(N, max(a, b, key=abs), i32)


def step_by_name(*, y: zl.Mut[f32, N]):
    for k in range(0, N, step=2):
        y[k] = 1.0


def truth_of_an_array(x: zl.In[f32, N], *, y: zl.Mut[f32, N]):
    if x:
        y[:] = x[:]


def store_in_a_side_of_a_choice(flag: i32, *, y: zl.Mut[f32, N], z: zl.Mut[f32, N]):
    t = zl.grid(N)
    counted(y, t, 1.0) if flag > 0 else counted(z, t, 2.0)


def store_behind_an_and(flag: i32, *, y: zl.Mut[f32, N], z: zl.Mut[f32, N]):
    t = zl.grid(N)
    if flag > 0 and counted(y, t, 1.0) > 0.0:
        z[t] = 5.0


def store_in_the_condition_of_a_while(*, y: zl.Mut[f32, N]):
    t = zl.grid(N)
    while zl.bounded(counted(y, t, 1.0) < 0.0, limit=3):
        y[t] = 0.0


def guard_in_a_side_of_a_choice(k: zl.In[i32, N], flag: i32, *, y: zl.Mut[f32, N]):
    t = zl.grid(N)
    y[zl.guard(k[t], below=N) if flag > 0 else t] = 1.0


def name_outside_that_is_assigned_inside(x: zl.In[f32, N], *, y: zl.Mut[f32, N]):
    for i in range(N):
        total = total + x[i]  # noqa: F823
        y[i] = total


def inverted_static(*, y: zl.Mut[f32, N], S: zl.Static = 4):
    y[:] = zl.full(N, 1.0 if ~(S == 4) else 2.0, f32)
