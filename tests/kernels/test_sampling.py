"""Sampling on the device against NumPy in float64: what may be drawn, and what is drawn for a given uniform number."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import zellige as zl
from zellige import f32, i32, u64
from zellige.kernels import sampling

F = np.float32
BLOCK = 64
N = zl.dims("N")


@zl.kernel
def uniforms(seed: zl.In[u64, N], position: zl.In[i32, N], *, u: zl.Out[f32, N]):
    i = zl.grid(N)
    u[i] = zl.random_uniform(seed[i], position[i].to(u64))


def maxima(logits, block=BLOCK):
    parts = -(-logits.shape[1] // block)
    padded = np.full((len(logits), parts * block), -np.inf, F)
    padded[:, : logits.shape[1]] = logits
    return padded.reshape(len(logits), parts, block).max(2)


def draw(logits, *, temperature=1.0, top_k=0, top_p=1.0, min_p=0.0, seed=0, position=None, block=BLOCK):
    rows = len(logits)
    position = np.arange(rows) if position is None else position

    def full(value, kind):
        return np.full(rows, value, kind) if np.ndim(value) == 0 else np.asarray(value, kind)

    return sampling.draw(
        logits, maxima(logits, block), full(position, np.int32), full(temperature, F), full(top_k, np.int32), full(top_p, F),
        full(min_p, F), full(seed, np.uint64), BLOCK=block,
    ).numpy()  # fmt: skip


def kept(logits, temperature, top_k, top_p, min_p, slack):
    """Which ids of one row may be drawn; those within `slack` of a bound count as kept where it is positive."""
    p = np.exp((logits.astype(np.float64) - logits.max()) / temperature)
    keep = p > 0
    if top_k:
        keep &= p >= np.sort(p)[::-1][min(top_k, len(p)) - 1] * (1 - slack)
    if top_p < 1:
        mass = np.where(keep, p, 0)
        above = np.array([mass[p > q * (1 + slack)].sum() for q in p])
        keep &= above < top_p * mass.sum() * (1 + slack)
    return keep & (p >= min_p * (1 - slack)), p


parameters = st.fixed_dictionaries(
    {
        "temperature": st.sampled_from([0.1, 0.6, 1.0, 2.5]),
        "top_k": st.sampled_from([0, 1, 2, 20, 300, 10**6]),
        "top_p": st.sampled_from([1.0, 0.95, 0.5, 0.01]),
        "min_p": st.sampled_from([0.0, 0.05, 1.0]),
        "seed": st.integers(0, 2**64 - 1),
    }
)
shapes = st.sampled_from([(1, 1.0), (2, 0.0), (31, 3.0), (64, 0.0), (65, 1.0), (500, 0.01), (1000, 5.0), (1000, 0.0)])


@settings(max_examples=120, deadline=None)
@given(options=parameters, shape=shapes, seed=st.integers(0, 1000))
def test_the_drawn_id_is_where_the_running_sum_of_what_is_kept_passes_the_uniform(options, shape, seed):
    size, spread = shape
    rows = 6
    logits = (np.random.default_rng(seed).standard_normal((rows, size)) * spread).astype(F)
    with zl.using("cpu"):
        token = draw(logits, **options)
        u = uniforms(np.full(rows, options["seed"], np.uint64), np.arange(rows, dtype=np.int32)).numpy()
    filters = {name: options[name] for name in ("temperature", "top_k", "top_p", "min_p")}
    for row in range(rows):
        loose, p = kept(logits[row], **filters, slack=3e-6)
        tight, _ = kept(logits[row], **filters, slack=-3e-6)
        assert loose[token[row]]
        if not np.array_equal(loose, tight):
            continue  # a bound is within rounding of a probability: what is kept is not one set
        ends = np.cumsum(np.where(tight, p, 0))
        target = u[row] * ends[-1]
        slack = 1e-5 * ends[-1]
        assert ends[token[row]] > target - slack and ends[token[row]] - p[token[row]] <= target + slack


def test_sampling_follows_the_probabilities():
    rng = np.random.default_rng(1)
    p = rng.dirichlet(np.full(150, 0.5))
    with zl.using("cpu"):
        drawn = draw(np.tile(np.log(p).astype(F), (20000, 1)), seed=5)
    expected = 20000 * p
    common = expected > 5
    count = np.bincount(drawn, minlength=150)
    chi = ((count - expected) ** 2 / expected)[common].sum()
    degrees = common.sum() - 1
    assert abs(chi - degrees) < 5 * np.sqrt(2 * degrees)


@pytest.mark.parametrize("backend", ["reference", "cpu"])
@pytest.mark.parametrize(
    ("options", "allowed"),
    [({"temperature": 0.0}, {0}), ({"top_k": 2}, {0, 1}), ({"top_p": 0.7}, {0, 1}), ({"min_p": 0.2}, {0, 1, 2}),
     ({"top_k": 3, "top_p": 0.5}, {0})],
)  # fmt: skip
def test_filters_keep_what_they_should(backend, options, allowed):
    logits = np.tile(np.log(np.array([0.5, 0.3, 0.15, 0.05], F)), (60, 1))
    with zl.using(backend):
        assert set(draw(logits, **options).tolist()) == allowed


def test_greedy_rows_take_the_first_of_the_largest_however_close_the_others_are():
    logits = np.zeros((4, 200), F)
    logits[0, [70, 150]] = 1.0
    logits[1, 150] = np.nextafter(F(1), F(2))
    logits[1, 70] = 1.0
    logits[2] = -1e-30
    logits[2, 199] = 0.0
    with zl.using("cpu"):
        token = draw(logits, temperature=0.0, top_k=50, top_p=0.5)
    np.testing.assert_array_equal(token, [70, 150, 199, 0])


def test_a_row_gives_the_same_alone_and_among_others():
    rng = np.random.default_rng(2)
    rows = 24
    logits = (rng.standard_normal((rows, 700)) * 2).astype(F)
    options = {
        "temperature": rng.choice([0.0, 0.7, 1.3], rows), "top_k": rng.choice([0, 5, 100], rows),
        "top_p": rng.choice([1.0, 0.9], rows), "min_p": rng.choice([0.0, 0.1], rows), "seed": rng.integers(0, 99, rows),
        "position": rng.integers(0, 4000, rows),
    }  # fmt: skip
    with zl.using("cpu"):
        together = draw(logits, **options)
        alone = [draw(logits[i : i + 1], **{k: v[i : i + 1] for k, v in options.items()})[0] for i in range(rows)]
        other = draw(logits, **{**options, "seed": options["seed"] + 1})
    np.testing.assert_array_equal(together, alone)
    sampled = options["temperature"] > 0
    assert np.any(together[sampled] != other[sampled]) and np.array_equal(together[~sampled], other[~sampled])


def test_logits_of_minus_infinity_are_never_drawn():
    logits = np.full((300, 130), -np.inf, F)
    logits[:, [3, 129]] = 0.0
    with zl.using("cpu"):
        assert set(draw(logits).tolist()) == {3, 129}


@pytest.mark.parametrize("backend", ["reference", "cpu"])
def test_penalties_and_biases(backend):
    rng = np.random.default_rng(3)
    size, prompt, answer = 150, [3, 3, 70, 149], [70, 5, 5, 5]
    logits = rng.standard_normal((3, size)).astype(F)
    bias = np.zeros(size, F)
    bias[[5, 9]] = [2.0, -100.0]
    counts, biases = np.full((4, size), 77, np.int32), np.full((4, size), 9, F)
    with zl.using(backend):
        sampling.start_row(bias, 2, counts=counts, bias=biases, BLOCK=BLOCK)
        sampling.mark_prompt(np.array([*prompt, -1], np.int32), 2, counts=counts)
        sampling.count_answer(np.array([*answer[:-1], -1, -1], np.int32), 2, counts=counts)
        sampling.count_tokens(np.array([1, answer[-1], 1], np.int32), np.array([-1, 2, -1], np.int32), counts=counts)
        y, best = np.empty_like(logits), np.empty((3, 3), F)
        sampling.altered(
            logits, np.array([-1, 2, -1], np.int32), counts, biases, np.full(3, 1.3, F), np.full(3, 0.5, F), np.full(3, 0.25, F),
            y=y, best=best, BLOCK=BLOCK,
        )  # fmt: skip
    want = logits.astype(np.float64)
    for i in {*prompt, *answer}:
        want[1, i] = want[1, i] / 1.3 if want[1, i] > 0 else want[1, i] * 1.3
    for i in set(answer):
        want[1, i] -= 0.5 + 0.25 * answer.count(i)
    want[1] += bias
    np.testing.assert_allclose(y, want, atol=1e-6)
    np.testing.assert_array_equal(best, maxima(y))
    assert np.all(counts[[0, 1, 3]] == 77) and np.all(biases[[0, 1, 3]] == 9)


@pytest.mark.parametrize("backend", ["reference", "cpu"])
def test_log_probabilities_from_parts(backend):
    rng = np.random.default_rng(4)
    logits = (rng.standard_normal((3, 150)) * 4).astype(F)
    logits[2, :64] = -np.inf  # a whole block
    token = np.array([0, 149, 100], np.int32)
    with zl.using(backend):
        best, total = sampling.row_parts(logits, PARTS=3, BLOCK=BLOCK)
        found = sampling.token_logprob(logits, best, total, token).numpy()
    shifted = logits.astype(np.float64) - logits.max(1, keepdims=True)
    want = shifted - np.log(np.exp(shifted).sum(1, keepdims=True))
    np.testing.assert_allclose(found, want[np.arange(3), token], atol=1e-5)


@pytest.mark.parametrize("backend", ["reference", "cpu"])
def test_tokens_go_through_lanes(backend):
    last, values = zl.tensor(np.zeros(5, np.int32)), zl.tensor(np.zeros(5, F))
    last = zl.index(last, below=10)
    with zl.using(backend):
        lane = np.array([3, -1, 0], np.int32)
        sampling.keep_tokens(np.array([7, 8, 9], np.int32), lane, last=last, V=10)
        sampling.keep_values(np.array([0.5, 1, 2], F), lane, last=values)
        given = np.array([4, -1, -1, -1], np.int32)
        token = sampling.pick_tokens(given, np.array([3, 3, 0, -1], np.int32), last, V=10).numpy()
    np.testing.assert_array_equal(last.numpy(), [9, 0, 0, 7, 0])
    np.testing.assert_array_equal(values.numpy(), [2, 0, 0, 0.5, 0])
    np.testing.assert_array_equal(token, [4, 7, 9, 9])
