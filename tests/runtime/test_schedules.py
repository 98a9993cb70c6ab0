"""Schedules: which entry a size gets, what a machine's own measurements are worth, and files that are damaged."""

from __future__ import annotations

import json

import numpy as np
import pytest

import zellige as zl
from zellige import f32
from zellige.runtime import cpu_tuned
from zellige.runtime.cpu import CpuExecutor
from zellige.runtime.schedules import Schedules

N = zl.dims("N")


def table(*entries: tuple[str, dict[str, int], dict[str, int]]) -> Schedules:
    held = [{"kernel": kernel, "dims": dims, "statics": statics} for kernel, dims, statics in entries]
    return Schedules.parse(json.dumps({"device": "d", "entries": held}))


@pytest.fixture
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("ZELLIGE_CACHE_DIR", str(tmp_path))
    cpu_tuned.measured.cache_clear()
    yield tmp_path
    cpu_tuned.measured.cache_clear()


def test_the_nearest_size_is_so_by_ratio():
    known = table(("k", {"T": 8}, {"B": 1}), ("k", {"T": 512}, {"B": 2}))
    assert [known.nearest("k", {"T": t})["statics"]["B"] for t in (1, 60, 70, 4000)] == [1, 1, 2, 2]
    assert known.nearest("other", {"T": 8}) is None


def test_a_machines_own_measurements_come_before_what_is_shipped(own_cache):
    before = cpu_tuned.statics("linear_matrix", {"T": 8, "N": 64, "K": 64})
    assert before == {"BM": 8, "BN": 32}
    cpu_tuned.keep([{"kernel": "linear_matrix", "dims": {"T": 8}, "statics": {"BM": 16, "BN": 64}}])
    assert cpu_tuned.statics("linear_matrix", {"T": 8, "N": 64, "K": 64}) == {"BM": 16, "BN": 64}


def test_measuring_again_replaces_a_size_and_keeps_the_others(own_cache):
    cpu_tuned.keep([{"kernel": "k", "dims": {"T": t}, "statics": {"B": 1}} for t in (1, 100)])
    cpu_tuned.keep([{"kernel": "k", "dims": {"T": 1}, "statics": {"B": 2}}])
    assert [cpu_tuned.statics("k", {"T": t})["B"] for t in (1, 100)] == [2, 1]


@pytest.mark.parametrize("text", ["", "{", "[]", '{"device": "d"}', '{"device": "d", "entries": [{"kernel": 1}]}'])
def test_a_damaged_file_counts_as_none(own_cache, text):
    cpu_tuned.measured_file().write_text(text)
    assert cpu_tuned.statics("linear_matrix", {"T": 8}) == {"BM": 8, "BN": 32}


def test_measurements_of_another_machine_do_not_count(own_cache):
    body = {"device": "another", "entries": [{"kernel": "k", "dims": {"T": 1}, "statics": {"B": 1}}]}
    cpu_tuned.measured_file().write_text(json.dumps(body))
    assert cpu_tuned.statics("k", {"T": 1}) == {}


@zl.kernel
def doubled(x: zl.In[f32, N], *, y: zl.Out[f32, N], B: zl.Static = 16):
    n = zl.grid(N.tiles(B))
    y[n] = x[n] * 2.0


def test_a_schedule_for_a_kernel_of_that_name_sets_only_what_it_declares(own_cache):
    cpu_tuned.keep([{"kernel": "doubled", "dims": {"N": 40}, "statics": {"B": 8, "BM": 4}}])
    assert CpuExecutor.default().statics("doubled", {"N": 40}) == {"B": 8, "BM": 4}
    np.testing.assert_array_equal(doubled(np.ones(40, np.float32)).numpy(), np.full(40, 2.0))


def test_an_entry_that_does_not_suit_a_size_is_passed_over():
    held = [
        {
            "kernel": "k",
            "dims": {"T": 512},
            "statics": {"B": 1},
            "least": {"T": 65},
            "multiples": {"K": 16},
            "most": {"K": 256},
        },
        {"kernel": "k", "dims": {"T": 512}, "statics": {"B": 2}},
    ]
    known = Schedules.parse(json.dumps({"device": "d", "entries": held}))

    def chosen(t, k):
        return known.nearest("k", {"T": t, "K": k})["statics"]["B"]

    assert [chosen(t, 64) for t in (512, 65, 64, 1)] == [1, 1, 2, 2]
    assert [chosen(512, k) for k in (16, 24, 100, 0, 256, 272)] == [1, 2, 2, 2, 1, 2]
    assert known.nearest("k", {"T": 512, "K": 64}, lambda entry: "least" not in entry)["statics"]["B"] == 2
