"""What comes out of blocks: the names that a loop carries from one iteration to the next, and those that branches give a value.

A tuple is carried, or chosen, part by part: ``state.1.0`` is a part of ``state``."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from zellige.frontend.context import Context, describe, plain
from zellige.frontend.errors import refuse
from zellige.frontend.source import assigned
from zellige.frontend.values import Missing, Tile, expand_mask
from zellige.ir import dtypes
from zellige.ir.extent import Extent
from zellige.ir.ops import Block, Value

if TYPE_CHECKING:
    from zellige.frontend.lower import Frame


class Carried:
    """The names bound before a loop that its body rebinds. The body is lowered again with more masks until it adds none."""

    def __init__(self, frame: Frame, body: Sequence[ast.stmt], target: ast.expr | None = None) -> None:
        """``target``: what the loop itself binds."""
        self.frame, self.context = frame, frame.context
        self._before = dict(frame.names)
        self._bound = {n.id for n in ast.walk(target) if isinstance(n, ast.Name)} if target is not None else set()
        self._tiles = self._on_entry(body)

    @property
    def init(self) -> tuple[Value, ...]:
        """Their values on entry."""
        return tuple(tile.value for tile in self._tiles.values())

    def enter(self) -> tuple[Value, ...]:
        """Fresh block parameters, bound to the names."""
        params = tuple(Value(tile.value.type, name) for name, tile in self._tiles.items())
        self._bind(params)
        return params

    def forget(self) -> None:
        """The names are what they were before the loop."""
        self.frame.names = dict(self._before)

    def close(self, block: Block, params: Sequence[Value]) -> bool:
        """At the end of the body: what the next iteration gets. False if the body is to be lowered again."""
        widened = self._with_masks_that_stay()
        block.yields = self._yields(widened, params)
        if all(widened[name] is tile for name, tile in self._tiles.items()):
            return True
        self._tiles = widened
        self.forget()
        return False

    def leave(self) -> tuple[Value, ...]:
        """After the loop: its results, bound to the names."""
        results = tuple(Value(v.type, v.name) for v in self.init)
        for name in self.frame.names.keys() - self._before.keys():
            self._before[name] = Missing("is assigned only inside the loop")
        for name in self._bound:
            self._before[name] = Missing("is what the loop went over, and the loop has ended")
        self.frame.names = self._before
        self._bind(results)
        return results

    def _on_entry(self, body: Sequence[ast.stmt]) -> dict[str, Tile]:
        found: dict[str, Tile] = {}
        for name in assigned(body):
            value = self.frame.names.get(name)
            if name in self._bound or value is None or isinstance(value, Missing):
                continue
            for key, part in parts(name, value):
                if isinstance(part, Tile):
                    found[key] = plain(part)
                elif isinstance(part, int | float | Extent):
                    found[key] = self.context.scalar_of(part)
                else:
                    refuse("ZL0111", f"'{name}' is {describe(value)} before the loop and rebound inside", self.context.span,
                           "loops carry tiles, numbers and tuples of them")  # fmt: skip
        return found

    def _now(self) -> dict[str, object]:
        """The present values, part by part. LanguageError ZL0119 if a tuple has other parts than before."""
        found: dict[str, object] = {}
        for name in dict.fromkeys(key.partition(".")[0] for key in self._tiles):
            value = self.frame.names[name]
            now = dict(parts(name, value))
            if now.keys() != {key for key in self._tiles if key.partition(".")[0] == name}:
                refuse("ZL0119", f"'{name}' is {describe(value)} after an iteration, and was another tuple before the loop",
                       self.frame.assigned_at.get(name, self.context.span), "keep as many parts")  # fmt: skip
            found |= now
        return found

    def _with_masks_that_stay(self) -> dict[str, Tile]:
        """The values on entry with the masks that an iteration adds and that exist outside the loop."""
        defined_here = self.context.builder.defined_in_innermost
        widened = dict(self._tiles)
        now = self._now()
        for name, start in self._tiles.items():
            new = now[name]
            if isinstance(new, Tile) and new.rank == start.rank:
                added = [m for m in new.masks if m not in start.masks and not defined_here(m.value)]
                if added:
                    widened[name] = replace(start, masks=(*start.masks, *added))
        return widened

    def _bind(self, values: Sequence[Value]) -> None:
        tiles = zip(self._tiles.items(), values, strict=True)
        bound = {key: Tile(value, tile.masks, tile.lanes) for (key, tile), value in tiles}
        for name in dict.fromkeys(key.partition(".")[0] for key in self._tiles):
            self.frame.names[name] = rebuilt(name, self.frame.names[name], bound)

    def _yields(self, carried: Mapping[str, Tile], params: Sequence[Value]) -> tuple[Value, ...]:
        """The values that the next iteration gets. A lane that was inactive in this iteration keeps its old value."""
        builder = self.context.builder
        yields = []
        now = self._now()
        for (name, start), param in zip(carried.items(), params, strict=True):
            new = now[name]
            if isinstance(new, Missing):
                refuse("ZL0115", f"'{name}' {new.reason}", self.context.span, "give it a value on every path")
            tile = self.context.scalar_of(new, param.type.dtype if not isinstance(new, Tile) else None)
            if tile.dtype is not param.type.dtype and tile.dtype.is_integer and param.type.dtype is dtypes.index:
                tile = self.context.cast(tile, dtypes.index)
            value = tile.value
            if value.type != param.type and not (
                tile.is_scalar and param.type.rank and value.type.dtype is param.type.dtype
            ):
                shape = ", ".join(map(str, value.type.shape))
                refuse(
                    "ZL0119", f"'{name}' is {param.type} before the loop and {value.type} after an iteration",
                    self.frame.assigned_at.get(name, self.context.span),
                    "a name that a loop carries keeps its dtype and shape: "
                    + (f"convert it with .to({param.type.dtype})" if value.type.shape == param.type.shape
                       else f"start it with zl.zeros(({shape}{',' if value.type.rank == 1 else ''}), {param.type.dtype})"),
                )  # fmt: skip
            value = builder.broadcast(value, param.type.shape)
            for mask in tile.masks:
                if mask not in start.masks and value is not param:
                    active = expand_mask(builder, mask, param.type.rank)
                    value = builder.select(builder.broadcast(active, param.type.shape), value, param)
            yields.append(value)
        return tuple(yields)


def of_one_type(context: Context, name: str, values: Sequence[object], blocks: Sequence[Block]) -> tuple[Tile, Tile]:
    """A name's two values brought to one type; constants are made inside their branch."""
    builder = context.builder
    dtype = next((v.dtype for v in values if isinstance(v, Tile)), None)
    tiles = []
    for value, block in zip(values, blocks, strict=True):
        if isinstance(value, Tile):
            tiles.append(plain(value))
        elif isinstance(value, int | float | Extent):
            with builder.reopened(block):
                tiles.append(context.scalar_of(value, dtype))
        else:
            refuse(
                "ZL0119",
                f"'{name}' is {describe(value)} on one path of an if on a run-time condition",
                context.span,
                "an if on a run-time condition chooses between tiles, numbers and tuples of them",
            )
    if tiles[0].value.type != tiles[1].value.type:
        refuse("ZL0119", f"'{name}' is {tiles[0].value.type} on one path of an if and {tiles[1].value.type} on the other",
               context.span, "convert one with .to(dtype)")  # fmt: skip
    return tiles[0], tiles[1]


def parts(name: str, value: object) -> Iterator[tuple[str, object]]:
    """A value, or the parts of a tuple with their paths: ``state.0``, ``state.1.0``."""
    if isinstance(value, tuple):
        for k, part in enumerate(value):
            yield from parts(f"{name}.{k}", part)
    else:
        yield name, value


def rebuilt(name: str, like: object, found: Mapping[str, object]) -> object:
    """Parts put together as ``like`` is."""
    if isinstance(like, tuple):
        return tuple(rebuilt(f"{name}.{k}", part, found) for k, part in enumerate(like))
    return found[name]
