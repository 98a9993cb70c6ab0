"""`zellige check`: proves the kernels in files and folders, or shows why they are refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from time import perf_counter

import click

from zellige import __version__
from zellige.cli.kernel_files import Checked, Verify, check_kernel, kernels_in, load, python_files, refusal
from zellige.cli.watch import imports_zellige, watch_and_check
from zellige.diagnostics import ZelligeError
from zellige.diagnostics.render import render
from zellige.diagnostics.sarif import sarif
from zellige.ir.ops import Function
from zellige.runtime.paths import cache_dir
from zellige.verify import Verdict, VerdictCache, verify


@click.command()
@click.argument("paths", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--format", "form", type=click.Choice(["text", "json", "sarif"]), default="text", help="What to print.")
@click.option(
    "--emit-smt", type=click.Path(path_type=Path, file_okay=False), help="Write every solver query here (SMT-LIB 2)."
)
@click.option("--no-cache", is_flag=True, help="Prove everything again.")
@click.option("--skip-others", is_flag=True, help="Leave out files that do not import zellige.")
@click.option("--watch", is_flag=True, help="Then check again whatever changes, until Ctrl-C.")
@click.pass_context
def check(
    ctx: click.Context,
    paths: tuple[Path, ...],
    form: str,
    emit_smt: Path | None,
    no_cache: bool,
    skip_others: bool,
    watch: bool,
) -> None:
    """Prove every kernel in PATHS (files or folders) safe for all sizes.

    Exit code 0: all proved; 1: some kernel is refused, or a file cannot be loaded.

    \b
    Examples:
      zellige check my_kernels.py
      zellige check src/ --format json
      zellige check src/ --format sarif > kernels.sarif    for code-scanning services and editors
      zellige check src/ --watch
    """
    if watch:
        options = ["--format", form, *(["--emit-smt", str(emit_smt)] if emit_smt else [])]
        options += [flag for flag, on in (("--no-cache", no_cache), ("--skip-others", skip_others)) if on]
        watch_and_check(paths, options)
        return
    started = perf_counter()
    decide = _decider(emit_smt, no_cache)
    files = [file for path in paths for file in python_files(path) if not skip_others or imports_zellige(file)]
    checked = [result for file in files for result in _check_file(file, decide)]
    if form == "sarif":
        click.echo(json.dumps(sarif([f for c in checked for f in c.verdict.findings], __version__), indent=2))
    elif form == "json":
        click.echo(json.dumps({"kernels": [c.as_dict() for c in checked]}, indent=2))
    else:
        _print(checked, perf_counter() - started)
    ctx.exit(0 if all(c.verdict.proved for c in checked) else 1)


def _decider(emit_smt: Path | None, no_cache: bool) -> Verify:
    if emit_smt is not None:
        emit_smt.mkdir(parents=True, exist_ok=True)
        return lambda function: verify(function, _writer(emit_smt, function))
    if no_cache:
        return verify
    return VerdictCache(cache_dir("verdicts")).verify


def _writer(folder: Path, function: Function) -> Callable[[str], None]:
    earlier = len(list(folder.glob(f"{function.name}-*.smt2")))
    numbers = iter(range(earlier, 1_000_000))

    def write(query: str) -> None:
        (folder / f"{function.name}-{next(numbers):04}.smt2").write_text(query)

    return write


def _check_file(path: Path, decide: Verify) -> list[Checked]:
    try:
        kernels = kernels_in(load(path))
    except ZelligeError as error:
        verdict: Verdict = refusal(path.name, error)
        return [Checked(path.name, str(path), error.span.line if error.span else 1, "", verdict)]
    return [result for kernel in kernels for result in check_kernel(kernel, decide)]


def _print(checked: list[Checked], seconds: float) -> None:
    shown: set[tuple[str, str]] = set()
    for c in checked:
        if c.verdict.proved or (c.file, c.name) in shown:
            continue
        shown.add((c.file, c.name))
        with_ = f" (with {c.variant})" if c.variant else ""
        click.echo(f"kernel '{c.name}' is refused{with_}:\n")
        for finding in c.verdict.findings:
            click.echo(render(finding) + "\n")
    names = {(c.file, c.name) for c in checked}
    variants = "" if len(checked) == len(names) else f" in {len(checked)} variants"
    count = "1 kernel" if len(names) == 1 else f"{len(names)} kernels"
    proved = (
        f"{len(names) - len(shown)} proved, {len(shown)} refused"
        if shown
        else "all proved"
        if names
        else "nothing to prove"
    )
    click.echo(f"{count}{variants}: {proved} ({seconds:.2f} s)")
