"""Runs what the generators for warp groups write, in NumPy: roles take turns at random, copies arrive late, products are done when waited for.

It knows what that source uses of Gluon and no more. A role goes on until it meets a barrier or a product; then any role that is not
waiting may go on, or any copy on its way arrive. A buffer holds NaN from the moment that a copy to it is asked for until it is there. Wrong are, beside
wrong numbers: a role that waits for ever, a barrier with too many arrivals, an operand that changes while a product reads it, and a result
that is used before it is waited for. Layouts in registers and in shared memory are not modelled.
"""

from __future__ import annotations

import operator
import re
import threading
from collections.abc import Callable, Iterator, Sequence
from functools import reduce
from math import prod
from types import SimpleNamespace
from typing import Any

import ml_dtypes
import numpy as np
from tests.backends.cuda.interpreted import function_of

from zellige.backends.cuda.lowering import lower
from zellige.backends.cuda.options import Options
from zellige.backends.reference.launch import run as reference
from zellige.ir.types import ContractKind, Role
from zellige.ir.walk import specialise
from zellige.runtime.tensor import numpy_dtype

Array = np.ndarray[Any, Any]


class V:
    """A scalar or a tile in registers."""

    def __init__(self, x: Any) -> None:
        self.x = np.asarray(x.x if isinstance(x, V) else x)

    def to(self, dtype: Any, bitcast: bool = False) -> V:
        assert not bitcast
        return V(self.x.astype(dtype))

    def __index__(self) -> int:
        return int(self.x)

    def __bool__(self) -> bool:
        return bool(self.x)

    def __neg__(self) -> V:
        return V(-self.x)


def _plain(x: Any) -> Any:
    if isinstance(x, Pending):
        raise AssertionError("a product is used before it is waited for")
    return x.x if isinstance(x, V) else x


def _truncated(x: Any, y: Any) -> Any:
    return np.trunc(np.asarray(x) / np.asarray(y)).astype(np.int64)


_OPERATORS: dict[str, Callable[[Any, Any], Any]] = {
    **{n: getattr(operator, n) for n in ("add", "sub", "mul", "truediv", "lt", "le", "gt", "ge", "eq", "ne")},
    "and": np.bitwise_and, "or": np.bitwise_or, "xor": np.bitwise_xor, "rshift": np.right_shift,
    "floordiv": _truncated, "mod": lambda x, y: x - _truncated(x, y) * y,
}  # fmt: skip
for _name, _function in _OPERATORS.items():
    setattr(V, f"__{_name}__", lambda self, other, f=_function: V(f(self.x, _plain(other))))
    setattr(V, f"__r{_name}__", lambda self, other, f=_function: V(f(_plain(other), self.x)))


class Pointer:
    """Addresses of elements of an array."""

    def __init__(self, array: Array, at: Any = 0) -> None:
        self.array, self.at = array.reshape(-1), np.asarray(at)

    def __add__(self, offset: Any) -> Pointer:
        return Pointer(self.array, self.at + _plain(offset))


class Shared:
    """A view of shared memory."""

    def __init__(self, x: Array) -> None:
        self.x = x

    def index(self, i: Any) -> Shared:
        return Shared(self.x[int(i)])

    def permute(self, axes: tuple[int, ...]) -> Shared:
        return Shared(self.x.transpose(axes))

    def reshape(self, shape: list[int]) -> Shared:
        made = self.x.reshape(shape)
        assert np.shares_memory(made, self.x)
        return Shared(made)

    def _reinterpret(self, dtype: Any, shape: list[int], layout: Any) -> Shared:
        assert self.x.dtype == dtype and self.x.flags.c_contiguous
        return Shared(self.x.reshape(-1)[: prod(shape)].reshape(shape))


class Barrier:
    """An mbarrier."""

    def __init__(self) -> None:
        self.count = self.left = self.bytes = self.phase = 0

    def step(self) -> None:
        assert self.left >= 0, "a barrier has too many arrivals"
        if self.left == 0 and self.bytes == 0:
            self.phase, self.left = self.phase + 1, self.count


class Pending:
    """A product under way."""

    def __init__(self, a: Any, b: Shared, acc: Any, use_acc: bool) -> None:
        self.operands = [x.x for x in (a, b)]
        self.before = [x.copy() for x in self.operands]
        self.acc, self.use_acc, self.value = acc, use_acc, None

    def finish(self) -> None:
        for now, then in zip(self.operands, self.before, strict=True):
            assert np.array_equal(now, then, equal_nan=True), "an operand changed while a product read it"
        a, b = (x.astype(np.float32) for x in self.operands)
        acc = self.acc.value if isinstance(self.acc, Pending) else self.acc
        assert acc is not None
        self.value = V(a @ b + acc.x if self.use_acc else a @ b)


class Block:
    """One block: its roles, its barriers, and copies on their way."""

    def __init__(self, number: int, blocks: int, seed: int) -> None:
        self.number, self.blocks = number, blocks
        self.random = np.random.default_rng(seed)
        self.copies: list[Callable[[], None]] = []
        self.ready: dict[int, Callable[[], bool] | None] = {}
        """Of each role that is not done: what it waits for."""
        self.now = -1
        self.changed = threading.Condition()
        self.failed: list[BaseException] = []
        self.products: dict[int, list[Pending]] = {}

    # --- roles
    def specialise(self, roles: list[tuple[Any, tuple[Any, ...]]], warps: list[int], registers: list[int]) -> None:
        threads = []
        for i, (function, arguments) in enumerate(roles):
            self.ready[i], self.products[i] = None, []
            threads.append(threading.Thread(target=self._role, args=(i, function, arguments), daemon=True))
        for thread in threads:
            thread.start()
        self._choose()
        for thread in threads:
            thread.join()
        if self.failed:
            raise self.failed[0]
        assert not self.copies, "a copy that nobody waits for"

    def _role(self, i: int, function: Any, arguments: tuple[Any, ...]) -> None:
        try:
            self._until_chosen(i)
            function(*arguments)
            assert not self.products[i], "a product is never waited for"
        except BaseException as problem:
            self.failed.append(problem)
        with self.changed:
            del self.ready[i]
        self._choose()

    def _until_chosen(self, i: int) -> None:
        with self.changed:
            self.changed.wait_for(lambda: self.now == i or self.failed, timeout=60)
            if self.now != i:
                raise SystemExit

    def _choose(self) -> None:
        """Lets some copies arrive, then another role go on."""
        with self.changed:
            try:
                while self.ready:
                    if self.copies and self.random.random() < 0.3:
                        self._copy_arrives()
                    free = [i for i, test in self.ready.items() if test is None or test()]
                    if free:
                        self.now = int(self.random.choice(free))
                        break
                    assert self.copies, "all roles wait"
                    self._copy_arrives()
            except AssertionError as problem:
                self.failed.append(problem)
                self.now = -1
            self.changed.notify_all()

    def _copy_arrives(self) -> None:
        self.copies.pop(int(self.random.integers(len(self.copies))))()

    def switch(self, test: Callable[[], bool] | None = None) -> None:
        """Here another role may go on; this one when the test holds."""
        me = self.now
        self.ready[me] = test
        self._choose()
        self._until_chosen(me)

    # --- barriers, copies, products
    def wait(self, barrier: Barrier, phase: Any) -> None:
        self.switch(lambda: barrier.phase % 2 != int(phase))

    def arrive(self, barrier: Barrier, count: int, pred: Any = True) -> None:
        self.switch()
        if pred:
            barrier.left -= count
            barrier.step()

    def expect(self, barrier: Barrier, size: int) -> None:
        barrier.bytes += size
        barrier.left -= 1
        barrier.step()

    def copy(self, box: Any, corner: list[Any], barrier: Barrier, to: Shared) -> None:
        assert list(to.x.shape) == box.block
        to.x[...] = np.nan

        def arrive() -> None:
            found = np.zeros(box.block, to.x.dtype)
            array = box.pointer.array.reshape(box.shape)
            spans = [(max(int(c), 0), min(int(c) + n, e)) for c, n, e in zip(corner, box.block, box.shape, strict=True)]
            if all(a < b for a, b in spans):
                place = tuple(slice(a - int(c), b - int(c)) for (a, b), c in zip(spans, corner, strict=True))
                found[place] = array[tuple(slice(a, b) for a, b in spans)]
            to.x[...] = found
            barrier.bytes -= found.nbytes
            assert barrier.bytes >= 0
            barrier.step()

        self.copies.append(arrive)

    def multiply(self, a: Any, b: Shared, acc: Any, *, use_acc: bool = True, is_async: bool) -> Pending:
        made = Pending(a, b, acc, use_acc)
        self.products[self.now].append(made)
        self.switch()
        return made

    def finished(self, left: int, values: tuple[Any, ...]) -> Any:
        self.switch()
        held = self.products[self.now]
        while len(held) > left:
            held.pop(0).finish()
        out = [x.value if isinstance(x, Pending) else x for x in values]
        assert all(x is not None for x in out), "a wait that does not reach the product it is for"
        return out[0] if len(out) == 1 else tuple(out)


def _range(*ends: Any) -> Iterator[V]:
    return (V(i) for i in range(*map(int, ends)))


def _language(block: Block) -> SimpleNamespace:
    def load(p: Pointer, mask: Any = None, other: Any = 0) -> V:
        return V(
            p.array[p.at] if mask is None else np.where(_plain(mask), p.array[np.where(_plain(mask), p.at, 0)], other)
        )

    def store(p: Pointer, value: V, mask: Any = True) -> None:
        at, held, where = np.broadcast_arrays(p.at, value.x, _plain(mask))
        p.array[at[where]] = held[where]

    def full(shape: Any, value: Any, dtype: Any, layout: Any = None) -> V:
        return V(np.full(shape, _plain(value), dtype))

    def reduced(x: V, axis: int, function: Any) -> V:
        return V(reduce(lambda a, b: _plain(function(a, b)), np.moveaxis(x.x, axis, 0)))

    def both(f: Any) -> Any:
        return lambda x, y, *_: V(f(_plain(x), _plain(y)))

    def same(x: Any, *_: Any) -> Any:
        return x

    layout = lambda *_: None
    return SimpleNamespace(
        constexpr=same, static_range=range, program_id=lambda _: V(block.number), num_programs=lambda _: V(block.blocks),
        int1=np.bool_, int32=np.int64, int64=np.int64, float32=np.float32, float16=np.float16, bfloat16=ml_dtypes.bfloat16,
        minimum=both(np.minimum), maximum=both(np.maximum), cdiv=lambda x, y: V(-(-_plain(x) // _plain(y))),
        where=lambda c, x, y: V(np.where(_plain(c), _plain(x), _plain(y))), full=full,
        zeros=lambda shape, dtype, layout=None: full(shape, 0, dtype), arange=lambda a, b, layout=None: V(np.arange(a, b)),
        expand_dims=lambda x, axis: V(np.expand_dims(x.x, axis)), exp2=lambda x: V(np.exp2(x.x)), exp=lambda x: V(np.exp(x.x)),
        sum=lambda x, axis: V(x.x.sum(axis)), reduce=reduced, convert_layout=same, set_auto_layout=same, load=load, store=store,
        SliceLayout=layout, NVMMADistributedLayout=layout, DotOperandLayout=layout, BlockedLayout=layout,
        NVMMASharedLayout=SimpleNamespace(get_default_for=layout), warp_specialize=block.specialise,
        allocate_shared_memory=lambda dtype, shape, _: (
            SimpleNamespace(index=[Barrier() for _ in range(shape[0])].__getitem__) if dtype is np.int64 else
            Shared(np.full(shape, np.nan, dtype))
        ),
    )  # fmt: skip


def _initialise(barrier: Barrier, count: int) -> None:
    barrier.count = barrier.left = count


def run(source: str, name: str, arguments: Sequence[Any], *, blocks: int = 2, seed: int = 0) -> None:
    """Runs a generated kernel with these arrays and scalars, its parameters in order."""
    body = re.sub(r"^from .*$", "", source, flags=re.MULTILINE)
    for number in range(blocks):
        block = Block(number, blocks, seed + number)
        tl = _language(block)
        box = SimpleNamespace(
            make_tensor_descriptor=lambda pointer, shape, strides, block_shape, layout: SimpleNamespace(
                pointer=pointer, shape=[int(n) for n in shape], block=list(block_shape)
            ),
            async_copy_global_to_shared=block.copy,
        )
        names = {
            "tl": tl, "gluon": SimpleNamespace(jit=lambda f: f), "range": _range, "PropagateNan": SimpleNamespace(ALL=None),
            "mbarrier": SimpleNamespace(
                init=_initialise, wait=block.wait, arrive=block.arrive, expect=block.expect, MBarrierLayout=lambda: None
            ),
            "tma": box, "warpgroup_mma": block.multiply, "warpgroup_mma_wait": block.finished,
            "warpgroup_mma_init": lambda x: x, "gdc_wait": lambda: None, "gdc_launch_dependents": lambda: None,
        }  # fmt: skip
        exec(compile(body, "<generated>", "exec"), names)
        given = [Pointer(x) if isinstance(x, np.ndarray) else V(x) for x in arguments]
        names[f"{name}_kernel"](*given)


def drawn(function: Any, dims: dict[str, int], seed: int) -> dict[str, Any]:
    random = np.random.default_rng(seed)
    made = {}
    for array in function.arrays:
        shape, dtype = tuple(e.evaluate(dims) for e in array.shape), numpy_dtype(array.dtype)
        if array.role is Role.OUT:
            made[array.name] = np.full(shape, np.nan, dtype)
        elif array.contract is not None:
            bound = array.contract.bound.evaluate(dims) + (array.contract.kind is ContractKind.UP_TO)
            made[array.name] = random.integers(0, bound, shape).astype(dtype)
        else:
            made[array.name] = random.standard_normal(shape).astype(dtype)
    return made


def off(
    kernel: Any,
    dims: dict[str, int],
    options: Options,
    seed: int = 0,
    change: tuple[str, str] = ("", ""),
    **statics: int,
) -> float:
    """How far what the model makes of the generated source is from the interpreter's numbers, relatively."""
    function = function_of(kernel, **statics)
    arrays, scalars = drawn(function, dims, seed), {scalar.name: 0.1 for scalar in function.scalars}
    expected = {name: array.copy() for name, array in arrays.items()}
    reference(function, dims, expected, scalars, check=False)
    lowered = lower(specialise(function, dims), options)
    assert change[0] in lowered.text
    given = [arrays[p.name] if p.kind == "array" else scalars[p.name] for p in lowered.parameters]
    run(lowered.text.replace(*change) if change[0] else lowered.text, function.name, given, seed=seed)
    (out,) = (array.name for array in function.arrays if array.role is Role.OUT)
    got, want = (x[out].astype(np.float64) for x in (arrays, expected))
    return float(np.linalg.norm(got - want) / np.linalg.norm(want))
