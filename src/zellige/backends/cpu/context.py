"""State of one kernel's lowering: where arrays, buffers and scalars are, and what is known about values.

A *position* is one coordinate per axis of a tile: an index (`Int`), or along at most one axis a `Lane`, a run of
consecutive coordinates that a vector covers. Evaluating a tile at a position gives its elements there.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from zellige.backends.cpu.emit import Emitter, Int, Reg
from zellige.backends.cpu.plan import shape_of
from zellige.backends.cpu.target import Target
from zellige.ir.dtypes import DType
from zellige.ir.ops import Function, Op, Value
from zellige.passes.intervals import ANY, Interval


@dataclass(frozen=True, slots=True)
class Lane:
    """Coordinates base … base+lanes−1, where base is known to be `offset` more than a multiple of `multiple`
    (0: base is `offset`)."""

    base: Int
    lanes: int
    multiple: int
    offset: int = 0

    def position_in(self, period: int) -> int | None:
        """base modulo `period`, where it is known."""
        return self.offset % period if self.multiple % period == 0 else None


@dataclass(frozen=True, slots=True)
class Index:
    """Index values base + stride·lane for each lane, the same for all if `lanes` is 0.

    base is known to be `offset` more than a multiple of `multiple` (0: base is `offset`).
    """

    base: Int
    stride: Int = 0
    lanes: int = 0
    multiple: int = 1
    offset: int = 0

    @property
    def uniform(self) -> bool:
        return self.lanes == 0

    def position_in(self, period: int) -> int | None:
        """base modulo `period`, where it is known."""
        return self.offset % period if self.multiple % period == 0 else None


Coordinate = Int | Lane
Position = tuple[Coordinate, ...]


def index_of(value: Int, multiple: int = 1, offset: int = 0) -> Index:
    """A uniform index, which is `offset` more than a multiple of `multiple` if it is no constant."""
    return Index(value, 0, 0, 0, value) if isinstance(value, int) else Index(value, 0, 0, multiple, offset)


def sum_residue(a: Index, b: Index, sign: int = 1) -> tuple[int, int]:
    """(multiple, offset) of the base of a + b, or of a − b if `sign` is −1."""
    multiple, offset = math.gcd(a.multiple, b.multiple), a.offset + sign * b.offset
    return multiple, offset % multiple if multiple else offset


def product_residue(a: Index, b: Index) -> tuple[int, int]:
    """(multiple, offset) of the base of a · b."""
    multiple = math.gcd(a.multiple * b.multiple, a.multiple * b.offset, a.offset * b.multiple)
    offset = a.offset * b.offset
    return multiple, offset % multiple if multiple else offset


def lanes_of(position: Position) -> int:
    """How many lanes a position covers; 0 if it is a single element."""
    return next((c.lanes for c in position if isinstance(c, Lane)), 0)


def project(value: Value, position: Position) -> Position:
    """The position in a value that is broadcast to the shape of `position`: scalars to any, axes of extent 1."""
    if value.type.rank == 0:
        return ()
    return tuple(0 if n == 1 else c for n, c in zip(shape_of(value), position, strict=True))


@dataclass(frozen=True, slots=True)
class Array:
    """An array parameter: `strides` count elements; `metadata` tells LLVM what it overlaps."""

    name: str
    pointer: Reg
    dtype: DType
    strides: tuple[Int, ...]
    load_metadata: str
    store_metadata: str


@dataclass(frozen=True, slots=True)
class Buffer:
    """Scratch memory of a materialised tile, row-major without gaps unless `strides` say otherwise."""

    pointer: Reg
    dtype: DType
    strides: tuple[int, ...]
    streamed: bool = False
    """Rows of an array instead, of which each program reads others: the next program's come after these."""


def row_major(shape: tuple[int, ...]) -> tuple[int, ...]:
    strides = []
    step = 1
    for extent in reversed(shape):
        strides.append(step)
        step *= extent
    return tuple(reversed(strides))


@dataclass(slots=True)
class Context:
    """Everything the parts of the lowering share."""

    emitter: Emitter
    target: Target
    function: Function
    definitions: dict[Value, Op]
    intervals: dict[Value, Interval]
    arrays: dict[str, Array] = field(default_factory=dict)
    extents: dict[str, Int] = field(default_factory=dict)
    parameters: dict[str, Reg] = field(default_factory=dict)
    program_ids: list[Int] = field(default_factory=list)
    program_counts: list[Int] = field(default_factory=list)
    """Programs on each grid axis."""
    uses_tiles: bool = False
    """Whether matrix registers must be configured."""
    fences: bool = False
    """Whether stores go past the caches (streaming.py)."""
    past_caches: str = ""
    """The metadata of such a store."""
    flag: Reg | None = None
    scalars: dict[Value, Reg | Index] = field(default_factory=dict)
    buffers: dict[Value, Buffer] = field(default_factory=dict)
    assumed: set[Value] = field(default_factory=set)
    """Masks that are true in every lane of the code being emitted."""
    memo: list[dict[tuple[Value, Position], Reg | Index]] = field(default_factory=lambda: [{}])
    packed: dict[tuple[Value, DType, tuple[str | int, ...], bool], Buffer] = field(default_factory=dict)
    """Operands of products that are in scratch memory already; forgotten at the end of the block that packed them."""
    ahead: dict[Value, Value] = field(default_factory=dict)
    """Of a reduction's result: a tile computed later in its block, for the next program's rows of which memory is asked already."""
    scales: dict[tuple[Value, Position], Reg] = field(default_factory=dict)
    """Scales of the current row's blocks that have been converted: by load and the row's position (quantised.py)."""
    evaluate: Callable[[Value, Position], Reg | Index] = field(init=False)
    """Set by the lowering: the elements of a tile at a position (expression.py)."""
    scratch_bytes: int = 0
    scratch_metadata: str = ""

    def __post_init__(self) -> None:
        self.emitter.on_scope.append(self._scope)

    def _scope(self, opens: bool) -> None:
        if opens:
            self.memo.append({})
        else:
            self.memo.pop()

    @contextmanager
    def assuming(self, masks: set[Value]) -> Iterator[None]:
        """Masks taken as true for the code emitted inside."""
        before = self.assumed
        self.assumed = before | masks
        self.memo.append({})
        try:
            yield
        finally:
            self.assumed = before
            self.memo.pop()

    @contextmanager
    def region(self) -> Iterator[None]:
        """What is memoised inside is forgotten afterwards (memory that it came from may change)."""
        self.memo.append({})
        try:
            yield
        finally:
            self.memo.pop()

    def interval(self, value: Value) -> Interval:
        return self.intervals.get(value, ANY)

    @property
    def vector(self) -> int:
        """f32 lanes that one step of an elementwise loop covers: two registers."""
        return 2 * self.target.lanes

    def value(self, value: Value, position: Position) -> Reg:
        """Elements of a tile as a register value."""
        found = self.evaluate(value, position)
        return self.index_register(found, found.lanes) if isinstance(found, Index) else found

    def index(self, value: Value, position: Position) -> Index | Reg:
        """Elements of an index tile: an `Index` where they are evenly spaced, else a vector of i64."""
        found = self.evaluate(value, position)
        if isinstance(found, Reg) and not found.lanes:
            return index_of(int(found.ref) if found.is_literal else found)
        return found

    def index_register(self, index: Index, lanes: int) -> Reg:
        """An `Index` as i64, in as many lanes."""
        e = self.emitter
        if not lanes:
            return e.i64(index.base)
        base = e.splat(e.i64(index.base), lanes)
        if index.stride == 0:
            return base
        steps = e.counting(lanes)
        if index.stride != 1:
            steps = e.op("mul", steps, e.splat(e.i64(index.stride), lanes))
        return e.op("add", base, steps)

    def scratch(self, bytes_: int) -> Reg:
        """Memory of this kernel call, aligned to 64 bytes."""
        ref = "%" + self.emitter.name("scratch")
        self.emitter.entry.append(f"  {ref} = getelementptr inbounds i8, ptr %scratch, i64 {self.scratch_bytes}")
        self.scratch_bytes += (bytes_ + 127) // 64 * 64  # a line to spare: two buffers never share one
        return Reg(ref, "ptr")

    def new_buffer(self, dtype: DType, shape: tuple[int, ...]) -> Buffer:
        return Buffer(self.scratch(math.prod(shape) * max(1, dtype.bits // 8)), dtype, row_major(shape))


def nest(
    ctx: Context,
    shape: tuple[int, ...],
    axis: int,
    body: Callable[[Position], None],
    lanes: int,
    period: int = 1,
    row: Callable[[Position], None] | None = None,
) -> None:
    """Runs `body` for positions that cover a tile of `shape` once, in vectors of up to `lanes` along `axis`.

    `row` runs before each line along `axis`, at its start.

    The end of the axis that is no whole vector is covered by vectors of smaller powers of two. Where `period` is longer
    than a vector, one step of the loop covers that much, so that each vector's place in the period is known.
    """
    emitter = ctx.emitter
    if any(n == 0 for n in shape):
        return

    def outer(done: list[Coordinate]) -> None:
        level = len(done)
        if level == len(shape):
            inner(done)
        elif level == axis or shape[level] == 1:
            outer([*done, 0])
        else:

            def deeper(i: Int, _: list[Reg]) -> tuple[()]:
                outer([*done, i])
                return ()

            emitter.loop(0, shape[level], 1, (), deeper)

    def inner(done: list[Coordinate]) -> None:
        if not shape:
            body(())
            return
        if row is not None:
            row(tuple(done))
        for lower, upper, width in pieces(shape[axis], lanes):
            stride = max(width, period) if (upper - lower) % max(width, period) == 0 and lower % period == 0 else width

            def step(i: Int, _: list[Reg], width: int = width, stride: int = stride) -> tuple[()]:
                for first in range(0, stride, width):
                    place = list(done)
                    place[axis] = lane_at(emitter.add(i, first), width, stride, first)
                    body(tuple(place))
                return ()

            emitter.loop(lower, upper, stride, (), step)

    outer([])


def lane_at(base: Int, width: int, multiple: int, offset: int = 0) -> Coordinate:
    """A vector of `width` coordinates from `base`, which is `offset` more than a multiple of `multiple`."""
    if width == 1:
        return base
    return Lane(base, width, 0, base) if isinstance(base, int) else Lane(base, width, multiple, offset)


def pieces(extent: int, lanes: int) -> list[tuple[int, int, int]]:
    """[0, extent) as ranges (lower, upper, width), each a whole number of vectors of its width."""
    found = []
    lower, width = 0, lanes
    while lower < extent:
        upper = lower + (extent - lower) // width * width
        if upper > lower:
            found.append((lower, upper, width))
        lower, width = upper, width // 2
    return found


def row_blocks(extent: int, size: int) -> list[tuple[int, int, int]]:
    """[0, extent) as (lower, upper, step): blocks of `size`, then one of what is left."""
    whole = extent // size * size
    found = [(0, whole, size)] if whole else []
    return found + ([(whole, extent, extent - whole)] if extent > whole else [])


def vector_axis(shape: tuple[int, ...]) -> int:
    """The axis along which a row-major tile is vectorised: the last that is longer than 1."""
    return max((i for i, n in enumerate(shape) if n > 1), default=len(shape) - 1)
