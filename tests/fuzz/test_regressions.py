"""Kernels that the verifier once accepted although they go wrong: each must be refused, and does trip."""

from __future__ import annotations

import pytest

from tests.fuzz.campaign import by_verifier, first_trip
from tests.fuzz.kernels import lowered

ONCE_ACCEPTED = {
    # The coordinates of the second output were taken for those of the first, with the first one's extents.
    "coverage of a second, longer output": """
@zl.kernel
def k(*, y: zl.Out[f32, N], z: zl.Out[f32, N + 1]):
    t = zl.grid(N)
    y[t] = 1.0
    z[t] = 1.0
""",
    # What the iterations keep (0 ≤ at < n) was believed also where the loop does not run, and said there that n is not 0.
    "a loop in a branch that is not taken": """
@zl.kernel
def k(x: zl.In[f32, N], n: zl.UpTo[N], c: zl.In[i32, 5], *, y: zl.Out[f32, M]):
    zl.requires(N > 0)
    t = zl.grid(M)
    at = t * 0
    if n > 0:
        for i in range(5):
            if c[i] > 0:
                at = zl.minimum(at + 1, n - 1)
    y[t] = x[zl.minimum(at + n - 1, N - 1)]
""",
    # The quotient of the least number by −1 was not asked to fit; nor did the interpreter notice.
    "the least number by −1": """
@zl.kernel
def k(far: zl.In[zl.i64, M], d: zl.i64, *, y: zl.Mut[f32, M]):
    zl.requires(d < 0)
    t = zl.grid(M)
    a = t * 0 + far[t]
    y[t] = zl.where(a // d < 0, 1.0, 2.0)
""",
}


@pytest.mark.parametrize("name", ONCE_ACCEPTED)
def test_what_was_once_accepted_is_refused(name: str) -> None:
    function = lowered(ONCE_ACCEPTED[name], f"<{name}>")
    assert first_trip(function, 0, 100) is not None, "the kernel is right after all"
    proved, _ = by_verifier(function)
    assert not proved
