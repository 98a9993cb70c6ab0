"""The text of a function: round trip, canonical numbering, a golden example."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.ir.programs import random_function
from zellige.diagnostics.errors import ZelligeError
from zellige.ir import spec
from zellige.ir.extent import Const, Dim, Extent, ceildiv, maximum, minimum
from zellige.ir.lexer import Reader
from zellige.ir.parser import parse
from zellige.ir.printer import text

extents = st.recursive(
    st.one_of(st.integers(-3, 40).map(Const), st.sampled_from(["M", "N", "K_1"]).map(Dim)),
    lambda inner: st.one_of(
        st.tuples(inner, inner).map(lambda p: p[0] + p[1]),
        st.tuples(inner, inner).map(lambda p: p[0] * p[1]),
        st.tuples(inner, inner).map(lambda p: minimum(*p)),
        st.tuples(inner, inner).map(lambda p: maximum(*p)),
        st.tuples(inner, st.integers(1, 9)).map(lambda p: ceildiv(*p)),
        st.tuples(inner, st.integers(1, 9)).map(lambda p: p[0] % p[1]),
    ),
    max_leaves=8,
)


@given(extents)
def test_extents_read_back_equal(extent: Extent) -> None:
    assert Reader(str(extent)).extent() == extent


@settings(max_examples=80, deadline=None)
@given(st.integers(0, 10**9), st.booleans())
def test_functions_read_back_equal(seed: int, spans: bool) -> None:
    function = random_function(seed)
    written = text(function, spans=spans)
    back = parse(written)
    spec.check(back)
    assert text(back, spans=spans) == written
    assert (back.arrays, back.scalars, back.grid) == (function.arrays, function.scalars, function.grid)


@given(st.integers(0, 10**6))
@settings(max_examples=20, deadline=None)
def test_two_builds_of_one_function_print_alike(seed: int) -> None:
    assert text(random_function(seed)) == text(random_function(seed))


GOLDEN = """\
kernel scale grid 64 of M: ceildiv(M, 64), each of N: N group 8 index_bits 32 {
  in x: In[f32, M, (2*N)]
  in slot: In[i32:Index[M, distinct, optional], N]
  in y: Out[bf16, M]
  in c: Acc[f32] init -inf
  scalar eps: f32
  scalar n: i32:UpTo[(M - 1)]
  unsafe "because \\"I\\" say so"
  %0: index = program_id 0
  %rows.1: index[64] = iota
  %2: bool[64] = binary lt %rows.1, %rows.1
  %3: f32[64] = load x[%rows.1, %0] if %2 pad -inf
  %4: f32 = constant 1e-05
  for %0 to %0 step -2 carry [%3]
  do (%5: index, %acc.6: f32[64]) {
    yield %acc.6
  }
  end [%7: f32[64]]
  while at most %0 carry []
  check {
    %8: bool = constant True
    yield %8
  }
  do {
  }
  end []
  %9: f32[64], %10: index[64] = sort descending %7
  %11: bf16[64] = cast %9
  store y[%rows.1] if %2, %2 = %11
  update max c[] = %4
}
"""


def test_the_text_is_as_documented() -> None:
    assert text(parse(GOLDEN)) == GOLDEN


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("%acc.6\n", "%acc.8\n"), "line 16: a value defined before is expected, not '%acc.8'"),
        (("iota", "jota"), "an operation"),
        (("f32[64] = load", "f33[64] = load"), "no element type is called f33"),
        (("pad -inf", "pad ;"), "unexpected"),
        (("  %0: index = program_id 0\n", ""), "a value defined before"),
    ],
)
def test_text_that_is_none_is_refused_with_its_line(change: tuple[str, str], message: str) -> None:
    with pytest.raises(ZelligeError) as caught:
        parse(GOLDEN.replace(*change))
    assert caught.value.code == "ZL0120" and message in caught.value.message


def test_a_result_is_not_visible_in_its_own_operation() -> None:
    with pytest.raises(ZelligeError):
        parse(GOLDEN.replace("%11: bf16[64] = cast %9", "%11: bf16[64] = cast %11"))
