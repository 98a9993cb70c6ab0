"""Finds pages whose keys and values were computed already: a radix tree over token ids, one full page an edge.

A node stands for the tokens on the path to it and holds a reference on its page. Requests that begin alike share
the pages of their common beginning, and a conversation's next turn finds those of all turns before. Where a page agrees
only in its first tokens, a request may take a copy of it and write on (copy on write). Where pages run out, leaves that no
sequence holds are dropped, least recently used first.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Sequence

from zellige.llm.kv_cache import PagePool


class _Node:
    __slots__ = ("by_first", "children", "key", "page", "parent", "used")

    def __init__(self, key: tuple[int, ...], page: int, parent: _Node | None) -> None:
        self.key = key
        self.page = page
        self.parent = parent
        self.children: dict[tuple[int, ...], _Node] = {}
        self.by_first: dict[int, list[_Node]] = {}
        """Children by their first token."""
        self.used = 0


class PrefixCache:
    """A tree over the pages of one pool. Deterministic: time is a count of look-ups."""

    def __init__(self, pool: PagePool) -> None:
        self._pool = pool
        self._root = _Node((), -1, None)
        self._clock = 0
        self._nodes: dict[int, _Node] = {}  # by page
        self._evictable: list[tuple[int, int]] = []
        """A heap of (last use, page) of every leaf that no sequence holds; may hold entries that are so no longer."""
        pool.watch(self._released)

    @property
    def pages(self) -> int:
        """How many pages the tree holds."""
        return len(self._nodes)

    def _keys(self, tokens: Sequence[int], count: int) -> Iterator[tuple[int, ...]]:
        size = self._pool.page_size
        return (tuple(tokens[i * size : (i + 1) * size]) for i in range(count))

    def match(self, tokens: Sequence[int]) -> list[int]:
        """Pages of the longest cached beginning of `tokens`, one reference taken on each for the caller.

        The last token is never covered: somebody has to compute the logits that follow it.
        """
        self._clock += 1
        node, found = self._root, []
        for key in self._keys(tokens, max(len(tokens) - 1, 0) // self._pool.page_size):
            child = node.children.get(key)
            if child is None:
                break
            child.used = self._clock
            self._pool.share(child.page)
            found.append(child.page)
            node = child
        return found

    def tail(self, tokens: Sequence[int], pages: Sequence[int]) -> tuple[int, int]:
        """A page whose first tokens come next after those of `pages`, which `match` has found, and how many of them; (−1, 0)
        if there is none. No reference is taken: it has to be copied before anything that starts later may write to it."""
        node = self._nodes[pages[-1]] if pages else self._root
        size = self._pool.page_size
        rest = tokens[len(pages) * size : min((len(pages) + 1) * size, len(tokens) - 1)]
        best, most = None, 0
        for child in node.by_first.get(rest[0], ()) if rest else ():
            agreeing = next((i for i, (a, b) in enumerate(zip(child.key, rest, strict=False)) if a != b), len(rest))
            if agreeing > most:
                best, most = child, agreeing
        if best is None:
            return -1, 0
        best.used = self._clock
        return best.page, most

    def insert(self, tokens: Sequence[int], pages: Sequence[int]) -> None:
        """Remember the full pages of `tokens`, of which page i holds the tokens from i * page_size on.

        The tree takes references of its own. Where it knows a page's tokens already it keeps the page that it has.
        """
        self._clock += 1
        node = self._root
        full = min(len(tokens) // self._pool.page_size, len(pages))
        for key, page in zip(self._keys(tokens, full), pages, strict=False):
            child = node.children.get(key)
            if child is None:
                self._pool.share(page)
                child = node.children[key] = self._nodes[page] = _Node(key, page, node)
                node.by_first.setdefault(key[0], []).append(child)
            child.used = self._clock
            node = child

    def evict(self, count: int) -> int:
        """Drop up to `count` pages that no sequence holds; returns how many were dropped. Costs O(log pages) a page."""
        dropped = 0
        while self._evictable and dropped < count:
            used, page = heapq.heappop(self._evictable)
            node = self._nodes.get(page)
            if node is None or not self._unused(node):
                continue
            if node.used != used:
                heapq.heappush(self._evictable, (node.used, page))
                continue
            parent = node.parent
            assert parent is not None  # the root has no page
            del parent.children[node.key], self._nodes[page]
            alike = parent.by_first[node.key[0]]
            alike.remove(node)
            if not alike:
                del parent.by_first[node.key[0]]
            self._pool.drop(page)
            dropped += 1
            if parent is not self._root and self._unused(parent):
                self._offer(parent)
        return dropped

    def clear(self) -> None:
        """Forget everything that no sequence holds."""
        self.evict(self.pages)

    def _unused(self, node: _Node) -> bool:
        return not node.children and self._pool.references(node.page) == 1

    def _released(self, page: int) -> None:
        """Somebody let go of `page` and one holder is left: if that is the tree, the page can go when it is a leaf."""
        node = self._nodes.get(page)
        if node is not None and not node.children:
            self._offer(node)

    def _offer(self, node: _Node) -> None:
        if len(self._evictable) > 4 * len(self._nodes) + 64:  # mostly entries that are out of date
            self._evictable = [(n.used, n.page) for n in self._nodes.values() if self._unused(n)]
            heapq.heapify(self._evictable)
        else:
            heapq.heappush(self._evictable, (node.used, node.page))
