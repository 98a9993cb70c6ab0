"""``@zl.kernel``: a Python function as a verified kernel that can be called.

A call binds its arguments (``binding.py``), takes the instance for its static parameters and dtypes (lowered and verified
once, ``instances.py``), and hands both to the current executor, which runs it at once or records it (``execution.py``).
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import product
from typing import Any, overload

from zellige.diagnostics.errors import ZelligeError
from zellige.frontend.lower import lower
from zellige.frontend.signature import Signature, read_signature
from zellige.frontend.source import read_source
from zellige.ir.dtypes import DType
from zellige.ir.ops import Function
from zellige.runtime.binding import Binder, Binding
from zellige.runtime.execution import current_executor
from zellige.runtime.instances import Instance


class Kernel:
    """A kernel: call it with tensors or arrays. Outputs that are left out are allocated and returned."""

    def __init__(self, function: Callable[..., Any], *, index_bits: int, configs: Sequence[Mapping[str, Any]]) -> None:
        self.function = function
        self.name = function.__name__
        self.index_bits = index_bits
        self.configs = tuple(dict(config) for config in configs)
        self.__doc__ = function.__doc__
        self.__name__ = function.__name__
        self.__module__ = function.__module__
        self._signature: Signature | None = None
        self._binder: Binder | None = None
        self._instances: dict[tuple[Any, ...], Instance] = {}
        self._lock = threading.RLock()

    @property
    def signature(self) -> Signature:
        """The parameters. LanguageError (ZL0102, ZL0103) if they are not a kernel's."""
        if self._signature is None:
            with self._lock:
                self._signature = read_signature(self.function, read_source(self.function))
        return self._signature

    def lower(self, statics: Mapping[str, Any], bindings: Mapping[str, DType]) -> Function:
        """The IR for given static parameters and dtypes. LanguageError (ZL01xx) if the kernel is not in the language."""
        return lower(self.function, self.signature, statics, bindings, index_bits=self.index_bits)

    def instance(self, statics: Mapping[str, Any], bindings: Mapping[str, DType]) -> Instance:
        """The verified instance for static parameters and dtypes; made once. VerificationError if it is refused."""
        ordered = sorted(statics.items())
        key = (
            *ordered,
            # 1, 1.0 and True are equal, but not the same parameter; nor are 0.0 and -0.0
            *((type(value), repr(value)) for _, value in ordered),
            *sorted((name, t.name) for name, t in bindings.items()),
        )
        found = self._instances.get(key)
        if found is None:
            with self._lock:  # one thread lowers and verifies, the others get what it made
                found = self._instances.get(key)
                if found is None:
                    found = self._instances[key] = Instance.verified(self.lower(statics, bindings))
        return found

    def variants(self) -> Iterator[tuple[dict[str, Any], dict[str, DType]]]:
        """The static parameters and dtypes to verify it for: its configs (or its defaults), times all allowed dtypes.

        ZelligeError ZL0508 if a static parameter has neither a default nor a config."""
        signature = self.signature
        defaults = dict(signature.statics)
        variables = signature.dtype_vars
        for config in self.configs or ({},):
            if unknown := sorted(config.keys() - defaults.keys()):
                raise ZelligeError(
                    "ZL0508", f"kernel '{self.name}' has no static parameter '{unknown[0]}', which a config names",
                    help=f"it has {', '.join(defaults) or 'none'}",
                )  # fmt: skip
            statics = {**defaults, **config}
            for name, value in statics.items():
                if isinstance(value, type):
                    raise ZelligeError(
                        "ZL0508", f"kernel '{self.name}' cannot be checked: static parameter '{name}' has no value",
                        help=f"give it a default ({name}: zl.Static = 64) or configs (@zl.kernel(configs=[…]))",
                    )  # fmt: skip
            for choice in product(*(v.allowed for v in variables.values())):
                yield statics, dict(zip(variables, choice, strict=True))

    def __call__(self, *args: Any, **keywords: Any) -> Any:
        """Runs the kernel. Returns the outputs that the call left out (one, or a tuple)."""
        # The first call: the next ones find a ``__call__`` that is written out for this kernel's parameters.
        with self._lock:
            if self._binder is None:
                self._binder = Binder(self.name, self.signature, self.instance)
                call = self._binder.written_out(current_executor, _launch, Kernel._bind_and_launch)
                self.__class__ = type(type(self).__name__, (type(self),), {"__call__": call, "__doc__": self.__doc__})
        return self._bind_and_launch(args, keywords)

    def _bind_and_launch(self, args: Sequence[Any], keywords: Mapping[str, Any]) -> Any:
        assert self._binder is not None
        executor = current_executor()
        return _launch(executor, self._binder.bind(executor, args, keywords))

    def __repr__(self) -> str:
        return f"<zl.kernel {self.name}>"


def _launch(executor: Any, binding: Binding) -> Any:
    """Launches; returns the outputs that the call left out."""
    plan = binding.plan
    executor.launch(plan.instance, binding)
    if not plan.outputs:
        return None
    if len(plan.outputs) == 1:
        return binding.held[plan.outputs[0][0]]
    return tuple([binding.held[i] for i, _, _ in plan.outputs])


@overload
def kernel(function: Callable[..., Any], /) -> Kernel: ...
@overload
def kernel(
    *, index_bits: int = 64, configs: Sequence[Mapping[str, Any]] = ()
) -> Callable[[Callable[..., Any]], Kernel]: ...
def kernel(
    function: Callable[..., Any] | None = None, /, *, index_bits: int = 64, configs: Sequence[Mapping[str, Any]] = ()
) -> Any:
    """Makes a kernel of a function. ``configs``: values of static parameters that it is tuned and checked for;
    ``index_bits=32``: index arithmetic must be proved to fit 32 bits."""
    if index_bits not in (32, 64):
        raise ZelligeError("ZL0508", f"index_bits is 32 or 64, not {index_bits}", help="leave it out for 64")
    if isinstance(configs, Mapping) or not all(isinstance(config, Mapping) for config in configs):
        raise ZelligeError(
            "ZL0508", "configs is a list of dicts, each with a value for static parameters", help='configs=[{"BM": 64}]'
        )
    if function is None:
        return lambda f: Kernel(f, index_bits=index_bits, configs=configs)
    return Kernel(function, index_bits=index_bits, configs=configs)
