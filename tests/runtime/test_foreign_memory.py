"""Memory that others have, too: what kernels rely on is never what somebody else may have changed meanwhile."""

from __future__ import annotations

import os
import select
import signal
import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import zellige as zl
from tests.runtime.kernels import add_one
from zellige import ZelligeError, f32, i32
from zellige.runtime import admission
from zellige.runtime.cpu import CpuExecutor
from zellige.runtime.execution import executor_named

M, V = zl.dims("M V")


@zl.kernel
def far_away(*, i: zl.Mut[i32, M]):
    m = zl.grid(M)
    i[m] = i[m] + 5


@zl.kernel
def first_of(t: zl.In[f32, V], *, i: zl.Out[zl.Index[V], M]):
    zl.requires(V >= 1)
    m = zl.grid(M)
    i[m] = 0


@zl.kernel
def looked_up(i: zl.In[zl.Index[V], M], t: zl.In[f32, V], *, y: zl.Out[f32, M]):
    m = zl.grid(M)
    y[m] = t[i[m]]


TABLE = np.array([3.0, 1.0, 2.0], np.float32)


def broken(call: Callable[[], Any]) -> None:
    """The call is refused as the contents would break the contract."""
    with pytest.raises(ZelligeError) as caught:
        call()
    assert caught.value.code == "ZL0505"


# --- what was known before somebody else could write
def test_what_was_written_through_an_export_is_checked_when_the_export_is_gone():
    i = zl.index([0, 1, 2], below=3)
    with zl.record() as graph:
        looked_up(i, TABLE)
    array = np.from_dlpack(i)
    array[:] = 7
    del array
    broken(lambda: looked_up(i, TABLE))
    broken(graph.replay)


def test_what_a_graph_writes_is_not_believed_of_memory_that_was_exported_once():
    i = zl.index([0, 1, 2], below=3)
    del_export(i)
    looked_up(i, TABLE)
    with zl.record() as graph:
        far_away(i=i)
    graph.replay()
    broken(lambda: looked_up(i, TABLE))


def del_export(tensor: zl.Tensor) -> None:
    array = np.from_dlpack(tensor)
    del array


@pytest.mark.parametrize("hold", [np.from_dlpack, lambda t: t.numpy()], ids=["export", "view"])
def test_a_replay_on_a_stream_does_not_write_under_an_array_of_memory_that_was_exported_before(hold: Any):
    i = zl.tensor(np.zeros(3, np.int32))
    del_export(i)
    with zl.record() as graph:
        far_away(i=i)
    array = hold(i)
    with zl.stream() as stream, pytest.raises(ZelligeError) as caught:
        graph.replay()
    assert caught.value.code == "ZL0503"
    stream.close()
    np.testing.assert_array_equal(array, 0)


# --- one memory under several names inside a graph
@pytest.mark.parametrize("lend", [lambda a: (a, a), lambda a: (zl.borrow(a), zl.borrow(a))], ids=["arrays", "tensors"])
def test_a_graph_knows_a_borrowed_array_by_its_address(lend: Any):
    first, second = lend(np.array([0, 1, 2], np.int32))
    with zl.record():
        far_away(i=first)
        broken(lambda: looked_up(second, TABLE))
    with zl.record() as graph:
        first_of(TABLE, i=first)
        far_away(i=second)
        broken(lambda: looked_up(first, TABLE))
        first_of(TABLE, i=first)
    graph.replay()
    np.testing.assert_array_equal(np.asarray(second), 0)


def test_a_graph_knows_a_tensor_that_comes_back_as_an_array():
    i = zl.index([0, 1, 2], below=3)
    array = np.from_dlpack(i)
    with zl.record():
        far_away(i=i)
        broken(lambda: looked_up(array, TABLE))


def test_values_that_change_after_they_were_checked_are_not_written(monkeypatch: pytest.MonkeyPatch):
    i, values = zl.index([0, 1, 2], below=3), np.array([2, 1, 0], np.int32)
    from zellige.runtime import tensor_type

    check = tensor_type.broken

    def checked_then_changed(*arguments: Any) -> Any:
        found = check(*arguments)
        values[:] = 99  # another thread
        return found

    monkeypatch.setattr(tensor_type, "broken", checked_then_changed)
    i.write(values)
    np.testing.assert_array_equal(looked_up(i, TABLE).numpy(), TABLE[::-1])


# --- a child process
def in_a_child(body: Callable[[], bool]) -> None:
    """Runs the body in a forked child, which says within ten seconds that it was right."""
    ours, theirs = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.write(theirs, b"1" if body() else b"0")
        finally:
            os._exit(0)
    try:
        ready, _, _ = select.select([ours], [], [], 10)
        assert ready, "the child hangs"
        assert os.read(ours, 1) == b"1"
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        os.close(ours)
        os.close(theirs)


def test_a_child_computes_after_the_parent_did():
    x = zl.tensor(np.zeros(5000, np.int32))
    far_away(i=x)

    def body() -> bool:
        far_away(i=x)
        return bool((x.numpy() == 10).all())

    in_a_child(body)
    np.testing.assert_array_equal(x.numpy(), 5)


@pytest.mark.parametrize("recorded", [False, True])
def test_a_child_does_not_wait_for_work_that_only_its_parent_does(recorded: bool):
    x = zl.tensor(np.zeros(3, np.int32))
    with zl.record() as graph:
        far_away(i=x)
    gate = threading.Event()
    stream = zl.stream()
    stream.submit("gate", lambda _: (), gate.wait, lambda: None)  # keeps what follows in flight over the fork
    with stream:
        graph.replay() if recorded else far_away(i=x)

    def body() -> bool:
        try:
            x.numpy()
        except ZelligeError as error:
            return error.code == "ZL0523" and "fork" in error.message
        return False

    try:
        in_a_child(body)
    finally:
        gate.set()
    stream.close()
    np.testing.assert_array_equal(x.numpy(), 5)


# --- arrays of other people
class Elsewhere(np.ndarray):
    """An array that says of itself what is not so."""

    @property
    def shape(self) -> Any:
        return (3_000_000,)

    @property
    def strides(self) -> Any:
        return (400_000,)

    @property
    def __array_interface__(self) -> Any:
        return {**super().__array_interface__, "data": (64, False), "shape": self.shape}


@pytest.mark.parametrize("lend", [lambda a: a, zl.borrow, zl.tensor], ids=["as it is", "borrowed", "copied"])
def test_an_array_is_where_numpy_has_it_whatever_it_says_of_itself(lend: Callable[[Any], Any]):
    told = np.array([2, 0, 1], np.int32).view(Elsewhere)
    np.testing.assert_array_equal(looked_up(lend(told), TABLE).numpy(), [2.0, 3.0, 1.0])


@pytest.mark.parametrize("copied", [
    lambda a: looked_up(a, TABLE), lambda a: zl.tensor(a), lambda a: written(a),
    lambda a: executor_named("cpu").gathered([a], a.shape, i32),
], ids=["argument", "tensor", "write", "gathered"])  # fmt: skip
def test_a_copy_of_an_array_waits_for_the_stream_that_writes_it(copied: Callable[[Any], Any]):
    a = np.zeros(3, np.int32)
    lent, gate = zl.borrow(a), threading.Event()
    writer, reader = zl.Stream(), zl.Stream()
    writer.submit("gate", lambda _: (), lambda: gate.wait(30), lambda: None)
    with writer:
        far_away(i=lent)
    threading.Timer(0.05, gate.set).start()
    with reader:
        try:
            made = copied(a).numpy()
        except ZelligeError as error:
            assert error.code == "ZL0505"  # 5 is no row of the table
        else:
            assert made.tolist() == [5, 5, 5]


def written(values: Any) -> zl.Tensor:
    made = zl.tensor(np.zeros(3, np.int32))
    made.write(values)
    return made


# --- between the check of a contract and the launch that relies on it
@pytest.mark.parametrize("backend", ["cpu", "reference"])
@pytest.mark.parametrize("part", [slice(None), slice(None, None, 2), slice(None, None, -1)])
@pytest.mark.parametrize("lend", [lambda a: a, zl.borrow, lambda a: np.from_dlpack(zl.borrow(a))])
def test_what_was_checked_is_what_a_launch_reads(
    backend: str, part: slice, lend: Callable[[Any], Any], monkeypatch: pytest.MonkeyPatch
):
    """Another thread may write its array at any time: here, right after the check."""
    values = np.array([2, 0, 1], np.int32)
    at, wanted = lend(values), TABLE[values[part]]
    check = admission.broken

    def then_written(fact: Any, seen: Any) -> Any:
        problem = check(fact, seen)
        values[:] = 10**9
        return problem

    monkeypatch.setattr(admission, "broken", then_written)
    with zl.using(backend):
        for _ in range(2):
            values[:] = 2, 0, 1
            np.testing.assert_array_equal(looked_up(at[part], TABLE).numpy(), wanted)
            broken(lambda: looked_up(at[part], TABLE))
    values[:] = 2, 0, 1
    with zl.using(backend), zl.stream():
        np.testing.assert_array_equal(looked_up(at[part], TABLE).numpy(), wanted)


@pytest.mark.parametrize("on_a_stream", [False, True])
def test_memory_that_others_get_while_a_call_is_bound_is_copied(
    on_a_stream: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another thread may export a tensor at any time: here, after the call has looked at its arguments."""
    at = zl.index([2, 0, 1], below=3)
    exported: list[Any] = []
    where = zl.stream() if on_a_stream else zl.using("cpu")
    kind = type(where) if on_a_stream else CpuExecutor
    launch, check = kind.launch, admission.broken

    def exported_first(self: Any, *arguments: Any) -> None:
        exported.append(np.from_dlpack(at))
        launch(self, *arguments)

    def then_written(fact: Any, seen: Any) -> Any:
        problem = check(fact, seen)
        exported[0][:] = len(TABLE)
        return problem

    monkeypatch.setattr(kind, "launch", exported_first)
    monkeypatch.setattr(admission, "broken", then_written)
    with where:
        y = looked_up(at, TABLE)
    np.testing.assert_array_equal(y.numpy(), TABLE[[2, 0, 1]])


class Lent:
    """An array as another library lends it."""

    def __init__(self, tensor: zl.Tensor) -> None:
        self.tensor = tensor

    def __dlpack__(self, **options: object) -> object:
        return self.tensor.__dlpack__()

    def __dlpack_device__(self) -> tuple[int, int]:
        return self.tensor.__dlpack_device__()


@pytest.mark.parametrize("dtype", ["f8e5m2", "f8e4m3", "bf16", "f16", "bool_", "u64"])
def test_every_type_that_is_lent_is_taken(dtype: str) -> None:
    own = zl.tensor(np.arange(4), getattr(zl, dtype))
    lent = zl.borrow(Lent(own))
    assert lent.dtype is own.dtype
    np.testing.assert_array_equal(lent.numpy(), own.numpy())


def test_what_is_written_has_memory() -> None:
    """A list would be copied, and what the copy gets be seen by nobody."""
    for given in ([1, 2], (1, 2), range(2)):
        with pytest.raises(ZelligeError, match=r"ZL0501.*has no memory"):
            add_one(y=given)


@zl.kernel
def picked(x: zl.In[f32, V], *, at: zl.Mut[zl.Index[V], M], y: zl.Out[f32, M]):
    i = zl.grid(M)
    y[i] = x[at[i]]


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_an_owner_may_give_his_array_another_form() -> None:
    """What is checked lies as what is read, whatever becomes of the owner's own object."""
    own = np.zeros(8, np.int32)
    lent = zl.borrow(own)
    x = np.ones(3, np.float32)
    np.testing.assert_array_equal(picked(x, at=lent).numpy(), np.ones(8))
    own[1:] = 500_000_000
    own.strides = (0,)
    with pytest.raises(ZelligeError, match="ZL0505"):
        picked(x, at=lent)
