"""How a request wants its tokens drawn and where it ends."""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from numbers import Integral, Real
from typing import Any

from zellige.diagnostics import ZelligeError
from zellige.llm.protocol import GREEDY, SampleSpec

_NUMBERS = ("temperature", "top_p", "min_p", "repetition_penalty", "presence_penalty", "frequency_penalty")
_MOST = 1e30
"""Of a factor of logits: what kernels divide by is f32, and so is what comes of it."""


@dataclass(frozen=True, slots=True)
class SamplingParams:
    """Parameters of one request, checked when made (ZL0701).

    temperature: 0 is greedy. top_k: 0 is off. top_p, min_p: fractions; 1 and 0 are off. repetition_penalty: above 1
    discourages every id of the prompt and the answer so far; 1 is off. presence_penalty, frequency_penalty: taken off the logits
    of ids in the answer, once and for each occurrence; between -2 and 2, 0 is off. logit_bias: added to the logits of ids,
    between -100 (practically never) and 100. seed: None draws one, so that it can be shown.
    max_tokens: None is up to the end of the context. stop: strings that end the answer and are not part of it.
    stop_token_ids: ids that do, besides the model's own. ignore_eos: go on over the model's own end. logprobs: also
    give the natural-log probability of each token.
    """

    temperature: float = 0.0
    top_k: int = 0
    top_p: float = 1.0
    min_p: float = 0.0
    repetition_penalty: float = 1.0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    logit_bias: Mapping[int, float] = field(default_factory=dict)
    seed: int | None = None
    max_tokens: int | None = None
    stop: tuple[str, ...] = ()
    stop_token_ids: tuple[int, ...] = ()
    ignore_eos: bool = False
    logprobs: bool = False

    def __post_init__(self) -> None:
        if isinstance(self.stop, str):
            object.__setattr__(self, "stop", (self.stop,))
        for name in (*_NUMBERS, "top_k", "seed", "max_tokens"):
            object.__setattr__(self, name, _plain(getattr(self, name)))
        object.__setattr__(self, "stop", _strings(self.stop))
        object.__setattr__(self, "stop_token_ids", _ids("stop_token_ids", self.stop_token_ids))
        _number("temperature", self.temperature, lambda v: 0 <= v <= _MOST, f"between 0 and {_MOST:g}")
        _integer("top_k", self.top_k, 0, "a whole number, 0 (off) or more")
        _number("top_p", self.top_p, lambda v: 0 < v <= 1, "above 0 and at most 1")
        _number("min_p", self.min_p, lambda v: 0 <= v <= 1, "between 0 and 1")
        _number(
            "repetition_penalty",
            self.repetition_penalty,
            lambda v: 1 / _MOST <= v <= _MOST,
            f"between {1 / _MOST:g} and {_MOST:g}",
        )
        for name in ("presence_penalty", "frequency_penalty"):
            _number(name, getattr(self, name), lambda v: -2 <= v <= 2, "between -2 and 2")
        if not isinstance(self.logit_bias, Mapping):
            raise _invalid("logit_bias", self.logit_bias, "a mapping from token ids to numbers")
        biases = [_plain(value) for value in self.logit_bias.values()]  # a copy: what was checked does not change
        object.__setattr__(
            self, "logit_bias", dict(zip(_ids("logit_bias", tuple(self.logit_bias)), biases, strict=True))
        )
        for token, value in self.logit_bias.items():
            _number(f"logit_bias[{token}]", value, lambda v: -100 <= v <= 100, "between -100 and 100")
        if self.seed is not None:
            _integer("seed", self.seed, 0, "a whole number between 0 and 2**64 - 1")
            if self.seed >= 1 << 64:
                raise _invalid("seed", self.seed, "a whole number between 0 and 2**64 - 1")
        if self.max_tokens is not None:
            _integer("max_tokens", self.max_tokens, 1, "a whole number, at least 1")
        for name in ("ignore_eos", "logprobs"):
            if not isinstance(getattr(self, name), bool):
                raise _invalid(name, getattr(self, name), "True or False")

    @property
    def greedy(self) -> bool:
        return self.temperature == 0

    def spec(self) -> SampleSpec:
        """The part that a runner needs; a missing seed is 0."""
        made = SampleSpec(
            temperature=self.temperature,
            top_k=self.top_k,
            top_p=self.top_p,
            min_p=self.min_p,
            repetition_penalty=self.repetition_penalty,
            presence_penalty=self.presence_penalty,
            frequency_penalty=self.frequency_penalty,
            bias=tuple(sorted((token, float(value)) for token, value in self.logit_bias.items())),
            seed=self.seed or 0,
            want_logprob=self.logprobs,
        )
        return GREEDY if made.greedy else made

    def seeded(self) -> SamplingParams:
        """The same parameters with a definite seed."""
        return self if self.seed is not None else replace(self, seed=secrets.randbits(63))


def _strings(value: Any) -> tuple[str, ...]:
    if not isinstance(value, Sequence) or not all(isinstance(item, str) and item for item in value):
        raise _invalid("stop", value, "a list of non-empty strings")
    return tuple(value)


def _ids(name: str, value: Any) -> tuple[int, ...]:
    given = value.tolist() if hasattr(value, "tolist") else value  # an array
    ids = tuple(map(_plain, given)) if isinstance(given, Sequence) else (None,)
    if not all(isinstance(i, int) and not isinstance(i, bool) and i >= 0 for i in ids):
        raise _invalid(name, value, "token ids, 0 or more")
    return ids


def _plain(value: Any) -> Any:
    """Python's own number in the place of another kind, such as NumPy's."""
    if isinstance(value, int | float) or not isinstance(value, Real):
        return value
    return int(value) if isinstance(value, Integral) else float(value)


def _number(name: str, value: Any, accept: Any, expected: str) -> None:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not accept(value):
        raise _invalid(name, value, expected)


def _integer(name: str, value: Any, least: int, expected: str) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise _invalid(name, value, expected)


def _invalid(name: str, value: Any, expected: str) -> ZelligeError:
    return ZelligeError("ZL0701", f"{name} is {value!r}; it must be {expected}", facts={"parameter": name})
