"""Turns a plan (which tokens of which sequences) into the arrays of one `StepBatch`."""

from __future__ import annotations

import numpy as np

from zellige.llm.protocol import SampleSpec, StepBatch
from zellige.llm.scheduler import Work
from zellige.llm.sequence import Sequence


def build_step(work: list[Work], *, page_size: int) -> StepBatch:
    """The batch that computes `work`, in its order: B sequences, T tokens. Keeps the contracts of `StepBatch`."""
    counts = np.array([item.count for item in work], dtype=np.int32)
    offsets = np.zeros(len(work) + 1, dtype=np.int32)
    np.cumsum(counts, out=offsets[1:])
    total = int(offsets[-1])
    begins = np.array([item.sequence.computed for item in work], dtype=np.int32)
    widest = max(len(item.sequence.pages) for item in work)
    table = np.zeros((len(work), widest), dtype=np.int32)
    token_ids = np.empty(total, dtype=np.int32)
    targets = np.full(total, -1, dtype=np.int32) if any(item.sequence.scores for item in work) else None
    for b, item in enumerate(work):
        sequence, begin, first = item.sequence, item.sequence.computed, int(offsets[b])
        table[b, : len(sequence.pages)] = sequence.pages
        token_ids[first : first + item.count] = sequence.tokens[begin : begin + item.count]
        if sequence.scores and targets is not None:
            following = sequence.tokens[begin + 1 : begin + 1 + item.count]
            targets[first : first + len(following)] = following
    owner = np.repeat(np.arange(len(work), dtype=np.int32), counts)
    positions = np.arange(total, dtype=np.int32) - offsets[owner] + begins[owner]
    slots = table[owner, positions // page_size] * np.int32(page_size) + positions % page_size
    return StepBatch(
        token_ids=token_ids,
        positions=positions,
        slots=slots.astype(np.int32),
        offsets=offsets,
        block_table=table,
        context_lengths=begins + counts,
        sample=tuple(_sample(item.sequence) if item.completes else None for item in work),
        targets=targets,
    )


def _sample(sequence: Sequence) -> SampleSpec | None:
    if sequence.scores:
        return None
    params = sequence.params
    penalty = params.repetition_penalty
    return SampleSpec(
        temperature=params.temperature,
        top_k=params.top_k,
        top_p=params.top_p,
        min_p=params.min_p,
        repetition_penalty=penalty,
        penalised=np.unique(np.array(sequence.tokens if penalty != 1 else [], dtype=np.int32)),
        seed=params.seed or 0,
        step=sequence.generated,
        want_logprob=params.logprobs,
    )
