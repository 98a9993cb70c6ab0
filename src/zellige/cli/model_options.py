"""What `chat`, `generate` and `score` have in common: how to name a model, load it, and say how tokens are drawn."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass, fields
from functools import wraps
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from zellige.llm.api import LLM
    from zellige.llm.sampling import SamplingParams

_F = TypeVar("_F", bound=Callable[..., Any])

MODEL_HELP = """\b
    MODEL is one of
      a path             a .gguf file, or a folder with config.json and safetensors
      owner/name         a hub id; owner/name:Q8_0 or owner/name:file.gguf picks a file
      nothing            the default model, SmolLM2-135M-Instruct (98 MB, fetched once)
"""


@dataclass(frozen=True, slots=True)
class ModelChoice:
    """What `load` loads, as the options of a command say it."""

    model: str | None
    device: str = "cpu"
    context: int | None = None
    dtype: str = "auto"
    kv_dtype: str = "auto"
    kv_share: float | None = None


def model_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Adds MODEL, --device, --context, --dtype, --kv-dtype and --kv-share: the command's first argument is a `ModelChoice`."""

    @wraps(command)
    def function(**given: Any) -> Any:
        own = {field.name: given.pop(field.name) for field in fields(ModelChoice)}
        return command(ModelChoice(**own), **given)

    for option in (
        click.option(
            "--kv-share",
            type=float,
            metavar="0.8",
            help="Of the memory that is free once the weights are there, for keys and values.",
        ),
        click.option(
            "--kv-dtype",
            default="auto",
            show_default=True,
            metavar="TYPE",
            help="Of keys and values: auto, bf16, fp16 or fp8.",
        ),
        click.option(
            "--dtype",
            default="auto",
            show_default=True,
            metavar="TYPE",
            help="Of weights: auto (as the file has them), bf16, fp16 or fp8.",
        ),
        click.option("--context", type=int, metavar="N", help="Most tokens of prompt and answer together."),
        click.option("--device", default="cpu", show_default=True, metavar="cpu|cuda", help="Where to compute."),
        click.argument("model", required=False),
    ):
        function = option(function)
    return function


def sampling_options(function: _F) -> _F:
    """Adds the options that say how tokens are drawn; `sampling_params` reads them."""
    for option in (
        click.option("--stop", multiple=True, metavar="TEXT", help="End before this text; may be given several times."),
        click.option("--seed", type=int, help="Makes sampling repeatable.  [default: a new one each time]"),
        click.option("--repetition-penalty", type=float, default=1.0, show_default=True, help="Above 1: repeat less."),
        click.option(
            "--frequency-penalty",
            type=float,
            default=0.0,
            help="The same, once for each time that the answer has the id.",
        ),
        click.option(
            "--presence-penalty",
            type=float,
            default=0.0,
            help="Taken off the logits of ids that the answer has already.",
        ),
        click.option("--min-p", type=float, default=0.0, help="Drop tokens below this fraction of the likeliest."),
        click.option(
            "--top-p", type=float, default=1.0, help="Keep the likeliest tokens up to this total probability."
        ),
        click.option("--top-k", type=int, default=0, help="Keep this many of the likeliest tokens; 0 is all."),
        click.option("--temperature", type=float, default=0.0, show_default=True, help="0 takes the likeliest token."),
    ):
        function = option(function)
    return function


def sampling_params(
    options: dict[str, Any], *, max_tokens: int | None, logprobs: bool = False, ignore_eos: bool = False
) -> SamplingParams:
    """Parameters from the options of `sampling_options`, checked (ZL0701)."""
    from zellige.llm.sampling import SamplingParams

    names = (
        "temperature",
        "top_k",
        "top_p",
        "min_p",
        "repetition_penalty",
        "presence_penalty",
        "frequency_penalty",
        "seed",
        "stop",
    )
    chosen = {name: options[name] for name in names}
    return SamplingParams(**chosen, max_tokens=max_tokens, logprobs=logprobs, ignore_eos=ignore_eos)


def load(choice: ModelChoice) -> LLM:
    """Load a model, showing on stderr what takes long."""
    from zellige.llm.api import LLM

    with _DownloadBar() as bar:
        return LLM(
            choice.model,
            device=choice.device,
            max_model_len=choice.context,
            dtype=choice.dtype,
            kv_dtype=choice.kv_dtype,
            kv_share=choice.kv_share,
            say=bar.say,
            progress=bar.progress,
        )


class _DownloadBar:
    """A progress bar on stderr where that is a terminal, else one line a ten per cent; made when first needed."""

    def __init__(self) -> None:
        self._bar: Any = None
        self._task: Any = None
        self._tenth = 0

    def __enter__(self) -> _DownloadBar:
        return self

    def __exit__(self, *exc: object) -> None:
        if self._bar is not None:
            self._bar.stop()

    def say(self, text: str) -> None:
        click.echo(text, err=True)

    def progress(self, done: int, total: int | None) -> None:
        if sys.stderr.isatty():
            if self._bar is None:
                self._start()
            self._bar.update(self._task, completed=done, total=total)
        elif total and (tenth := 10 * done // total) > self._tenth:
            self._tenth = tenth
            click.echo(f"  {10 * tenth} % of {total / 1e6:.0f} MB", err=True)

    def _start(self) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, DownloadColumn, Progress, TimeRemainingColumn, TransferSpeedColumn

        columns = (BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn())
        self._bar = Progress(*columns, console=Console(stderr=True), transient=True)
        self._bar.start()
        self._task = self._bar.add_task("download", total=None)
