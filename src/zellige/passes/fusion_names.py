"""One namespace for two kernels that become one: parameters renamed apart, dims unified through the arrays that they share."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from itertools import chain, count

from zellige.diagnostics.errors import ZelligeError
from zellige.ir import ops
from zellige.ir.extent import Dim, Extent, Nary, Quotient
from zellige.ir.ops import Block, Function, Op
from zellige.ir.walk import Rewriter, specialise


class FusionError(ZelligeError):
    """Two kernels that cannot be made one, and why."""


@dataclass(frozen=True, slots=True)
class Parameters:
    """The names of a kernel, and the extents in the types of its arrays."""

    kernel: str
    shapes: Mapping[str, tuple[Extent, ...]]
    bounds: Mapping[str, Extent]
    """Of the contracts, where arrays have some."""
    others: frozenset[str]
    """Names of what is no array: scalars, statics, dims."""

    @classmethod
    def of(cls, function: Function) -> Parameters:
        """Those of a kernel whose static parameters and dtypes are fixed."""
        scalars = frozenset(s.name for s in function.scalars)
        bounds = {a.name: a.contract.bound for a in function.arrays if a.contract is not None}
        return cls(function.name, {a.name: a.shape for a in function.arrays}, bounds, scalars | function.dims())


@dataclass(frozen=True, slots=True)
class Names:
    """What the parameters and dims of two kernels are called in the kernel made of both."""

    producer: Mapping[str, str]
    """The producer's arrays, scalars and other names; those of the consumer stay, except ``consumer``'s."""
    consumer: Mapping[str, str]
    producer_dims: Mapping[str, Extent]
    consumer_dims: Mapping[str, Extent]
    shared: frozenset[str]
    """Arrays (by their new names) that both have."""

    def first(self, function: Function) -> Function:
        """The producer in the common namespace."""
        return _renamed(specialise(function, self.producer_dims), self.producer)

    def second(self, function: Function) -> Function:
        """The consumer in the common namespace."""
        return _renamed(specialise(function, self.consumer_dims), self.consumer)


def common_names(
    producer: Parameters,
    consumer: Parameters,
    pairs: Mapping[str, str],
    *,
    one: Collection[str] = (),
    keep: Collection[str] = (),
) -> Names:
    """Names for a fusion in which array p of the producer is array c of the consumer, for each p: c of ``pairs``.

    ``one``: names that mean the same in both (static parameters). ``keep``: arrays of the producer that keep their names.
    FusionError ZL0531 if an array does not exist or the shapes of a pair cannot be equal."""
    for kernel, named in ((producer, pairs), (consumer, pairs.values())):
        for array in named:
            if array not in kernel.shapes:
                raise FusionError(
                    "ZL0531", f"'{kernel.kernel}' has no array '{array}'", help=f"it has {', '.join(kernel.shapes)}"
                )
    if len(set(pairs.values())) != len(pairs):
        raise FusionError(
            "ZL0531", f"two arrays of '{producer.kernel}' are paired with one of '{consumer.kernel}'",
            help="name each array once",
        )  # fmt: skip
    taken = {*consumer.shapes, *consumer.others}
    names: dict[str, str] = {}
    renamed: dict[str, str] = {}
    for mine, theirs in pairs.items():
        names[mine] = theirs
        if mine in keep:
            names[mine] = renamed[theirs] = _free(mine, producer.kernel, taken)
            taken.add(names[mine])
    for name in (*producer.shapes, *sorted(producer.others)):
        if name in one:
            names[name] = name
        elif name not in names:
            names[name] = _free(name, producer.kernel, taken)
            taken.add(names[name])
    apart = {d: Dim(names[d]) for shape in producer.shapes.values() for e in shape for d in e.dims()}
    apart |= {d: Dim(names[d]) for d in producer.others}
    equal = _unified(producer, consumer, pairs, apart)
    return Names(
        names,
        renamed,
        {dim: extent.substitute(equal) for dim, extent in apart.items()},
        equal,
        frozenset(names[p] for p in pairs),
    )


def _free(name: str, kernel: str, taken: Collection[str]) -> str:
    """A name like ``name`` that is not taken."""
    candidates = chain((name, f"{name}_{kernel}"), (f"{name}_{kernel}_{n}" for n in count(2)))
    return next(candidate for candidate in candidates if candidate not in taken)


def _unified(
    producer: Parameters, consumer: Parameters, pairs: Mapping[str, str], apart: Mapping[str, Extent]
) -> dict[str, Extent]:
    """Dims (of both, renamed apart) that are something else because shapes of one array are equal; the consumer's names stay."""
    found: dict[str, Extent] = {}
    for mine, theirs in pairs.items():
        left, right = producer.shapes[mine], consumer.shapes[theirs]
        if len(left) != len(right):
            raise FusionError(
                "ZL0531", f"'{mine}' of '{producer.kernel}' has {len(left)} axes, '{theirs}' of '{consumer.kernel}' {len(right)}",
                help="pair arrays of one shape: a view of another shape is another array to a kernel",
            )  # fmt: skip
        for axis, (p, c) in enumerate(zip(left, right, strict=True)):
            if not _equate(p.substitute(apart), c, found):
                raise FusionError(
                    "ZL0531", f"axis {axis} of '{mine}' of '{producer.kernel}' is {p}, of '{theirs}' of '{consumer.kernel}' {c}",
                    help="one of the two must be a dim of its own, so that it can be the other",
                )  # fmt: skip
        if mine in producer.bounds and theirs in consumer.bounds:
            _equate(producer.bounds[mine].substitute(apart), consumer.bounds[theirs], found)
    return found


def _equate(p: Extent, c: Extent, found: dict[str, Extent]) -> bool:
    """Notes in ``found`` what makes two extents equal (it need not be the only way); False if nothing is found."""
    a, b = p.substitute(found), c.substitute(found)
    if a == b:
        return True
    for old, new in ((a, b), (b, a)):
        if isinstance(old, Dim) and old.name not in new.dims():
            found.update({name: extent.substitute({old.name: new}) for name, extent in found.items()})
            found[old.name] = new
            return True
    match a, b:
        case Nary(op, left), Nary(other, right) if op == other and len(left) == len(right):
            return all(_equate(x, y, found) for x, y in zip(left, right, strict=True))
        case Quotient(op, x, y), Quotient(other, z, w) if op == other:
            return _equate(x, z, found) and _equate(y, w, found)
    return False


class _Names(Rewriter):
    """Renames arrays and scalars."""

    def __init__(self, names: Mapping[str, str]) -> None:
        super().__init__()
        self.names = names

    def op(self, old: Op) -> list[Op]:
        new = self.copy(old)
        match new:
            case ops.Load() | ops.Store() | ops.Update() | ops.Segment():
                new = replace(new, array=self.names.get(new.array, new.array))
            case ops.ScalarValue():
                new = replace(new, param=self.names.get(new.param, new.param))
        return [new]


def _renamed(function: Function, names: Mapping[str, str]) -> Function:
    body: Block = _Names(names).block(function.body)
    return replace(
        function,
        arrays=tuple(replace(a, name=names.get(a.name, a.name)) for a in function.arrays),
        scalars=tuple(replace(s, name=names.get(s.name, s.name)) for s in function.scalars),
        body=body,
    )
