"""`zellige plan`: what of a model fits into memory, before anything is loaded."""

from __future__ import annotations

import json
import os
from typing import Any

import click

from zellige.cli.footprint import (
    Footprint,
    Stored,
    footprint,
    footprint_of,
    free_device_memory,
    free_memory,
    parse_size,
    shown,
)
from zellige.cli.model_options import MODEL_HELP, device_option, dtype_options
from zellige.diagnostics import ZelligeError
from zellige.llm.hub import resolve_model
from zellige.llm.weights.known import known_config

DEFAULT_CONTEXT = 8192
"""What a load without --context takes, if the model allows as much."""
PAGE = 16


@click.command(
    help=f"""Say what of MODEL fits into memory: weights, tokens of KV cache, context, batch.

    Only the file's header is read. A published size that is known by name (such as Qwen3-8B or Llama-3.1-8B) needs no file.
    Weights are counted as they lie where the model runs: --dtype, --kv-dtype and --device change them as they do in `generate`.

    {MODEL_HELP}
    \b
    Examples:
      zellige plan
      zellige plan model.gguf --context 4096
      zellige plan Qwen3-8B --device cuda --memory 80GB --json
      zellige plan Qwen3-32B --device cuda --memory 80GB --dtype fp8 --kv-dtype fp8
    """
)
@click.argument("model", required=False)
@device_option("Where it would run.")
@dtype_options
@click.option("--memory", metavar="16GB", help="Plan for this much memory.  [default: what is free now]")
@click.option("--context", type=click.IntRange(2), metavar="N", help="Also plan for this many tokens a sequence.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def plan(
    model: str | None, device: str, dtype: str, kv_dtype: str, memory: str | None, context: int | None, as_json: bool
) -> None:
    from zellige.llm.parameters import precision

    need = _footprint(model, Stored(device, precision("dtype", dtype), precision("kv_dtype", kv_dtype)))
    free = parse_size(memory) if memory else free_memory() if device == "cpu" else free_device_memory()
    if context is not None and context > need.config.context_length:
        raise ZelligeError(
            "ZL0134", f"a context of {context} is more than the model's own limit, {need.config.context_length}",
            help=f"--context {need.config.context_length}",
        )  # fmt: skip
    made = report(need, free, device, context)
    click.echo(json.dumps(made, indent=2) if as_json else _text(need, made))


def _footprint(model: str | None, stored: Stored) -> Footprint:
    if model is not None and not os.path.exists(model):
        try:
            return footprint_of(model, known_config(model), stored)
        except ZelligeError:
            pass  # not one of the known sizes: a file or hub id of that name
    return footprint(resolve_model(model, say=lambda text: click.echo(text, err=True)), stored)


def report(need: Footprint, free: int, device: str, context: int | None) -> dict[str, Any]:
    """The plan, JSON-ready. Sizes in bytes."""
    c = need.config
    working = need.working(device)
    room = free - need.weights - working
    tokens = max(room // need.kv_per_token // PAGE * PAGE, 0)
    lengths = sorted(
        {n for n in (512, 2048, DEFAULT_CONTEXT, context, c.context_length) if n and n <= c.context_length}
    )
    usual = min(context or DEFAULT_CONTEXT, c.context_length)
    return {
        "model": need.name,
        "architecture": c.architecture,
        "layers": c.layers,
        "parameters": need.parameters,
        "device": device,
        "weights_bytes": need.weights,
        "weights_by_kind": dict(need.by_kind),
        "kv_bytes_per_token": need.kv_per_token,
        "working_bytes_estimate": working,
        "free_bytes": free,
        "kv_tokens_that_fit": tokens,
        "context_limit": c.context_length,
        "longest_context_that_fits": min(tokens, c.context_length),
        "batch_at_context": {str(n): tokens // n for n in lengths},
        "context": usual,
        "fits": tokens >= usual,
    }


def _text(need: Footprint, made: dict[str, Any]) -> str:
    c = need.config
    kinds = ", ".join(f"{kind} {shown(size)}" for kind, size in need.by_kind.items())
    shape = f"{2 * c.layers} × {c.kv_heads} × {c.head_dim} × {need.kv_bytes} B"
    used = need.weights + made["working_bytes_estimate"]
    lines = [
        f"{need.name}: {c.architecture}, {need.parameters / 1e6:.0f} M parameters, {c.layers} layers of width {c.width}, "
        f"{c.heads} heads ({c.kv_heads} for keys and values)",
        "",
        f"  weights                {shown(need.weights):>10}   {kinds}",
        f"  working memory         {shown(made['working_bytes_estimate']):>10}   estimate: activations and logits",
        f"  {'free memory (' + made['device'] + ')':<23}{shown(made['free_bytes']):>10}   of it left for keys and values: "
        f"{shown(max(made['free_bytes'] - used, 0))}",
        f"  a token of KV cache    {shown(need.kv_per_token):>10}   {shape}",
        f"  tokens that fit        {made['kv_tokens_that_fit']:>10,}",
        f"  longest context        {made['longest_context_that_fits']:>10,}   the model's own limit is {c.context_length:,}",
        "",
        "  tokens a sequence   sequences at once   KV cache of one",
    ]
    for length, batch in made["batch_at_context"].items():
        lines.append(f"  {int(length):>17,}   {batch:>17,}   {shown(int(length) * need.kv_per_token):>15}")
    state = "fits" if made["fits"] else "does not fit"
    lines += ["", f"  {state}: one sequence of {made['context']:,} tokens"]
    return "\n".join(lines)
