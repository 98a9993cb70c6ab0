"""What goes into the engine and what comes out: requests and events, plain data."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, NamedTuple

from zellige.diagnostics import ZelligeError
from zellige.llm.sampling import SamplingParams

FinishReason = Literal["stop", "length", "cancelled", "error"]


@dataclass(frozen=True, slots=True)
class GenerateRequest:
    """Continue `prompt_ids` as `params` say. Of waiting requests, those of higher `priority` run first."""

    prompt_ids: tuple[int, ...]
    params: SamplingParams = field(default_factory=SamplingParams)
    priority: int = 0


@dataclass(frozen=True, slots=True)
class ScoreRequest:
    """The log-probability of each of `ids` given those before it; nothing is generated."""

    ids: tuple[int, ...]
    priority: int = 0


class TokenEvent(NamedTuple):
    """One more token of request `request`. `text` is what it completes: possibly none (half a character, a stop string
    that may be beginning, a control token)."""

    request: int
    token_id: int
    text: str
    logprob: float | None = None


@dataclass(frozen=True, slots=True)
class FinishEvent:
    """Request `request` is over. `text` is what was held back; `error` says why where `reason` is "error"."""

    request: int
    reason: FinishReason
    text: str = ""
    prompt_tokens: int = 0
    cached_tokens: int = 0  # of the prompt, found in the prefix cache
    generated_tokens: int = 0
    error: ZelligeError | None = None


@dataclass(frozen=True, slots=True)
class ScoreEvent:
    """A score request is over. For n ids, n - 1 entries each: entry i is the natural-log probability of id i + 1 given
    the ids up to i, and the most probable id there."""

    request: int
    logprobs: tuple[float, ...]
    argmax: tuple[int, ...]


Event = TokenEvent | FinishEvent | ScoreEvent
