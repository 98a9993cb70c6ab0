"""Kernels that a careless verifier would accept. Each says in its name what the trap is."""

import zellige as zl
from zellige import f32, i32, i64

M, N, T, B, P, V = zl.dims("M N T B P V")


@zl.kernel
def second_output_is_longer_than_the_first(x: zl.In[f32, M], *, y: zl.Out[f32, M], z: zl.Out[f32, 2 * M]):
    i = zl.grid(M)
    y[i] = x[i]
    z[i] = x[i]


@zl.kernel
def store_in_a_while_may_never_be_reached(x: zl.In[f32, B], *, y: zl.Out[f32, B, N]):
    b = zl.grid(B)
    i = 0
    while zl.bounded((i < N) & (x[b] > 0.0), N):
        y[b, i] = 1.0
        i = i + 1


@zl.kernel
def while_condition_at_a_later_iteration_does_not_mean_it_is_reached(*, y: zl.Out[f32, 8]):
    zl.grid(1)
    i = 0
    while zl.bounded(i != 3, 8):
        y[i] = 1.0
        i = i + 1


@zl.kernel
def while_loop_stops_before_what_its_condition_allows(*, y: zl.Out[f32, 8]):
    zl.grid(1)
    y[3] = 0.0
    i = 0
    while zl.bounded(i != 3, 8):
        y[i] = 1.0
        i = i + 1


@zl.kernel
def carried_index_grows_by_what_memory_says(x: zl.In[f32, M], jump: zl.In[i32, B], *, y: zl.Out[f32, B]):
    zl.requires(M > 0)
    b = zl.grid(B)
    at, total = 0, zl.zeros((), f32)
    for step in range(10):
        total = total + x[at]
        at = zl.minimum(at + jump[b], M - 1)
    y[b] = total


@zl.kernel
def carried_index_is_swapped_with_a_larger_one(x: zl.In[f32, M], *, y: zl.Out[f32, B]):
    b = zl.grid(B)
    low, high, total = 0, M, zl.zeros((), f32)
    zl.requires(M > 0)
    for step in range(3):
        total = total + x[low]
        low, high = high, low
    y[b] = total


@zl.kernel
def index_is_loaded_again_after_a_store(x: zl.In[f32, N], *, where: zl.Mut[i64, M], y: zl.Out[f32, M]):
    i = zl.grid(M)
    j = where[i]
    where[i] = j + 1
    k = where[i]
    y[i] = 0.0
    if (j >= 0) & (j < N):
        y[i] = x[k]


@zl.kernel
def narrow_addition_wraps_before_the_comparison(x: zl.In[f32, N], rows: zl.In[i32, M], *, y: zl.Out[f32, M]):
    i = zl.grid(M)
    next = rows[i] + 1
    y[i] = 0.0
    if (rows[i] >= 0) & (next < N):
        y[i] = x[next]


@zl.kernel
def opposite_comparisons_of_a_nan_are_both_false(x: zl.In[f32, M], *, y: zl.Out[f32, M]):
    i = zl.grid(M)
    if x[i] > 0.0:
        y[i] = 1.0
    if x[i] <= 0.0:
        y[i] = -1.0


@zl.kernel
def contract_holds_for_elements_not_for_padding(x: zl.In[f32, N], rows: zl.In[zl.Index[N], M], *, y: zl.Mut[f32, M]):
    i = zl.grid(M.tiles(32))
    r = rows[zl.only(i, i > 5)]
    everywhere = zl.arange(32) * 0 + zl.max(r, pad=0)
    y[i] = x[everywhere]


@zl.kernel
def empty_table_proves_nothing(x: zl.In[f32, N], table: zl.In[zl.Index[N], T], *, y: zl.Out[f32, M]):
    i = zl.grid(M)
    y[i] = x[0]


@zl.kernel
def branch_of_one_program_says_nothing_of_another(flag: zl.In[i32, M], *, y: zl.Mut[f32, M + 1]):
    i = zl.grid(M)
    if flag[i] > 0:
        y[i] = 1.0
    else:
        y[i + 1] = 2.0


@zl.kernel
def distinct_says_nothing_of_two_arrays(
    x: zl.In[f32, T], a: zl.In[zl.Index[N, zl.distinct], T], b: zl.In[zl.Index[N, zl.distinct], T], *, y: zl.Mut[f32, N]
):
    t = zl.grid(T)
    if t < T - 1:
        y[a[t]] = x[t]
    else:
        y[b[t]] = x[t]


@zl.kernel
def distinct_but_absent_entries_meet(
    x: zl.In[f32, T], s: zl.In[zl.Index[N, zl.distinct, zl.optional], T], *, y: zl.Mut[f32, N]
):
    zl.requires(N > 0)
    t = zl.grid(T)
    y[zl.maximum(s[t], 0)] = x[t]


@zl.kernel
def distinct_over_two_axes_with_one_dropped(
    x: zl.In[f32, T, B], s: zl.In[zl.Index[N, zl.distinct], T], *, y: zl.Mut[f32, N]
):
    t, b = zl.grid(T, B)
    y[s[t]] = x[t, b]


@zl.kernel
def later_iterations_of_another_program_meet(x: zl.In[f32, M], *, y: zl.Mut[f32, M + 8]):
    i = zl.grid(M)
    for k in range(8):
        y[i + k] = x[i]


@zl.kernel
def update_and_load_of_different_roles(x: zl.In[f32, M], *, y: zl.Mut[f32, M]):
    i = zl.grid(M)
    y[i] = x[i] + y[M - 1 - i]


@zl.kernel
def stride_of_a_dim_that_may_be_zero(*, y: zl.Mut[f32, M * P]):
    i = zl.grid(M)
    for k in range(P + 1):
        j = i * P + k
        if j < M * P:
            y[j] = 1.0


@zl.kernel
def guard_does_not_stop_the_program(x: zl.In[f32, N], rows: zl.In[i32, M], *, y: zl.Out[f32, M]):
    i = zl.grid(M)
    r = rows[i]
    zl.guard(r, below=N)
    y[i] = x[r]


@zl.kernel
def offsets_segments_overlap_by_one(offsets: zl.In[zl.Offsets[N], B + 1], *, x: zl.Mut[f32, N]):
    b = zl.grid(B)
    first, last = offsets[b], offsets[b + 1]
    for i in zl.tiles(zl.minimum(last + 1, N) - first, 16):
        x[first + i] = x[first + i] * 2.0


@zl.kernel
def up_to_is_not_below(x: zl.In[f32, N], n: zl.UpTo[N], *, y: zl.Out[f32, 1]):
    zl.grid(1)
    y[0] = x[n]


@zl.kernel
def last_of_a_running_index_is_one_past(x: zl.In[f32, M], *, y: zl.Out[f32, B]):
    b = zl.grid(B)
    at, total = 0, zl.zeros((), f32)
    for step in range(M):
        total = total + x[at]
        at = at + 1
    y[b] = total + x[at]
