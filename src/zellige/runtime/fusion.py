"""``zl.fuse``: two kernels as one. The IR is made by ``passes/fusion.py`` and verified as that of any kernel."""

from __future__ import annotations

import sys
from collections.abc import Collection, Mapping, Sequence
from itertools import product
from typing import Any

from zellige.diagnostics.errors import ZelligeError
from zellige.frontend.signature import Signature
from zellige.ir.dtypes import DType
from zellige.ir.ops import Function
from zellige.ir.types import Role
from zellige.lang.params import ArrayType, DTypeVar, Element
from zellige.passes import fusion
from zellige.passes.fusion import FusionError, Parameters
from zellige.runtime.kernel import Kernel


def fuse(
    producer: Kernel,
    consumer: Kernel,
    arrays: Mapping[str, str],
    *,
    keep: Collection[str] = (),
    name: str = "",
) -> Kernel:
    """The kernel that does what ``producer`` and then ``consumer`` do, without memory in between.

    ``arrays``: which array of the consumer each of these arrays of the producer is: its output as the other's input, say, or an
    input of both. An output of the producer that the consumer reads is dropped, unless it is in ``keep``. Other names stay; where both
    kernels have one, the producer's gets its kernel's name behind it. Static parameters of one name are one.

    Both kernels are proved, and so is the result. FusionError ZL0531 (arrays do not pair), ZL0532 (what is read is not shown to be
    what was stored), ZL0533 (the grids do not fit)."""
    module = sys._getframe(1).f_globals.get("__name__", "")
    return _FusedKernel(producer, consumer, dict(arrays), tuple(keep), name, module)


class _FusedKernel(Kernel):
    """A kernel whose IR is made of those of two others."""

    def __init__(
        self, producer: Kernel, consumer: Kernel, pairs: dict[str, str], keep: tuple[str, ...], name: str, module: str
    ) -> None:
        first, second = producer.signature, consumer.signature
        shared = first.statics.keys() & second.statics.keys()
        super().__init__(
            consumer.function,
            index_bits=min(producer.index_bits, consumer.index_bits),
            configs=_configs(producer.configs, consumer.configs, shared),
        )
        self.name = self.__name__ = name or f"{producer.name}_then_{consumer.name}"
        self.__module__ = module
        self.__doc__ = f"{producer.__doc__ or producer.name}\n\nThen: {consumer.__doc__ or consumer.name}"
        self._parts = producer, consumer
        self._names = fusion.common_names(_parameters(producer), _parameters(consumer), pairs, one=shared, keep=keep)
        if unknown := sorted(set(keep) - pairs.keys()):
            raise FusionError("ZL0531", f"'{unknown[0]}' is to be kept but is not among the arrays", help="keep=['y']")
        self._keep = frozenset(self._names.producer[k] for k in keep)
        self._dtypes = _Dtypes(first, second, pairs, producer.name)
        self._signature = self._read(self._fused(*self._example()))

    def _example(self) -> tuple[dict[str, Any], dict[str, DType]]:
        """One choice of statics and dtypes, to see what the fusion looks like. ZelligeError ZL0508 if a static has no value."""
        mine, theirs = (part.signature.statics for part in self._parts)
        statics = {self._names.producer[n]: v for n, v in mine.items()} | theirs | dict((self.configs or ({},))[0])
        for static, value in statics.items():
            if isinstance(value, type):
                raise ZelligeError(
                    "ZL0508", f"kernel '{self.name}' cannot be fused: static parameter '{static}' has no value",
                    help=f"give it a default ({static}: zl.Static = 64) or configs (@zl.kernel(configs=[…]))",
                )  # fmt: skip
        return statics, {v.name: v.allowed[0] for v in self._dtypes.variables.values()}

    def lower(self, statics: Mapping[str, Any], bindings: Mapping[str, DType]) -> Function:
        """The fused IR. VerificationError if a part is refused: what the fusion shows is of kernels that are proved."""
        return self._fused(statics, bindings, proved=True)

    def _fused(self, statics: Mapping[str, Any], bindings: Mapping[str, DType], *, proved: bool = False) -> Function:
        producer, consumer = self._parts
        names = self._names.producer
        choices = (
            ({n: statics[names[n]] for n in producer.signature.statics}, self._dtypes.of_producer(bindings)),
            ({n: statics[n] for n in consumer.signature.statics}, self._dtypes.of_consumer(bindings)),
        )
        first, second = (
            part.instance(*choice).function if proved else part.lower(*choice)
            for part, choice in zip(self._parts, choices, strict=True)
        )
        return fusion.fuse(first, second, self._names, keep=self._keep, name=self.name)

    def _read(self, function: Function) -> Signature:
        """The signature, from the arrays that are left."""
        producer, consumer = (part.signature for part in self._parts)
        names = self._names
        elements: dict[str, DType | DTypeVar | Element] = {}
        for own, array in producer.arrays.items():
            elements[names.producer[own]] = self._dtypes.element(array.element, of_producer=True)
        for own, array in consumer.arrays.items():
            elements[names.consumer.get(own, own)] = self._dtypes.element(array.element, of_producer=False)
        arrays: dict[str, ArrayType] = {}
        for param in function.arrays:
            element = elements[param.name]
            if isinstance(element, Element):
                element = param.dtype if param.contract is None else Element(param.dtype, param.contract)
            arrays[param.name] = ArrayType(param.role, element, param.shape, param.init)
        scalars = {s.name: s for s in function.scalars}
        statics = {names.producer[n]: v for n, v in producer.statics.items()} | dict(consumer.statics)
        order = [names.producer[n] for n in producer.positional] + [
            names.consumer.get(n, n) for n in consumer.positional
        ]
        positional = [n for n in dict.fromkeys(order) if n in scalars or (n in arrays and arrays[n].role is Role.IN)]
        return Signature(arrays, scalars, statics, tuple(positional))


def _parameters(kernel: Kernel) -> Parameters:
    signature = kernel.signature
    others = frozenset((*signature.scalars, *signature.statics, *signature.dims))
    bounds = {n: a.element.contract.bound for n, a in signature.arrays.items() if isinstance(a.element, Element)}
    return Parameters(kernel.name, {n: a.shape for n, a in signature.arrays.items()}, bounds, others)


def _configs(
    first: Sequence[Mapping[str, Any]], second: Sequence[Mapping[str, Any]], shared: Collection[str]
) -> list[dict[str, Any]]:
    """Configs of both that agree on what they share."""
    if not first and not second:
        return []
    pairs = product(first or ({},), second or ({},))
    return [{**a, **b} for a, b in pairs if all(a.get(n, b.get(n)) == b.get(n, a.get(n)) for n in shared)]


class _Dtypes:
    """The dtype variables of two kernels, made one where they are the element type of one array."""

    def __init__(self, first: Signature, second: Signature, pairs: Mapping[str, str], kernel: str) -> None:
        self.variables: dict[str, DTypeVar] = dict(second.dtype_vars)
        self._first: dict[str, DTypeVar | DType] = {}
        self._second: dict[str, DTypeVar | DType] = dict(self.variables)
        for mine, theirs in pairs.items():
            self._unify(mine, first.arrays[mine].element, second.arrays[theirs].element)
        for name, variable in first.dtype_vars.items():
            if name not in self._first:
                new = name if name not in self.variables else f"{name}_{kernel}"
                self._first[name] = self.variables[new] = DTypeVar(new, variable.allowed)

    def _unify(self, array: str, a: DType | DTypeVar | Element, b: DType | DTypeVar | Element) -> None:
        left: Any = self._first.get(a.name, a) if isinstance(a, DTypeVar) else a
        right: Any = self._second.get(b.name, b) if isinstance(b, DTypeVar) else b
        allowed = [set(x.allowed) if isinstance(x, DTypeVar) else {x} for x in (left, right)]
        both = tuple(t for t in (left.allowed if isinstance(left, DTypeVar) else [left]) if t in allowed[1])
        if not both:
            if isinstance(left, Element) or isinstance(right, Element):
                return  # contracts are compared in the IR
            raise FusionError(
                "ZL0531", f"'{array}' holds {left} in one kernel and {right} in the other",
                help="convert in one of them: what is stored is rounded to the array's element type",
            )  # fmt: skip
        one: Any = both[0] if len(both) == 1 else DTypeVar((right if isinstance(right, DTypeVar) else left).name, both)
        for name, known in list(self._second.items()):
            if known is right and isinstance(right, DTypeVar):
                self._second[name] = one
        if isinstance(right, DTypeVar):
            self.variables.pop(right.name, None)
        if isinstance(one, DTypeVar):
            self.variables[one.name] = one
        if isinstance(a, DTypeVar):
            self._first[a.name] = one

    def of_producer(self, bindings: Mapping[str, DType]) -> dict[str, DType]:
        """The dtypes of the producer's variables."""
        return {n: bindings[v.name] if isinstance(v, DTypeVar) else v for n, v in self._first.items()}

    def of_consumer(self, bindings: Mapping[str, DType]) -> dict[str, DType]:
        """The dtypes of the consumer's variables."""
        return {n: bindings[v.name] if isinstance(v, DTypeVar) else v for n, v in self._second.items()}

    def element(self, element: DType | DTypeVar | Element, *, of_producer: bool) -> DType | DTypeVar | Element:
        """An element type of one of the kernels in the names of both."""
        known = self._first if of_producer else self._second
        return known[element.name] if isinstance(element, DTypeVar) else element


__all__ = ["FusionError", "fuse"]
