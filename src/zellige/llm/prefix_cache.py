"""Finds pages whose keys and values were computed already: a radix tree over token ids, full pages on its edges.

A node stands for the tokens on the path to it; it holds a reference on each page of the last stretch of them. Requests that begin alike
share the pages of their common beginning, and a conversation's next turn finds those of all turns before: a stretch that agrees in
some of its pages is cut behind those. Where a page agrees only in its first tokens, a request may take a copy of it and write on (copy on
write). Where pages run out, those that no sequence holds are dropped from the ends of the tree, least recently used first.
"""

from __future__ import annotations

import heapq
from collections.abc import Sequence

from zellige.llm.kv_cache import PagePool


class _Node:
    __slots__ = ("by_first", "children", "pages", "parent", "tokens", "used")

    def __init__(self, tokens: tuple[int, ...], pages: list[int], parent: _Node | None, used: int) -> None:
        self.tokens = tokens
        """Of the pages, and of those that have been dropped from their end since."""
        self.pages = pages
        self.parent = parent
        self.children: dict[tuple[int, ...], _Node] = {}
        """By the tokens of their first page."""
        self.by_first: dict[int, list[_Node]] = {}
        """By their first token."""
        self.used = used


class PrefixCache:
    """A tree over the pages of one pool. Deterministic: time is a count of look-ups."""

    def __init__(self, pool: PagePool) -> None:
        self._pool = pool
        self._root = _Node((), [], None, 0)
        self._clock = 0
        self._nodes: dict[int, _Node] = {}  # by page
        self._evictable: list[tuple[int, int]] = []
        """A heap of (last use, last page) of every leaf that no sequence holds; may hold entries that are so no longer."""
        pool.watch(self._released)

    @property
    def pages(self) -> int:
        """How many pages the tree holds."""
        return len(self._nodes)

    def match(self, tokens: Sequence[int]) -> list[int]:
        """Pages of the longest cached beginning of `tokens`, one reference taken on each for the caller.

        The last token is never covered: somebody has to compute the logits that follow it.
        """
        found, _ = self._follow(tokens, max(len(tokens) - 1, 0) // self._pool.page_size)
        for page in found:
            self._pool.share(page)
        return found

    def tail(self, tokens: Sequence[int], pages: Sequence[int]) -> tuple[int, int]:
        """A page whose first tokens come next after those of `pages`, which `match` has found, and how many of them; (−1, 0)
        if there is none. No reference is taken: it has to be copied before anything that starts later may write to it."""
        node = self._nodes[pages[-1]] if pages else self._root
        size = self._pool.page_size
        rest = tokens[len(pages) * size : min((len(pages) + 1) * size, len(tokens) - 1)]
        best, most = None, 0
        for child in node.by_first.get(rest[0], ()) if rest else ():
            agreeing = _agreeing(child.tokens[: len(rest)], rest)
            if agreeing > most:
                best, most = child, agreeing
        if best is None:
            return -1, 0
        best.used = self._clock
        return best.pages[0], most

    def insert(self, tokens: Sequence[int], pages: Sequence[int]) -> None:
        """Remember the full pages of `tokens`, of which page i holds the tokens from i * page_size on.

        The tree takes references of its own. Where it knows a page's tokens already it keeps the page that it has.
        """
        size = self._pool.page_size
        full = min(len(tokens) // size, len(pages))
        known, node = self._follow(tokens, full)
        fresh = list(pages[len(known) : full])
        if not fresh:
            return
        for page in fresh:
            self._pool.share(page)
        child = _Node(tuple(tokens[len(known) * size : full * size]), fresh, node, self._clock)
        self._nodes |= dict.fromkeys(fresh, child)
        self._hang(child, node)

    def _follow(self, tokens: Sequence[int], count: int) -> tuple[list[int], _Node]:
        """The cached ones of the first `count` pages of `tokens`, which are used now, and the node that they end with."""
        self._clock += 1
        size, node = self._pool.page_size, self._root
        found: list[int] = []
        while len(found) < count:
            at = len(found) * size
            child = node.children.get(tuple(tokens[at : at + size]))
            if child is None:
                break
            end = min(at + len(child.pages) * size, count * size)
            agreeing = _agreeing(child.tokens[: end - at], tokens[at:end]) // size
            if agreeing < len(child.pages):
                child = self._cut(child, agreeing)
            child.used = self._clock
            found += child.pages
            node = child
        return found, node

    def _cut(self, node: _Node, count: int) -> _Node:
        """A node of the first `count` pages of `node`, which comes behind it with the others."""
        size, parent = self._pool.page_size, node.parent
        assert parent is not None  # the root has no pages
        first = _Node(node.tokens[: count * size], node.pages[:count], parent, node.used)
        parent.children[first.tokens[:size]] = first
        alike = parent.by_first[first.tokens[0]]
        alike[alike.index(node)] = first
        node.tokens, node.pages, node.parent = node.tokens[count * size :], node.pages[count:], first
        self._nodes |= dict.fromkeys(first.pages, first)
        self._hang(node, first)
        return first

    def _hang(self, child: _Node, node: _Node) -> None:
        node.children[child.tokens[: self._pool.page_size]] = child
        node.by_first.setdefault(child.tokens[0], []).append(child)

    def evict(self, count: int) -> int:
        """Drop up to `count` pages that no sequence holds; returns how many were dropped. Costs O(1) a page, O(log pages) a node."""
        dropped = 0
        while self._evictable and dropped < count:
            used, page = heapq.heappop(self._evictable)
            node = self._nodes.get(page)
            if node is None or not self._unused(node):
                continue
            if node.used != used or node.pages[-1] != page:
                self._offer(node)
                continue
            while dropped < count and node.pages and self._pool.references(node.pages[-1]) == 1:
                page = node.pages.pop()
                del self._nodes[page]
                self._pool.drop(page)
                dropped += 1
            self._shorten(node)
        return dropped

    def _shorten(self, node: _Node) -> None:
        """Notes that pages of a leaf are gone."""
        parent = node.parent
        assert parent is not None  # the root has no pages
        if not node.pages:
            del parent.children[node.tokens[: self._pool.page_size]]
            alike = parent.by_first[node.tokens[0]]
            alike.remove(node)
            if not alike:
                del parent.by_first[node.tokens[0]]
            node = parent
        if node is not self._root and self._unused(node):
            self._offer(node)

    def clear(self) -> None:
        """Forget everything that no sequence holds."""
        self.evict(self.pages)

    def _unused(self, node: _Node) -> bool:
        return not node.children and self._pool.references(node.pages[-1]) == 1

    def _released(self, page: int) -> None:
        """Somebody let go of `page` and one holder is left: if that is the tree, the page can go when it is the last of a leaf."""
        node = self._nodes.get(page)
        if node is not None and not node.children and node.pages[-1] == page:
            self._offer(node)

    def _offer(self, node: _Node) -> None:
        if len(self._evictable) > 4 * len(self._nodes) + 64:  # mostly entries that are out of date
            every = dict.fromkeys(self._nodes.values())
            self._evictable = [(n.used, n.pages[-1]) for n in every if self._unused(n)]
            heapq.heapify(self._evictable)
        else:
            heapq.heappush(self._evictable, (node.used, node.pages[-1]))


def _agreeing(some: Sequence[int], others: Sequence[int]) -> int:
    """How many of the first tokens of two stretches of one length agree."""
    if tuple(some) == tuple(others):
        return len(some)
    return next(i for i, (a, b) in enumerate(zip(some, others, strict=True)) if a != b)
