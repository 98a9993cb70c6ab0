"""`zellige tune`: measures the tiles of a model's products on this machine and keeps the fastest."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import click
import numpy as np

from zellige.cli.model_options import MODEL_HELP, ModelChoice, load
from zellige.runtime.graph import record
from zellige.runtime.kernel import Kernel
from zellige.runtime.tensor import Tensor, borrow

TOKENS = (8, 16, 64, 512)
"""Tokens of the passes that multiply tiles: batched decode, short prompts, prompts."""
REPEATS = 7


@dataclass(frozen=True, slots=True)
class Case:
    """One product of the model at one number of tokens, in one of its tiles."""

    kernel: Kernel
    dims: dict[str, int]
    statics: dict[str, int]
    run: Callable[[dict[str, int]], object]
    """Calls the kernel with given static parameters."""


@click.command(
    help=f"""Measure the tiles of a model's products on this machine; the fastest of each size are used from then on.

    {MODEL_HELP}
    Nothing that is computed changes, and nobody has to: what is shipped suits the instruction set. Ctrl-C keeps what was
    found so far. CPU only; a machine that is busy with something else gives what suits it busy.

    \b
    Examples:
      zellige tune
      zellige tune model.gguf --json
    """
)
@click.argument("model", required=False)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def tune(model: str | None, as_json: bool) -> None:
    from zellige.runtime import cpu_tuned

    cases = list(cases_of(load(ModelChoice(model))))
    best: dict[str, dict[str, Any]] = {}
    stopped = False
    try:
        with click.progressbar(cases, label="measuring", file=sys.stderr) as bar:
            for case in bar:
                entry = measured(case)
                key = json.dumps([entry["kernel"], entry["dims"]])
                if key not in best or entry["us"] < best[key]["us"]:
                    best[key] = entry
    except KeyboardInterrupt:
        stopped = True
    path = cpu_tuned.keep(best.values()) if best else cpu_tuned.measured_file()
    report = {"device": cpu_tuned.device(), "file": str(path), "stopped": stopped, "entries": list(best.values())}
    if as_json:
        click.echo(json.dumps(report, indent=2))
    else:
        for entry in best.values():
            size = " ".join(f"{name} {value}" for name, value in entry["dims"].items())
            tiles = " ".join(f"{name} {value}" for name, value in entry["statics"].items())
            click.echo(f"{entry['kernel']:18} {size:24} {tiles:14} {entry['us']:10.1f} µs")
        click.echo(f"{len(best)} sizes kept in {path}{' (stopped early)' if stopped else ''}")
    if stopped:
        raise SystemExit(130)


def cases_of(llm: Any) -> Iterator[Case]:
    """Every product of a loaded model, each weight shape and type once, at each number of tokens and with each tile.

    What a recorded pass does at the end of a product is done on the product's tiles."""
    from zellige.kernels.linear import linear_matrix
    from zellige.llm.runner import weight_tensor

    seen = set()
    for name, held in llm.model.tensors.items():
        parts = name.split(".")
        which = parts[-2] if len(parts) > 2 else ""
        if which not in ("attn_q", "attn_k", "attn_output", "ffn_gate", "ffn_down"):
            continue
        weight = weight_tensor(held)
        key = (weight.shape, weight.dtype.name)
        if key in seen:
            continue
        seen.add(key)
        n, k = weight.shape
        for tokens in TOKENS:
            call = _call(linear_matrix, weight, tokens)
            for statics in linear_matrix.configs:
                if statics["BM"] <= 2 * tokens:
                    yield Case(linear_matrix, {"T": tokens, "N": n, "K": k}, statics, call)


def _call(kernel: Kernel, weight: Tensor, tokens: int) -> Callable[[dict[str, int]], object]:
    n, k = weight.shape
    x = borrow(np.zeros((tokens, k), np.float32))
    y = borrow(np.zeros((tokens, n), np.float32))
    return lambda statics: kernel(x, weight, y=y, **statics)


def measured(case: Case) -> dict[str, Any]:
    """The entry of a case: the shortest of several runs, in microseconds."""
    with record() as graph:
        case.run(case.statics)
    graph.replay()
    times = []
    for _ in range(REPEATS):
        begun = time.perf_counter()
        graph.replay()
        times.append(time.perf_counter() - begun)
    return {"kernel": case.kernel.name, "dims": case.dims, "statics": case.statics, "us": round(min(times) * 1e6, 1)}
