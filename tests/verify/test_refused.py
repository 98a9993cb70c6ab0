"""Each trap of ``refused.py`` gets its code."""

from __future__ import annotations

import pytest

from tests.fuzz.kernels import lowered
from tests.fuzz.shapes import one_step_away
from tests.verify import refused
from zellige.runtime.kernel import Kernel
from zellige.verify import verify

EXPECTED = {
    "second_output_is_longer_than_the_first": "ZL0303",
    "store_in_a_while_may_never_be_reached": "ZL0303",
    "while_condition_at_a_later_iteration_does_not_mean_it_is_reached": "ZL0303",
    "while_loop_stops_before_what_its_condition_allows": "ZL0303",
    "carried_index_grows_by_what_memory_says": "ZL0201",
    "carried_index_is_swapped_with_a_larger_one": "ZL0201",
    "index_is_loaded_again_after_a_store": "ZL0201",
    "narrow_addition_wraps_before_the_comparison": "ZL0201",
    "opposite_comparisons_of_a_nan_are_both_false": "ZL0303",
    "contract_holds_for_elements_not_for_padding": "ZL0201",
    "empty_table_proves_nothing": "ZL0201",
    "branch_of_one_program_says_nothing_of_another": "ZL0301",
    "distinct_says_nothing_of_two_arrays": "ZL0301",
    "distinct_but_absent_entries_meet": "ZL0301",
    "distinct_over_two_axes_with_one_dropped": "ZL0301",
    "later_iterations_of_another_program_meet": "ZL0301",
    "update_and_load_of_different_roles": "ZL0301",
    "stride_of_a_dim_that_may_be_zero": "ZL0301",
    "guard_does_not_stop_the_program": "ZL0201",
    "offsets_segments_overlap_by_one": "ZL0301",
    "up_to_is_not_below": "ZL0201",
    "last_of_a_running_index_is_one_past": "ZL0201",
}
KERNELS = {k.name: k for k in vars(refused).values() if isinstance(k, Kernel)}


@pytest.mark.parametrize("name", KERNELS)
def test_the_trap_is_seen(name: str) -> None:
    kernel = KERNELS[name]
    found = verify(kernel.lower(*next(kernel.variants()))).findings
    assert EXPECTED[name] in [f.code for f in found]


def test_a_counterexample_shows_elements_that_exist_only() -> None:
    """Of an empty table nothing is read: only of one that has elements, some are shown."""
    text = """@zl.kernel
def k(table: zl.In[i32, N], x: zl.In[f32, N], *, y: zl.Out[f32, K]):
    i = zl.grid(K)
    y[i] = x[zl.minimum(zl.maximum(table[zl.minimum(i, N - 1)], 0), N ⟨- 1|+ 0⟩)]
"""
    of_none, of_some = (verify(lowered(source, "<k>")).findings for source in one_step_away(text))
    assert [(f.facts["sizes"], f.facts["index"]) for f in of_none] == [("K = 1, N = 0", -1)] * 2
    assert not [fact for f in of_none for fact in f.facts if "table[" in fact]
    assert of_some[-1].facts["table[0]"] == of_some[-1].facts["index"] == 1
