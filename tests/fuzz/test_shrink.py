"""Failing kernels are made smaller without losing what makes them fail."""

from __future__ import annotations

from tests.fuzz.campaign import first_trip
from tests.fuzz.kernels import lowered
from tests.fuzz.shrink import shrink
from zellige.diagnostics.errors import InternalError, ZelligeError

SOURCE = """
@zl.kernel
def k(x: zl.In[f32, M], w: zl.In[f32, N], *, y: zl.Out[f32, M], z: zl.Out[f32, M]):
    t = zl.grid(M)
    total = 0.0
    for i in range(N):
        total = total + w[i]
    if t > 1:
        y[t] = x[t] + total
    else:
        y[t] = 1.0
    z[t] = x[t + 1] + total
"""


def test_only_what_fails_is_left() -> None:
    def fails(source: str) -> bool:
        try:
            trip = first_trip(lowered(source, f"<shrunk {hash(source)}>"), 0, 40)
        except (ZelligeError, InternalError, SyntaxError):
            return False
        return trip is not None and trip.array == "x"

    assert fails(SOURCE)
    small = shrink(SOURCE, fails)
    assert fails(small)
    body = small.split(":\n", 1)[1].strip().splitlines()
    assert [line.strip() for line in body] == ["t = zl.grid(M)", "z[t] = x[1]"]
    assert "w:" not in small and "y:" not in small
