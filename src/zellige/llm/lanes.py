"""Where the tokens that running sequences drew last stay on the device, so that the next step need not wait for the host."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from zellige.ir.dtypes import f32
from zellige.ir.types import ContractKind
from zellige.kernels.sampling import keep_tokens, keep_values, pick_tokens
from zellige.llm.draw import contracted
from zellige.llm.protocol import UNKNOWN, Int32Array
from zellige.runtime.execution import Executor, using
from zellige.runtime.tensor import Tensor


@dataclass(slots=True)
class Drawn:
    """Tokens that a pass leaves in a vector of its own, row by row; `lane` says whose they are (−1: nobody's)."""

    tokens: Tensor  # Index[V] [R]
    lane: Tensor  # Index[LANES, distinct, optional] [R]
    given: Tensor  # Index[V, optional] [R]
    lanes: Int32Array  # what `lane` holds
    logprobs: Tensor | None = None  # f32 [R], of the last draw, where somebody wants them

    def set_lanes(self, lanes: Int32Array) -> None:
        """Says whose the rows are, the first ones; the others are nobody's."""
        padded = np.full(len(self.lanes), -1, np.int32)
        padded[: len(lanes)] = lanes
        if not np.array_equal(padded, self.lanes):
            self.lane.write(padded)
            self.lanes = padded


class Lanes:
    """The last token of each of `count` lanes, and its log-probability. Everything happens in the order of the device."""

    def __init__(self, executor: Executor, count: int, vocab_size: int) -> None:
        self.executor = executor
        self.count, self.vocab_size = count, vocab_size
        self._tokens = contracted(executor, np.zeros(count, np.int32), ContractKind.INDEX, vocab_size)
        self._logprobs = executor.zeros((count,), f32)

    def drawn(self, tokens: Tensor) -> Drawn:
        """For a pass that leaves tokens in `tokens`, Index[V] [R]."""
        absent = np.full(tokens.shape, -1, np.int32)
        return Drawn(
            tokens,
            contracted(self.executor, absent, ContractKind.INDEX, self.count, distinct=True, optional=True),
            contracted(self.executor, absent, ContractKind.INDEX, self.vocab_size, optional=True),
            absent,
        )

    def keep(self, drawn: Drawn) -> None:
        """Puts what a pass has drawn into the lanes."""
        with using(self.executor):
            keep_tokens(drawn.tokens, drawn.lane, last=self._tokens, V=self.vocab_size)
            if drawn.logprobs is not None:
                keep_values(drawn.logprobs, drawn.lane, last=self._logprobs)

    def pick(self, drawn: Drawn, given: Int32Array) -> None:
        """Puts tokens where a pass reads them: the given ones, and where they are UNKNOWN those of the lanes."""
        padded = np.zeros(len(drawn.lanes), np.int32)
        padded[: len(given)] = given
        if not np.any(given == UNKNOWN):
            drawn.tokens.write(padded)
            return
        drawn.given.write(padded)
        with using(self.executor):
            pick_tokens(drawn.given, drawn.lane, self._tokens, token=drawn.tokens, V=self.vocab_size)

    def fetch(self, *, logprobs: bool) -> tuple[Callable[[], Any], Callable[[], Any] | None]:
        """Starts to copy the tokens of all lanes to the host, and their log-probabilities if asked for."""
        return self.executor.fetch(self._tokens), self.executor.fetch(self._logprobs) if logprobs else None
