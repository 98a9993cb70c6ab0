"""Time, correctness and tables: what all GPU benchmarks share."""

from __future__ import annotations

import json
import os
import statistics
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

PACK = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(PACK / "src"))

from zellige.backends.cuda.compiler import CompiledKernel  # noqa: E402
from zellige.runtime.cuda.device import open_device  # noqa: E402
from zellige.runtime.cuda.launch import LoadedKernel  # noqa: E402

Call = Callable[[], Any]


@dataclass(frozen=True, slots=True)
class Variant:
    """A packed kernel, loaded."""

    name: str
    statics: dict[str, int]
    kernel: LoadedKernel
    arrays: dict[str, tuple[str, tuple[int, ...]]]
    """Element type and shape of each array parameter."""
    schedule: dict[str, Any]
    """Kernel, dims, statics and options, as `choose.py` wants them."""

    def call(
        self,
        arrays: dict[str, torch.Tensor],
        scalars: dict[str, float] | None = None,
        dims: dict[str, int] | None = None,
    ) -> Call:
        """A launch with these tensors, on whatever stream PyTorch uses when it is called."""
        prepared = self.kernel.prepare(stream(), {n: t.data_ptr() for n, t in arrays.items()}, scalars, dims)
        assert prepared is not None
        keeps = tuple(arrays.values())  # a launch holds addresses only

        def run() -> None:
            prepared(stream())
            assert keeps

        return run


_streams: dict[int, Any] = {}


def stream() -> Any:
    """PyTorch's current stream as our runtime's."""
    from cuda.core import Stream

    handle = torch.cuda.current_stream().cuda_stream
    if handle not in _streams:
        _streams[handle] = Stream.from_handle(handle)
    return _streams[handle]


def variants(table: str) -> dict[str, list[Variant]]:
    """The packed kernels of one table, by row."""
    device = open_device()
    found: dict[str, list[Variant]] = {}
    for entry in json.loads((PACK / "index.json").read_text()):
        if entry["table"] == table:
            kernel = LoadedKernel(CompiledKernel.load(PACK / "kernels" / entry["folder"]), device)
            arrays = {name: (dtype, tuple(shape)) for name, (dtype, shape) in entry["arrays"].items()}
            schedule = {name: entry.get(name) for name in ("kernel", "dims", "statics", "options")}
            variant = Variant(entry["variant"], entry["statics"], kernel, arrays, schedule)
            found.setdefault(entry["row"], []).append(variant)
    return found


def microseconds(contestants: dict[str, Sequence[Call]], *, rounds: int = 15, least_calls: int = 1) -> dict[str, float]:
    """Median time of one call of each contestant. Each is a rotation of calls over different buffers, captured as a graph
    of at least ``least_calls`` calls; rounds go around all contestants, so that none has the coolest or warmest chip."""
    graphs = {}
    side = torch.cuda.Stream()
    with torch.cuda.stream(side):
        for name, calls in contestants.items():
            for call in calls:
                call()
            side.synchronize()
            repeat = max(1, -(-least_calls // len(calls)))
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph, stream=side):
                for _ in range(repeat):
                    for call in calls:
                        call()
            graphs[name] = (graph, repeat * len(calls))
    torch.cuda.synchronize()
    times: dict[str, list[float]] = {name: [] for name in contestants}
    for round_ in range(rounds + 2):
        for name, (graph, calls) in graphs.items():
            start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
            start.record()
            graph.replay()
            end.record()
            end.synchronize()
            if round_ >= 2:
                times[name].append(start.elapsed_time(end) * 1000 / calls)
    return {name: statistics.median(t) for name, t in times.items()}


def direct_microseconds(
    contestants: dict[str, Sequence[Call]], *, rounds: int = 9, repeat: int = 4
) -> dict[str, float]:
    """``microseconds`` for long calls, launched one by one instead of from a graph."""
    times: dict[str, list[float]] = {name: [] for name in contestants}
    for round_ in range(rounds + 2):
        for name, calls in contestants.items():
            start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
            start.record()
            for _ in range(repeat):
                for call in calls:
                    call()
            end.record()
            end.synchronize()
            if round_ >= 2:
                times[name].append(start.elapsed_time(end) * 1000 / (repeat * len(calls)))
    return {name: statistics.median(t) for name, t in times.items()}


def error(out: torch.Tensor, reference: torch.Tensor) -> float:
    """‖out − reference‖ / ‖reference‖ in float64; NaN never passes."""
    return float((out.double() - reference.double()).norm() / reference.double().norm())


def check(what: str, out: torch.Tensor, reference: torch.Tensor, bound: float) -> None:
    """Stops the benchmark if an output is wrong."""
    found = error(out, reference)
    if not found <= bound:
        raise SystemExit(f"WRONG: {what}: relative error {found:.3g}, allowed {bound:.3g}")


def poisoned(*shape: int, dtype: torch.dtype = torch.bfloat16) -> torch.Tensor:
    """An output that shows where nothing was written."""
    return torch.full(shape, float("nan"), dtype=dtype, device="cuda")


def random(*shape: int, scale: float = 1.0) -> torch.Tensor:
    """Normal bf16 data."""
    return (torch.randn(*shape, device="cuda") * scale).bfloat16()


def saved(table: str, row: str, values: dict[str, float]) -> None:
    """Adds a row to ``$OUT/TABLE.json`` (``OUT``: an environment variable; nothing is written without it)."""
    folder = os.environ.get("OUT")
    if not folder:
        return
    path = Path(folder) / f"{table}.json"
    rows = json.loads(path.read_text()) if path.exists() else {"device": torch.cuda.get_device_name(), "rows": {}}
    rows["rows"][row] = {name: round(value, 3) for name, value in values.items()}
    path.write_text(json.dumps(rows, indent=1))


def save(name: str, values: Any) -> None:
    """Writes ``$OUT/NAME.json``; nothing without ``OUT``."""
    folder = os.environ.get("OUT")
    if folder:
        (Path(folder) / f"{name}.json").write_text(json.dumps(values))


def header(title: str) -> None:
    """A table's title with the machine."""
    print(f"\n## {title} ({torch.cuda.get_device_name()}, torch {torch.__version__})", flush=True)
