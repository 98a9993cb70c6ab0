"""What must hold of a kernel: claims about terms, in program order.

Each claim says: wherever ``assumptions`` hold, ``goal`` holds. The accesses and claims of one program are made here; those
of two programs in ``races.py``, those of coverage in ``coverage.py``.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import Enum

from zellige.diagnostics.span import Span
from zellige.ir import ops
from zellige.ir.dtypes import index
from zellige.ir.extent import Extent
from zellige.ir.ops import BinaryOp, Block, Op
from zellige.ir.walk import blocks, results
from zellige.verify import terms
from zellige.verify.contracts import inhabited, value_range
from zellige.verify.lanes import Lanes
from zellige.verify.ranges import Simplifier
from zellige.verify.symbolic import Symbols
from zellige.verify.terms import Bool, Int, const


class Kind(Enum):
    """What an obligation is about."""

    BOUNDS = "bounds"
    RACE = "race"
    LANES = "lanes"
    COVERAGE = "coverage"
    OVERFLOW = "overflow"
    CAST = "cast"
    DIVISION = "division"
    CONTRACT = "contract"
    LANGUAGE = "language"


@dataclass(frozen=True)
class Access:
    """A load, store or update, at symbolic lanes of one program."""

    op: ops.Load | ops.Store | ops.Update
    block: Block
    lanes: Lanes
    shape: tuple[Extent, ...]
    coordinates: tuple[Int, ...]
    active: Bool
    """Path and masks."""

    @property
    def array(self) -> str:
        return self.op.array

    @property
    def verb(self) -> str:
        return {"Load": "reads", "Store": "writes", "Update": "updates"}[type(self.op).__name__]


@dataclass(frozen=True)
class Claim:
    """One thing to prove."""

    kind: Kind
    code: str
    span: Span
    assumptions: tuple[Bool, ...]
    goal: Bool
    what: str
    """The claim in words: "coordinate 0 of x is below M"."""
    shown: dict[str, Int] = field(default_factory=dict)
    """Terms whose values a counterexample shows, by name."""
    places: tuple[Block, ...] = ()
    """Blocks whose program ids and iterations a counterexample shows."""
    lanes: Lanes = ()
    array: str = ""
    bound: str = ""
    axis: int = 0
    others: tuple[Span, ...] = ()
    """Where else to look."""
    present: tuple[Int, ...] = ()
    """Program ids, iterations and lanes that exist where the claim is made: their bounds hold."""

    def hypotheses(self) -> tuple[Bool, ...]:
        """The assumptions, and that this program, these iterations and these lanes exist."""
        exists: list[Bool] = []
        for v in (t.atom for t in self.present):
            if isinstance(v, terms.Var):
                exists += [] if v.low is None else [terms.le(v.low, terms.of_atom(v))]
                exists += [] if v.high is None else [terms.le(terms.of_atom(v), v.high)]
        return (*exists, *self.assumptions)


def accesses(symbols: Symbols) -> list[Access]:
    """All accesses of a kernel in program order."""
    found: list[Access] = []

    def visit(block: Block) -> None:
        for op in block.ops:
            if isinstance(op, ops.Load | ops.Store | ops.Update):
                shape = (op.result if isinstance(op, ops.Load) else op.value).type.shape
                lanes = symbols.lanes(shape, f".{len(found)}")
                active = terms.conjunction((symbols.path(block), symbols.masks_at(op.masks, lanes)))
                simplified = Simplifier(symbols.ranges, active)
                coordinates = tuple(map(simplified.int, symbols.coordinates(op, lanes)))
                found.append(Access(op, block, lanes, shape, coordinates, active))
            for inner in blocks(op):
                visit(inner)

    visit(symbols.function.body)
    return found


def bounds_claims(symbols: Symbols, access: Access) -> Iterator[Claim]:
    """Every active lane is inside the array."""
    param = symbols.function.array(access.array)
    for axis, (coordinate, extent) in enumerate(zip(access.coordinates, param.shape, strict=True)):
        size = symbols.extent(extent)
        common = {"index": coordinate, "extent": size}
        for goal, what, bound in (
            (terms.le(0, coordinate), "is not negative", "0"),
            (terms.lt(coordinate, size), f"is below {extent}", str(extent)),
        ):
            yield Claim(
                Kind.BOUNDS, "ZL0201", access.op.span, (access.active,), goal, f"axis {axis} of '{access.array}' {what}",
                common, (access.block,), access.lanes, access.array, bound, axis,
                present=(*symbols.scope(access.block), *access.lanes),
            )  # fmt: skip


def value_claims(symbols: Symbols, op: Op, block: Block, tag: str) -> Iterator[Claim]:
    """What an operation's own definition asks: divisors are not 0, positions exist, casts fit."""
    path = (symbols.path(block),)
    match op:
        case ops.Binary(op=BinaryOp.FLOORDIV | BinaryOp.MOD) if op.x.type.dtype.is_integer:
            lanes = symbols.lanes(op.result.type.shape, tag)
            divisor = symbols.int_at(op.y, lanes)
            indices = tuple(inhabited(param, symbols.extent) for param in symbols.function.arrays)
            yield Claim(
                Kind.DIVISION, "ZL0402", op.span, (*path, *indices), terms.negate(terms.equal(divisor, 0)), "the divisor is not 0",
                {"divisor": divisor}, (block,), lanes, present=(*symbols.scope(block), *lanes),
            )  # fmt: skip
        case ops.Gather():
            lanes = symbols.lanes(op.result.type.shape, tag)
            position = symbols.int_at(op.positions, lanes)
            extent = op.x.type.shape[op.axis]
            size = symbols.extent(extent)
            for goal, bound in ((terms.le(0, position), "0"), (terms.lt(position, size), str(extent))):
                yield Claim(
                    Kind.BOUNDS, "ZL0202", op.span, path, goal, "a gathered position is inside the tile",
                    {"position": position, "extent": size}, (block,), lanes, bound=bound, axis=op.axis,
                    present=(*symbols.scope(block), *lanes),
                )  # fmt: skip
        case ops.Cast() if _must_fit(op):
            lanes = symbols.lanes(op.result.type.shape, tag)
            value = symbols.int_at(op.x, lanes)
            target = op.result.type.dtype
            low, high = (-(1 << 63), (1 << 63) - 1) if target is index else target.integer_range()
            yield Claim(
                Kind.CAST, "ZL0403", op.span, path, terms.between(low, value, high), f"the value fits {target}",
                {"value": value, "largest": const(high)}, (block,), lanes, bound=str(target),
                present=(*symbols.scope(block), *lanes),
            )  # fmt: skip


def _must_fit(op: ops.Cast) -> bool:
    source, target = op.x.type.dtype, op.result.type.dtype
    if not (source.is_integer and target.is_integer and index in (source, target)) or source is target:
        return False
    return target is not index or source.integer_range()[1] > (1 << 63) - 1


def contract_claims(symbols: Symbols, access: Access) -> Iterator[Claim]:
    """What is stored keeps the contract of the array's elements."""
    param = symbols.function.array(access.array)
    if param.contract is None or isinstance(access.op, ops.Load):
        return
    contract, op = param.contract, access.op
    if isinstance(op, ops.Update):
        yield Claim(Kind.CONTRACT, "ZL0405", op.span, (access.active,), terms.false(), "an update keeps a contract",
                    {}, (access.block,), access.lanes, access.array, str(contract))  # fmt: skip
        return
    value = symbols.int_at(op.value, access.lanes)
    low, high = value_range(contract, symbols.extent)
    high = terms.minimum(high, const(param.dtype.integer_range()[1]))
    yield Claim(
        Kind.CONTRACT, "ZL0404", op.span, (access.active,), terms.between(low, value, high),
        f"every value stored to '{param.name}' keeps {contract}", {"value": value, "largest": high},
        (access.block,), access.lanes, access.array, str(contract), present=(*symbols.scope(access.block), *access.lanes),
    )  # fmt: skip


def operations(block: Block) -> Iterator[tuple[Op, Block]]:
    """All operations with their blocks, in program order."""
    for op in block.ops:
        yield op, block
        for inner in blocks(op):
            yield from operations(inner)


def index_values(op: Op) -> Iterator[ops.Value]:
    """The results of an operation that are index arithmetic."""
    for value in results(op):
        if value.type.dtype is index:
            yield value
