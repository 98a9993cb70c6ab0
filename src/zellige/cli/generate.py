"""`zellige generate`: continue a text, or a list of token ids."""

from __future__ import annotations

import json
import sys
from typing import Any

import click

from zellige.cli.model_options import MODEL_HELP, ModelChoice, load, model_options, sampling_options, sampling_params
from zellige.cli.safe_text import shown
from zellige.cli.token_ids import parse_ids


@click.command(
    help=f"""Continue a text, or a list of token ids.

    {MODEL_HELP}
    The text is taken as it is, without a chat template. It appears as it is generated; with --json one object comes at
    the end: prompt_ids, token_ids, logprobs (with --logprobs, else null), text, finish_reason ("stop", "length", or "cancelled" by Ctrl-C),
    timings (load_s, prefill_s, decode_s, prefill_tok_s, decode_tok_s).

    \b
    Examples:
      zellige generate --prompt "The capital of France is" --max-tokens 8
      echo "Once upon a time" | zellige generate --prompt -
      zellige generate model.gguf --ids 504,3575,282 --logprobs --json
    """
)
@model_options
@click.option("--prompt", metavar="TEXT", help="The text to continue; - reads it from standard input.")
@click.option("--ids", metavar="1,2,3", help="Token ids to continue, in place of a text.")
@click.option("--max-tokens", type=int, default=128, show_default=True, help="Most tokens to generate.")
@click.option("--logprobs", is_flag=True, help="Also give the natural-log probability of each token.")
@click.option("--ignore-eos", is_flag=True, help="Go on where the model would end.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@sampling_options
def generate(
    choice: ModelChoice,
    prompt: str | None,
    ids: str | None,
    max_tokens: int,
    logprobs: bool,
    ignore_eos: bool,
    as_json: bool,
    **options: Any,
) -> None:
    if (prompt is None) == (ids is None):
        raise click.UsageError("give one of --prompt and --ids")
    params = sampling_params(options, max_tokens=max_tokens, logprobs=logprobs, ignore_eos=ignore_eos)
    given: str | list[int] = parse_ids(ids, "--ids") if ids is not None else str(prompt)
    if given == "-":
        given = sys.stdin.read()
    llm = load(choice)
    interrupted = False
    with llm.stream(given, params) as stream:
        try:
            for piece in stream:
                if not as_json:
                    click.echo(shown(piece.text), nl=False)
                    sys.stdout.flush()
        except KeyboardInterrupt:
            interrupted = True
    done = stream.close()
    times = done.timings
    if as_json:
        report = {
            "prompt_ids": list(done.prompt_ids),
            "token_ids": list(done.token_ids),
            "logprobs": None if done.logprobs is None else list(done.logprobs),
            "text": done.text,
            "finish_reason": done.finish_reason,
            "timings": {
                "load_s": llm.load_s,
                "prefill_s": times.prefill_s,
                "decode_s": times.decode_s,
                "prefill_tok_s": times.prefill_tok_s,
                "decode_tok_s": times.decode_tok_s,
            },
        }
        click.echo(json.dumps(report))
        if interrupted:
            raise KeyboardInterrupt
        return
    click.echo()
    for token, logprob in zip(done.token_ids, done.logprobs or (), strict=False):
        click.echo(f"{token:>8} {logprob:10.5f}  {llm.tokenizer.decode([token], show_control=True)!r}")
    click.echo(
        f"[{len(done.token_ids)} tokens, {times.decode_tok_s:.1f} tok/s; prompt of {len(done.prompt_ids)}, "
        f"{times.prefill_tok_s:.0f} tok/s; loaded in {llm.load_s:.2f} s]",
        err=True,
    )
    if interrupted:
        raise KeyboardInterrupt
