"""`zellige profile`: where the time of a decode step and of a prefill goes, kernel by kernel."""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from zellige.cli.model_options import MODEL_HELP, ModelChoice, load
from zellige.diagnostics import ZelligeError
from zellige.runtime.graph import Graph

ROUNDS = 7
DECODED = 8
"""Tokens that are generated before the passes are measured."""


@dataclass(frozen=True, slots=True)
class Launch:
    """One launch of a pass, measured in its place among the others."""

    kernel: str
    dims: dict[str, int]
    seconds: float
    bytes: int


@dataclass(frozen=True, slots=True)
class Profile:
    """A recorded pass: its launches in order, and the time of all of them replayed at once."""

    name: str
    launches: list[Launch]
    whole_s: float

    def by_kernel(self) -> list[dict[str, Any]]:
        """Launches added up by kernel, the longest first."""
        total = sum(launch.seconds for launch in self.launches) or 1.0
        rows: dict[str, dict[str, Any]] = {}
        for launch in self.launches:
            row = rows.setdefault(launch.kernel, {"kernel": launch.kernel, "launches": 0, "seconds": 0.0, "bytes": 0})
            row["launches"] += 1
            row["seconds"] += launch.seconds
            row["bytes"] += launch.bytes
        for row in rows.values():
            row["gb_s"] = row["bytes"] / row["seconds"] / 1e9 if row["seconds"] else 0.0
            row["share"] = row["seconds"] / total
        return sorted(rows.values(), key=lambda row: -row["seconds"])

    def as_dict(self) -> dict[str, Any]:
        """JSON-ready data."""
        apart = sum(launch.seconds for launch in self.launches)
        return {"name": self.name, "whole_s": self.whole_s, "launches_s": apart, "kernels": self.by_kernel()}


@click.command(
    help=f"""Show where the time of a decode step and of a prefill goes: for each kernel time, bytes, GB/s and share.

    {MODEL_HELP}
    Every launch of the recorded passes is measured in its place, so that caches hold what they hold in a real step; bytes
    are those of the arrays that a launch reads and writes. CPU only.

    \b
    Examples:
      zellige profile
      zellige profile model.gguf --prompt-tokens 512 --json
      zellige profile --trace step.json      a flame chart for ui.perfetto.dev, chrome://tracing or speedscope
    """
)
@click.argument("model", required=False)
@click.option(
    "--prompt-tokens", type=click.IntRange(2, 8000), default=128, show_default=True, help="Length of the prompt."
)
@click.option("--trace", type=click.Path(path_type=Path, dir_okay=False), metavar="FILE", help="Write a Chrome trace.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def profile(model: str | None, prompt_tokens: int, trace: Path | None, as_json: bool) -> None:
    if trace is not None and not trace.resolve().parent.is_dir():
        raise ZelligeError("ZL0134", f"{trace} cannot be written: there is no such folder", help="--trace step.json")
    profiles = measure(load(ModelChoice(model)), prompt_tokens)
    if trace is not None:
        trace.write_text(json.dumps(chrome_trace(profiles)), encoding="utf-8")
        click.echo(f"{trace}: open it in ui.perfetto.dev, chrome://tracing or speedscope", err=True)
    if as_json:
        click.echo(json.dumps({"prompt_tokens": prompt_tokens, "passes": [p.as_dict() for p in profiles]}, indent=2))
    else:
        click.echo("\n\n".join(map(text, profiles)))


def measure(llm: Any, prompt_tokens: int) -> list[Profile]:
    """Profiles of the prefill and the decode step that a run of the model recorded. ZelligeError ZL0703 if too long."""
    from zellige.llm.sampling import SamplingParams

    vocabulary = llm.model.config.vocab_size
    prompt = [(17 * i + 5) % (vocabulary - 4) + 3 for i in range(prompt_tokens)]
    llm.generate([prompt], SamplingParams(max_tokens=DECODED, temperature=0.0, ignore_eos=True))
    runner = llm._engine._runner
    found: list[tuple[str, list[Graph], int]] = []
    for passed in runner._prefill.values():
        size = passed.graph._steps[0].launch.dims["T"]  # of the last chunk of a long prompt
        found.append((f"prefill of {size} tokens", [passed.graph], prompt_tokens))
    for passed in runner._decode.values():
        heads = [head.graph for (source, _), head in runner._heads.items() if source == id(passed)]
        name = f"decode step at context {prompt_tokens + DECODED - 1}"
        found.append((name, [passed.graph, *heads], prompt_tokens + DECODED - 1))
    return [profile_of(name, graphs, context) for name, graphs, context in found]


def profile_of(name: str, graphs: Iterable[Graph], context: int) -> Profile:
    """Measures recorded passes at the sizes that they ran at last; they run again, several times."""
    from zellige.backends.cpu.pool import Recording, default_pool

    pool = default_pool()
    steps = [step.launch for graph in graphs for step in graph._steps]
    whole, empty, alone = Recording(), Recording(), []
    for launch in steps:
        single = Recording()
        for recording in (single, whole):
            recording.add(launch.entry_address, launch.slots, launch.programs)
        alone.append(single)
    overhead = statistics.median(_timed(lambda: pool.replay(empty)) for _ in range(200))
    times: list[list[float]] = [[] for _ in steps]
    for _ in range(ROUNDS):
        for taken, single in zip(times, alone, strict=True):
            taken.append(max(_timed(lambda single=single: pool.replay(single)) - overhead, 1e-9))  # type: ignore[misc]
    total = statistics.median(_timed(lambda: pool.replay(whole)) for _ in range(ROUNDS))
    launches = [
        Launch(launch.instance.function.name, dict(launch.dims), statistics.median(taken), moved(launch, context))
        for launch, taken in zip(steps, times, strict=True)
    ]
    return Profile(name, launches, total)


def moved(launch: Any, context: int) -> int:
    """Bytes of the arrays that a launch reads and writes, each once; of those that it picks rows from, the rows.

    ``context``: tokens of the KV cache that attention reads."""
    function, dims = launch.instance.function, dict(launch.dims)
    rows = dims.get("T", dims.get("B", 1))
    total = 0
    for array in function.arrays:
        shape = [extent.evaluate(dims) for extent in array.shape]
        named = [str(extent) for extent in array.shape]
        if named[:2] == ["NB", "P"]:
            shape[:2] = [1, context if function.name.startswith("attention") else rows]
        elif named[:1] in (["C"], ["S"]) or (named[:1] == ["V"] and function.name.startswith("embed")):
            shape[0] = rows
        count = 1
        for size in shape:
            count *= size
        total += array.dtype.bytes_for(count)
    return total


def _timed(run: Callable[[], object]) -> float:
    started = time.perf_counter()
    run()
    return time.perf_counter() - started


def text(profile: Profile) -> str:
    """A profile as a table."""
    data = profile.as_dict()
    width = max([len("kernel"), *(len(row["kernel"]) for row in data["kernels"])])
    lines = [
        f"{profile.name}: {len(profile.launches)} launches, {data['whole_s'] * 1e3:.2f} ms replayed at once "
        f"({data['launches_s'] * 1e3:.2f} ms one by one)",
        f"  {'kernel':{width}}  {'launches':>8}  {'ms':>9}  {'µs each':>9}  {'MB':>8}  {'GB/s':>6}  {'share':>6}",
    ]
    for row in data["kernels"]:
        bar = "█" * round(24 * row["share"])
        lines.append(
            f"  {row['kernel']:{width}}  {row['launches']:8}  {row['seconds'] * 1e3:9.3f}  "
            f"{row['seconds'] / row['launches'] * 1e6:9.1f}  {row['bytes'] / 1e6:8.2f}  {row['gb_s']:6.1f}  "
            f"{row['share']:6.1%}  {bar}"
        )
    return "\n".join(line.rstrip() for line in lines)


def chrome_trace(profiles: Iterable[Profile]) -> dict[str, Any]:
    """The profiles in the Trace Event Format: a track for each pass, its launches end to end inside one slice."""
    events: list[dict[str, Any]] = [{"ph": "M", "pid": 1, "name": "process_name", "args": {"name": "zellige"}}]
    for track, profile in enumerate(profiles, 1):
        events.append({"ph": "M", "pid": 1, "tid": track, "name": "thread_name", "args": {"name": profile.name}})
        duration = sum(launch.seconds for launch in profile.launches) * 1e6
        slice_ = {"ph": "X", "pid": 1, "tid": track, "cat": "pass"}
        events.append(
            {**slice_, "name": profile.name, "ts": 0.0, "dur": duration, "args": {"whole_s": profile.whole_s}}
        )
        at = 0.0
        for launch in profile.launches:
            microseconds = launch.seconds * 1e6
            args = {**launch.dims, "bytes": launch.bytes, "GB/s": round(launch.bytes / launch.seconds / 1e9, 2)}
            events.append(
                {**slice_, "cat": "kernel", "name": launch.kernel, "ts": at, "dur": microseconds, "args": args}
            )
            at += microseconds
    return {"traceEvents": events, "displayTimeUnit": "ns"}
