"""Who uses a tensor, and what is known of its contents: views, contracts, arrays of the host and of other libraries."""

from __future__ import annotations

import copy
import gc
import pickle
import threading
from typing import Any

import numpy as np
import pytest

import zellige as zl
from tests.runtime.kernels import Gate, add_one, best, double, ints, scale_add, scatter, take, total, vector
from zellige import ZelligeError, bf16, f32, i32
from zellige.ir.types import ContractKind
from zellige.runtime.contracts import Fact
from zellige.runtime.tensor import empty, zeros


def refused(call, code: str) -> str:
    with pytest.raises(ZelligeError) as caught:
        call()
    assert caught.value.code == code, caught.value
    return caught.value.render()


# --- aliasing inside one launch
def test_two_views_of_one_tensor_cannot_be_read_and_written_in_one_launch():
    t = vector(12)
    refused(lambda: double(t[:8], y=t[4:]), "ZL0503")
    refused(lambda: double(t[:8].reshape(8), y=t.reshape(12)[:8]), "ZL0503")
    np.testing.assert_array_equal(t.numpy(), np.arange(12))
    double(t[:6], y=t[6:])
    np.testing.assert_array_equal(t[6:].numpy(), 2 * np.arange(6))


def test_interleaved_views_share_no_memory():
    t = vector(16)
    double(t[0::2], y=t[1::2])
    np.testing.assert_array_equal(t.numpy()[1::2], 2 * np.arange(0, 16, 2))


def test_an_array_lent_by_a_tensor_is_known_to_be_its_memory():
    t = vector(8)
    refused(lambda: double(t.numpy(), y=t), "ZL0503")
    refused(lambda: add_one(y=t.numpy()), "ZL0503")  # and it is read-only


# --- views and contracts
def test_a_permutation_does_not_survive_slicing_but_its_range_does():
    p = vector(8)
    p.learn(Fact(ContractKind.PERMUTATION, 8))
    half = p[:4]
    assert not half.keeps(Fact(ContractKind.PERMUTATION, 4))
    assert half.keeps(Fact(ContractKind.INDEX, 8, distinct=True))
    p.write(np.arange(8)[::-1])
    refused(lambda: scatter(vector(4), p[:4]), "ZL0505")  # 7, 6, 5, 4 is no permutation of 4
    np.testing.assert_array_equal(scatter(vector(8), p).numpy(), np.arange(8)[::-1])


def test_offsets_do_not_survive_reshaping_but_their_range_does():
    o = zl.tensor(ints(0, 2, 2, 6))
    o.learn(Fact(ContractKind.OFFSETS, 6))
    assert o.reshape(2, 2).facts == (Fact(ContractKind.UP_TO, 6),)
    assert o[1:].facts == (Fact(ContractKind.UP_TO, 6),)


def test_what_is_learnt_of_a_view_is_not_believed_of_the_whole():
    t = zl.tensor(ints(0, 1, 99, 99))
    take(vector(4), t[:2])  # checked: 0 and 1 are below 4
    assert t[:2].facts == () and t.facts == ()
    refused(lambda: take(vector(4), t), "ZL0505")


def test_writing_a_view_drops_what_was_known_of_the_whole():
    t = zl.index([0, 1, 2, 3], below=4)
    double(zl.tensor(ints(30, 40)), y=t[1:3])
    assert t.facts == ()
    refused(lambda: take(vector(4), t), "ZL0505")


def test_writing_a_view_from_the_host_keeps_the_contract_of_the_whole():
    t = zl.index([0, 1, 2, 3], below=4)
    refused(lambda: t[:2].write(ints(9, 9)), "ZL0505")
    np.testing.assert_array_equal(t.numpy(), [0, 1, 2, 3])


def test_parts_that_are_written_with_their_whole_keep_their_contracts():
    whole = zl.tensor(np.zeros((3, 4)), i32)
    index, up_to = Fact(ContractKind.INDEX, 4, distinct=True, optional=True), Fact(ContractKind.UP_TO, 9)
    parts = whole[0, :3], whole[1], whole[2, ::-2]
    parts[0].write(ints(-1, -1, -1))
    for part, fact in zip(parts, (index, up_to, up_to), strict=True):
        part.learn(fact)
    new = np.array([[3, -1, 1, 3], [9, 0, 9, 1], [77, 9, 77, 8]], np.int32)
    whole.write(new, parts=parts)
    assert [part.facts for part in parts] == [(index,), (up_to,), (up_to,)]
    assert [part.numpy().tolist() for part in parts] == [[3, -1, 1], [9, 0, 9, 1], [8, 9]]
    for at, value in (((0, 0), 4), ((0, 2), 3), ((1, 3), 10), ((2, 1), -1), ((2, 3), 10)):
        wrong = new.copy()
        wrong[at] = value
        refused(lambda wrong=wrong: whole.write(wrong, parts=parts), "ZL0505")
        refused(lambda wrong=wrong: whole.write(np.asfortranarray(wrong), parts=parts), "ZL0505")
    np.testing.assert_array_equal(whole.numpy(), new)
    whole.write(np.asfortranarray(new), parts=parts)
    np.testing.assert_array_equal(whole.numpy(), new)
    whole.write(new, parts=parts[:1])
    assert [part.facts for part in parts] == [(index,), (), ()], "of parts that are not named nothing is known"


def test_only_parts_of_the_whole_are_written_with_it():
    whole, other = zl.tensor(np.zeros((3, 4)), i32), zl.index([0, 1], below=2)
    refused(lambda: whole.write(np.ones((3, 4), np.int32), parts=[other]), "ZL0502")
    part, more = whole[0], whole[:2]
    part.learn(Fact(ContractKind.INDEX, 1))
    refused(lambda: more.transpose().write(np.zeros((4, 2), np.int32), parts=[part]), "ZL0502")
    refused(lambda: whole[1:].write(np.zeros((2, 4), np.int32), parts=[part]), "ZL0502")
    assert (whole.numpy() == 0).all()


def test_a_kernel_that_is_proved_to_establish_a_contract_spares_the_check():
    at = best(np.array([[1, 5, 2], [7, 0, 0]], np.float32))
    assert at.facts == (Fact(ContractKind.INDEX, 3),)
    assert at.reshape(1, 2)[0].facts == (Fact(ContractKind.INDEX, 3),)
    np.testing.assert_array_equal(take(vector(3), at).numpy(), [1, 0])


def test_a_borrowed_array_that_changes_is_caught_however_it_is_viewed():
    data = ints(0, 1, 2, 3)
    view = zl.borrow(data).reshape(2, 2)[0]
    np.testing.assert_array_equal(take(vector(4), view).numpy(), [0, 1])
    data[1] = 4
    refused(lambda: take(vector(4), view), "ZL0505")


# --- views and what has been written
def test_a_tensor_is_initialised_when_its_parts_are():
    t = zl.empty((4, 6), i32)
    for columns in (slice(0, 2), slice(4, 6)):
        part = t[:, columns]
        assert not part.initialised
        part.write(np.full((4, 2), 7))
        assert part.initialised
    refused(lambda: t.numpy(), "ZL0504")
    refused(lambda: t[0].numpy(), "ZL0504")
    assert (t[:, :2].numpy() == 7).all()
    t[:, 2:4].write(np.full((4, 2), 8))
    np.testing.assert_array_equal(t[0].numpy(), [7, 7, 8, 8, 7, 7])


def test_a_launch_that_is_refused_leaves_its_output_unwritten():
    out = zl.empty((2,), i32)
    refused(lambda: take(vector(4), ints(0, 9), y=out), "ZL0505")
    refused(lambda: out.numpy(), "ZL0504")


def test_strided_and_transposed_views_are_computed_on():
    t = zl.tensor(np.arange(24, dtype=np.int32).reshape(4, 6))
    np.testing.assert_array_equal(double(t.T[2]).numpy(), 2 * np.arange(24).reshape(4, 6)[:, 2])
    np.testing.assert_array_equal(double(t[1, ::-1]).numpy(), 2 * np.arange(11, 5, -1))
    refused(lambda: t.T.reshape(24), "ZL0502")


def test_arrays_that_kernels_cannot_address_are_refused():
    raw = np.zeros(41, np.uint8)
    refused(lambda: double(raw[1:41].view(np.int32)), "ZL0501")
    record = np.zeros(4, np.dtype([("a", np.int32), ("b", np.int16)]))
    refused(lambda: double(record["a"]), "ZL0501")
    refused(lambda: double(np.arange(4, dtype=">i4")), "ZL0501")


@pytest.mark.parametrize("n", [0, 1, 17])
def test_empty_arrays_are_arrays(n: int):
    x = zl.tensor(np.arange(n, dtype=np.int32))
    np.testing.assert_array_equal(double(x).numpy(), 2 * np.arange(n))
    assert total(x).numpy() == np.arange(n).sum()
    assert take(vector(1), zl.index(np.zeros(n, int), below=1)).shape == (n,)
    e = zl.empty((0,), i32)
    np.testing.assert_array_equal(e.numpy(), [])
    with zl.record() as graph:
        y = double(x)
    graph.replay()
    np.testing.assert_array_equal(y.numpy(), 2 * np.arange(n))


# --- plans
def test_equal_static_parameters_of_different_types_are_different():
    @zl.kernel
    def by(x: zl.In[f32, zl.dims("M")], *, y: zl.Out[f32, zl.dims("M")], S: zl.Static):
        i = zl.grid(zl.dims("M"))
        y[i] = x[i] * S

    one, true = by.instance({"S": 1}, {}), by.instance({"S": 1.0}, {})
    assert one is not true
    assert one is by.instance({"S": 1}, {})


def test_a_remembered_plan_still_checks_each_call():
    out = zl.empty((4,), i32)
    double(vector(4), y=out)
    double(vector(4), y=out)
    refused(lambda: double(zl.empty((4,), i32), y=out), "ZL0504")
    t = vector(8)
    double(t[:4], y=t[4:])
    refused(lambda: double(t[2:6], y=t[4:]), "ZL0503")
    frozen = np.arange(4, dtype=np.int32)
    frozen.flags.writeable = False
    refused(lambda: double(vector(4), y=frozen), "ZL0503")
    refused(lambda: scale_add(vector(4), 1 << 31, y=out), "ZL0505")


def test_calls_from_many_threads_make_one_instance_and_compile_once(monkeypatch):
    @zl.kernel
    def thrice(x: zl.In[i32, zl.dims("M")], *, y: zl.Out[i32, zl.dims("M")], B: zl.Static = 8):
        i = zl.grid(zl.dims("M").tiles(B))
        y[i] = x[i] * 3

    import importlib

    backend = importlib.import_module("zellige.backends.cpu.compile")
    compiled = []
    original = backend.compile
    monkeypatch.setattr(backend, "compile", lambda *a, **k: compiled.append(1) or original(*a, **k))
    start, results = threading.Barrier(4), []

    def work():
        start.wait()
        results.append(thrice(vector(20)).numpy().copy())

    threads = [threading.Thread(target=work) for _ in range(4)]
    [t.start() for t in threads]
    [t.join() for t in threads]
    assert len(results) == 4 and all((r == 3 * np.arange(20)).all() for r in results)
    assert len(compiled) == 1 and len(thrice._instances) == 1


# --- the host's arrays
def test_while_another_thread_holds_an_array_the_tensor_is_not_written():
    t = vector(4)
    held = []
    thread = threading.Thread(target=lambda: held.append(t.numpy()))
    thread.start()
    thread.join()
    refused(lambda: add_one(y=t), "ZL0503")
    refused(lambda: t.write(ints(0, 0, 0, 0)), "ZL0503")
    held.clear()
    add_one(y=t)
    np.testing.assert_array_equal(t.numpy(), [1, 2, 3, 4])


def test_derived_arrays_count_as_held():
    t = vector(8)
    part = t.numpy()[2:].reshape(2, 3)
    with zl.stream() as s:
        refused(lambda: add_one(y=t), "ZL0503")
        del part
        add_one(y=t)
    s.synchronize()
    np.testing.assert_array_equal(t.numpy(), np.arange(1, 9))


def test_numpy_reads_through_dlpack_and_contracts_are_not_believed_while_it_may_write():
    at = zl.index([0, 1, 2], below=3)
    lent = np.from_dlpack(at)
    assert lent.flags.writeable and lent.ctypes.data == at.address
    lent[2] = 7
    refused(lambda: take(vector(3), at), "ZL0505")
    del lent
    gc.collect()
    at.write(ints(2, 1, 0))
    np.testing.assert_array_equal(take(vector(3), at).numpy(), [2, 1, 0])


def test_a_tensor_that_comes_back_through_dlpack_is_recognised_by_its_address():
    t = vector(8)
    again = zl.borrow(np.from_dlpack(t))
    assert again.memory is not t.memory
    refused(lambda: double(t, y=again), "ZL0503")
    a, b = zl.stream(), zl.stream()
    gate = Gate(a)
    with a:
        y = double(t)  # reads, behind the gate
    with b:
        add_one(y=again)  # the same memory under another name
    assert not b.event().wait(0.05)
    gate.open()
    b.synchronize()
    np.testing.assert_array_equal(y.numpy(), 2 * np.arange(8))
    np.testing.assert_array_equal(t.numpy(), np.arange(1, 9))


def test_bf16_crosses_dlpack_in_both_directions():
    t = zl.tensor(np.arange(6).reshape(2, 3), bf16)
    back = zl.borrow(Exporter(t))
    assert back.dtype is bf16 and back.address == t.address and back.shape == (2, 3)


class Exporter:
    """Stands for a tensor of another library: it has DLPack's two methods and nothing else."""

    def __init__(self, inner: zl.Tensor) -> None:
        self.inner = inner

    def __dlpack__(self, **options):
        return self.inner.__dlpack__(**options)

    def __dlpack_device__(self):
        return self.inner.__dlpack_device__()


@pytest.mark.parametrize("name", ["torch", "jax.numpy", "cupy"])
def test_other_libraries_exchange_memory(name: str):
    library = pytest.importorskip(name)
    if name == "torch":
        theirs = library.arange(6, dtype=library.int32)
        assert zl.borrow(theirs).address == theirs.data_ptr()
        ours = library.from_dlpack(vector(3))
    else:
        theirs = library.arange(6, dtype="int32")
        ours = library.from_dlpack(vector(3))
    np.testing.assert_array_equal(double(theirs).numpy(), 2 * np.arange(6))
    np.testing.assert_array_equal(np.asarray(ours), [0, 1, 2])


def test_memory_exported_and_dropped_unused_is_given_back():
    from zellige.runtime import dlpack

    gc.collect()  # what tests before left in cycles is not given back in between
    before = len(dlpack._exported)
    t = vector(4)
    capsule = t.__dlpack__()
    assert len(dlpack._exported) == before + 1 and t.memory.seen_by_others
    del capsule
    assert not t.memory.seen_by_others and len(dlpack._exported) == before
    with zl.stream() as s:
        capsule = t.__dlpack__()
        refused(lambda: add_one(y=t), "ZL0503")
        del capsule
        add_one(y=t)
    s.synchronize()


def test_the_error_of_a_consumer_that_turns_a_tensor_down_is_shown():
    t = zl.tensor(np.arange(4), bf16)
    with pytest.raises((BufferError, RuntimeError), match="dtype"):  # NumPy does not know bf16
        np.from_dlpack(t)
    assert not t.memory.seen_by_others


@pytest.mark.parametrize("make", [copy.copy, copy.deepcopy, lambda t: pickle.loads(pickle.dumps(t))])
@pytest.mark.parametrize("dtype", [zl.f32, zl.bf16, zl.f8e4m3, zl.i32])
def test_a_copied_tensor_has_memory_of_its_own(make, dtype):
    original = zl.tensor(np.arange(12).reshape(3, 4), dtype)
    made = make(original[:, 1:])
    assert made.dtype is dtype and made.address == made.storage.__array_interface__["data"][0]
    assert not np.shares_memory(made.storage, original.storage) and made.memory is not original.memory
    want = made.numpy().copy()
    original.write(np.zeros((3, 4)))
    del original
    np.testing.assert_array_equal(made.numpy(), want)
    np.testing.assert_array_equal(want.astype(np.float32), np.arange(12).reshape(3, 4)[:, 1:])


def test_a_copy_of_packed_weights_is_packed():
    packed = zl.tensor(np.arange(36, dtype=np.uint8).reshape(2, 18), zl.Q4_0, (2, 32))
    made = pickle.loads(pickle.dumps(packed))
    assert made.dtype is zl.Q4_0 and made.shape == (2, 32)
    np.testing.assert_array_equal(made.numpy(), packed.numpy())


@pytest.mark.parametrize(("megabytes", "boundary"), [(1, 64), (4, 2 << 20), (9, 2 << 20)])
def test_tensors_begin_on_a_line_and_large_ones_where_a_large_page_may(megabytes, boundary) -> None:
    for make in (empty, zeros):
        kept = [make((megabytes << 18,), f32) for _ in range(4)]
        assert all(t.address % boundary == 0 for t in kept)


@pytest.mark.parametrize("consume", [False, True])
def test_a_capsule_that_somebody_holds_is_not_taken_back(consume: bool):
    t = vector(4)
    capsule = t.__dlpack__()
    held = [capsule]
    del capsule
    others = [vector(2).__dlpack__() for _ in range(3)]
    del others
    assert t.memory.seen_by_others
    if consume:
        array = np.from_dlpack(Given(held.pop()))
        assert t.memory.seen_by_others and array.ctypes.data == t.address
        del array
    held.clear()
    gc.collect()
    assert not t.memory.seen_by_others


class Given:
    """Hands on a capsule."""

    def __init__(self, capsule: Any) -> None:
        self.capsule = capsule

    def __dlpack__(self, **options: Any) -> Any:
        capsule, self.capsule = self.capsule, None
        return capsule

    def __dlpack_device__(self) -> tuple[int, int]:
        return 1, 0


@pytest.mark.parametrize("key", [True, False, (0, True), (slice(None), False)])
def test_a_view_by_a_truth_value_is_refused(key):
    """NumPy makes a copy for it, which once passed for the tensor's memory: what was known of the one was believed of the other."""
    with pytest.raises(ZelligeError, match="ZL0502"):
        zl.tensor(np.zeros((2, 3), np.int32))[key]


def test_shapes_are_made_of_integers():
    t = zl.tensor(np.zeros((2, 3), np.int32))
    for call in (
        lambda: t.reshape(1.0, 6), lambda: t.reshape(True, 6), lambda: t.transpose(1.0, 0), lambda: zl.empty((2.0,), zl.f32),
        lambda: zl.empty((True,), zl.f32), lambda: zl.empty((None,), zl.f32),
    ):  # fmt: skip
        with pytest.raises(ZelligeError, match="ZL0502"):
            call()
