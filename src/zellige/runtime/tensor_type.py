"""The tensor: memory with a dtype, a shape, and the contracts that its elements are known to keep.

Who uses a tensor's memory is in ``memory.py``; making tensors is in ``tensor.py``.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from zellige.diagnostics.errors import ZelligeError
from zellige.ir.dtypes import DType
from zellige.ir.types import ContractKind
from zellige.runtime.completion import LOCK
from zellige.runtime.contracts import Fact, broken
from zellige.runtime.memory import CLOCK, HostUse, HostView, Memory, share_locked, wait_for_writers

Storage: TypeAlias = Any
"""What a tensor's elements lie in: a NumPy array, or a device's array (``cuda/array.py``) with the same properties."""

HOST = "host memory"
"""Where a NumPy array is; a device's array names its GPU."""


_LAYOUTS: dict[tuple[Any, ...], Layout] = {}
_MOST_LAYOUTS = 1 << 16  # beyond it they are made anew, and plans for them


class Layout:
    """How a tensor lies in memory. Tensors that lie alike share one, so that layouts are compared by identity."""

    __slots__ = ("dtype", "place", "shape", "strides", "writeable")

    def __init__(
        self, dtype: str, shape: tuple[int, ...], strides: tuple[int, ...] | None, writeable: bool, place: str
    ) -> None:
        self.dtype = dtype
        self.shape = shape
        self.strides = strides
        """In elements; None: row-major without gaps."""
        self.writeable = writeable
        self.place = place


def _layout_named(*parts: Any) -> Layout:
    """The layout of these parts."""
    found = _LAYOUTS.get(parts)
    if found is None:
        if len(_LAYOUTS) >= _MOST_LAYOUTS:
            _LAYOUTS.clear()
        found = _LAYOUTS.setdefault(parts, Layout(*parts))
    return found


class Tensor:
    """An array that kernels use: storage, dtype, shape, and what is known of its contents.

    ``shape`` counts elements; a block-quantised tensor's storage is uint8 with the bytes of whole blocks on its last
    axis. Read it with ``numpy()``; change it from the host with ``write``. ``storage`` is the memory itself, for the
    runtime: whoever touches it outside a launch has to wait for the tensor's users first.
    """

    __slots__ = (
        "__weakref__",
        "_facts",
        "_layout",
        "_parent",
        "_stamp",
        "address",
        "dtype",
        "memory",
        "shape",
        "span",
        "storage",
    )

    def __init__(
        self,
        storage: Storage,
        dtype: DType,
        shape: Sequence[int],
        *,
        initialised: bool = True,
        borrowed: bool = False,
    ) -> None:
        low, high = byte_bounds(storage)
        self._set(
            Memory(storage, low, high - low, initialised=initialised, borrowed=borrowed), storage, dtype, tuple(shape)
        )

    def _set(self, memory: Memory, storage: Storage, dtype: DType, shape: tuple[int, ...], address: int = -1) -> None:
        self.memory = memory
        self.storage = storage
        self.dtype = dtype
        self.shape = shape
        if address >= 0:
            self.address = address
            self.span = address, address + memory.size
        else:
            self.address = address_of(storage)
            self.span = byte_bounds(storage)
        self._layout: Layout | None = None
        self._parent: Tensor | None = None
        self._facts: tuple[Fact, ...] = ()
        self._stamp = 0

    @classmethod
    def over(
        cls, memory: Memory, storage: Storage, dtype: DType, shape: tuple[int, ...], *, address: int = -1
    ) -> Tensor:
        """A tensor over memory that exists; ``address``: of the first byte, if the storage is all of the memory in order."""
        made = cls.__new__(cls)
        made._set(memory, storage, dtype, shape, address)
        return made

    # --- what is known of it
    @property
    def parent(self) -> Tensor | None:
        """The tensor that this is a view of."""
        return self._parent

    @property
    def borrowed(self) -> bool:
        """Whether somebody else may change the contents unseen: contracts are then checked at each use."""
        return self.memory.seen_by_others

    @property
    def initialised(self) -> bool:
        """Whether every element was written."""
        return self.memory.is_written(self)

    @initialised.setter
    def initialised(self, value: bool) -> None:
        self.memory.unwritten = None if value else True

    @property
    def facts(self) -> tuple[Fact, ...]:
        """Contracts that the contents are known to keep; a view keeps what those of the whole imply for any part."""
        memory = self.memory
        if memory.seen_by_others:
            return ()
        own = self._facts if self._facts and self._stamp >= memory.stamp() else ()
        if self._parent is None:
            return own
        return (*own, *(f for f in map(fact_of_part, self._parent.facts) if f is not None and f not in own))

    def keeps(self, wanted: Fact) -> bool:
        """Whether the contents are known to keep a contract."""
        return any(fact.suffices_for(wanted) for fact in self.facts)

    def learn(self, fact: Fact, stamp: int | None = None) -> None:
        """Remembers a contract that the contents keep, established by a check or a proof.

        ``stamp``: the memory's when the contents that were checked were the latest; if they no longer are, nothing is
        remembered."""
        memory = self.memory
        now = memory.stamp()
        if memory.seen_by_others or (stamp is not None and stamp != now):
            return
        current = self._facts if self._stamp >= now else ()
        if fact not in current:
            self._facts = (*current, fact)
        self._stamp = now

    def forget(self) -> None:
        """Called when something writes to the memory: nothing is known of the contents any more, in any view."""
        self.memory.version = next(CLOCK)

    @property
    def layout(self) -> Layout:
        """How it lies in memory. ZelligeError ZL0501 if elements are not where a kernel can address them."""
        if self._layout is None:
            storage = self.storage
            strides = None if storage.flags.c_contiguous else self._element_strides()
            if self.address % storage.itemsize:
                raise ZelligeError(
                    "ZL0501", f"this {self.dtype} array is not aligned to its elements", help="pass a copy"
                )
            self._layout = _layout_named(self.dtype.name, self.shape, strides, storage.flags.writeable, self.place)
        return self._layout

    @property
    def place(self) -> str:
        """Whose memory it is in: launches run there."""
        storage = self.storage
        place: str = HOST if isinstance(storage, np.ndarray) else storage.executor.place
        return place

    def _element_strides(self) -> tuple[int, ...]:
        storage = self.storage
        unit = self.dtype.bytes_for(self.dtype.block) if self.dtype.is_block else storage.itemsize
        strides = list(storage.strides)
        last = 1
        if self.dtype.is_block:
            if strides[-1] != 1:
                raise ZelligeError("ZL0501", f"the bytes of a {self.dtype} row must be adjacent", help="pass a copy")
            last = strides.pop()
        if any(stride % unit for stride, n in zip(strides, storage.shape, strict=False) if n > 1):
            raise ZelligeError(
                "ZL0501",
                f"strides {storage.strides} (bytes) are not whole elements of {self.dtype}",
                help="pass a copy",
            )
        steps = [stride // unit * self.dtype.block for stride in strides]
        return (*steps, last) if self.dtype.is_block else tuple(steps)

    # --- views
    def reshape(self, *shape: int) -> Tensor:
        """A view of the same memory in another shape (one extent may be −1). ZelligeError ZL0502 if there is none.

        A block-quantised tensor keeps its last extent."""
        if not all(isinstance(n, int | np.integer) and not isinstance(n, bool) for n in shape):
            raise ZelligeError("ZL0502", f"a shape is made of integers, not {shape}", help="t.reshape(2, -1)")
        wanted = list(shape)
        if wanted.count(-1) == 1:
            known = math.prod(n for n in wanted if n != -1)
            wanted[wanted.index(-1)] = math.prod(self.shape) // known if known else 0
        stored = wanted
        if self.dtype.is_block:
            stored = [*wanted[:-1], self.storage.shape[-1]]
        same_rows = not self.dtype.is_block or (wanted and self.shape and wanted[-1] == self.shape[-1])
        if min(wanted, default=0) < 0 or math.prod(wanted) != math.prod(self.shape) or not same_rows:
            raise ZelligeError(
                "ZL0502",
                f"a {self.dtype} tensor of shape {self.shape} cannot be viewed as {shape}",
                help="keep the number of elements",
            )
        if tuple(wanted) == self.shape:
            return self
        try:
            storage = self.storage.reshape(stored, copy=False)
        except ValueError:
            raise ZelligeError(
                "ZL0502", f"a tensor of shape {self.shape} with strides {self.storage.strides} has no view of shape {shape}",
                help="reshape before slicing or transposing",
            ) from None  # fmt: skip
        return self._view(storage, tuple(wanted))

    def __getitem__(self, key: Any) -> Tensor:
        """A view by integers, slices and ``…``. IndexError beyond the ends; ZelligeError ZL0502 for other keys.

        The last axis of a block-quantised tensor is taken whole."""
        parts = key if isinstance(key, tuple) else (key,)
        # a truth value is an int, too, but NumPy copies for it
        places = (part for part in parts if part is not Ellipsis)
        if not all(isinstance(part, int | np.integer | slice) and not isinstance(part, bool) for part in places):
            raise ZelligeError(
                "ZL0502", f"tensors are indexed with integers and slices, not {key!r}", help="use zl.gather in a kernel"
            )
        if self.dtype.is_block:
            if Ellipsis in parts or len(parts) >= len(self.shape):
                raise ZelligeError("ZL0502", f"the last axis of a {self.dtype} tensor is taken whole")
            storage = self.storage[key]
            return self._view(storage, (*storage.shape[:-1], self.shape[-1]))
        storage = self.storage[(*parts, Ellipsis)] if Ellipsis not in parts else self.storage[key]
        return self._view(storage, storage.shape)

    def transpose(self, *axes: int) -> Tensor:
        """A view with the axes in another order (reversed if none are given)."""
        if self.dtype.is_block and (not axes or axes[-1] not in (-1, len(self.shape) - 1)):
            raise ZelligeError("ZL0502", f"the last axis of a {self.dtype} tensor stays last")
        try:
            storage = self.storage.transpose(axes or None)
        except (TypeError, ValueError):
            raise ZelligeError("ZL0502", f"axes {axes} are no order of the axes of shape {self.shape}") from None
        order = axes or tuple(reversed(range(len(self.shape))))
        return self._view(storage, tuple(self.shape[a] for a in order))

    @property
    def T(self) -> Tensor:
        """A view with the axes reversed."""
        return self.transpose()

    def _check_on_host(self, what: str) -> None:
        """ZelligeError ZL0527 of what tensors on a GPU do not have."""
        if not isinstance(self.storage, np.ndarray):
            raise ZelligeError(
                "ZL0527",
                f"a tensor on {self.place} has no {what}",
                help="t.numpy() is a copy in host memory",
            )

    def _view(self, storage: NDArray[Any], shape: tuple[int, ...]) -> Tensor:
        view = Tensor.over(self.memory, storage, self.dtype, shape)
        view._parent = self
        return view

    # --- the host's side
    def numpy(self) -> NDArray[Any]:
        """The contents as a read-only NumPy array over the same memory (uint8 bytes for block types).

        Waits for whoever writes the tensor. While the array (or one derived from it) lives, no stream and no other
        thread may write the tensor: AliasError. ZelligeError ZL0504 if nothing was written yet."""
        with host_use(self, exclusive=False, name="numpy"):
            if not self.initialised:
                raise ZelligeError(
                    "ZL0504",
                    "this tensor is read before anything was written to it",
                    help="run a kernel that writes it",
                )
            if isinstance(self.storage, np.ndarray):
                return self._contents()
            fetched: Callable[[], NDArray[Any]] = self.storage.executor.fetch(self)
        return fetched()

    def values(self) -> NDArray[Any]:
        """The contents for reading by the runtime, which has seen to it that nobody writes them meanwhile."""
        return self.storage if isinstance(self.storage, np.ndarray) else self.storage.download()

    def _contents(self) -> NDArray[Any]:
        if self.memory.borrowed:
            array: NDArray[Any] = self.storage.view()
            array.flags.writeable = False
            return array
        return self._host_array(writable=False)

    def _host_array(self, *, writable: bool) -> NDArray[Any]:
        array = np.asarray(HostView(self, writable=writable))
        return array if array.dtype == self.storage.dtype else array.view(self.storage.dtype)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        return np.array(self.numpy(), dtype=dtype, copy=True if copy is None else copy)

    def __reduce__(self) -> tuple[Any, ...]:
        """For ``copy`` and ``pickle``: a copy has memory of its own, as an address means nothing elsewhere."""
        from zellige.runtime.tensor import copied

        self._check_on_host("copies by copy or pickle")
        return copied, (self.numpy(), self.dtype.name, self.shape)

    def __dlpack__(self, **options: Any) -> Any:
        """The memory for another library, which may write it: from now on contracts are checked at each use.

        Waits until nothing uses the tensor. While the other library holds it, streams may not write it (AliasError). On a GPU the
        library's stream waits, and while it holds the tensor each use of ours waits for all others' work (``cuda/foreign.py``)."""
        from zellige.runtime.dlpack import capsule_of

        if not isinstance(self.storage, np.ndarray):
            from zellige.runtime.cuda.foreign import export

            return export(self, **options)
        with HostUse(self, exclusive=True, name="__dlpack__"):
            if not self.initialised:
                raise ZelligeError("ZL0504", "this tensor is exported before anything was written to it")
            if self.memory.borrowed:
                return capsule_of(self.storage, self.dtype, **options)
            with LOCK:
                array = self._host_array(writable=self.storage.flags.writeable)
                share_locked(self.memory)
            return capsule_of(array, self.dtype, **options)

    def __dlpack_device__(self) -> tuple[int, int]:
        if isinstance(self.storage, np.ndarray):
            return (1, 0)  # kDLCPU
        device = self.storage.executor.device
        return (2, 0 if device is None else device.ordinal)  # kDLCUDA

    def __setitem__(self, key: Any, values: Any) -> None:
        raise ZelligeError("ZL0502", "elements of a tensor are not assigned", help="t[…].write(values) writes a part")

    def write(self, values: Any, parts: Sequence[Tensor] = ()) -> None:
        """Overwrites the contents from the host, once nobody uses them; contracts that they kept are checked on the new first.

        ``parts``: views of it whose contracts are to hold afterwards, too, each of what it gets.
        ZelligeError ZL0505 (with the offending positions) if the new values break one; the old contents stay."""
        if isinstance(values, np.ndarray):
            wait_for_writers(*byte_bounds(np.asarray(values)))
        try:
            new = np.asarray(values.numpy() if isinstance(values, Tensor) else values, dtype=self.storage.dtype)
        except (TypeError, ValueError) as error:
            raise ZelligeError(
                "ZL0501", f"these values are no {self.dtype}: {error}", help="give an array of numbers"
            ) from None
        if new.shape != self.storage.shape:
            raise ZelligeError(
                "ZL0502",
                f"values of shape {new.shape} are written to a tensor of shape {self.storage.shape}",
                help="give as many; t[…].write(values) writes a part",
            )
        if not self.storage.flags.writeable:
            raise ZelligeError("ZL0503", "this tensor's memory is read-only")
        with host_use(self, exclusive=True, name="write"):
            kept = [(part, facts) for part in (self, *parts) if (facts := part.facts)]
            if kept:
                new = new.copy()  # in C order; what is checked is what is written, whoever has the values
            for part, facts in kept:
                given = new if part is self else self._share(part, new)
                for fact in facts:
                    problem = broken(fact, given)
                    if problem:
                        raise ZelligeError(
                            "ZL0505", f"the new contents break {fact}: {problem}", help="correct the values"
                        )
            with LOCK:
                self.forget()
                self.memory.mark_written(self)
                for part, facts in kept:
                    part._facts, part._stamp = facts, self.memory.stamp()
            self.storage[...] = new

    def _share(self, part: Tensor, values: NDArray[Any]) -> NDArray[Any]:
        """What a view of this tensor gets of new values for all of it."""
        (low, high), (first, last) = self.span, part.span
        inside = part.memory is self.memory and part.dtype is self.dtype and low <= first <= last <= high
        if not inside or not self.storage.flags.c_contiguous:
            raise ZelligeError(
                "ZL0502", "a part that is written with its whole is a view of it, and the whole has no gaps"
            )
        return np.ndarray(part.storage.shape, values.dtype, values, part.address - self.address, part.storage.strides)

    def __len__(self) -> int:
        if not self.shape:
            raise TypeError("a tensor without axes has no length")
        return self.shape[0]

    def __repr__(self) -> str:
        known = "".join(f", {fact}" for fact in self.facts)
        return f"Tensor({self.dtype}, {self.shape}{known})"


def host_use(tensor: Tensor, *, exclusive: bool, name: str) -> AbstractContextManager[Any]:
    """The host uses a tensor: when all conflicting work has ended, or, of one on a GPU, in the device's turn.

    Uses on a GPU are in no ledger: whoever had entered one there and then waited for his turn would be waited for by a replay,
    whose turn it is."""
    if isinstance(tensor.storage, np.ndarray):
        return HostUse(tensor, exclusive=exclusive, name=name)
    turn: AbstractContextManager[Any] = tensor.storage.executor.turn
    return turn


def fact_of_part(fact: Fact) -> Fact | None:
    """What a contract of a whole says of any of its elements, each taken once, in any order and shape."""
    match fact.kind:
        case ContractKind.INDEX | ContractKind.UP_TO:
            return fact
        case ContractKind.PERMUTATION:
            return Fact(ContractKind.INDEX, fact.bound, distinct=True)
        case ContractKind.OFFSETS:
            return Fact(ContractKind.UP_TO, fact.bound)
    return None


def address_of(storage: Any) -> int:
    """Address of an array's first element."""
    return int(storage.__array_interface__["data"][0]) if isinstance(storage, np.ndarray) else int(storage.address)


def byte_bounds(storage: Any) -> tuple[int, int]:
    """First and one past the last byte that an array may touch."""
    address = address_of(storage)
    if not storage.size:
        return address, address
    if storage.flags.c_contiguous:
        return address, address + int(storage.nbytes)
    low, high = address, address + storage.itemsize
    for stride, n in zip(storage.strides, storage.shape, strict=True):
        if stride < 0:
            low += stride * (n - 1)
        else:
            high += stride * (n - 1)
    return low, high
