"""A language-model inference engine whose every kernel is a verified Zellige kernel.

Start reading in `protocol.py` (the seam between engine and kernels), then `engine.py` (the loop), `scheduler.py`,
`kv_cache.py`, `prefix_cache.py`. `api.py` is what users call. May import `kernels`, `runtime` and `diagnostics`; knows
nothing of HTTP or of the command line. Names load on first use: importing this package costs nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from zellige.llm.api import LLM
    from zellige.llm.sampling import SamplingParams

__all__ = ["LLM", "SamplingParams"]


def __getattr__(name: str) -> Any:
    if name == "LLM":
        from zellige.llm.api import LLM

        return LLM
    if name == "SamplingParams":
        from zellige.llm.sampling import SamplingParams

        return SamplingParams
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
