"""What a call checks does not depend on calls before it: plans are remembered, and every launch is still looked at."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import zellige as zl
from zellige import ZelligeError, f32, i32
from zellige.runtime.cuda.executor import CudaExecutor

M, N = zl.dims("M N")


@zl.kernel
def scale(x: zl.In[f32, M], a: f32, n: zl.UpTo[M], *, y: zl.Out[f32, M], B: zl.Static = 8):
    zl.requires(n + 1 <= M)
    i = zl.grid(M.tiles(B))
    y[i] = x[i] * a


@zl.kernel
def take(x: zl.In[f32, N], at: zl.In[zl.Index[N], M], *, y: zl.Out[f32, M]):
    i = zl.grid(M)
    y[i] = x[at[i]]


@zl.kernel
def shift(x: zl.In[i32, M], by: i32, *, y: zl.Out[i32, M]):
    i = zl.grid(M)
    y[i] = x[i] + by


class NoGpu(CudaExecutor):
    """A GPU's executor whose launches do nothing, so that its checks run where there is none."""

    def _ready(self, launch: Any, earlier: Any) -> None:
        return None


EXECUTORS: dict[str, Callable[[], Any]] = {
    "interpreter": lambda: "reference",
    "stream": zl.Stream,
    "GPU": lambda: NoGpu(None, "sm_90"),
}


@pytest.fixture(params=EXECUTORS)
def executor(request: pytest.FixtureRequest) -> Any:
    with zl.using(EXECUTORS[request.param]()) as chosen:
        yield chosen


def floats(executor: Any, n: int = 16) -> zl.Tensor:
    made: zl.Tensor = executor.tensor(np.arange(n, dtype=np.float32), f32)
    return made


def refused(call: Callable[[], object], code: str) -> None:
    with pytest.raises(ZelligeError) as caught:
        call()
    assert caught.value.code == code


def test_memory_shared_with_the_output_is_refused(executor: Any) -> None:
    x, y = floats(executor), executor.empty((16,), f32)
    scale(x, 2.0, 3, y=y)
    refused(lambda: scale(x, 2.0, 3, y=x), "ZL0503")
    refused(lambda: scale(x, 2.0, 3, y=x.reshape(4, 4).reshape(16)), "ZL0503")
    scale(x, 2.0, 3, y=y)


def test_what_was_never_written_is_not_read(executor: Any) -> None:
    x, y = floats(executor), executor.empty((16,), f32)
    scale(x, 2.0, 3, y=y)
    unwritten = executor.empty((16,), f32)
    refused(lambda: scale(unwritten, 2.0, 3, y=y), "ZL0504")
    scale(x, 2.0, 3, y=unwritten)
    scale(unwritten, 2.0, 3, y=y)


def test_a_contract_is_checked_on_arrays_of_a_known_layout(executor: Any) -> None:
    x = floats(executor, 4)
    good, bad = (executor.tensor(np.array(at, np.int32), i32) for at in ([0, 3], [0, 4]))
    take(x, good)
    refused(lambda: take(x, bad), "ZL0505") if executor.place.startswith("host") else _only_known(x, bad)
    take(x, good)


def _only_known(x: zl.Tensor, bad: zl.Tensor) -> None:
    """Without a device a download is zeros, which keep every contract; so look at what is asked."""
    assert not bad.facts
    take(x, bad)
    assert bad.facts


def test_a_contract_is_forgotten_when_another_launch_writes_the_array(executor: Any) -> None:
    x, at = floats(executor, 4), executor.tensor(np.array([0, 3], np.int32), i32)
    one = executor.tensor(np.array([0, 1], np.int32), i32)
    take(x, at)
    assert at.facts
    shift(one, 4, y=at)
    assert not at.facts
    if executor.place.startswith("host"):
        refused(lambda: take(x, at), "ZL0505")


@pytest.mark.parametrize(
    ("a", "n", "code"), [("two", 3, "ZL0501"), (2.0, 3.5, "ZL0501"), (2.0, 17, "ZL0505"), (2.0, 16, "ZL0507")]
)
def test_scalars_are_checked(executor: Any, a: Any, n: Any, code: str) -> None:
    x, y = floats(executor), executor.empty((16,), f32)
    scale(x, 2.0, 3, y=y)
    refused(lambda: scale(x, a, n, y=y), code)


def test_a_tensor_of_another_shape_or_dtype_is_no_known_layout(executor: Any) -> None:
    x, y = floats(executor), executor.empty((16,), f32)
    scale(x, 2.0, 3, y=y)
    refused(lambda: scale(floats(executor, 8), 2.0, 3, y=y), "ZL0502")
    refused(lambda: scale(executor.tensor(np.zeros(16, np.int32), i32), 2.0, 3, y=y), "ZL0501")


def test_a_static_parameter_of_another_type_is_another_one(executor: Any) -> None:
    x, y = floats(executor), executor.empty((16,), f32)
    scale(x, 2.0, 3, y=y, B=1)
    refused(lambda: scale(x, 2.0, 3, y=y, B=1.0), "ZL0110")
    refused(lambda: scale(x, 2.0, 3, y=y, B=[1]), "ZL0502")


def test_mistakes_of_form_are_named_each_time(executor: Any) -> None:
    x, y = floats(executor), executor.empty((16,), f32)
    scale(x, 2.0, 3, y=y)
    for _ in range(2):
        refused(lambda: scale(x, 2.0, y=y), "ZL0502")
        refused(lambda: scale(x, 2.0, 3, 4, y=y), "ZL0502")
        refused(lambda: scale(x, 2.0, 3, x=x, y=y), "ZL0502")
        refused(lambda: scale(x, 2.0, 3, y=y, z=y), "ZL0502")
        refused(lambda: scale(None, 2.0, 3, y=y), "ZL0502")


def test_none_for_an_output_is_the_same_as_leaving_it_out(executor: Any) -> None:
    """A tensor whose layout nobody asked for yet has none in its place, too: it must not be taken for one left out."""
    x = floats(executor)
    made = scale(x, 2.0, 3, y=None)
    y = executor.empty((16,), f32)
    assert scale(x, 2.0, 3, y=y) is None
    assert y.initialised
    assert scale(x, 2.0, 3) is not made
    assert scale(x, 2.0, 3, y=None) is not None


def test_arguments_by_name_in_any_order(executor: Any) -> None:
    x, y = floats(executor), executor.empty((16,), f32)
    scale(y=y, n=3, x=x, a=2.0)
    scale(x, n=3, a=0.5, y=y, B=4)
    if executor.place.startswith("host"):
        np.testing.assert_array_equal(y.numpy(), np.arange(16) * 0.5)


def test_a_plain_array_where_a_tensor_was(executor: Any) -> None:
    x, y = floats(executor), executor.empty((16,), f32)
    scale(x, 2.0, 3, y=y)
    scale(np.full(16, 3.0, np.float32), 2.0, 3, y=y)
    if executor.place.startswith("host"):
        np.testing.assert_array_equal(y.numpy(), np.full(16, 6.0))


@zl.kernel
def add_one(*, y: zl.Mut[f32, M], B: zl.Static = 8):
    i = zl.grid(M.tiles(B))
    y[i] = y[i] + 1.0


@zl.kernel
def underscored(_x: zl.In[f32, M], __plan: zl.In[f32, M], *, executor: zl.Out[f32, M]):
    i = zl.grid(M)
    executor[i] = _x[i] + __plan[i]


def test_kernels_without_inputs_and_with_any_names(executor: Any) -> None:
    x, y = floats(executor), floats(executor)
    for _ in range(2):
        add_one(y=y)
        underscored(x, x, executor=executor.empty((16,), f32))
        refused(lambda: add_one(y, y=y), "ZL0502")
    if executor.place.startswith("host"):
        np.testing.assert_array_equal(y.numpy(), np.arange(16) + 2.0)


def test_many_layouts_make_plans_anew(executor: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("zellige.runtime.binding._MOST_PLANS", 2)
    monkeypatch.setattr("zellige.runtime.tensor_type._MOST_LAYOUTS", 3)
    for _ in range(2):
        for size in (8, 9, 10, 11, 12):
            y = executor.empty((size,), f32)
            scale(floats(executor, size), 2.0, 3, y=y)
            if executor.place.startswith("host"):
                np.testing.assert_array_equal(y.numpy(), np.arange(size) * 2.0)
