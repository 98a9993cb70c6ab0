"""How many lanes each axis of each tile really has.

Triton's tiles have extents that are powers of two, and matrix products at least 16. Axes that must agree (operands of one
operation, values carried around a loop) form a class; each class has one padded extent. Lanes past the true extent hold
anything and are masked wherever they could be seen: in stores, reductions and the depth of a matrix product.
"""

from __future__ import annotations

from zellige.diagnostics.errors import InternalError, ZelligeError
from zellige.ir import ops
from zellige.ir.extent import Const, Extent
from zellige.ir.ops import Function, Op, Value
from zellige.ir.walk import operands, results, walk

Axis = tuple[Value, int]


def power_of_two(n: int) -> int:
    """The least power of two that is at least ``n``."""
    return 1 << max(n - 1, 0).bit_length()


def tile_extent(extent: Extent, value: Value) -> int:
    """A tile's extent as a number. ZelligeError ZL0901 if it depends on a dim that was not fixed."""
    if extent.constant is None:
        raise ZelligeError(
            "ZL0901",
            f"a tile has the extent {extent}, which is not known when the kernel is compiled for a GPU",
            facts={"tile": str(value.type), "dims to fix": ", ".join(sorted(extent.dims()))},
            help="give these dims when compiling, or cut the axis into spans of a static size",
        )
    return extent.constant


class Padding:
    """Padded extents of all tiles of a function whose tile extents are numbers."""

    def __init__(self, function: Function) -> None:
        self._parent: dict[Axis, Axis] = {}
        self._least: dict[Axis, int] = {}
        self._rigid: set[Axis] = set()
        self.narrow_dots: set[ops.Dot] = set()
        """Products with an axis too short for the matrix units, to be written as multiply and sum."""
        everything = list(walk(function.body))
        for op in everything:
            self._relate(op)
        dots = [op for op in everything if isinstance(op, ops.Dot)]
        for dot in dots:
            self._matrix(dot)

    # --- queries
    def shape(self, value: Value) -> tuple[int, ...]:
        """The extents that a value's tile has in Triton."""
        return tuple(self.extent(value, axis) for axis in range(value.type.rank))

    def extent(self, value: Value, axis: int) -> int:
        """The padded extent of one axis."""
        true = tile_extent(value.type.shape[axis], value)
        if true <= 1:
            return 1
        root = self._find((value, axis))
        return max(power_of_two(true), self._least.get(root, 1))

    def is_padded(self, value: Value, axis: int) -> bool:
        """Whether an axis has lanes past its true extent."""
        return self.extent(value, axis) != value.type.shape[axis].constant

    # --- classes
    def _find(self, axis: Axis) -> Axis:
        root = axis
        while self._parent.get(root, root) != root:
            root = self._parent[root]
        while self._parent.get(axis, axis) != root:
            self._parent[axis], axis = root, self._parent[axis]
        return root

    def _union(self, a: Axis, b: Axis) -> None:
        x, y = self._find(a), self._find(b)
        if x != y:
            self._parent[x] = y
            if x in self._rigid:
                self._rigid.add(y)
            self._least[y] = max(self._least.get(x, 1), self._least.get(y, 1))

    def _same(self, a: Value, b: Value, *, but: int | None = None) -> None:
        """Axes of two values of one rank agree wherever their extents are equal."""
        if a.type.rank != b.type.rank:
            return
        for axis, (x, y) in enumerate(zip(a.type.shape, b.type.shape, strict=True)):
            if x == y and axis != but:
                self._union((a, axis), (b, axis))

    def _relate(self, op: Op) -> None:
        match op:
            case ops.Load(index=index, masks=masks, result=result):
                for part in (*index, *masks):
                    self._same(part, result)
            case ops.Store(index=index, masks=masks, value=value) | ops.Update(index=index, masks=masks, value=value):
                for part in (*index, *masks):
                    self._same(part, value)
            case ops.ExpandDims(x=x, axis=new, result=result):
                for axis in range(x.type.rank):
                    self._union((x, axis), (result, axis + (axis >= new)))
            case ops.Transpose(x=x, permutation=permutation, result=result):
                for axis, source in enumerate(permutation):
                    self._union((x, source), (result, axis))
            case ops.Reduce(x=x, axis=gone, result=result):
                for axis in range(result.type.rank):
                    self._union((x, axis + (axis >= gone)), (result, axis))
            case ops.Gather(x=x, positions=positions, axis=along, result=result):
                self._same(x, positions, but=along)
                self._same(positions, result)
            case ops.Dot(a=a, b=b, acc=acc, result=result):
                rank = acc.type.rank
                self._same(acc, result)
                self._union((a, rank - 2), (acc, rank - 2))
                self._union((b, rank - 1), (acc, rank - 1))
                self._union((a, rank - 1), (b, rank - 2))
                for axis in range(rank - 2):
                    self._union((a, axis), (acc, axis))
                    self._union((b, axis), (acc, axis))
            case ops.Reshape(x=x, result=result):
                self._reshape(x, result)
            case ops.For(init=init, body=body):
                self._carried(init, body.params[1:], body.yields, op.results)
            case ops.While(init=init, body=body, condition=condition):
                self._carried(init, body.params, body.yields, op.results)
                self._carried(init, condition.params, body.yields, op.results)
            case ops.If(then=then, orelse=orelse):
                self._carried(then.yields, orelse.yields, op.results, op.results)
            case ops.Offsets(
                lengths=lengths, result=result
            ):  # the result has one element more, and is made of the same lanes
                self._union((lengths, 0), (result, 0))
                root = self._find((result, 0))
                self._least[root] = max(
                    self._least.get(root, 1), power_of_two(tile_extent(result.type.shape[0], result))
                )
            case _:
                values = [*operands(op), *results(op)]
                for value in values[1:]:
                    self._same(values[0], value)

    def _carried(self, *groups: tuple[Value, ...]) -> None:
        for values in zip(*groups, strict=True):
            for value in values[1:]:
                self._same(values[0], value)

    def _reshape(self, x: Value, result: Value) -> None:
        """Axes that a reshape keeps agree; those that it splits or merges cannot be padded further."""
        for left, right in reshape_groups(x, result):
            if len(left) == len(right) == 1:
                self._union((x, left[0]), (result, right[0]))
            else:
                self._rigid.update(self._find((x, a)) for a in left)
                self._rigid.update(self._find((result, a)) for a in right)

    def _matrix(self, dot: ops.Dot) -> None:
        rank = dot.acc.type.rank
        depth = 32 if dot.a.type.dtype.bits == 8 else 16
        wanted = (((dot.acc, rank - 2), 16), ((dot.acc, rank - 1), 16), ((dot.a, rank - 1), depth))
        for (value, axis), least in wanted:
            true = value.type.shape[axis].constant
            root = self._find((value, axis))
            rigid = root in self._rigid or any(self._find(r) == root for r in self._rigid)
            if true == 1 or (rigid and true is not None and power_of_two(true) < least):
                self.narrow_dots.add(dot)
                return
        for (value, axis), least in wanted:
            root = self._find((value, axis))
            self._least[root] = max(self._least.get(root, 1), least)


def reshape_groups(x: Value, result: Value) -> list[tuple[list[int], list[int]]]:
    """Axes of operand and result that correspond, as the shortest groups of equal size; axes of extent 1 are left out."""
    one = Const(1)
    left = [(a, tile_extent(e, x)) for a, e in enumerate(x.type.shape) if e != one]
    right = [(a, tile_extent(e, result)) for a, e in enumerate(result.type.shape) if e != one]
    groups: list[tuple[list[int], list[int]]] = []
    while left or right:
        if not left or not right:
            raise InternalError(f"a reshape from {x.type} to {result.type} changes the number of elements")
        (a, m), (b, n) = left.pop(0), right.pop(0)
        group: tuple[list[int], list[int]] = ([a], [b])
        while m != n:
            axis, side, which = (left, 0, m) if m < n else (right, 1, n)
            if not axis:
                raise InternalError(f"a reshape from {x.type} to {result.type} changes the number of elements")
            new, extent = axis.pop(0)
            group[side].append(new)
            if side == 0:
                m = which * extent
            else:
                n = which * extent
        groups.append(group)
    return groups
