"""Parameters of loading and of requests that make no sense are refused by name, before anything is done."""

from __future__ import annotations

from zellige.diagnostics import ZelligeError
from zellige.llm.sampling import SamplingParams

PRECISIONS = ("auto", "bf16", "fp16", "fp8")
LONG_NAMES = {"bfloat16": "bf16", "float16": "fp16"}


def check_params(params: object) -> None:
    """ZelligeError ZL0701 for what is neither `SamplingParams` nor None."""
    if params is not None and not isinstance(params, SamplingParams):
        raise ZelligeError(
            "ZL0701",
            f"params is {str(params)[:80]!r}; it must be a SamplingParams",
            facts={"parameter": "params"},
            help="write SamplingParams(max_tokens=64)",
        )


def precision(name: str, value: str) -> str:
    """The short name of a type of weights or of the KV cache. ZelligeError ZL0701, which says that ``name`` has none of that name."""
    short = LONG_NAMES.get(value, value) if isinstance(value, str) else None
    if short not in PRECISIONS:
        raise ZelligeError(
            "ZL0701",
            f"there is no {name} '{value}'",
            facts={"parameter": name},
            help=f"known: {', '.join(PRECISIONS)}",
        )
    return short


def check_sizes(*, max_model_len: int | None, kv_tokens: int | None, kv_share: float | None, max_batch: int) -> None:
    """ZelligeError ZL0701 for one that makes no sense."""
    for name, value, least in (
        ("max_model_len", max_model_len, 2),
        ("kv_tokens", kv_tokens, 2),
        ("max_batch", max_batch, 1),
    ):
        whole = isinstance(value, int) and not isinstance(value, bool)
        if value is not None and not (whole and value >= least):
            raise ZelligeError("ZL0701", f"{name} is {value!r}; it must be at least {least}", facts={"parameter": name})
    if kv_share is None:
        return
    if isinstance(kv_share, bool) or not isinstance(kv_share, int | float) or not 0 < kv_share <= 1:
        raise ZelligeError(
            "ZL0701", f"kv_share is {kv_share!r}; it must be above 0 and at most 1", facts={"parameter": "kv_share"}
        )
    if kv_tokens is not None:
        raise ZelligeError(
            "ZL0701", "kv_share and kv_tokens both say how much room keys and values get", facts={"parameter": "kv_share"},
            help="give one of them",
        )  # fmt: skip
