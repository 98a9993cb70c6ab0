"""State shared by the parts of the frontend while one kernel is lowered."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import ModuleType

from zellige.diagnostics.span import Span
from zellige.frontend.errors import refuse
from zellige.frontend.source import SourceText
from zellige.frontend.values import (
    ArrayRef,
    BoundMethod,
    Lanes,
    Mask,
    RaggedRange,
    RuntimeRange,
    SpanRange,
    SpanTile,
    Tile,
    Unrolled,
    lift_masks,
    merge_lanes,
)
from zellige.ir import dtypes
from zellige.ir.builder import Builder, ShapeError, broadcast_shape
from zellige.ir.dtypes import DType, Kind
from zellige.ir.extent import Extent
from zellige.ir.ops import BinaryOp, GridAxis, ReduceOp, UnaryOp, Unsafe, UpdateOp, Value
from zellige.ir.spec import domain
from zellige.ir.types import ArrayParam

SYMBOLS = {
    BinaryOp.ADD: "+", BinaryOp.SUB: "-", BinaryOp.MUL: "*", BinaryOp.DIV: "/", BinaryOp.FLOORDIV: "//", BinaryOp.MOD: "%",
    BinaryOp.MIN: "zl.minimum", BinaryOp.MAX: "zl.maximum", BinaryOp.AND: "&", BinaryOp.OR: "|", BinaryOp.XOR: "^",
    BinaryOp.SHL: "<<", BinaryOp.SHR: ">>", BinaryOp.LT: "<", BinaryOp.LE: "<=", BinaryOp.GT: ">", BinaryOp.GE: ">=",
    BinaryOp.EQ: "==", BinaryOp.NE: "!=",
}  # fmt: skip
"""Operators as the author writes them."""
MOST_STATEMENTS = 20_000
"""Of one kernel, as often as loops and calls repeat them when it is compiled."""
BROADCAST = "shapes broadcast from the right; x[:, None] adds an axis, as keepdims=True of a reduction does"
"""What to do about shapes that do not fit."""


@dataclass(slots=True)
class Context:
    """What lowering needs wherever it is: the builder, the arrays, where we are in the source."""

    builder: Builder
    arrays: dict[str, ArrayParam]
    source: SourceText
    span: Span
    grid: tuple[GridAxis, ...] | None = None
    group: int = 1
    busy: Value | None = None
    """Set by a ragged grid: whether this program has a tile. One without ends right after the grid."""
    stored_span: Span | None = None
    """Where the value of the current assignment stands: what is wrong with a stored value is shown there."""
    depth: int = 0
    """How many run-time control structures enclose the current statement."""
    at_launch: bool = False
    """Inside a precondition, which the launch evaluates: without branches."""
    unsafe: list[Unsafe] = field(default_factory=list)
    inline_stack: list[str] = field(default_factory=list)
    statements: int = 0
    """How many statements have been run, each time they were."""

    @contextmanager
    def at(self, node: ast.AST) -> Iterator[None]:
        """Operations made inside carry this node's span."""
        before = self.span
        self.span = self.builder.span = self.source.span(node)
        try:
            yield
        finally:
            self.span = self.builder.span = before

    def count_statement(self) -> None:
        """LanguageError ZL0111 if a kernel has more statements than is sensible, those that are repeated counted each time."""
        self.statements += 1
        if self.statements > MOST_STATEMENTS:
            refuse(
                "ZL0111", f"a kernel of more than {MOST_STATEMENTS:,} statements, those of unrolled loops and device functions counted "
                "each time", self.span, "loop with for k in range(n), which is not repeated at compile time",
            )  # fmt: skip

    @contextmanager
    def without_effects(self, what: str, help: str) -> Iterator[None]:
        """LanguageError ZL0114 if what is made inside stores, updates or guards: ``what`` only gives a value."""
        before = self.builder.effects
        yield
        if self.builder.effects != before:
            refuse("ZL0114", f"{what} stores to an array, updates or guards", self.span, help)

    def source_text(self) -> str:
        """The source of the current node."""
        lines = self.source.text.splitlines()[
            self.span.line - self.source.first_line : self.span.end_line - self.source.first_line + 1
        ]
        if not lines:
            return ""
        lines[-1] = lines[-1][: self.span.end_column]
        return " ".join([lines[0][self.span.column :], *lines[1:]]) if len(lines) > 1 else lines[0][self.span.column :]

    def argument_text(self) -> str:
        """The source of the only argument of the call at the current node."""
        call = ast.parse(self.source_text().strip(), mode="eval").body
        assert isinstance(call, ast.Call)
        return ast.unparse([*call.args, *(k.value for k in call.keywords)][0])

    # --- values
    def scalar_of(self, value: object, dtype: DType | None = None) -> Tile:
        """A compile-time number or extent as a scalar tile. Ints become ``index`` and floats f32 unless told otherwise."""
        match value:
            case Tile():
                return value
            case bool() | int() | float():
                default = (
                    dtypes.bool_ if isinstance(value, bool) else dtypes.index if isinstance(value, int) else dtypes.f32
                )
                kind = dtype or default
                number = self.literal(value, kind)
                if _is_fp8(kind):
                    return self.cast(self.scalar_of(number, dtypes.f32), kind)
                return Tile(self.builder.constant(number, kind))
            case Extent():
                made = Tile(self.builder.extent(value))
                return made if dtype in (None, dtypes.index) else self.cast(made, dtype)
        refuse("ZL0105", f"{describe(value)} is not a number or a tile", self.span, _as_operand(value))

    def literal(self, value: bool | int | float, dtype: DType) -> bool | int | float:
        """A number as a dtype holds it. LanguageError ZL0105 if it does not: nothing is rounded to an integer, or wraps."""
        if dtype.is_block:
            refuse("ZL0105", f"{value} as {dtype}, which is read only", self.span, "quantise on the host")
        if dtype.is_float:
            try:
                return float(value)
            except OverflowError:
                refuse("ZL0105", f"this is larger than any {dtype}", self.span, "write zl.inf")
        if isinstance(value, float) or (dtype.is_bool and value not in (0, 1)):
            refuse("ZL0105", f"{value} is not a value of {dtype}", self.span, f"write {self._near(value, dtype)}")
        if dtype.is_bool:
            return bool(value)
        low, high = (-(1 << 63), (1 << 63) - 1) if dtype is dtypes.index else dtype.integer_range()
        if not low <= value <= high:
            refuse("ZL0105", f"{value} is not a value of {dtype}, which is from {low} to {high}", self.span,
                   "convert the tile to a wider type first, such as .to(zl.i64)")  # fmt: skip
        return int(value)

    @staticmethod
    def _near(value: float, dtype: DType) -> str:
        """An integer (or bool) to write in place of a float."""
        if dtype.is_bool or dtype is dtypes.index or value != value:
            return "an integer" if not dtype.is_bool else "True or False"
        low, high = dtype.integer_range()
        return str(int(max(low, min(high, value))))

    def cast(self, tile: Tile, dtype: DType) -> Tile:
        """Conversion by value."""
        if tile.dtype is dtype:
            return tile
        if dtype.is_block:
            refuse("ZL0105", f"a tile cannot be cast to the block type {dtype}", self.span, "quantise on the host")
        if dtype is dtypes.index and tile.dtype.is_float:
            refuse(
                "ZL0105",
                f"{describe(tile)} as an index, which is exact",
                self.span,
                "truncate it first: .to(zl.i32).to(zl.index)",
            )
        if dtype is dtypes.index and tile.dtype.is_bool:
            tile = self.cast(tile, dtypes.i32)
        if (_is_fp8(dtype) and not tile.dtype.is_float) or (_is_fp8(tile.dtype) and dtype is not dtypes.f32):
            # the same number: every fp8 is an f32, and integers that f32 rounds are beyond the largest fp8
            tile = self.cast(tile, dtypes.f32)
        keeps_zero = tile.zero_padded or tile.dtype.is_block
        return plain(tile).with_value(self.builder.cast(tile.value, dtype), zero_padded=keeps_zero and tile.zero_padded)

    def binary(self, op: BinaryOp, x: object, y: object) -> Tile:
        """An elementwise operation with promotion of numbers and broadcasting."""
        left, right = self.promoted(x, y)
        self.check(op, SYMBOLS[op], left)
        self.fitting(f"'{SYMBOLS[op]}'", left, right)
        own = left.dtype
        left, right = self.computable(left), self.computable(right)
        result = self.combined(self.builder.binary(op, left.value, right.value), left, right)
        return result if op.is_comparison else self.cast(result, own)

    def fitting(self, name: str, *tiles: Tile) -> None:
        """LanguageError ZL0106 if the shapes of an operation's tiles do not broadcast."""
        shape = tiles[0].shape
        for tile in tiles[1:]:
            try:
                shape = broadcast_shape(shape, tile.shape)
            except ShapeError as error:
                refuse("ZL0106", f"operands of {name} do not fit: {error}", self.span, BROADCAST)

    def computable(self, tile: Tile) -> Tile:
        """``tile`` in a type that has arithmetic: fp8 is computed with in f32, and rounded after each operation."""
        return self.cast(tile, dtypes.f32) if _is_fp8(tile.dtype) else tile

    def check(self, op: UnaryOp | BinaryOp | ReduceOp | UpdateOp, name: str, tile: Tile) -> None:
        """LanguageError ZL0105 if an operation, which the author knows as ``name``, is not defined on the tile's dtype."""
        kinds = domain(op)
        if tile.dtype.kind in kinds:
            return
        if tile.dtype.is_block:
            help = "unpack it with .to(f32) first"
        elif tile.dtype.is_bool:
            help = "convert with .to(zl.i32)"
        elif kinds == (Kind.FLOAT,):
            help = "use // or convert with .to(f32)" if op is BinaryOp.DIV else "convert it with .to(f32)"
        else:
            help = "compare it first" if Kind.BOOL in kinds else "it is for integers; .to(zl.i32) converts"
        refuse("ZL0105", f"{name if name.startswith('zl.') else repr(name)} of {describe(tile)}", self.span, help)

    def combined(self, result: Value, *tiles: Tile) -> Tile:
        """``result`` on the lanes and under the masks of all ``tiles``."""
        rank = result.type.rank
        masks: dict[Mask, None] = {}
        lanes: tuple[Lanes, ...] = (frozenset(),) * rank
        for tile in tiles:
            masks.update(dict.fromkeys(lift_masks(tile.masks, rank - tile.rank)))
            lanes = merge_lanes(lanes, tile.lanes)
        return Tile(result, tuple(masks), lanes)

    def promoted(self, x: object, y: object) -> tuple[Tile, Tile]:
        """Two operands brought to one dtype. Numbers take the other's; narrower floats widen; integers index as they are."""
        if not isinstance(x, Tile) and not isinstance(y, Tile):
            kinds = {isinstance(v, bool) for v in (x, y)}
            if len(kinds) > 1:
                refuse(
                    "ZL0105", f"{describe(x)} meets {describe(y)}", self.span, "write numbers or bools in both places"
                )
            dtype = dtypes.f32 if isinstance(x, float) or isinstance(y, float) else None
            return self.scalar_of(x, dtype), self.scalar_of(y, dtype)
        if not isinstance(x, Tile):
            right = self._beside(x, y)
            return self._number_like(x, right), right
        if not isinstance(y, Tile):
            left = self._beside(y, x)
            return left, self._number_like(y, left)
        a, b = x.dtype, y.dtype
        if a is b:
            return x, y
        if dtypes.index in (a, b) and a.is_integer and b.is_integer:
            return self.cast(x, dtypes.index), self.cast(y, dtypes.index)
        if a.is_float and b.is_float and a.bits != b.bits:
            wide = a if a.bits > b.bits else b
            return self.cast(x, wide), self.cast(y, wide)
        if a.is_block or b.is_block:
            help = "unpack it with .to(f32) first"
        elif dtypes.index in (a, b):  # most often a number that a loop carries
            help = "whole numbers become indices: start a sum of floats with 0.0; an index is converted with .to(f32)"
        else:
            help = "convert one with .to(dtype)"
        refuse("ZL0105", f"operands have dtypes {a} and {b}", self.span, help)

    def _beside(self, number: object, tile: object) -> Tile:
        """``tile`` as it meets ``number``: integers meet extents as indices."""
        assert isinstance(tile, Tile)
        return self.cast(tile, dtypes.index) if isinstance(number, Extent) and tile.dtype.is_integer else tile

    def _number_like(self, number: object, tile: Tile) -> Tile:
        dtype = tile.dtype
        if isinstance(number, Extent) and (dtype.is_integer or dtype.is_float):
            return self.scalar_of(number, dtypes.index if dtype.is_integer else dtype)
        if isinstance(number, float) and not dtype.is_float:
            refuse("ZL0105", f"the float {number} meets a tile of {dtype}", self.span, "convert the tile with .to(f32)")
        if isinstance(number, bool) and not dtype.is_bool:
            refuse("ZL0105", f"a bool meets a tile of {dtype}", self.span, "use zl.where")
        if dtype.is_block:
            refuse(
                "ZL0105", f"a tile of block type {dtype} has no arithmetic", self.span, "unpack it with .to(f32) first"
            )
        return self.scalar_of(number, dtype)

    def as_index(self, value: object) -> Tile:
        """An integer as ``index``."""
        tile = self.scalar_of(value)
        if not tile.dtype.is_integer:
            refuse("ZL0105", f"an index is an integer, not {tile.dtype}", self.span, "convert it with .to(zl.i32)")
        return self.cast(tile, dtypes.index)


def _is_fp8(dtype: DType) -> bool:
    return dtype.is_float and dtype.bits == 8


def _as_operand(value: object) -> str | None:
    """What to write in place of something that is no operand."""
    if isinstance(value, ArrayRef):
        return f"load a tile of it first: {loaded(value)}"
    if type(value).__module__ == "numpy":
        shape = getattr(value, "shape", None)
        return f"write {value.item()!r}" if shape == () else "pass it as an argument, zl.In[dtype, dims…]"  # type: ignore[attr-defined]
    if isinstance(value, tuple):
        return "name its parts, and use each alone"
    return "kernels compute with tiles, numbers, bools and extents"


def loaded(array: ArrayRef) -> str:
    """How the whole of an array is loaded."""
    return f"{array.param.name}[{', '.join(':' * len(array.param.shape))}]"


def plain(tile: Tile) -> Tile:
    """A span as an ordinary tile."""
    return (
        Tile(tile.value, tile.masks, tile.lanes, tile.zero_padded, tile.implies) if isinstance(tile, SpanTile) else tile
    )


def describe(value: object) -> str:
    """A value for messages: what the reader wrote, in the reader's terms."""
    match value:
        case Tile():
            shape = f"[{', '.join(map(str, value.shape))}]" if value.shape else ""
            return f"a tile {value.dtype}{shape}" if shape else f"a scalar {value.dtype}"
        case Extent():
            return f"the extent {value}"
        case None:
            return "None"
        case tuple() | list():
            return f"a tuple of {len(value)} ({', '.join(map(describe, value))})"
        case ArrayRef(param):
            return f"the array '{param.name}'"
        case slice():
            return "a slice"
        case SpanRange() | RaggedRange():
            return f"tiles of {value.size}"
        case RuntimeRange() | Unrolled():
            return "a range"
        case DType():
            return f"the dtype {value}"
        case str():
            return f"the string {value!r}"
        case bool() | int() | float():
            return f"the number {value!r}" if not isinstance(value, bool) else repr(value)
    if isinstance(value, BoundMethod):
        return f"the method '.{value.name}', which is not called"
    if isinstance(value, ModuleType):
        return f"the module {value.__name__}"
    if callable(value) and hasattr(value, "__name__"):
        return f"the function {value.__name__}"
    return f"{value!r} ({type(value).__name__})"
