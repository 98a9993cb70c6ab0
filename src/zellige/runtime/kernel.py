"""``@zl.kernel``: a Python function as a verified kernel that can be called.

A call binds its arguments (``binding.py``), takes the instance for its static parameters and dtypes (lowered and verified
once, ``instances.py``), and hands both to the current executor, which runs it at once or records it (``execution.py``).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import product
from typing import Any, overload

from zellige.diagnostics.errors import ZelligeError
from zellige.frontend.lower import lower, read_source
from zellige.frontend.signature import Signature, read_signature
from zellige.ir.dtypes import DType
from zellige.ir.ops import Function
from zellige.runtime.binding import bind
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
        self._instances: dict[tuple[Any, ...], Instance] = {}

    @property
    def signature(self) -> Signature:
        """The parameters. LanguageError (ZL0102, ZL0103) if they are not a kernel's."""
        if self._signature is None:
            source = read_source(self.function)
            self._signature = read_signature(self.function, source.span(source.tree))
        return self._signature

    def lower(self, statics: Mapping[str, Any], bindings: Mapping[str, DType]) -> Function:
        """The IR for given static parameters and dtypes. LanguageError (ZL01xx) if the kernel is not in the language."""
        return lower(self.function, self.signature, statics, bindings, index_bits=self.index_bits)

    def instance(self, statics: Mapping[str, Any], bindings: Mapping[str, DType]) -> Instance:
        """The verified instance for static parameters and dtypes; made once. VerificationError if it is refused."""
        key = (*sorted(statics.items()), *sorted((name, t.name) for name, t in bindings.items()))
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
        executor = current_executor()
        binding = bind(self.name, self.signature, args, keywords, executor.empty)
        for name, value in executor.statics(self.name, binding.dims).items():
            if name not in keywords:
                binding.statics[name] = value
        executor.launch(self.instance(binding.statics, binding.bindings), binding)
        made = tuple(binding.tensors[name] for name in binding.outputs)
        return made[0] if len(made) == 1 else made or None

    def __repr__(self) -> str:
        return f"<zl.kernel {self.name}>"


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
        raise ZelligeError("ZL0508", f"index_bits is 32 or 64, not {index_bits}")
    if function is None:
        return lambda f: Kernel(f, index_bits=index_bits, configs=configs)
    return Kernel(function, index_bits=index_bits, configs=configs)
