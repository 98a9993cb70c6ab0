"""The value of one element of what a kernel stores, at coordinates that another kernel names.

A kernel whose stored tile is made lane by lane from its own coordinates is a function of them: y[i, j] = f(i, j). Its values
are translated: where the kernel uses the index that it stores at, the other coordinates take its place; every tile then has
the rank of the access that asks. A value that depends on the program or the lane in any other way has no translation.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from zellige.ir import ops
from zellige.ir.dtypes import DType
from zellige.ir.extent import Const, Extent, ceildiv
from zellige.ir.ops import BinaryOp, Function, Op, Value
from zellige.ir.walk import definitions
from zellige.passes.fusion_writer import Page

_ONE = Const(1)
Axes = tuple[int | None, ...]
"""For each axis of a tile of the producer, the coordinate that varies along it (None: none does)."""


class _NoElement(Exception):
    """A value is no function of coordinates; the text says why."""


@dataclass(frozen=True, slots=True)
class _Translated:
    """A producer's value at the consumer's coordinates: a scalar, or a tile of the rank of the access."""

    value: Value
    axes: Axes


def element(
    page: Page,
    function: Function,
    store: ops.Store,
    access: ops.Load | ops.Store,
    index: Sequence[Value],
    masks: Sequence[Value],
    given: tuple[str, Value] | None = None,
) -> Value | str:
    """What ``store``, of ``function``, stores at the coordinates of ``access``, on a page; or why it cannot be told.

    ``index`` and ``masks``: of ``access``, on the page. ``given``: an array and the tile that it holds at these coordinates. What an
    element was before may be used, too (a ``Mut`` array's)."""
    try:
        found = _Translation(page, function, access, index, masks)
        found.given, found.own = given, store.array
        found.roots(store)
        value = found.at(store.value)
        found.check_axes(store, value.axes)
        return value.value
    except _NoElement as why:
        return str(why)


class _Translation:
    def __init__(
        self,
        page: Page,
        function: Function,
        access: ops.Load | ops.Store,
        index: Sequence[Value],
        masks: Sequence[Value],
    ) -> None:
        self.page = page
        self.defined = definitions(function.body)
        self.arrays = page.constant
        self.given: tuple[str, Value] | None = None
        self.own = ""
        self.coordinates: list[Value] = []
        self.true: frozenset[Value] = frozenset()
        """Masks of the store: they hold for every element, since every element is stored."""
        self.span = access.span
        self.index, self.masks = index, masks
        self.known: dict[Value, _Translated] = {}
        self.lanes: list[Axes] = []

    # --- where the coordinates come in
    def roots(self, store: ops.Store) -> None:
        """Notes the values that the coordinates take the place of."""
        self.true = frozenset(store.masks)
        for coordinate, (mine, theirs) in enumerate(zip(store.index, self.index, strict=True)):
            long = [axis for axis, extent in enumerate(mine.type.shape) if extent != _ONE]
            if len(long) > 1:
                raise _NoElement(f"coordinate {coordinate} of what it stores varies along two axes")
            own: Axes = tuple(coordinate if axis in long else None for axis in range(mine.type.rank))
            self.lanes.append(own)
            root = stripped(self.defined, mine)
            self.coordinates.append(root)
            if root in self.known:
                raise _NoElement("two coordinates of what it stores are one value")
            self._root(root, coordinate, theirs)
            if mine is not root:
                self._root(mine, coordinate, theirs)

    def _root(self, root: Value, coordinate: int, theirs: Value) -> None:
        if isinstance(self.defined.get(root), ops.Constant | ops.ExtentValue):
            raise _NoElement(f"coordinate {coordinate} of what it stores is the same in every program")
        axes = tuple(coordinate if extent != _ONE else None for extent in root.type.shape)
        self.known[root] = _Translated(theirs, axes)

    def check_axes(self, store: ops.Store, axes: Axes) -> None:
        """The stored value's axes are those of the index."""
        for axis, coordinate in enumerate(axes):
            along = {own[axis] for own in self.lanes if axis < len(own)} - {None}
            if coordinate is not None and along != {coordinate}:
                raise _NoElement("its lanes are not those of its index")

    # --- values
    def at(self, value: Value) -> _Translated:
        """A value at the coordinates."""
        if value not in self.known:
            self.known[value] = self._translated(value, self.defined.get(value))
        return self.known[value]

    def _translated(self, value: Value, op: Op | None) -> _Translated:
        dtype = value.type.dtype
        match op:
            case ops.Constant(value=number):
                return _Translated(self._make(ops.Constant, dtype, (), value=number), ())
            case ops.ExtentValue(extent=extent):
                return _Translated(self._make(ops.ExtentValue, dtype, (), extent=extent), ())
            case ops.ScalarValue(param=param):
                return _Translated(self._make(ops.ScalarValue, dtype, (), param=param), ())
            case ops.Unary(op=kind, x=x):
                (a,), axes, shape = self._aligned(x)
                return _Translated(self._make(ops.Unary, dtype, shape, op=kind, x=a), axes)
            case ops.Binary(op=kind, x=x, y=y):
                (a, b), axes, shape = self._aligned(x, y)
                return _Translated(self._make(ops.Binary, dtype, shape, op=kind, x=a, y=b), axes)
            case ops.Fma(x=x, y=y, z=z):
                (a, b, c), axes, shape = self._aligned(x, y, z)
                return _Translated(self._make(ops.Fma, dtype, shape, x=a, y=b, z=c), axes)
            case ops.Select(condition=condition, x=x, y=y):
                (c, a, b), axes, shape = self._aligned(condition, x, y)
                return _Translated(self._make(ops.Select, dtype, shape, condition=c, x=a, y=b), axes)
            case ops.Cast(x=x):
                (a,), axes, shape = self._aligned(x)
                return _Translated(self._make(ops.Cast, dtype, shape, x=a), axes)
            case ops.Bitcast(x=x):
                (a,), axes, shape = self._aligned(x)
                return _Translated(self._make(ops.Bitcast, dtype, shape, x=a), axes)
            case ops.Broadcast(x=x):
                inner = self.at(x)
                return _Translated(inner.value, inner.axes or (None,) * value.type.rank)
            case ops.ExpandDims(x=x, axis=axis):
                inner = self.at(x)
                return _Translated(inner.value, (*inner.axes[:axis], None, *inner.axes[axis:]))
            case ops.Transpose(x=x, permutation=permutation):
                inner = self.at(x)
                return _Translated(inner.value, tuple(inner.axes[p] for p in permutation))
            case ops.Reshape(x=x) if _long(x.type.shape) == _long(value.type.shape):
                inner = self.at(x)
                along = [a for a, extent in zip(inner.axes, x.type.shape, strict=True) if extent != _ONE]
                return _Translated(inner.value, tuple(None if e == _ONE else along.pop(0) for e in value.type.shape))
            case ops.Iota() if (root := self._lanes(value)) is not None:
                return self.known[root]
            case ops.Load() if self.given is not None and op.array == self.given[0]:
                return self._given(op, self.given[1])
            case ops.Load() if op.array == self.own:
                self._here(op)
                return self._load(op)
            case ops.Load() if op.array in self.arrays:
                return self._load(op)
        raise _NoElement(f"it is made by {_kind(op)}, not element by element")

    def _aligned(self, *operands: Value) -> tuple[list[Value], Axes, tuple[Extent, ...]]:
        """Operands at the coordinates in one shape, with what varies along the axes of the producer's tile."""
        found = [self.at(x) for x in operands]
        axes = _merged([f.axes for f in found])
        shape = self._shape([f.value for f in found])
        return [self.page.stretched(f.value, shape, self.span) for f in found], axes, shape

    def _shape(self, values: Sequence[Value]) -> tuple[Extent, ...]:
        """The least shape that all stretch to: scalars, and tiles of the rank of the access."""
        shape: tuple[Extent, ...] = ()
        for extents in (v.type.shape for v in values):
            if extents and shape:
                if any(_ONE not in (a, b) and a != b for a, b in zip(shape, extents, strict=True)):
                    raise _NoElement("its index has lanes of another number")
                shape = tuple(b if a == _ONE else a for a, b in zip(shape, extents, strict=True))
            else:
                shape = shape or extents
        return shape

    def _load(self, op: ops.Load) -> _Translated:
        """A load of the producer at the coordinates; inactive lanes of the access read nothing."""
        index, masks = [self.at(v) for v in op.index], [self.at(v) for v in op.masks if v not in self.true]
        axes = _merged([(t.axes or (None,) * op.result.type.rank) for t in (*index, *masks)] or [()])
        shape = self._shape([t.value for t in (*index, *masks)])
        tiles = [t.value.type.shape for t in (*index, *masks) if t.value.type.rank]
        varies = [any(extent != _ONE for extent in extents) for extents in zip(*tiles, strict=True)]
        asked = [
            m for m in self.masks
            if not m.type.rank or (shape and all(v or e == _ONE for v, e in zip(varies, m.type.shape, strict=True)))
        ]  # fmt: skip
        every = tuple(dict.fromkeys([*(t.value for t in masks), *asked]))
        value = self._make(
            ops.Load,
            op.result.type.dtype,
            shape,
            array=op.array,
            index=tuple(t.value for t in index),
            masks=every,
            pad=op.pad,
        )
        return _Translated(value, axes)

    def _lanes(self, value: Value) -> Value | None:
        """The coordinate whose lanes an ``Iota`` numbers, if there is one of that extent."""
        roots = (r for r in self.coordinates if isinstance(self.defined.get(r), ops.Iota) and r.type == value.type)
        return next(roots, None) if isinstance(self.defined.get(value), ops.Iota) else None

    def _given(self, op: ops.Load, tile: Value) -> _Translated:
        """A load of the tile that is there already; where the access is inactive, anything may come out."""
        masks = [t.value for m in op.masks if m not in self.true and (t := self.at(m)).value not in self.masks]
        return _Translated(self.page.loaded(op, masks, tile, tile.type.shape), self._here(op))

    def _here(self, op: ops.Load) -> Axes:
        """What varies along the axes of a load of the element that is stored. _NoElement if it is of another one."""
        for value, root, theirs in zip(op.index, self.coordinates, self.index, strict=True):
            own = stripped(self.defined, value)
            if own is not root and not (self._lanes(own) is root and self.at(value).value is theirs):
                raise _NoElement("it uses other elements than the one that it stores")
        return _merged([self.at(v).axes or (None,) * op.result.type.rank for v in op.index] or [()])

    def _make(self, kind: type[Op], dtype: DType, shape: Sequence[Extent], **parts: object) -> Value:
        return self.page.make(kind, dtype, shape, self.span, **parts)


def whole(function: Function, store: ops.Store) -> bool:
    """Whether a store of all programs writes every element of its array once: each axis is an axis of the grid, in its tiles or
    one by one, or all lanes of a tile."""
    defined = definitions(function.body)
    shape = function.array(store.array).shape
    used: set[int] = set()
    extents: dict[Value, Extent] = {}
    for extent, value in zip(shape, store.index, strict=True):
        op = defined.get(stripped(defined, value))
        match op:
            case ops.Iota(result=lanes) if lanes.type.shape == (extent,):
                continue
            case ops.ProgramId(axis=axis) if function.grid[axis].programs == extent and axis not in used:
                used.add(axis)
                continue
            case ops.Binary(op=BinaryOp.ADD, x=x, y=y, result=span):
                tiled = _tiled(defined, function, x, y, extent)
                if tiled is not None and tiled not in used:
                    used.add(tiled)
                    extents[span] = extent
                    continue
        return False
    return len(used) == len(function.grid) and all(_bounds(defined, mask, extents) for mask in store.masks)


def _tiled(defined: Mapping[Value, Op], function: Function, x: Value, y: Value, extent: Extent) -> int | None:
    """The axis of the grid whose tiles of ``extent`` are x + y, x the start of a program's tile and y its lanes."""
    start, lanes = defined.get(x), defined.get(y)
    start = defined.get(start.x) if isinstance(start, ops.Broadcast) else start
    if not (isinstance(start, ops.Binary) and start.op is BinaryOp.MUL and isinstance(lanes, ops.Iota)):
        return None
    program, tile = defined.get(start.x), defined.get(start.y)
    if not (isinstance(program, ops.ProgramId) and isinstance(tile, ops.Constant)):
        return None
    axis = function.grid[program.axis]
    size = Const(int(tile.value))
    fits = axis.extent == extent and axis.tile == size and lanes.result.type.shape == (size,)
    return program.axis if fits and axis.programs == ceildiv(extent, size) else None


def _bounds(defined: Mapping[Value, Op], mask: Value, extents: Mapping[Value, Extent]) -> bool:
    """Whether a mask says only that a span is below the extent that it is of."""
    op = defined.get(stripped(defined, mask))
    if not (isinstance(op, ops.Binary) and op.op is BinaryOp.LT and op.x in extents):
        return False
    limit = defined.get(op.y)
    limit = defined.get(limit.x) if isinstance(limit, ops.Broadcast) else limit
    match limit:
        case ops.ExtentValue(extent=extent):
            return extent == extents[op.x]
        case ops.Constant(value=value):
            return Const(int(value)) == extents[op.x]
    return False


def stripped(defined: Mapping[Value, Op], value: Value) -> Value:
    """A value before it was given axes of extent 1."""
    op = defined.get(value)
    while isinstance(op, ops.ExpandDims) or (
        isinstance(op, ops.Reshape) and _long(op.x.type.shape) == _long(op.result.type.shape)
    ):
        value = op.x
        op = defined.get(value)
    return value


def _merged(found: Sequence[Axes]) -> Axes:
    """What varies along the axes of operands that are combined lane by lane."""
    rank = max((len(axes) for axes in found), default=0)
    merged: list[int | None] = [None] * rank
    for axes in found:
        for axis, coordinate in enumerate(axes):
            if coordinate is not None and merged[axis] not in (None, coordinate):
                raise _NoElement("it combines elements at different coordinates")
            merged[axis] = coordinate if coordinate is not None else merged[axis]
    return tuple(merged)


def _long(shape: Sequence[Extent]) -> list[Extent]:
    return [extent for extent in shape if extent != _ONE]


def _kind(op: Op | None) -> str:
    """What an operation is called in a message."""
    if op is None:
        return "a loop"
    names = {
        "ProgramId": "the program's own number",
        "Iota": "the lane's own number",
        "Load": "an array that is written",
    }
    return names.get(type(op).__name__, f"a {type(op).__name__.lower()}")
