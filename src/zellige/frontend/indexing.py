"""Subscripts of arrays become loads and stores: axes, lanes and masks."""

from __future__ import annotations

from dataclasses import dataclass

from zellige.frontend.context import Context, describe
from zellige.frontend.errors import refuse
from zellige.frontend.values import Lanes, Mask, Tile, expand_mask, fresh_lanes, lift_masks
from zellige.ir import dtypes
from zellige.ir.extent import Const, Extent, ceildiv
from zellige.ir.ops import UpdateOp, Value
from zellige.ir.types import ArrayParam, Role, TileType


@dataclass(frozen=True, slots=True)
class Access:
    """An index brought to the form that loads and stores take."""

    index: tuple[Value, ...]
    masks: tuple[Mask, ...]
    shape: tuple[Extent, ...]
    lanes: tuple[Lanes, ...]

    def mask_values(self, context: Context) -> tuple[Value, ...]:
        """The masks as operands."""
        return tuple(dict.fromkeys(expand_mask(context.builder, m, len(self.shape)) for m in self.masks))


def resolve(context: Context, array: ArrayParam, subscript: object) -> Access:
    """The access that ``array[subscript]`` means.

    Index tiles that share a span are zipped, different spans are crossed; axes of the result come in order of appearance.
    """
    parts = subscript if isinstance(subscript, tuple) else (subscript,)
    if len(parts) != len(array.shape):
        counted = "1 axis" if len(array.shape) == 1 else f"{len(array.shape)} axes"
        refuse(
            "ZL0108", f"'{array.name}' has {counted} but is indexed with {len(parts)}", context.span,
            "index every axis; ':' takes a whole one", shape=f"({', '.join(map(str, array.shape))})",
        )  # fmt: skip
    components = [_component(context, part, extent) for part, extent in zip(parts, array.shape, strict=True)]
    shape: list[Extent] = []
    lanes: list[Lanes] = []
    placed: list[list[int]] = []
    for tile in components:
        axes = []
        for extent, own in zip(tile.shape, tile.lanes or (frozenset(),) * tile.rank, strict=True):
            axis = next((i for i, other in enumerate(lanes) if own & other), None) if own else None
            if axis is None:
                axis = len(shape)
                shape.append(extent)
                lanes.append(own or fresh_lanes())
            elif shape[axis] == Const(1):
                shape[axis] = extent
            elif extent not in (shape[axis], Const(1)):
                refuse(
                    "ZL0106",
                    f"index lanes of extents {shape[axis]} and {extent} cannot be zipped",
                    context.span,
                    "make both from one span, or take indices of one extent",
                )
            lanes[axis] |= own
            axes.append(axis)
        if axes != sorted(set(axes)):
            refuse("ZL0108", f"an index tile of '{array.name}' has its axes in another order than those before it", context.span,
                   "transpose it")  # fmt: skip
        placed.append(axes)
    rank = len(shape)
    index = tuple(_place(context, t.value, axes, rank) for t, axes in zip(components, placed, strict=True))
    masks: dict[Mask, None] = {}
    for tile, axes in zip(components, placed, strict=True):
        masks.update(dict.fromkeys(mask.moved(axes.__getitem__) for mask in tile.masks))
    return Access(index, tuple(masks), tuple(shape), tuple(lanes))


def _place(context: Context, value: Value, axes: list[int], rank: int) -> Value:
    """``value`` with axes of 1 inserted so that its axes stand at ``axes`` of ``rank``."""
    if not value.type.rank:
        return value
    for axis in range(rank):
        if axis not in axes:
            value = context.builder.expand_dims(value, axis)
    return value


def _component(context: Context, part: object, extent: Extent) -> Tile:
    builder = context.builder
    match part:
        case slice(start=None, stop=None, step=None):
            return Tile(builder.iota(extent), (), (fresh_lanes(),))
        case slice(start=start, stop=stop, step=step):
            return _slice(context, start, stop, step, extent)
        case Tile() if not part.dtype.is_integer:
            refuse("ZL0105", f"an index is an integer, not {part.dtype}", context.span, "convert it with .to(zl.i32)")
        case Tile() | int() | Extent() if not isinstance(part, bool):
            return context.as_index(part)
    refuse("ZL0108", f"{describe(part)} cannot index an array", context.span,
           "an index is a span of zl.grid or tiles, an integer, an index tile, ':' or a slice with static bounds")  # fmt: skip


def _slice(context: Context, start: object, stop: object, step: object, extent: Extent) -> Tile:
    low = 0 if start is None else start
    high = extent if stop is None else stop
    every = 1 if step is None else step
    if not isinstance(every, int) or isinstance(every, bool) or every < 1:
        refuse("ZL0108", f"a slice with the step {describe(step)}", context.span,
               "a step is a static int ≥ 1; zl.flip(x) reverses a tile")  # fmt: skip
    if not isinstance(low, int | Extent) or not isinstance(high, int | Extent):
        refuse(
            "ZL0108",
            "a slice with bounds known only at run time",
            context.span,
            "index with start + zl.arange(length), or with a span of zl.tiles(start, stop, size)",
        )
    length = ceildiv(high - low, every)
    if isinstance(length, int):
        length = Const(length)
    if length.constant is not None and length.constant <= 0:
        refuse(
            "ZL0108", f"an empty slice [{low}:{high}]", context.span, "negative bounds do not count from the end here"
        )
    lanes = context.builder.iota(length)
    if every > 1:
        lanes = context.builder.mul(lanes, context.builder.extent(every))
    return Tile(context.builder.add(lanes, context.scalar_of(low).value), (), (fresh_lanes(),))


def load(context: Context, array: ArrayParam, subscript: object, pad: int | float = 0) -> Tile:
    """``array[subscript]`` as a value."""
    if array.role in (Role.OUT, Role.ACC):
        kind = "write-only" if array.role is Role.OUT else "only updated"
        refuse("ZL0109", f"'{array.name}' is {array.role.value} ({kind}) and cannot be read", context.span,
               "make it zl.Mut if its old contents are wanted, else keep the value in a variable")  # fmt: skip
    access = resolve(context, array, subscript)
    dtype = dtypes.index if array.contract else array.dtype
    if not dtype.is_block:
        context.literal(pad, dtype)
    elif pad != 0:
        refuse(
            "ZL0105",
            f"inactive lanes of {dtype} are 0, not {pad}",
            context.span,
            "zl.where(span.active, x.to(f32), pad)",
        )
    value = context.builder.load(array.name, access.index, access.mask_values(context), pad, dtype, access.shape)
    return Tile(value, access.masks, access.lanes, zero_padded=pad == 0)


def store(context: Context, array: ArrayParam, subscript: object, value: object) -> None:
    """``array[subscript] = value``."""
    if array.role not in (Role.OUT, Role.MUT):
        hint = "use c.add(index, value)" if array.role is Role.ACC else "make it zl.Out or zl.Mut, after '*'"
        refuse("ZL0109", f"'{array.name}' is {array.role.value} and cannot be assigned", context.span, hint)
    access = resolve(context, array, subscript)
    context.builder.store(array.name, access.index, access.mask_values(context), _stored(context, array, access, value))


def update(context: Context, op: UpdateOp, array: ArrayParam, subscript: object, value: object) -> None:
    """``array.add(subscript, value)`` and its kin."""
    if array.role is not Role.ACC:
        refuse("ZL0109", f"'{array.name}' is {array.role.value}; only Acc arrays have updates", context.span,
               f"declare it zl.Acc(init=0)[{array.dtype}, …]")  # fmt: skip
    access = resolve(context, array, subscript)
    context.check(op, f"zl.Acc.{op.value}", Tile(Value(TileType(array.dtype))))
    stored = _stored(context, array, access, value)
    masks = access.mask_values(context)
    if isinstance(value, Tile):
        rank = len(access.shape)
        masks += tuple(expand_mask(context.builder, m, rank) for m in lift_masks(value.masks, rank - value.rank))
    context.builder.update(op, array.name, access.index, tuple(dict.fromkeys(masks)), stored)


def _stored(context: Context, array: ArrayParam, access: Access, value: object) -> Value:
    """``value`` with the dtype and shape that a store to ``array`` takes."""
    place = context.stored_span or context.span
    wanted = dtypes.index if array.contract else array.dtype
    tile = context.scalar_of(value, None if isinstance(value, Tile) else wanted)
    if array.contract and tile.dtype.is_integer:
        tile = context.cast(tile, dtypes.index)
    if tile.dtype is not wanted:
        refuse("ZL0105", f"a value of {tile.dtype} is stored to '{array.name}', which holds {wanted}", place,
               f"convert it with .to({wanted})")  # fmt: skip
    rank = len(access.shape)
    pairs = zip(reversed(tile.shape), reversed(access.shape), strict=False)
    if tile.rank > rank or any(own not in (target, Const(1)) for own, target in pairs):
        lanes = ", ".join(map(str, access.shape))
        squeezed = [e for e in tile.shape if e != Const(1)] == [e for e in access.shape if e != Const(1)]
        refuse("ZL0106", f"a value of shape ({', '.join(map(str, tile.shape))}) is stored to '{array.name}' lanes of shape ({lanes})",
               place, f"write .reshape({lanes})" if squeezed else "give the value that shape, or one that broadcasts")  # fmt: skip
    return context.builder.broadcast(tile.value, access.shape)


UPDATES = {"add": UpdateOp.ADD, "max": UpdateOp.MAX, "min": UpdateOp.MIN, "and_": UpdateOp.AND, "or_": UpdateOp.OR}
"""Methods of an ``Acc`` array."""
