"""Reads a kernel's signature: which parameters are arrays, scalars and statics, and which dims and dtypes they name."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from zellige.frontend.errors import refuse
from zellige.frontend.source import SourceText
from zellige.ir import dtypes
from zellige.ir.dtypes import DType
from zellige.ir.types import ArrayParam, ContractKind, Role, ScalarParam
from zellige.lang.dtype_names import DTYPES
from zellige.lang.params import ArrayType, DTypeVar, Element, Static


@dataclass(frozen=True, slots=True)
class Signature:
    """A kernel's parameters in the order of its Python signature."""

    arrays: dict[str, ArrayType]
    scalars: dict[str, ScalarParam]
    statics: dict[str, Any]
    """Name to default value (``inspect.Parameter.empty`` if there is none)."""

    @property
    def positional(self) -> tuple[str, ...]:
        """Names of inputs and scalars, in order."""
        return self._positional

    _positional: tuple[str, ...] = ()

    @property
    def dtype_vars(self) -> dict[str, DTypeVar]:
        """The dtype variables that its arrays name."""
        return {a.element.name: a.element for a in self.arrays.values() if isinstance(a.element, DTypeVar)}

    @property
    def dims(self) -> frozenset[str]:
        """Names of the dims in shapes and contracts: what a call fixes."""
        found: frozenset[str] = frozenset()
        for array in self.arrays.values():
            for extent in array.shape:
                found |= extent.dims()
            if isinstance(array.element, Element):
                found |= array.element.contract.bound.dims()
        for scalar in self.scalars.values():
            if scalar.contract is not None:
                found |= scalar.contract.bound.dims()
        return found

    def array_params(self, bindings: Mapping[str, DType]) -> tuple[ArrayParam, ...]:
        """The array parameters with dtype variables replaced."""
        params = []
        for name, array in self.arrays.items():
            match array.element:
                case DTypeVar(variable, _):
                    params.append(ArrayParam(name, array.role, bindings[variable], array.shape, None, array.init))
                case Element(storage, contract):
                    params.append(ArrayParam(name, array.role, storage, array.shape, contract, array.init))
                case DType() as dtype:
                    params.append(ArrayParam(name, array.role, dtype, array.shape, None, array.init))
        return tuple(params)


_KINDS = {Role.IN: "an In", Role.OUT: "an Out", Role.MUT: "a Mut", Role.ACC: "an Acc"}


def read_signature(function: Callable[..., Any], source: SourceText) -> Signature:
    """The signature of a kernel function. LanguageError ZL0102 if an annotation is not a parameter type."""
    try:
        annotations = inspect.get_annotations(function, eval_str=True)
    except NameError as error:
        refuse("ZL0102", f"an annotation of kernel '{function.__name__}' names something undefined: {error}",
               source.span(source.tree), "define it before the kernel, as dims by zl.dims and dtypes by zl.f32, zl.bf16, …")  # fmt: skip
    arrays: dict[str, ArrayType] = {}
    scalars: dict[str, ScalarParam] = {}
    statics: dict[str, Any] = {}
    positional: list[str] = []
    for name, parameter in inspect.signature(function).parameters.items():
        annotation = annotations.get(name)
        keyword_only = parameter.kind is parameter.KEYWORD_ONLY
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            refuse(
                "ZL0102",
                f"kernel '{function.__name__}' has a variadic parameter '{name}'",
                source.span(source.tree),
                "name each parameter",
            )
        match annotation:
            case ArrayType(role=Role.IN):
                arrays[name] = annotation
                wrong = keyword_only
            case ArrayType():
                arrays[name] = annotation
                wrong = not keyword_only
            case DType():
                scalars[name] = ScalarParam(name, annotation)
                wrong = keyword_only
            case Element(storage, contract):
                scalars[name] = ScalarParam(name, storage, contract)
                wrong = keyword_only
            case _ if annotation is Static:
                statics[name] = parameter.default
                wrong = not keyword_only
            case _:
                shown = getattr(annotation, "__name__", repr(annotation))
                what = "has no annotation" if annotation is None else f"is {shown}, which is not a type of kernels"
                refuse(
                    "ZL0102", f"parameter '{name}' of kernel '{function.__name__}' {what}", source.parameter(name),
                    _annotation_for(name, shown),
                )  # fmt: skip
        if wrong:
            what = "a static" if name in statics else "a scalar" if name in scalars else _KINDS[arrays[name].role]
            side = "before" if keyword_only else "after"
            help = f"'{name}' is {what}: move it {side} the '*'"
            if not source.tree.args.kwonlyargs:
                help = f"'{name}' is {what}: outputs and statics stand behind a '*': def {function.__name__}(…, *, {name}: …)"
            refuse("ZL0103", f"parameter '{name}' of kernel '{function.__name__}' is on the wrong side of '*'", source.parameter(name),
                   help)  # fmt: skip
        if not keyword_only:
            positional.append(name)
    for name, array in arrays.items():
        if array.element is dtypes.index:
            refuse(
                "ZL0102",
                f"array '{name}' has element type index, which no memory holds",
                source.parameter(name),
                "use zl.Index[extent]",
            )
        kept = array.element.contract if isinstance(array.element, Element) else None
        in_order = kept is not None and kept.kind in (ContractKind.OFFSETS, ContractKind.PERMUTATION)
        if in_order and len(array.shape) != 1:
            refuse(
                "ZL0102", f"array '{name}' has {len(array.shape)} axes, but {kept} is of arrays with one",
                source.parameter(name), "give it one axis, or say less of its elements, such as zl.Index[extent]",
            )  # fmt: skip
    return Signature(arrays, scalars, statics, tuple(positional))


_SPELLED = {
    "int": "zl.i32, or zl.Static if it is known when the kernel is compiled",
    "bool": "zl.bool_, or zl.Static if it is known when the kernel is compiled", "str": "zl.Static",
    "ndarray": "zl.In[dtype, dims…]", "Tensor": "zl.In[dtype, dims…]", "In": "zl.In[dtype, dims…]",
    "Out": "zl.Out[dtype, dims…]", "Mut": "zl.Mut[dtype, dims…]", "Acc": "zl.Acc[dtype, dims…]",
}  # fmt: skip
"""What people annotate with, where it is no plain dtype, and how it is said here."""


def _annotation_for(name: str, shown: str) -> str:
    """The edit for a parameter whose annotation means nothing."""
    spelled = _SPELLED.get(shown) or DTYPES.get(shown)
    if spelled is not None:
        return f"write {name}: {spelled}"
    return "annotate it with zl.In[dtype, dims…], zl.Out[…], zl.Mut[…], zl.Acc[…], a dtype (a scalar) or zl.Static"
