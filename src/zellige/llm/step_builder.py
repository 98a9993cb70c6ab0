"""Turns a plan (which tokens of which sequences) into the arrays of one `StepBatch`."""

from __future__ import annotations

from operator import is_

import numpy as np

from zellige.llm.protocol import UNKNOWN, History, Int32Array, StepBatch
from zellige.llm.scheduler import Work
from zellige.llm.sequence import Sequence


class StepBuilder:
    """Makes the batch that computes some work, in its order: B sequences, T tokens. Keeps the contracts of `StepBatch`.

    `most_pages`: of one sequence. The block table of one step is that of the step before with few changes, if any; rows that
    changed are written to a copy."""

    def __init__(self, page_size: int, most_pages: int) -> None:
        self._page_size, self._most_pages = page_size, most_pages
        self._table = np.zeros((0, 1), np.int32)
        self._rows: list[list[int]] = []
        self._lengths: list[int] = []

    def build(self, work: list[Work]) -> StepBatch:
        """The batch of `work`, before the scheduler hears that it was started."""
        sequences = [item.sequence for item in work]
        computed = [sequence.computed for sequence in sequences]
        begins = np.array(computed, np.int32)
        counts = np.array([item.length for item in work], np.int32)
        offsets = np.zeros(len(work) + 1, np.int32)
        np.cumsum(counts, out=offsets[1:])
        total = int(offsets[-1])
        if total == len(work):
            ids = [s.tokens[c] if c < len(s.tokens) else UNKNOWN for s, c in zip(sequences, computed, strict=True)]
            owner, positions = np.arange(total), begins
        else:
            ids = []
            for item, c in zip(work, computed, strict=True):
                known = item.sequence.tokens[c : c + item.length]
                ids += known or [UNKNOWN]
            owner = np.repeat(np.arange(len(work), dtype=np.int32), counts)
            positions = np.arange(total, dtype=np.int32) - offsets[owner] + begins[owner]
        table = self._block_table(work)
        size = np.int32(self._page_size)
        return StepBatch(
            token_ids=np.array(ids, np.int32),
            positions=positions,
            slots=table[owner, positions // size] * size + positions % size,
            offsets=offsets,
            block_table=table,
            context_lengths=begins + counts,
            lanes=np.array([sequence.lane for sequence in sequences], np.int32),
            sample=tuple([item.sequence.spec if item.completes else None for item in work]),
            histories={
                b: _history(item.sequence)
                for b, item in enumerate(work)
                if item.completes and not item.sequence.drawn_in_lane and item.sequence.alters
            },
            copies=tuple([item.copy for item in work if item.copy is not None]),
            targets=_targets(work, computed, total) if any(sequence.scores for sequence in sequences) else None,
        )

    def _block_table(self, work: list[Work]) -> Int32Array:
        rows = [item.pages for item in work]
        lengths = list(map(len, rows))
        same = len(rows) == len(self._rows) and all(map(is_, rows, self._rows))
        if same and lengths == self._lengths:
            return self._table
        width = max(lengths)
        if same and width <= self._table.shape[1]:
            table = self._table.copy()
            changed = [b for b, length in enumerate(lengths) if length != self._lengths[b]]
        else:
            table = np.zeros((len(rows), min(-(-width // 8) * 8, self._most_pages)), np.int32)
            changed = list(range(len(rows)))
        for b in changed:
            table[b, : lengths[b]] = rows[b]
        table.flags.writeable = False
        self._table, self._rows, self._lengths = table, rows, lengths
        return table


def _targets(work: list[Work], computed: list[int], total: int) -> Int32Array:
    """Of score requests, the id that follows each row."""
    targets = np.full(total, -1, np.int32)
    first = 0
    for item, begin in zip(work, computed, strict=True):
        if item.sequence.scores:
            following = item.sequence.tokens[begin + 1 : begin + 1 + item.length]
            targets[first : first + len(following)] = following
        first += item.length
    return targets


def _history(sequence: Sequence) -> History:
    tokens, prompt = sequence.tokens, sequence.prompt_tokens
    return History(tuple(tokens[:prompt]), tuple(tokens[prompt:]))
