"""A call's arguments against a kernel's signature. Layouts are matched once (``plan.py``); each call checks the rest."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from operator import index
from typing import Any

import numpy as np

from zellige.diagnostics.errors import ZelligeError
from zellige.frontend.signature import Signature
from zellige.ir.dtypes import DType
from zellige.ir.types import Role
from zellige.runtime.dlpack import is_on_gpu
from zellige.runtime.instances import Instance
from zellige.runtime.memory import AliasError
from zellige.runtime.plan import Plan, check_scalar, fact_of, make_plan
from zellige.runtime.tensor import Tensor, borrow, tensor
from zellige.runtime.tensor_type import HOST

__all__ = ["AliasError", "Binder", "Binding", "check_scalar", "fact_of"]

_MOST_PLANS = 4096  # of one kernel and form of call; beyond it they are made anew


class Binding:
    """The arguments of one launch."""

    __slots__ = ("_tensors", "held", "plan", "scalars")

    def __init__(self, plan: Plan, held: list[Tensor], scalars: dict[str, int | float | bool]) -> None:
        self.plan = plan
        self.held = held
        """The arrays, in the order of the signature."""
        self.scalars = scalars
        self._tensors: dict[str, Tensor] | None = None

    def replace(self, i: int, other: Tensor) -> None:
        """Takes another array that lies as the one in that place does."""
        self.held[i] = other
        self._tensors = None

    @property
    def tensors(self) -> dict[str, Tensor]:
        """The arrays by name."""
        if self._tensors is None:
            self._tensors = dict(zip(self.plan.names, self.held, strict=True))
        return self._tensors

    @property
    def dims(self) -> dict[str, int]:
        """The dims by name. All launches of one layout share it: not to be changed."""
        return self.plan.dims

    @property
    def statics(self) -> dict[str, Any]:
        return self.plan.statics

    @property
    def bindings(self) -> dict[str, DType]:
        """The dtypes that dtype variables stand for."""
        return self.plan.bindings

    @property
    def outputs(self) -> tuple[str, ...]:
        """Names of the outputs that the call left out: allocated, and returned."""
        return tuple(self.plan.names[i] for i, _, _ in self.plan.outputs)

    def borrowed_arguments(self) -> list[tuple[Tensor, bool]]:
        """The arrays, each with whether it is used exclusively."""
        return list(zip(self.held, self.plan.exclusive, strict=True))


class _LeftOut:
    """Stands for an argument that a call does not give, and for its layout."""

    __slots__ = ("_layout",)


LEFT_OUT: Any = _LeftOut()
LEFT_OUT._layout = LEFT_OUT


def _is_key(static: Any) -> bool:
    """Whether values of one class that equal a static parameter are the same: not so of 0.0 and -0.0, or of (1,) and (True,)."""
    if isinstance(static, tuple):
        return all(isinstance(part, str | DType) or (isinstance(part, tuple) and _is_key(part)) for part in static)
    return not isinstance(static, float) or static != 0.0


class Binder:
    """Binds calls of one kernel; remembers a plan for each combination of layouts and static parameters."""

    def __init__(
        self,
        name: str,
        signature: Signature,
        instance: Callable[[Mapping[str, Any], Mapping[str, DType]], Instance],
    ) -> None:
        self.name = name
        self.signature = signature
        self._instance = instance
        self._arrays = tuple((n, array.role is Role.IN) for n, array in signature.arrays.items())
        self._statics = tuple(signature.statics.items())
        self._scalars = tuple(signature.scalars.values())
        known = {*signature.arrays, *signature.scalars, *signature.statics}
        self._dims = tuple(sorted(signature.dims - known))
        self._known = known | set(self._dims)
        self._plans: dict[Any, Plan] = {}
        self._lock = threading.Lock()

    def written_out(self, executor: Callable[[], Any], launch: Callable[..., Any], other: Callable[..., Any]) -> Any:
        """``__call__`` of this kernel, for a class of its own: a function with the kernel's parameters.

        It is straight-line code, since launches wait for it: loops over parameters take three times as long. It takes a call
        whose arrays are tensors that lie as in an earlier call to ``launch(executor, binding)``. Any other goes to
        ``other(kernel, arguments given by place, all that may be given by name)``, which has ``bind`` look at it.
        """
        signature = self.signature
        mark = "_"
        while any(name.startswith(mark) for name in self._known):
            mark += "_"
        named = [
            name for name in (*signature.arrays, *signature.statics, *self._dims) if name not in signature.positional
        ]
        key = [f"{mark}executor.plan_key", f"{mark}executor.place", *(f"{name}._layout" for name in signature.arrays)]
        for name in signature.statics:
            key += [name, f"{name}.__class__"]  # 1, 1.0 and True are equal, but not the same parameter
        key += self._dims
        scalars = "".join(f"{name}, " for name in signature.scalars)
        missing = "".join(f" or {name} is {mark}LEFT_OUT" for name in signature.scalars)
        by_place = "".join(f"{name}, " for name in signature.positional)
        by_name = "".join(f"{name!r}: {name}, " for name in named)
        parameters = [f"{name}={mark}LEFT_OUT" for name in signature.positional]
        parameters += ["/"] if parameters else []
        parameters += [f"*{mark}more", *(f"{name}={mark}LEFT_OUT" for name in named), f"**{mark}others"]
        text = f"""
def __call__({mark}kernel, {", ".join(parameters)}):
    {mark}executor = {mark}current()
    try:
        {mark}plan = {mark}plans.get(({", ".join(key)},))
    except (AttributeError, TypeError):  # an array that is no tensor; a static parameter that is no key
        {mark}plan = None
    if {mark}plan is None or {mark}more or {mark}others{missing}:
        return {mark}other({mark}kernel, ({by_place}*{mark}more,), {{{by_name}**{mark}others}})
    {mark}direct = {mark}plan.direct.get({mark}executor)
    if {mark}direct is not None:
        return {mark}direct({", ".join((*signature.arrays, *signature.scalars))})
    {mark}binding = {mark}bound({mark}executor, {mark}plan, [{", ".join(signature.arrays)}], ({scalars}))
    return {mark}launch({mark}executor, {mark}binding)
"""
        names = {
            "current": executor, "launch": launch, "bound": self.bound, "other": other, "plans": self._plans, "LEFT_OUT": LEFT_OUT,
        }  # fmt: skip
        made: dict[str, Any] = {mark + name: value for name, value in names.items()}
        exec(text, made)
        return made["__call__"]

    def bind(self, executor: Any, args: Sequence[Any], keywords: Mapping[str, Any]) -> Binding:
        """Matches a call. ZelligeError ZL0502 (shapes), ZL0501 (dtypes), ZL0505 (scalars), AliasError ZL0503.

        What depends on contents (contracts, initialisation) is checked when the launch borrows its arguments."""
        args = [value for value in args if value is not LEFT_OUT]
        keywords = {name: value for name, value in keywords.items() if value is not LEFT_OUT}
        given = self._given(args, keywords)
        held: list[Any] = []
        layouts: list[Any] = []
        for name, shared in self._arrays:
            value = given.get(name)
            if value is not None and type(value) is not Tensor:
                value = self._tensor(executor, name, value, shared=shared)
            held.append(value)
            layouts.append(LEFT_OUT if value is None else value.layout)
        statics = [given.get(name, LEFT_OUT) for name, _ in self._statics]
        kinds = [part for value in statics for part in (value, value.__class__)]
        told = [given.get(name, LEFT_OUT) for name in self._dims]
        key = (executor.plan_key, executor.place, *layouts, *kinds, *told)
        try:
            plan = self._plans.get(key)
        except TypeError:
            raise ZelligeError(
                "ZL0502",
                f"{self.name}: static parameters are numbers, strings and dtypes",
                help="pass a tuple for a list",
            ) from None
        if plan is None:
            plan = self._plan(executor, held, given)
            if all(map(_is_key, statics)):
                with self._lock:
                    if len(self._plans) >= _MOST_PLANS:
                        self._plans.clear()
                    plan = self._plans.setdefault(key, plan)
        for scalar in self._scalars:
            if scalar.name not in given:
                raise ZelligeError("ZL0502", f"{self.name} needs the argument '{scalar.name}'", help=self._call())
        return self.bound(executor, plan, held, tuple(given[scalar.name] for scalar in self._scalars))

    def bound(self, executor: Any, plan: Plan, held: list[Any], values: tuple[Any, ...]) -> Binding:
        """The arguments of a call whose plan is known: arrays (anything for those left out) and values of scalars."""
        scalars = {}
        if values:
            for scalar, value in zip(self._scalars, values, strict=True):
                scalars[scalar.name] = check_scalar(self.name, scalar, value, plan.dims)
        if plan.pairs:
            plan.check_overlap(held)
        for i, shape, dtype in plan.outputs:
            held[i] = executor.empty(shape, dtype)
        return Binding(plan, held, scalars)

    def _dim(self, name: str, value: Any) -> int:
        try:
            return index(value)
        except TypeError:
            raise ZelligeError("ZL0502", f"{self.name}: the dim {name} is an integer, not {value!r}") from None

    def _call(self) -> str:
        """How it is called."""
        return f"{self.name}({', '.join(self.signature.positional)})"

    def _given(self, args: Sequence[Any], keywords: Mapping[str, Any]) -> dict[str, Any]:
        """The arguments by name. ZelligeError ZL0502 if the kernel takes no such call."""
        positional = self.signature.positional
        if len(args) > len(positional):
            raise ZelligeError(
                "ZL0502",
                f"{self.name} takes {len(positional)} positional arguments ({', '.join(positional)}), not {len(args)}",
                help="outputs and static parameters are given by name",
            )
        given = dict(zip(positional, args, strict=False))
        for parameter in keywords:
            if parameter in given:
                raise ZelligeError("ZL0502", f"{self.name} got '{parameter}' twice")
            if parameter not in self._known:
                raise ZelligeError(
                    "ZL0502", f"{self.name} has no parameter '{parameter}'",
                    help=f"it has {', '.join(sorted(self._known - set(self._dims)))}",
                )  # fmt: skip
        return given | dict(keywords)

    def _tensor(self, executor: Any, name: str, value: Any, *, shared: bool) -> Tensor:
        """A tensor for an argument that is none: over the same memory, or of a copy when the work ends later or is done elsewhere."""
        if executor.copies and not (executor.place != HOST and is_on_gpu(value)):
            if not shared:
                writer = "a stream" if executor.asynchronous else "a GPU"
                raise AliasError(
                    "ZL0503", f"{self.name}: '{name}' is a plain array, which cannot be waited for when {writer} writes it",
                    help="pass a zl.Tensor (zl.tensor copies, zl.borrow promises that nobody else touches the array)",
                )  # fmt: skip
            copy = tensor(value)
            return copy if executor.place == HOST else executor.tensor(copy.numpy(), copy.dtype)
        if not isinstance(value, np.ndarray) and not hasattr(value, "__dlpack__"):
            if not shared:
                raise ZelligeError(
                    "ZL0501", f"{self.name}: '{name}' is written, and {type(value).__name__} has no memory that a kernel could write",
                    help="pass a zl.Tensor or a NumPy array",
                )  # fmt: skip
            value = np.asarray(value)
        return borrow(value)

    def _plan(self, executor: Any, held: Sequence[Tensor | None], given: Mapping[str, Any]) -> Plan:
        """A new plan. Only those static parameters that the call leaves out may be chosen by the executor."""
        for (name, _), argument in zip(self._arrays, held, strict=True):
            if argument is not None and argument.place != executor.place:
                raise ZelligeError(
                    "ZL0527", f"{self.name}: '{name}' is in {argument.place}, and the launch is on {executor.place}",
                    help="launch inside the 'with zl.using(…)' in which the tensor was made, or copy it: zl.tensor(x) inside this one",
                )  # fmt: skip
        statics = {name: given.get(name, default) for name, default in self._statics}
        for parameter, value in statics.items():
            if parameter not in given and not isinstance(value, int | float | str | bool | DType):
                raise ZelligeError("ZL0502", f"{self.name} needs the static parameter '{parameter}'")
        told = {name: self._dim(name, given[name]) for name in self._dims if name in given}

        def prefer(dims: dict[str, int]) -> dict[str, Any]:
            preferred = executor.statics(self.name, dims)
            return {k: v for k, v in preferred.items() if k in statics and k not in given}

        return make_plan(self.name, self.signature, held, statics, told, prefer, self._instance)
