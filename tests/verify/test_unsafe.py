"""``zl.unsafe`` opts out what stands in its block, and nothing else; each block is counted."""

from __future__ import annotations

import linecache
from typing import Any

import zellige as zl
from zellige import f32, i32
from zellige.verify import Verdict, verify

M = zl.dims("M")


def verdict(function) -> Verdict:
    kernel = zl.kernel(function)
    statics, bindings = next(kernel.variants())
    return verify(kernel.lower(statics, bindings))


def guard_element(x: zl.In[f32, M], *, y: zl.Out[f32, M], B: zl.Static = 8):
    i = zl.grid(M.tiles(B))
    with zl.unsafe("x has a guard element"):
        value = x[i + 1]
    y[i] = value


def test_an_access_in_the_block_is_not_proved_and_the_block_is_counted():
    found = verdict(guard_element)
    assert found.proved
    assert found.unsafe == ("x has a guard element",)
    assert found.how()["unsafe"] >= 1


def past_the_block(x: zl.In[f32, M], *, y: zl.Out[f32, M], B: zl.Static = 8):
    i = zl.grid(M.tiles(B))
    with zl.unsafe("x has a guard element"):
        value = x[i + 1]
    y[i] = value + x[i + 1]


def test_the_same_access_after_the_block_is_refused():
    found = verdict(past_the_block)
    assert [f.code for f in found.findings] == ["ZL0201"]


@zl.inline
def shifted(x, i):
    return x[i + 1]


def through_a_function(x: zl.In[f32, M], *, y: zl.Out[f32, M], B: zl.Static = 8):
    i = zl.grid(M.tiles(B))
    with zl.unsafe("the function is fine"):
        value = shifted(x, i)
    y[i] = value


def test_a_block_does_not_reach_into_functions_it_calls():
    assert not verdict(through_a_function).proved


def quotient_used_twice(x: zl.In[i32, M], n: i32, *, y: zl.Out[i32, M], z: zl.Out[i32, M], B: zl.Static = 8):
    i = zl.grid(M.tiles(B))
    value = x[i]
    with zl.unsafe("n is not 0"):
        y[i] = value // n
    z[i] = value // n


def test_an_operation_of_the_block_does_not_stand_for_its_equal_outside():
    found = verdict(quotient_used_twice)
    assert [f.code for f in found.findings] == ["ZL0402"]


def through_another_file(x: zl.In[f32, M], *, y: zl.Out[f32, M], B: zl.Static = 8):
    i = zl.grid(M.tiles(B))
    with zl.unsafe("the function is fine"):
        value = elsewhere(x, i)
        value = value * 1.0
        value = value + 0.0
    y[i] = value


def _placed(source: str, line: int) -> Any:
    """The function ``f`` of a file of its own that has its body's last line at ``line``."""
    text = "\n" * (line - len(source.splitlines())) + source
    linecache.cache["<elsewhere>"] = (len(text), None, text.splitlines(keepends=True), "<elsewhere>")
    names: dict[str, Any] = {"zl": zl}
    exec(compile(text, "<elsewhere>", "exec"), names)
    return names["f"]


elsewhere = _placed("@zl.inline\ndef f(x, i):\n    return x[i + 1]\n", through_another_file.__code__.co_firstlineno + 4)


def test_a_block_has_no_lines_of_other_files():
    found = verdict(through_another_file)
    assert [f.code for f in found.findings] == ["ZL0201"]
