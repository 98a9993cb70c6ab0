"""A kernel with its static parameters and dtypes fixed: lowered and verified once, compiled for sizes on demand."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from threading import RLock
from typing import Any

from zellige.ir.ops import Function
from zellige.ir.walk import results, walk
from zellige.runtime.paths import cache_dir


@dataclass(eq=False)
class Instance:
    """Verified IR. Backends keep what they compiled for it in ``compiled``, by sizes and target."""

    function: Function
    compiled: dict[Any, Any] = field(default_factory=dict)
    lock: RLock = field(default_factory=RLock, repr=False)
    """Held while something is compiled."""

    @classmethod
    def verified(cls, function: Function) -> Instance:
        """The instance of a function once it is proved. VerificationError (with every finding) if it is refused."""
        from zellige.verify import require_proved

        require_proved(function, cache_dir("verdicts"))
        return cls(function)

    @cached_property
    def tile_dims(self) -> tuple[str, ...]:
        """Dims that tile shapes depend on: a backend needs their values to compile."""
        found: set[str] = set()
        for op in walk(self.function.body):
            for value in results(op):
                for extent in value.type.shape:
                    found |= extent.dims()
        return tuple(sorted(found))
