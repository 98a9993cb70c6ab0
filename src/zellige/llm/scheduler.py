"""Decides what the next step computes: continuous batching with chunked prefill.

Each step has a budget of tokens, given out in order of priority, then of arrival: one token to each sequence that decodes,
and to a prompt a chunk as large as the budget leaves beside one token for everybody else. A sequence joins only when budget
is left over; so no answer stalls behind a long prompt, and no prompt behind answers, as the budget exceeds the number of
sequences. When pages run out, cached prefixes go first, then the last sequence in that order is preempted: it gives its
pages up and is computed again later, ahead of those of its priority that still wait. A request that waits and does not fit
preempts those of lower priority. The first sequence always gets its pages, so every request ends unless ones of higher
priority keep coming. Given the order of arrival, every decision is the same in every run.

Steps may be scheduled before earlier ones have run: `started` notes what a step will have computed, `completed` what it has.
"""

from __future__ import annotations

import heapq
from bisect import insort
from typing import NamedTuple

from zellige.diagnostics import InternalError
from zellige.llm.kv_cache import PagePool
from zellige.llm.prefix_cache import PrefixCache
from zellige.llm.sequence import Sequence


class Work(NamedTuple):
    """The next `length` uncomputed tokens of `sequence`; `pages`, its own when this was scheduled, have room for them.

    `copy`: of two pages the first is copied to the second before that; its first tokens are the sequence's."""

    sequence: Sequence
    length: int
    completes: bool
    """Whether the sequence has nothing left to compute after this, so that its next token is drawn."""
    pages: list[int]
    copy: tuple[int, int] | None = None

    @property
    def stale(self) -> bool:
        """Whether the sequence has lost the pages since, so that they say nothing about it any more."""
        return self.pages is not self.sequence.pages


def _turn(sequence: Sequence) -> tuple[int, int]:
    return -sequence.priority, sequence.arrival


class Scheduler:
    """Holds all sequences that are not finished. `max_sequences` is B's limit, `max_tokens` T's, in one step.

    `least_tail`: the tokens of a page from which on it is copied rather than computed again; it always is where one token of
    a prompt is left then."""

    def __init__(
        self, pool: PagePool, cache: PrefixCache | None, *, max_sequences: int, max_tokens: int, least_tail: int
    ) -> None:
        if max_tokens <= max_sequences:
            raise InternalError(
                f"a step of {max_tokens} tokens leaves prompts no room beside {max_sequences} sequences"
            )
        self._pool = pool
        self._cache = cache
        self._max_sequences = max_sequences
        self._max_tokens = max_tokens
        self._least_tail = least_tail
        self._lanes = list(range(max_sequences))  # free ones, a heap
        self.waiting: list[Sequence] = []  # by priority, then arrival
        self.running: list[Sequence] = []  # the same
        self.preemptions = 0

    def add(self, sequence: Sequence) -> None:
        """Queue a new sequence. Its whole length, answer included, must fit into the pool (the engine checks)."""
        insort(self.waiting, sequence, key=_turn)

    def schedule(self) -> list[Work]:
        """What the next step computes: empty when nothing can run before a step in flight completes."""
        preemptions = self.preemptions
        self._yield_to_urgent()
        work: list[Work] = []
        budget, running, size, at = self._max_tokens, self.running, self._pool.page_size, 0
        while at < len(running):  # which preemption shortens from its end
            sequence = running[at]
            at += 1
            remaining, left = sequence.remaining, budget - len(running) + at
            count = remaining if remaining < left else left
            if count and (sequence.computed + count <= len(sequence.pages) * size or self._make_room(sequence, count)):
                work.append(Work(sequence, count, count == remaining, sequence.pages))
                budget -= count
        if self.preemptions > preemptions:
            return work  # pages are short: letting somebody in would only preempt again
        if self.waiting:
            work += self._admit(budget)
        return work

    def _yield_to_urgent(self) -> None:
        """Preempt sequences of lower priority than the first that waits, until that fits or there are none."""
        while self.waiting and self.running and self.waiting[0].priority > self.running[-1].priority:
            first = self.waiting[0]
            if first.drawing or (len(self.running) < self._max_sequences and self._may_fit(first, 0)):
                return
            self._preempt_last()

    def _may_fit(self, sequence: Sequence, found: int) -> bool:
        """Whether its tokens so far might get pages without taking any from others; `found` are its own already."""
        cached = self._cache.pages if self._cache is not None else 0
        whole = self._pool.pages_for(len(sequence.tokens)) - found
        return whole <= self._pool.free + self._pool.retiring + cached

    def _admit(self, budget: int) -> list[Work]:
        work: list[Work] = []
        while self.waiting and budget and len(self.running) < self._max_sequences:
            sequence = self.waiting[0]
            if sequence.drawing:
                break  # a step in flight draws a token that has to be computed with the rest
            page, tail = -1, 0
            if self._cache is not None and not sequence.scores:
                sequence.pages = self._cache.match(sequence.tokens)
                sequence.remembered = len(sequence.pages)
                page, tail = self._cache.tail(sequence.tokens, sequence.pages)
                known = sequence.remembered * self._pool.page_size
                alone = known + tail == len(sequence.tokens) - 1  # what is left runs beside the answers' tokens
                tail = tail if alone or tail >= self._least_tail else 0
                sequence.computed = sequence.stored = known + tail
            remaining = sequence.remaining
            count = min(remaining, budget)
            whole = len(sequence.pages)
            fits = self._may_fit(sequence, whole)
            if not fits or not self._grow(sequence, sequence.computed + count):
                self._pool.release(sequence.pages)
                sequence.restart()
                break
            del self.waiting[0]
            insort(self.running, sequence, key=_turn)
            sequence.running = True
            sequence.lane = heapq.heappop(self._lanes)
            if sequence.cached_tokens is None:
                sequence.cached_tokens = sequence.computed
            copy = (page, sequence.pages[whole]) if tail else None
            work.append(Work(sequence, count, count == remaining, sequence.pages, copy))
            budget -= count
        return work

    def _make_room(self, sequence: Sequence, count: int) -> bool:
        """Give `sequence` pages for `count` more tokens, preempting those after it, at last itself, as needed."""
        while not self._grow(sequence, sequence.computed + count):
            if self._pool.retiring:
                return False  # pages come back when the step in flight completes: no need to preempt
            if self._preempt_last() is sequence:
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

    def _preempt_last(self) -> Sequence:
        """Take the pages of the running sequence whose turn is last; it waits again, ahead of those of its priority."""
        sequence = self.running[-1]
        self._leave(sequence)
        sequence.restart()
        insort(self.waiting, sequence, key=_turn)
        self.preemptions += 1
        return sequence

    def started(self, work: list[Work]) -> None:
        """Note that a step with `work` was given to the runner: what comes next may build on it."""
        for sequence, length, completes, _, _ in work:
            sequence.computed += length
            if completes and not sequence.scores:
                sequence.drawing += 1
                sequence.drawn_in_lane = True

    def completed(self, work: Work) -> None:
        """Note that a step has computed `work`; a prompt that just got complete is shared from now on."""
        sequence, length, _, pages, _ = work
        if pages is not sequence.pages:
            return  # stale
        before = sequence.stored
        sequence.stored = before + length
        if before < sequence.prompt_tokens <= before + length:
            self._remember(sequence)

    def remove(self, sequence: Sequence) -> None:
        """Forget a sequence that is over, wherever it is. What it computed may serve others."""
        if sequence.running:
            self._leave(sequence)
        else:
            self.waiting.remove(sequence)
        sequence.pages = []

    def _leave(self, sequence: Sequence) -> None:
        self._remember(sequence)
        self._pool.release(sequence.pages)
        self.running.remove(sequence)
        sequence.running = False
        heapq.heappush(self._lanes, sequence.lane)

    def _remember(self, sequence: Sequence) -> None:
        full = sequence.stored // self._pool.page_size
        if self._cache is not None and full > sequence.remembered:
            self._cache.insert(sequence.tokens[: sequence.stored], sequence.pages)
            sequence.remembered = full
