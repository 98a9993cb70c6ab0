"""Launches captured once and replayed with one call."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from zellige.runtime.cuda.device import Device
from zellige.runtime.cuda.launch import Fill, Launch


class LaunchGraph:
    """A sequence of launches as a CUDA graph; launches compiled with ``pdl`` overlap as they do on a stream.

    The graph keeps the launches (their arguments and scratch) alive; the caller keeps the arrays."""

    def __init__(self, device: Device, launches: Sequence[Launch | Fill | None]) -> None:
        device.use()
        self._launches = tuple(launch for launch in launches if launch is not None)
        builder = device.handle.create_graph_builder().begin_building()
        for launch in self._launches:
            launch(builder.stream)
        self._graph = builder.end_building().complete()
        builder.close()

    def __len__(self) -> int:
        return len(self._launches)

    def __call__(self, stream: Any) -> None:
        """Replays the graph on a stream; returns at once."""
        self._graph.launch(stream)
