"""The seam between the engine (which requests, which pages, which tokens next) and a runner (one forward pass).

The engine knows nothing of kernels or devices, a runner knows nothing of requests. One `StepBatch` is one forward pass
over T tokens of B sequences, prefill chunks and decode steps mixed; the arrays are what the kernels take, under the
contracts stated here, which the engine's builder establishes and `check_step_batch` verifies in tests.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from zellige.diagnostics import InternalError

Int32Array = NDArray[np.int32]
Float32Array = NDArray[np.float32]

UNKNOWN = -1
"""In `StepBatch.token_ids`: the token that the sequence drew last, which only the runner knows yet."""


@dataclass(frozen=True, slots=True, eq=False)
class SampleSpec:
    """How the sequences of one request draw tokens from the logits (float32 [V]) of a row; the same in every step.

    Order of operations: of ids in prompt or answer, positive logits are divided by `repetition_penalty` and negative ones
    multiplied; of ids in the answer, `presence_penalty` + `frequency_penalty` · occurrences is taken off; `bias` is added; then
    temperature; then top-k, top-p and min-p filters, each on the renormalised rest; then one draw. `temperature == 0` is argmax
    after penalties and bias, ties to the smallest id. The draw is a function of (`seed`, position of the token in its sequence) alone: a
    counter-based generator, never a running state, so that a request is reproducible whatever its neighbours are and
    survives preemption.
    """

    temperature: float = 0.0
    top_k: int = 0  # 0: off
    top_p: float = 1.0  # 1: off
    min_p: float = 0.0  # 0: off
    repetition_penalty: float = 1.0  # 1: off
    presence_penalty: float = 0.0  # 0: off
    frequency_penalty: float = 0.0  # 0: off
    bias: tuple[tuple[int, float], ...] = ()  # (id in [0, V), what is added to its logit)
    seed: int = 0  # in [0, 2**64)
    want_logprob: bool = False

    @property
    def alters(self) -> bool:
        """Whether logits change before the draw, so that the runner has to keep counts of tokens."""
        return (
            self.repetition_penalty != 1 or self.presence_penalty != 0 or self.frequency_penalty != 0 or bool(self.bias)
        )

    @property
    def greedy(self) -> bool:
        """Whether the token is the argmax of the plain logits, and nothing else is wanted."""
        return self.temperature == 0 and not self.alters and not self.want_logprob


GREEDY = SampleSpec()
"""The one spec of all requests that are `greedy`."""


@dataclass(frozen=True, slots=True)
class History:
    """What a sequence consists of when it draws its first token in a lane: the ids of its prompt, and of its answer so far."""

    prompt: tuple[int, ...]
    answer: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class StepBatch:
    """One forward pass over T tokens of B sequences.

    Contracts: `offsets` rises strictly from 0 to T (each sequence has a token); sequence b owns the tokens
    `offsets[b]:offsets[b+1]`, at consecutive positions that end at `context_lengths[b] - 1`; `slots` are distinct where
    present (`slot = page * page_size + row`, -1: write nothing); `block_table` entries are below `num_pages`, those
    past a sequence's last page are 0 and never read; `context_lengths` count this step's tokens and are at most
    PAGES * page_size. Keys and values of this step's tokens are appended before attention reads them.

    `lanes` are distinct; a lane is a place where the runner keeps what belongs to a sequence while it runs: the token drawn
    last, which a later step may ask for by the id UNKNOWN (its sequence's only token in that step), and counts of tokens.
    `copies` are made in their order, after all earlier passes and before anything of this one is written.
    `histories` has an entry for each row whose sequence draws for the first time in its lane with a spec that `alters`.
    """

    token_ids: Int32Array  # [T], in [0, V), or UNKNOWN
    positions: Int32Array  # [T]
    slots: Int32Array  # [T]
    offsets: Int32Array  # [B + 1]
    block_table: Int32Array  # [B, PAGES]
    context_lengths: Int32Array  # [B]
    lanes: Int32Array  # [B], in [0, LANES)
    sample: tuple[SampleSpec | None, ...]  # [B]; None while a prompt is unfinished, and in score mode
    histories: Mapping[int, History] = field(default_factory=dict)
    copies: tuple[tuple[int, int], ...] = ()  # pairs of pages: the first is copied to the second
    targets: Int32Array | None = None  # [T], score mode: the id that follows each row, -1 where nobody asks

    @property
    def tokens(self) -> int:
        """T."""
        return len(self.token_ids)

    @property
    def sequences(self) -> int:
        """B."""
        return len(self.sample)


@dataclass(frozen=True, slots=True)
class StepResult:
    """What one forward pass gives back.

    `token_ids` [B] (-1 where `sample[b]` is None); `logprobs` [B]: natural log of the drawn id's probability under
    the model's own soft-max (before penalty, temperature and filters), NaN where nobody wants it. Score mode
    (`targets` given): `row_logprobs` [T], the natural-log probability of `targets[t]` after row t (NaN where the target
    is -1), and `row_argmax` [T], the most probable id after row t.
    """

    token_ids: Int32Array
    logprobs: Float32Array
    row_logprobs: Float32Array | None = None
    row_argmax: Int32Array | None = None


class Runner(Protocol):
    """Runs forward passes of one model over a KV cache of `num_pages` pages of `page_size` tokens.

    `start` begins a pass; what it gives back waits for the results. Passes run in the order in which they were started.
    `least_tail`: the tokens from which on copying a page is quicker than computing them; `page_size`: only where it leaves a
    single token to compute.
    `lookahead`: `start` returns before the pass has run and knows UNKNOWN tokens, so that the engine may start the next
    pass before it has the results of this one. Both may raise `ZelligeError` (a device fault, a guard that fired); the
    engine then fails the requests of that batch and goes on with the others.
    """

    page_size: int
    num_pages: int
    vocab_size: int
    max_context: int
    lanes: int
    least_tail: int
    lookahead: bool

    def start(self, batch: StepBatch) -> Callable[[], StepResult]: ...


def check_step_batch(batch: StepBatch, *, page_size: int, num_pages: int, vocab_size: int) -> None:
    """Raise `InternalError` unless `batch` keeps every contract that `StepBatch` states."""

    def require(condition: bool, what: str) -> None:
        if not condition:
            raise InternalError(f"step batch: {what}")

    total, count = batch.tokens, batch.sequences
    require(batch.positions.shape == (total,) and batch.slots.shape == (total,), "positions and slots have T entries")
    require(batch.offsets.shape == (count + 1,), "offsets has B + 1 entries")
    require(batch.context_lengths.shape == (count,), "context_lengths has B entries")
    require(batch.block_table.ndim == 2 and batch.block_table.shape[0] == count, "block_table has B rows")
    require(batch.targets is None or batch.targets.shape == (total,), "targets has T entries")
    for name in ("token_ids", "positions", "slots", "offsets", "block_table", "context_lengths", "lanes"):
        require(getattr(batch, name).dtype == np.int32, f"{name} is int32")
    require(count > 0 and batch.offsets[0] == 0 and batch.offsets[-1] == total, "offsets runs from 0 to T")
    require(bool(np.all(np.diff(batch.offsets) > 0)), "offsets rises strictly")
    require(bool(np.all((batch.token_ids >= UNKNOWN) & (batch.token_ids < vocab_size))), "token ids are below V")
    require(batch.lanes.shape == (count,) and bool(np.all(batch.lanes >= 0)), "lanes has B entries")
    require(len(np.unique(batch.lanes)) == count, "lanes are distinct")
    require(all(0 <= b < count for b in batch.histories), "histories are of rows")
    require(bool(np.all((batch.block_table >= 0) & (batch.block_table < num_pages))), "pages are below NB")
    require(bool(np.all(batch.context_lengths <= batch.block_table.shape[1] * page_size)), "lengths fit the table")
    require(all(0 <= page < num_pages for pair in batch.copies for page in pair), "copied pages are below NB")
    targets = [target for _, target in batch.copies]
    require(len(set(targets)) == len(targets), "a page is copied to once")
    present = batch.slots[batch.slots >= 0]
    require(bool(np.all(batch.slots >= -1) and np.all(present < num_pages * page_size)), "slots are below NB * P")
    require(len(np.unique(present)) == len(present), "slots are distinct")
    for b in range(count):
        begin, end = int(batch.offsets[b]), int(batch.offsets[b + 1])
        length = int(batch.context_lengths[b])
        require(length >= end - begin, f"sequence {b}: its length counts this step's tokens")
        require(
            end - begin == 1 or bool(np.all(batch.token_ids[begin:end] >= 0)),
            f"sequence {b}: unknown tokens stand alone",
        )
        positions = np.arange(length - (end - begin), length, dtype=np.int32)
        require(bool(np.array_equal(batch.positions[begin:end], positions)), f"sequence {b}: consecutive positions")
        slots = batch.block_table[b, positions // page_size] * page_size + positions % page_size
        written = batch.slots[begin:end]
        require(bool(np.all((written == slots) | (written == -1))), f"sequence {b}: slots follow its block table")
