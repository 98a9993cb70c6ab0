"""The whole tile IR on one page.

A ``Function`` is one kernel: parameters, a grid, and a body of operations in SSA form with structured control flow. Every
operation carries the span of the source that it came from. Programs of the grid run in any order or at once; within one
program operations run in order, as if by a single thread.

Masks are explicit: the frontend has turned activity of lanes (spans past the end, guards, optional entries) into operands
of loads and stores and into ``Select``s in front of reductions, so nothing below the frontend knows about it.

    index arithmetic   values of dtype ``index`` are mathematical integers; a backend picks a width that was proved to do
    shapes             operands of elementwise operations have equal shapes (insert ``Broadcast``); in ``index`` and
                       ``masks`` of a memory operation an axis may be 1 where the result's axis is longer
    memory             lane l of a load or store touches array[index_0[l], …, index_n[l]] if every mask is true there
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from itertools import count

from zellige.diagnostics.span import NOWHERE, Span
from zellige.ir.extent import Extent
from zellige.ir.types import ArrayParam, ScalarParam, TileType

_ids = count()


@dataclass(eq=False, slots=True)
class Value:
    """The result of an operation or a block parameter; compared by identity."""

    type: TileType
    name: str = ""
    """The variable it was bound to in the source, for messages."""
    id: int = field(default_factory=lambda: next(_ids))

    def __repr__(self) -> str:
        return f"%{self.name or ''}{self.id}:{self.type}"


# --- operators -------------------------------------------------------------------------------------------------------


class UnaryOp(Enum):
    """Elementwise functions of one operand; result has the operand's type."""

    NEG = "neg"
    NOT = "not"
    ABS = "abs"
    EXP = "exp"
    EXP2 = "exp2"
    LOG = "log"
    LOG2 = "log2"
    SQRT = "sqrt"
    RSQRT = "rsqrt"
    SIN = "sin"
    COS = "cos"
    TANH = "tanh"
    ERF = "erf"
    SIGMOID = "sigmoid"
    FLOOR = "floor"
    CEIL = "ceil"
    ROUND = "round"
    """To nearest, ties to even."""


class BinaryOp(Enum):
    """Elementwise functions of two operands of one type; comparisons give bool, the others the operands' type."""

    ADD = "add"
    SUB = "sub"
    MUL = "mul"
    DIV = "div"
    """Floats only."""
    FLOORDIV = "floordiv"
    """Integers only, rounding towards minus infinity; ``MOD`` has the divisor's sign."""
    MOD = "mod"
    MIN = "min"
    MAX = "max"
    """``MIN`` and ``MAX`` of a NaN and a number: either may come out."""
    AND = "and"
    OR = "or"
    XOR = "xor"
    SHL = "shl"
    """An amount that is negative or the width or more shifts everything out: 0, and of ``SHR`` of a negative number −1."""
    SHR = "shr"
    EQ = "eq"
    NE = "ne"
    LT = "lt"
    LE = "le"
    GT = "gt"
    GE = "ge"

    @property
    def is_comparison(self) -> bool:
        return self in (BinaryOp.EQ, BinaryOp.NE, BinaryOp.LT, BinaryOp.LE, BinaryOp.GT, BinaryOp.GE)


class ReduceOp(Enum):
    """Associative reductions; ``argmax`` and ``argmin`` give an ``index``, the first position that attains it.

    The first NaN of an axis attains both (as in NumPy); ``max`` and ``min`` of an axis with NaNs may give any element."""

    SUM = "sum"
    PROD = "prod"
    MAX = "max"
    MIN = "min"
    ARGMAX = "argmax"
    ARGMIN = "argmin"
    ANY = "any"
    ALL = "all"


class UpdateOp(Enum):
    """Commutative updates of an ``Acc`` array."""

    ADD = "add"
    MAX = "max"
    MIN = "min"
    AND = "and"
    OR = "or"


# --- operations ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Op:
    """Base of all operations. Fields typed ``Value``, ``Value | None`` or ``tuple[Value, ...]`` are operands, except
    ``result`` and ``results``."""

    span: Span = NOWHERE


# leaves
@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Constant(Op):
    """A scalar constant of the result's dtype."""

    value: int | float | bool
    result: Value


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ExtentValue(Op):
    """A dim expression as an ``index`` scalar."""

    extent: Extent
    result: Value


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ScalarValue(Op):
    """A run-time scalar argument; ``index`` if its param has a contract (then cast from its dtype), else its dtype."""

    param: str
    result: Value


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ProgramId(Op):
    """This program's position on a grid axis: an ``index`` scalar in [0, grid[axis])."""

    axis: int
    result: Value


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Iota(Op):
    """0, 1, …, extent−1: an ``index`` tile of rank 1."""

    result: Value


# elementwise
@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Unary(Op):
    op: UnaryOp
    x: Value
    result: Value


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Binary(Op):
    op: BinaryOp
    x: Value
    y: Value
    result: Value


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Fma(Op):
    """x·y + z of f32 or f64, rounded once."""

    x: Value
    y: Value
    z: Value
    result: Value


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Select(Op):
    """x where ``condition``, else y."""

    condition: Value
    x: Value
    y: Value
    result: Value


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Cast(Op):
    """Conversion by value. Float to narrower float rounds to nearest even, float to integer truncates (saturating,
    NaN gives 0), integer to narrower integer wraps; to and from ``index`` is exact and must be proved to fit."""

    x: Value
    result: Value


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Bitcast(Op):
    """The same bits as another dtype of the same width."""

    x: Value
    result: Value


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Random(Op):
    """Philox-4x32-10 (Salmon et al., SC 2011), first output word: u32 tile from a u64 scalar ``seed`` and u64 ``counter``."""

    seed: Value
    counter: Value
    result: Value


# shape
@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Broadcast(Op):
    """A scalar to any shape, or axes of extent 1 to longer ones (equal rank)."""

    x: Value
    result: Value


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ExpandDims(Op):
    """Inserts an axis of extent 1 at ``axis``."""

    x: Value
    axis: int
    result: Value


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Reshape(Op):
    """Row-major reshape; also what drops axes of extent 1."""

    x: Value
    result: Value


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Transpose(Op):
    """result axis i is x's axis permutation[i]."""

    x: Value
    permutation: tuple[int, ...]
    result: Value


# across lanes
@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Reduce(Op):
    """Removes ``axis``."""

    op: ReduceOp
    x: Value
    axis: int
    result: Value


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Scan(Op):
    """Inclusive running ``sum``, ``prod``, ``max`` or ``min`` along ``axis``."""

    op: ReduceOp
    x: Value
    axis: int
    result: Value


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Offsets(Op):
    """Offsets of segments with these lengths, saturated: 0 first, min(total, sum of the lengths before) in between, total last.

    Negative lengths count as 0 and the sum never wraps, so that for all ``lengths`` (integers, extent n) and any ``total`` ≥ 0
    (an ``index`` scalar; a negative one counts as 0) the result, of extent n + 1, never decreases."""

    lengths: Value
    total: Value
    result: Value


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Sort(Op):
    """Stable sort along the last axis; ``order`` holds the source positions (``index``)."""

    x: Value
    descending: bool
    result: Value
    order: Value


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Gather(Op):
    """result[…, i, …] = x[…, positions[…, i, …], …] along ``axis``; positions (``index``) are proved in bounds."""

    x: Value
    positions: Value
    axis: int
    result: Value


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Dot(Op):
    """acc + a·b: (…, M, K) × (…, K, N) → (…, M, N); products and sums in the accumulator's dtype."""

    a: Value
    b: Value
    acc: Value
    result: Value


# memory
@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Segment(Op):
    """The segment of an ``Offsets`` input (extent S + 1) that a position lies in: how many s in 1 … S−1 start at or before it.

    Segment s starts at array[s]; with ``tile``, at array[s] // tile + s, which numbers the tiles of all segments: segment s
    has its ceildiv(length, tile) tiles from there on, then at most one number that belongs to no tile."""

    array: str
    position: Value
    tile: int | None
    result: Value


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Load(Op):
    """Lanes where a mask is false read nothing and give ``pad``. Contract arrays give ``index`` tiles."""

    array: str
    index: tuple[Value, ...]
    masks: tuple[Value, ...]
    pad: int | float
    result: Value


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Store(Op):
    """``value`` has the full shape of the access; lanes where a mask is false write nothing."""

    array: str
    index: tuple[Value, ...]
    masks: tuple[Value, ...]
    value: Value


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Update(Op):
    """A commutative read-modify-write of an ``Acc`` array; equal coordinates in one tile combine."""

    op: UpdateOp
    array: str
    index: tuple[Value, ...]
    masks: tuple[Value, ...]
    value: Value


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Guard(Op):
    """Raises the launch's error flag if ``condition`` (bool tile) is false anywhere; the program goes on."""

    condition: Value
    message: str


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Require(Op):
    """A precondition over dims and scalars: checked by the launch, assumed by everything after. Top level only."""

    condition: Value
    text: str


# control
@dataclass(slots=True, eq=False)
class Block:
    """A straight list of operations; ``yields`` leave the block."""

    params: tuple[Value, ...]
    ops: list[Op]
    yields: tuple[Value, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class For(Op):
    """for i in range(lower, upper, step): body(i, *carried). ``init`` enters the first iteration, results leave the last.

    ``body.params`` = (i, *carried); ``body.yields`` = next carried."""

    lower: Value
    upper: Value
    step: int
    init: tuple[Value, ...]
    body: Block
    results: tuple[Value, ...]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class While(Op):
    """while condition(*carried) and fewer than ``limit`` iterations are done: body(*carried).

    ``condition.params`` = carried, yields one bool scalar; ``body.params`` = carried, yields next carried."""

    limit: Value
    init: tuple[Value, ...]
    condition: Block
    body: Block
    results: tuple[Value, ...]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class If(Op):
    """Both blocks have no params and yield as many values as there are results; the condition is a bool scalar."""

    condition: Value
    then: Block
    orelse: Block
    results: tuple[Value, ...]


# --- the kernel ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class GridAxis:
    """One axis of the grid. With ``tile`` the axis partitions ``extent`` in tiles of that many, else one program each."""

    extent: Extent
    tile: Extent | None
    programs: Extent


@dataclass(frozen=True, slots=True)
class Unsafe:
    """A ``zl.unsafe`` block: what stands in its span is not proved; ``reason`` says why its author thinks it sound."""

    reason: str
    span: Span


@dataclass(slots=True, eq=False)
class Function:
    """A kernel with its static parameters and dtypes fixed; dims are symbolic unless specialised."""

    name: str
    arrays: tuple[ArrayParam, ...]
    scalars: tuple[ScalarParam, ...]
    grid: tuple[GridAxis, ...]
    body: Block
    span: Span = NOWHERE
    group: int = 1
    """Scheduling hint: rows of tiles that run together (``zl.grouped``); never changes meaning."""
    index_bits: int = 64
    """Width that the author demands for index arithmetic; 32 makes every 32-bit overflow an error."""
    unsafe: tuple[Unsafe, ...] = ()
    source: str = ""
    """Text of the kernel's source, for messages."""

    def array(self, name: str) -> ArrayParam:
        return next(a for a in self.arrays if a.name == name)

    def dims(self) -> frozenset[str]:
        """Names of all dims in shapes, grid and contracts."""
        found: frozenset[str] = frozenset()
        for param in self.arrays:
            for extent in param.shape + ((param.contract.bound,) if param.contract else ()):
                found |= extent.dims()
        for axis in self.grid:
            found |= axis.extent.dims() | axis.programs.dims()
        return found


Operation = (
    Constant | ExtentValue | ScalarValue | ProgramId | Iota
    | Unary | Binary | Fma | Select | Cast | Bitcast | Random
    | Broadcast | ExpandDims | Reshape | Transpose
    | Reduce | Scan | Offsets | Sort | Gather | Dot
    | Segment | Load | Store | Update | Guard | Require
    | For | While | If
)  # fmt: skip
"""Every operation there is: what a backend or an analysis must cover."""

__all__ = [
    name
    for name in dir()
    if not name.startswith("_") and name not in ("annotations", "count", "dataclass", "field", "Enum")
]
