"""Who holds which page of the KV cache, and when a page may be used again.

A page holds the keys and values of `page_size` consecutive tokens, of every layer. Holders (a sequence, the prefix
cache) count references. A page whose last reference is dropped while a step is in flight is *retiring*: it is handed
out again only after the last step that could read it has completed. That is a lease, and it is what keeps a finished
request's pages from being overwritten under a step that was launched before it finished. The prefix cache reads no page,
so a page that it alone held since before the steps in flight is free at once when it lets go (`drop`).
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable

from zellige.diagnostics import InternalError


class PagePool:
    """`num_pages` pages of `page_size` tokens. Handing out is deterministic: the lowest free page first."""

    def __init__(self, num_pages: int, page_size: int) -> None:
        self.num_pages = num_pages
        self.page_size = page_size
        self._free = list(range(num_pages))  # a heap
        self._references = [0] * num_pages
        self._retiring: list[tuple[int, int]] = []  # a heap of (step, page)
        self._read_until = [0] * num_pages
        """The last step that could read a page when somebody who reads it let go."""
        self._begun = 0
        self._completed = 0
        self._watcher: Callable[[int], None] = lambda page: None

    def watch(self, watcher: Callable[[int], None]) -> None:
        """Call `watcher` with each page of which one holder is left when another lets go."""
        self._watcher = watcher

    @property
    def free(self) -> int:
        """Pages that can be handed out now."""
        return len(self._free)

    @property
    def retiring(self) -> int:
        """Pages that nobody holds but a step in flight may still read."""
        return len(self._retiring)

    @property
    def held(self) -> int:
        """Pages that somebody holds."""
        return self.num_pages - self.free - self.retiring

    def pages_for(self, tokens: int) -> int:
        """How many pages `tokens` tokens take."""
        return -(-tokens // self.page_size)

    def references(self, page: int) -> int:
        """How many hold `page`."""
        return self._references[page]

    def allocate(self, count: int) -> list[int] | None:
        """`count` pages with one reference each, or None (and nothing changes) where fewer are free."""
        if count > len(self._free):
            return None
        pages = [heapq.heappop(self._free) for _ in range(count)]
        for page in pages:
            self._references[page] = 1
        return pages

    def share(self, page: int) -> None:
        """Add a reference to a page that somebody holds."""
        if self._references[page] <= 0:
            raise InternalError(f"page {page} is shared though nobody holds it")
        self._references[page] += 1

    def release(self, pages: Iterable[int]) -> None:
        """Drop one reference of each page, of somebody whose steps read it; the last one retires the page."""
        for page in pages:
            self._read_until[page] = self._begun
            self.drop(page)

    def drop(self, page: int) -> None:
        """Drop a reference of somebody who does not read the page."""
        if self._references[page] <= 0:
            raise InternalError(f"page {page} is released though nobody holds it")
        self._references[page] -= 1
        if self._references[page] == 0:
            if self._read_until[page] <= self._completed:
                heapq.heappush(self._free, page)
            else:
                heapq.heappush(self._retiring, (self._read_until[page], page))
        elif self._references[page] == 1:
            self._watcher(page)

    def begin_step(self) -> int:
        """Note that a step is launched, which may read any page held now; returns its number."""
        self._begun += 1
        return self._begun

    def complete_step(self, step: int) -> None:
        """Note that `step` and all before it have completed: pages retired up to then are free."""
        if not self._completed < step <= self._begun:
            raise InternalError(f"step {step} completes, but {self._completed} had and {self._begun} was begun last")
        self._completed = step
        while self._retiring and self._retiring[0][0] <= step:
            heapq.heappush(self._free, heapq.heappop(self._retiring)[1])
