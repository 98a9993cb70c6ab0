"""A call's arguments against a kernel's signature. Layouts are matched once (``plan.py``); each call checks the rest."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from zellige.diagnostics.errors import ZelligeError
from zellige.frontend.signature import Signature
from zellige.ir.dtypes import DType
from zellige.ir.types import Role
from zellige.runtime.instances import Instance
from zellige.runtime.memory import AliasError
from zellige.runtime.plan import Plan, check_scalar, fact_of, make_plan
from zellige.runtime.tensor import Tensor, borrow, tensor

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


class Form:
    """How a call is written: which arguments it gives, by place and by name.

    ``read(executor, args, keywords)`` takes such a call's arguments apart: what its plan depends on, the arrays (None: left
    out), and the values of scalars. It is written out for the form, since a launch waits for it: loops over parameters take
    three times as long. AttributeError if an array is no tensor; a tensor whose layout was never asked for has None in its place."""

    __slots__ = ("given", "plans", "read")

    def __init__(self, count: int, given: tuple[str, ...], arrays: Sequence[str], scalars: Sequence[str]) -> None:
        """``count`` of the arguments are given by place; arrays, scalars: those of the kernel, in its order."""
        self.given = given
        self.plans: dict[Any, Plan] = {}
        value = {name: f"v{i}" for i, name in enumerate(given)}
        key = ["executor.plan_key", "executor.place"]
        for name, held in value.items():
            if name in arrays:
                key.append(f"{held}._layout")
            elif name not in scalars:
                key += [held, f"{held}.__class__"]  # 1, 1.0 and True are equal, but not the same parameter
        lines = ["def read(executor, args, keywords):"]
        if count:
            lines.append(f"    {', '.join(f'v{i}' for i in range(count))}, = args")
        lines += [f"    v{i} = keywords[{name!r}]" for i, name in enumerate(given) if i >= count]
        held = ", ".join(value.get(name, "None") for name in arrays)
        lines.append(f"    return ({', '.join(key)}), [{held}], ({''.join(f'{value[name]}, ' for name in scalars)})")
        made: dict[str, Any] = {}
        exec("\n".join(lines), made)
        self.read: Callable[[Any, Sequence[Any], Mapping[str, Any]], tuple[Any, list[Any], tuple[Any, ...]]] = made[
            "read"
        ]


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
        self._forms: dict[tuple[Any, ...], Form] = {}
        self._lock = threading.Lock()

    def bind(self, executor: Any, args: Sequence[Any], keywords: Mapping[str, Any]) -> Binding:
        """Matches a call. ZelligeError ZL0502 (shapes), ZL0501 (dtypes), ZL0505 (scalars), AliasError ZL0503.

        What depends on contents (contracts, initialisation) is checked when the launch borrows its arguments."""
        form = self._forms.get((len(args), *keywords)) or self._form(args, keywords)
        try:
            key, held, values = form.read(executor, args, keywords)
            plan = form.plans.get(key)
        except (AttributeError, TypeError):  # an array that is no tensor; a static parameter that is no key
            plan = None
        if plan is None:
            plan, held, values = self._bind_anew(executor, form, args, keywords)
        scalars = {}
        if values:
            for scalar, value in zip(self._scalars, values, strict=True):
                scalars[scalar.name] = check_scalar(self.name, scalar, value, plan.dims)
        if plan.pairs:
            plan.check_overlap(held)
        for i, shape, dtype in plan.outputs:
            held[i] = executor.empty(shape, dtype)
        return Binding(plan, held, scalars)

    def _bind_anew(
        self, executor: Any, form: Form, args: Sequence[Any], keywords: Mapping[str, Any]
    ) -> tuple[Plan, list[Any], tuple[Any, ...]]:
        """Plan, arrays and scalars of a call whose arrays may be no tensors, or lie as none before."""
        given = dict(zip(form.given, (*args, *keywords.values()), strict=True))
        left_out = [name for name, _ in self._arrays if name in given and given[name] is None]
        for name, shared in self._arrays:
            value = given.get(name)
            if value is not None:
                if type(value) is not Tensor:
                    value = given[name] = self._tensor(executor, name, value, shared=shared)
                value.layout  # noqa: B018  (worked out here, or refused)
        if left_out:  # None is as good as nothing
            args, keywords = (), {name: value for name, value in given.items() if name not in left_out}
            form = self._forms.get((0, *keywords)) or self._form(args, keywords)
        else:
            args = tuple(given[name] for name in form.given[: len(args)])
            keywords = {name: given[name] for name in keywords}
        key, held, values = form.read(executor, args, keywords)
        try:
            plan = form.plans.get(key)
        except TypeError:
            raise ZelligeError(
                "ZL0502",
                f"{self.name}: static parameters are numbers, strings and dtypes",
                help="pass a tuple for a list",
            ) from None
        if plan is None:
            plan = self._plan(executor, held, keywords)
            with self._lock:
                if len(form.plans) >= _MOST_PLANS:
                    form.plans.clear()
                plan = form.plans.setdefault(key, plan)
        return plan, held, values

    def _call(self) -> str:
        """How it is called."""
        return f"{self.name}({', '.join(self.signature.positional)})"

    def _form(self, args: Sequence[Any], keywords: Mapping[str, Any]) -> Form:
        """How a call is written, for the first one that is written so. ZelligeError ZL0502 if the kernel takes no such call."""
        positional = self.signature.positional
        if len(args) > len(positional):
            raise ZelligeError(
                "ZL0502",
                f"{self.name} takes {len(positional)} positional arguments ({', '.join(positional)}), not {len(args)}",
                help="outputs and static parameters are given by name",
            )
        given = (*positional[: len(args)], *keywords)
        for parameter in keywords:
            if parameter in positional[: len(args)]:
                raise ZelligeError("ZL0502", f"{self.name} got '{parameter}' twice")
            if parameter not in self._known:
                raise ZelligeError(
                    "ZL0502", f"{self.name} has no parameter '{parameter}'",
                    help=f"it has {', '.join(sorted(self._known - set(self._dims)))}",
                )  # fmt: skip
        for scalar in self._scalars:
            if scalar.name not in given:
                raise ZelligeError("ZL0502", f"{self.name} needs the argument '{scalar.name}'", help=self._call())
        made = Form(len(args), given, [name for name, _ in self._arrays], [scalar.name for scalar in self._scalars])
        return self._forms.setdefault((len(args), *keywords), made)

    def _tensor(self, executor: Any, name: str, value: Any, *, shared: bool) -> Tensor:
        """A tensor for an argument that is none: over the same memory, or of a copy when the work ends later or is done elsewhere."""
        if executor.asynchronous or not executor.borrows:
            if not shared:
                writer = "a stream" if executor.asynchronous else "a GPU"
                raise AliasError(
                    "ZL0503", f"{self.name}: '{name}' is a plain array, which cannot be waited for when {writer} writes it",
                    help="pass a zl.Tensor (zl.tensor copies, zl.borrow promises that nobody else touches the array)",
                )  # fmt: skip
            copy = tensor(value)
            return copy if executor.borrows else executor.tensor(copy.numpy(), copy.dtype)
        if not isinstance(value, np.ndarray) and not hasattr(value, "__dlpack__"):
            value = np.asarray(value)
        return borrow(value)

    def _plan(self, executor: Any, held: Sequence[Tensor | None], keywords: Mapping[str, Any]) -> Plan:
        """A new plan. Only those static parameters that the call leaves out may be chosen by the executor."""
        for (name, _), argument in zip(self._arrays, held, strict=True):
            if argument is not None and argument.place != executor.place:
                raise ZelligeError(
                    "ZL0527", f"{self.name}: '{name}' is in {argument.place}, and the launch is on {executor.place}",
                    help="launch inside 'with zl.using(…)' of the executor that made the tensor, or copy it: zl.tensor(x.numpy())",
                )  # fmt: skip
        statics = {name: keywords.get(name, default) for name, default in self._statics}
        for parameter, value in statics.items():
            if parameter not in keywords and not isinstance(value, int | float | str | bool | DType):
                raise ZelligeError("ZL0502", f"{self.name} needs the static parameter '{parameter}'")
        told = {name: int(keywords[name]) for name in self._dims if name in keywords}

        def prefer(dims: dict[str, int]) -> dict[str, Any]:
            preferred = executor.statics(self.name, dims)
            return {k: v for k, v in preferred.items() if k in statics and k not in keywords}

        return make_plan(self.name, self.signature, held, statics, told, prefer, self._instance)
