"""Decides what the next step computes: continuous batching with chunked prefill.

Each step has a budget of tokens, given out in order of arrival: one token to each sequence that decodes, then to a
prompt a chunk as large as the budget leaves. A sequence joins only when budget is left over, that is when all before it
decode; so no answer stalls behind a long prompt, and no prompt behind answers, as the budget exceeds the number of
sequences. When pages run out, cached prefixes go first, then the youngest sequence is preempted: it gives its pages
up and is computed again later, ahead of those that still wait. The oldest sequence always gets its pages, so every
request ends. Given the order of arrival, every decision is the same in every run.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

from zellige.diagnostics import InternalError
from zellige.llm.kv_cache import PagePool
from zellige.llm.prefix_cache import PrefixCache
from zellige.llm.sequence import Sequence


@dataclass(frozen=True, slots=True)
class Work:
    """The next `count` uncomputed tokens of `sequence`; its pages have room for them."""

    sequence: Sequence
    count: int

    @property
    def completes(self) -> bool:
        """Whether the sequence has nothing left to compute after this, so that its next token can be drawn."""
        return self.count == self.sequence.remaining


class Scheduler:
    """Holds all sequences that are not finished. `max_sequences` is B's limit, `max_tokens` T's, in one step."""

    def __init__(self, pool: PagePool, cache: PrefixCache | None, *, max_sequences: int, max_tokens: int) -> None:
        if max_tokens <= max_sequences:
            raise InternalError(
                f"a step of {max_tokens} tokens leaves prompts no room beside {max_sequences} sequences"
            )
        self._pool = pool
        self._cache = cache
        self._max_sequences = max_sequences
        self._max_tokens = max_tokens
        self.waiting: deque[Sequence] = deque()  # by arrival
        self.running: list[Sequence] = []  # by arrival, all before those that wait
        self.preemptions = 0

    def add(self, sequence: Sequence) -> None:
        """Queue a new sequence. Its whole length, answer included, must fit into the pool (the engine checks)."""
        self.waiting.append(sequence)

    def schedule(self) -> list[Work]:
        """What the next step computes: empty when nothing can run before a step in flight completes."""
        work: list[Work] = []
        budget = self._max_tokens
        preemptions = self.preemptions
        for sequence in list(self.running):
            if sequence not in self.running:
                break  # preempted for one before it, and so is every one after it
            count = min(sequence.remaining, budget)
            if count and self._make_room(sequence, count):
                work.append(Work(sequence, count))
                budget -= count
        if self.preemptions > preemptions:
            return work  # pages are short: letting somebody in would only preempt again
        return work + self._admit(budget)

    def _admit(self, budget: int) -> list[Work]:
        work: list[Work] = []
        while self.waiting and budget and len(self.running) < self._max_sequences:
            sequence = self.waiting[0]
            if self._cache is not None and not sequence.scores:
                sequence.pages = self._cache.match(sequence.tokens)
                sequence.computed = len(sequence.pages) * self._pool.page_size
            count = min(sequence.remaining, budget)
            whole = self._pool.pages_for(len(sequence.tokens)) - len(sequence.pages)
            cached = self._cache.pages if self._cache is not None else 0
            if whole > self._pool.free + cached or not self._grow(sequence, sequence.computed + count):
                self._pool.release(sequence.pages)
                sequence.restart()
                break
            self.waiting.popleft()
            self.running.append(sequence)
            if sequence.cached_tokens is None:
                sequence.cached_tokens = sequence.computed
            work.append(Work(sequence, count))
            budget -= count
        return work

    def _make_room(self, sequence: Sequence, count: int) -> bool:
        """Give `sequence` pages for `count` more tokens, preempting younger sequences, at last itself, as needed."""
        while not self._grow(sequence, sequence.computed + count):
            if self._pool.retiring:
                return False  # pages come back when the step in flight completes: no need to preempt
            if self._preempt_youngest() is sequence:
                return False
        return True

    def _grow(self, sequence: Sequence, tokens: int) -> bool:
        """Extend the sequence's pages to hold `tokens` tokens, dropping cached prefixes as needed."""
        missing = self._pool.pages_for(tokens) - len(sequence.pages)
        if missing <= 0:
            return True
        if missing > self._pool.free and self._cache is not None:
            self._cache.evict(missing - self._pool.free)
        pages = self._pool.allocate(missing)
        if pages is None:
            return False
        sequence.pages.extend(pages)
        return True

    def _preempt_youngest(self) -> Sequence:
        """Take the pages of the running sequence that came last; it waits again, first in line."""
        sequence = self.running.pop()
        self._give_back(sequence)
        sequence.restart()
        self.waiting.appendleft(sequence)
        self.preemptions += 1
        return sequence

    def computed(self, work: Work) -> None:
        """Note that a step computed `work`; a prompt that just got complete is shared from now on."""
        sequence = work.sequence
        decoding = sequence.computed >= sequence.prompt_tokens
        sequence.computed += work.count
        if not decoding and sequence.remaining == 0:
            self._remember(sequence)

    def remove(self, sequence: Sequence) -> None:
        """Forget a sequence that is over, wherever it is. What it computed may serve others."""
        if sequence in self.running:
            self.running.remove(sequence)
            self._give_back(sequence)
        else:
            self.waiting.remove(sequence)
        sequence.pages = []

    def _give_back(self, sequence: Sequence) -> None:
        self._remember(sequence)
        self._pool.release(sequence.pages)

    def _remember(self, sequence: Sequence) -> None:
        if self._cache is not None:
            self._cache.insert(sequence.tokens[: sequence.computed], sequence.pages)
