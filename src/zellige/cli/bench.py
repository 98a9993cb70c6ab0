"""`zellige bench`: how fast this machine is, and a model on it, beside what its memory allows."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click

from zellige.cli.footprint import Footprint, Stored, footprint, footprint_of
from zellige.cli.measuring import Bench, Row, read_bandwidth
from zellige.cli.model_options import MODEL_HELP, ModelChoice, device_option, dtype_options, load
from zellige.diagnostics import ZelligeError

if TYPE_CHECKING:
    from zellige.llm.api import LLM

MOST_AT_ONCE = 256
"""Sequences: more would wait for each other, and the row would not say what it measures."""


@click.group()
def bench() -> None:
    """Measure this machine (`bench cpu`), or a model on it (`bench llm`).

    \b
    Examples:
      zellige bench cpu
      zellige bench llm model.gguf --batches 1,4 --prefill 128,512 --json
    """


@bench.command(
    help=f"""The short form: decode and prefill rates of a model on this CPU, beside the roofline.

    {MODEL_HELP}
    The roofline of decoding is the measured read bandwidth divided by the bytes that one step must read (all weights,
    and the keys and values so far). Prefill is bound by arithmetic and has none. Takes about half a minute.

    \b
    Examples:
      zellige bench cpu
      zellige bench cpu model.gguf --json
    """
)
@click.argument("model", required=False)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def cpu(model: str | None, as_json: bool) -> None:
    llm = load(ModelChoice(model, context=1024))
    measured = Bench(llm, footprint(llm.path), read_bandwidth())
    todo = [
        lambda: measured.decode(1, 128, 64), lambda: measured.decode(8, 128, 32),
        lambda: measured.prefill(128), lambda: measured.prefill(512),
    ]  # fmt: skip
    _print(measured, todo, "cpu", as_json)


@bench.command(
    help=f"""A table for MODEL: batch sizes, prefill lengths, time to the first token, tokens a second, share of the roofline.

    {MODEL_HELP}
    --dummy takes random weights: MODEL is then a known size (Qwen3-0.6B … Qwen3-32B), and no file is needed.

    \b
    Examples:
      zellige bench llm
      zellige bench llm model.gguf --batches 1,2,4,8 --prefill 128,1024 --output-tokens 64
      zellige bench llm Qwen3-8B --dummy --device cuda --batches 1,8,64,256 --bandwidth 3000 --json
      zellige bench llm Qwen3-8B --dummy --device cuda --dtype fp8 --kv-dtype fp8
    """
)
@click.argument("model", required=False)
@device_option("Where to compute.")
@dtype_options
@click.option("--dummy", is_flag=True, help="Random weights of a known configuration.")
@click.option("--batches", default="1,8", show_default=True, metavar="1,8", help="Sequences that decode at once.")
@click.option("--prefill", default="128,512", show_default=True, metavar="128,512", help="Prompt lengths.")
@click.option("--prompt-tokens", type=click.IntRange(2), default=128, show_default=True, help="Prompt of decode rows.")
@click.option("--output-tokens", type=click.IntRange(2), default=64, show_default=True, help="Answer of decode rows.")
@click.option("--bandwidth", type=float, metavar="GB/S", help="Of the memory.  [default: measured, on the CPU]")
@click.option("--repeats", type=click.IntRange(1), default=3, show_default=True, help="Runs a row; the median counts.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def llm(
    model: str | None, device: str, dtype: str, kv_dtype: str, dummy: bool, batches: str, prefill: str,
    prompt_tokens: int, output_tokens: int, bandwidth: float | None, repeats: int, as_json: bool,
) -> None:  # fmt: skip
    sizes, lengths = counts("--batches", batches), counts("--prefill", prefill)
    if dummy and model is None:
        raise ZelligeError(
            "ZL0134", "--dummy needs the name of a known configuration", help="zellige bench llm Qwen3-0.6B --dummy"
        )
    if bandwidth is not None and not 0 < bandwidth < 1e9:
        raise ZelligeError("ZL0134", f"--bandwidth {bandwidth:g} is not a rate", help="--bandwidth 3000 (GB/s)")
    if not sizes and not lengths:
        raise ZelligeError("ZL0134", "neither --batches nor --prefill says what to measure", help="--batches 1,8")
    if max(sizes, default=1) > MOST_AT_ONCE:
        raise ZelligeError(
            "ZL0134", f"--batches {max(sizes)} is more than decode at once here", help=f"--batches {MOST_AT_ONCE}"
        )
    longest = max([prompt_tokens + output_tokens, *(length + 1 for length in lengths)]) + 16
    stored = Stored(device, dtype, kv_dtype)
    loaded, need = _loaded(model, stored, dummy, longest, max(sizes, default=1) * (prompt_tokens + output_tokens + 16))
    rate = bandwidth * 1e9 if bandwidth else read_bandwidth() if device == "cpu" else None
    measured = Bench(loaded, need, rate, repeats)
    todo = [partial(measured.prefill, length) for length in lengths]
    todo += [partial(measured.decode, batch, prompt_tokens, output_tokens) for batch in sizes]
    _print(measured, todo, device, as_json)


def _loaded(model: str | None, stored: Stored, dummy: bool, context: int, kv_tokens: int) -> tuple[LLM, Footprint]:
    from zellige.llm.api import LLM
    from zellige.llm.parameters import precision
    from zellige.llm.weights.known import known_config

    kept = Stored(stored.device, precision("dtype", stored.dtype), precision("kv_dtype", stored.kv_dtype))
    loaded = LLM(
        model, device=kept.device, load_format="dummy" if dummy else "auto", dtype=kept.dtype, kv_dtype=kept.kv_dtype,
        max_model_len=context, kv_tokens=max(kv_tokens, 2 * context), max_batch=MOST_AT_ONCE,
        say=lambda text: click.echo(text, err=True),
    )  # fmt: skip
    return loaded, footprint_of(str(model), known_config(str(model)), kept) if dummy else footprint(loaded.path, kept)


def counts(option: str, text: str) -> list[int]:
    """Whole numbers from 1 on with commas between. ZelligeError ZL0134 if they are not."""
    parts = [part.strip() for part in text.split(",") if part.strip()]
    if not all(part.isdecimal() and int(part) > 0 for part in parts):
        raise ZelligeError("ZL0134", f"{option} {text} is not a list of whole numbers from 1 on", help=f"{option} 1,8")
    return [int(part) for part in parts]


def _print(measured: Bench, todo: Iterable[Callable[[], Row]], device: str, as_json: bool) -> None:
    """Measures and prints, each row of a table when it is there; interrupted, what was measured until then."""
    need, rate = measured.need, measured.bandwidth
    if as_json:
        rows: list[Row] = []
        whole = False
        try:
            rows.extend(row() for row in todo)
            whole = True
        except KeyboardInterrupt:
            pass  # raised again below
        report = {
            "model": need.name, "device": device, "machine": machine(), "weights_bytes": need.weights,
            "kv_bytes_per_token": need.kv_per_token, "read_bandwidth_gb_s": rate / 1e9 if rate else None,
            "complete": whole, "rows": [row.as_dict() for row in rows],
        }  # fmt: skip
        click.echo(json.dumps(report, indent=2))
        if not whole:
            raise KeyboardInterrupt
        return
    read = f"{rate / 1e9:.1f} GB/s read from memory" if rate else "bandwidth not known (--bandwidth)"
    click.echo(f"{need.name} on {device}: {need.weights / 1e6:.1f} MB of weights, {read}")
    click.echo(f"{machine()}\n")
    click.echo(
        f"{'':8} {'batch':>5} {'prompt':>6} {'tok/s':>9} {'spread':>6} {'1st token':>10} {'roofline':>15} {'share':>6}"
    )
    for measure in todo:
        row = measure()
        data = row.as_dict()
        first = f"{row.first_token_ms:.1f} ms" if row.first_token_ms is not None else "–"
        roofline = f"{row.roofline_tok_s:,.0f} tok/s" if row.roofline_tok_s else "–"
        share = f"{data['roofline_share']:.0%}" if data["roofline_share"] else "–"
        click.echo(
            f"{row.what:8} {row.batch:5} {row.prompt:6} {row.tok_s:9,.1f} {row.spread:6.0%} {first:>10} {roofline:>15} {share:>6}"
        )


def machine() -> str:
    """Processor and threads of this machine."""
    name = platform.processor() or platform.machine()
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                name = line.partition(":")[2].strip()
                break
    except OSError:
        pass  # not Linux: the name that Python knows
    return f"{name}, {os.environ.get('ZELLIGE_THREADS') or len(os.sched_getaffinity(0))} threads"
