"""`zellige score`: how probable the model finds given tokens."""

from __future__ import annotations

import json
import math

import click

from zellige.cli.model_options import MODEL_HELP, ModelChoice, load, model_options
from zellige.cli.token_ids import read_ids_file
from zellige.diagnostics import ZelligeError


@click.command(
    help=f"""Log-probabilities of given token ids, each given those before it (teacher-forced).

    {MODEL_HELP}
    The file holds a JSON list of n ids. With --json the answer is {{"logprobs": [...], "argmax": [...]}}, n - 1 entries
    each: entry i is the natural-log probability of id i + 1 given ids 0 to i, and the most probable id there.

    \b
    Examples:
      echo "[504, 3575, 282, 4649, 314]" > ids.json
      zellige score --ids-file ids.json --json
      zellige score model.gguf --ids-file ids.json          mean and perplexity, to read
    """
)
@model_options
@click.option("--ids-file", required=True, metavar="F", help="A JSON list of token ids; - is standard input.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def score(
    choice: ModelChoice,
    ids_file: str,
    as_json: bool,
) -> None:
    ids = read_ids_file(ids_file)
    if len(ids) < 2:
        few = "one token id" if ids else "no token ids"
        raise ZelligeError("ZL0707", f"{ids_file} has {few}: there is nothing to score", help="give at least two")
    llm = load(choice)
    scores = llm.score(ids)
    if as_json:
        click.echo(json.dumps({"logprobs": list(scores.logprobs), "argmax": list(scores.argmax)}))
        return
    count = len(scores.logprobs)
    mean = sum(scores.logprobs) / count
    hits = sum(guess == actual for guess, actual in zip(scores.argmax, ids[1:], strict=True))
    click.echo(f"tokens scored      {count}")
    click.echo(f"mean log-prob      {mean:.5f}")
    click.echo(f"perplexity         {math.exp(-mean):.4f}")
    click.echo(f"argmax agreement   {hits} of {count}")
