"""`zellige show`: what becomes of a kernel, stage by stage."""

from __future__ import annotations

import linecache
import sys
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

import click

from zellige.cli.kernel_choice import KERNEL_HELP, choose, kernel_options, pairs, read_size
from zellige.diagnostics import ZelligeError
from zellige.diagnostics.render import render
from zellige.diagnostics.span import Span
from zellige.ir.ops import Function
from zellige.ir.printer import listing
from zellige.ir.walk import specialise
from zellige.runtime.instances import Instance
from zellige.runtime.paths import cache_dir
from zellige.verify import Verdict, VerdictCache

STAGES = ("ir", "obligations", "llvm", "asm", "triton", "ptx")
_SOURCE_WIDTH = 36
"""Characters of source beside an obligation."""
_LANGUAGE = {"llvm": "llvm", "asm": "gas", "triton": "python", "ptx": "ptx"}


@click.command(
    help=f"""Show what becomes of KERNEL, stage by stage.

    {KERNEL_HELP}
    \b
    Stages:
      ir             the tile IR that everything else starts from
      obligations    what had to be proved, at which line, and what proved it
      llvm, asm      for the CPU: LLVM IR before LLVM's own passes, and machine code
      triton, ptx    for the GPU (needs the package triton, no GPU)

    \b
    Examples:
      zellige show rms_norm
      zellige show rms_norm --stage obligations
      zellige show linear_vector --stage asm --dtype W=Q4_1 --dims K=576
      zellige show my_kernels.py:matmul --stage ptx --static BM=64 --dims M=128,N=128,K=64
    """
)
@kernel_options
@click.option("--stage", type=click.Choice(STAGES), default="ir", show_default=True, help="What to show.")
@click.option("--dims", multiple=True, metavar="M=128", help="Compile for this extent; others stay symbolic.")
@click.option("--target", help="Instruction set (host, avx2, amx, aarch64-i8mm, …) or GPU (sm_90).")
def show(
    kernel: str,
    statics: tuple[str, ...],
    dtypes: tuple[str, ...],
    stage: str,
    dims: tuple[str, ...],
    target: str | None,
) -> None:
    function = choose(kernel, statics, dtypes).lower()
    sizes = pairs(dims, "--dims", function.dims(), read_size)
    match stage:
        case "ir":
            shown = listing(specialise(function, sizes) if sizes else function)
        case "obligations":
            shown = obligations(VerdictCache(cache_dir("verdicts")).verify(function))
        case "llvm" | "asm":
            shown = _cpu(function, sizes, stage, target or "host")
        case _:
            shown = _gpu(function, sizes, stage, target or "sm_90")
    _print(shown.rstrip("\n"), _LANGUAGE.get(stage))


def obligations(verdict: Verdict) -> str:
    """What was to be proved of a kernel, as a table in source order, and what could not be."""
    rows = sorted(verdict.records, key=lambda r: (r.span.line, r.span.column, r.kind))
    counted = Counter((r.kind, str(r.span.line), _source(r.span), r.what, r.how) for r in rows)
    cells = [("kind", "line", "source", "what", "how")]
    cells += [(*row[:4], f"{row[4]} ({count} times)" if count > 1 else row[4]) for row, count in counted.items()]
    widths = [max(len(row[i]) for row in cells) for i in range(5)]
    lines = [
        f"{k:{widths[0]}}  {line:>{widths[1]}}  {source:{widths[2]}}  {what:{widths[3]}}  {how}".rstrip()
        for k, line, source, what, how in cells
    ]
    lines.insert(1, "  ".join("─" * width for width in widths))
    how = ", ".join(
        f"{count} failed" if name == "failed" else f"{count} by {name}" for name, count in sorted(verdict.how().items())
    )
    state = "proved for all sizes" if verdict.proved else f"refused, {len(verdict.findings)} found"
    lines += ["", f"kernel '{verdict.kernel}': {len(rows)} obligations{' (' + how + ')' if how else ''}: {state}"]
    lines += [f"unsafe: {reason}" for reason in verdict.unsafe]
    for finding in verdict.findings:
        lines += ["", render(finding)]
    return "\n".join(lines)


def _source(span: Span) -> str:
    """The beginning of what a span covers."""
    line = linecache.getline(span.file, span.line).rstrip("\n")
    text = line[span.column : span.end_column if span.end_line == span.line else None].strip()
    return text if len(text) <= _SOURCE_WIDTH else f"{text[: _SOURCE_WIDTH - 1]}…"


def _needs(function: Function, sizes: Mapping[str, int]) -> None:
    """ZelligeError ZL0132 if the shape of a tile depends on a dim without a size."""
    missing = [name for name in Instance(function).tile_dims if name not in sizes]
    if missing:
        raise ZelligeError(
            "ZL0132", f"'{function.name}' has tiles of extent {', '.join(missing)}: machine code needs numbers",
            help="--dims " + ",".join(f"{name}=64" for name in missing),
        )  # fmt: skip


def _cpu(function: Function, sizes: Mapping[str, int], stage: str, target: str) -> str:
    from zellige.backends.cpu.compile import listing

    verified = Instance.verified(function).function
    _needs(function, sizes)
    made = listing(verified, sizes, target)
    if stage == "llvm":
        return made.llvm_text
    noise = ("\t.cfi_", "\t.file", "\t.section", "\t.addrsig", "\t.ident")
    return "\n".join(line for line in made.asm_text.splitlines() if not line.startswith(noise))


def _gpu(function: Function, sizes: Mapping[str, int], stage: str, target: str) -> str:
    from zellige.backends.cuda.compiler import compile
    from zellige.backends.cuda.lowering import lower
    from zellige.backends.cuda.options import Options

    if not target.removeprefix("sm_").isdecimal():
        raise ZelligeError("ZL0132", f"there is no GPU target '{target}'", help="--target sm_90")
    verified = Instance.verified(function).function
    _needs(function, sizes)
    if stage == "triton":
        return lower(specialise(verified, sizes), Options()).text
    return compile(verified, sizes, target, cache=Path(cache_dir("cubins"))).ptx


def _print(shown: str, language: str | None) -> None:
    """Coloured on a terminal where the language is known, else as it is."""
    if language is None or not sys.stdout.isatty():
        click.echo(shown)
        return
    from rich.console import Console
    from rich.syntax import Syntax

    Console().print(Syntax(shown, language, background_color="default", word_wrap=False))
