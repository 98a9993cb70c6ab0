"""A runner that computes nothing but notices everything: each slot remembers which token was written there.

The next token is a hash of the tokens that the sequence's own pages hold, read through its block table. So a page
that is shared wrongly, reused too early, not recomputed or written by another changes what comes out, and the caller,
who knows the prompt, can predict what must come out.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence

import numpy as np

from zellige.diagnostics import ZelligeError
from zellige.llm.protocol import UNKNOWN, StepBatch, StepResult, check_step_batch


def next_token(tokens: Sequence[int], vocab_size: int) -> int:
    digest = hashlib.blake2b(np.asarray(tokens, dtype=np.int64).tobytes(), digest_size=4).digest()
    return int.from_bytes(digest, "little") % vocab_size


def continuation(prompt: Sequence[int], count: int, vocab_size: int) -> list[int]:
    """What must come out for `prompt`, if nothing goes wrong."""
    tokens = list(prompt)
    for _ in range(count):
        tokens.append(next_token(tokens, vocab_size))
    return tokens[len(prompt) :]


class LedgerRunner:
    """Implements `zellige.llm.protocol.Runner`. `fail_next` makes the next step that is started raise, at the latest when its
    results are asked for. With `lookahead` a step is computed then, too."""

    lanes = 64

    def __init__(
        self,
        *,
        num_pages: int,
        page_size: int = 4,
        vocab_size: int = 50,
        max_context: int = 64,
        lookahead: bool = False,
        least_tail: int = 1,
    ) -> None:
        self.lookahead, self.least_tail = lookahead, least_tail
        self.last = np.zeros(self.lanes, np.int32)
        self.num_pages, self.page_size = num_pages, page_size
        self.vocab_size, self.max_context = vocab_size, max_context
        self.slots = np.full(num_pages * page_size, -1, dtype=np.int64)
        self.batches: list[StepBatch] = []
        self.fail_next = False
        self.error: type[BaseException] | None = None  # raised once, in place of the next step's result

    def start(self, batch: StepBatch) -> Callable[[], StepResult]:
        check_step_batch(batch, page_size=self.page_size, num_pages=self.num_pages, vocab_size=self.vocab_size)
        assert self.lookahead or np.all(batch.token_ids >= 0)
        self.batches.append(batch)
        fails, self.fail_next = self.fail_next, False
        if self.lookahead:
            return lambda: self.step(batch, fails)
        result = self.step(batch, fails)
        return lambda: result

    def step(self, batch: StepBatch, fails: bool) -> StepResult:
        unknown = np.flatnonzero(batch.token_ids == UNKNOWN)
        ids = batch.token_ids.copy()
        ids[unknown] = self.last[batch.lanes[np.searchsorted(batch.offsets, unknown, side="right") - 1]]
        for source, target in batch.copies:
            rows = self.slots.reshape(self.num_pages, self.page_size)
            rows[target] = rows[source]
        present = batch.slots >= 0
        self.slots[batch.slots[present]] = ids[present]
        error, self.error = self.error, None
        if error is not None:
            raise error
        if fails:
            raise ZelligeError("ZL0501", "the device failed")
        token_ids = np.full(batch.sequences, -1, np.int32)
        logprobs = np.full(batch.sequences, np.nan, np.float32)
        scored = np.full(batch.tokens, np.nan, np.float32)
        argmax = np.zeros(batch.tokens, np.int32)
        for b in range(batch.sequences):
            at = np.arange(batch.context_lengths[b])
            held = self.slots[batch.block_table[b, at // self.page_size] * self.page_size + at % self.page_size]
            assert not np.any(held < 0), "a slot is read that nobody wrote"
            if batch.sample[b] is not None:
                token_ids[b] = self.last[batch.lanes[b]] = next_token(held, self.vocab_size)
                logprobs[b] = -float(len(held))
            for row in range(batch.offsets[b], batch.offsets[b + 1]):
                argmax[row] = next_token(held[: batch.positions[row] + 1], self.vocab_size)
                if batch.targets is not None and batch.targets[row] >= 0:
                    scored[row] = -float(batch.targets[row])
        return StepResult(token_ids, logprobs, *((scored, argmax) if batch.targets is not None else ()))
