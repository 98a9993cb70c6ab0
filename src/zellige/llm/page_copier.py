"""Copies pages of the KV cache, all layers of one at a time: where requests share the beginning of a page."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from zellige.ir.types import ContractKind
from zellige.kernels.pages import copy_page
from zellige.llm.draw import contracted
from zellige.runtime.execution import Executor, using
from zellige.runtime.graph import Graph, record
from zellige.runtime.tensor import Tensor


class PageCopier:
    """Copies within each of some caches, [NB, P, HK, HD], in the order of the device. Recorded when it is first needed."""

    def __init__(self, executor: Executor, caches: Sequence[Tensor]) -> None:
        self._executor, self._caches = executor, caches
        self._made: tuple[Tensor, Tensor, Graph] | None = None

    def copy(self, pairs: Iterable[tuple[int, int]]) -> None:
        """Copies the first page of each pair to the second, one pair after the other."""
        for first, second in pairs:
            source, target, graph = self._recorded()
            source.write(np.array([first], np.int32))
            target.write(np.array([second], np.int32))
            with using(self._executor):
                graph.replay()

    def _recorded(self) -> tuple[Tensor, Tensor, Graph]:
        """The places of source and target, and the launches that read them."""
        if self._made is None:
            none = np.zeros(1, np.int32)
            pages = self._caches[0].shape[0]
            source, target = (contracted(self._executor, none, ContractKind.INDEX, pages) for _ in range(2))
            with using(self._executor), record() as graph:
                for cache in self._caches:
                    copy_page(source, target, pages=cache)
            self._made = source, target, graph
        return self._made
