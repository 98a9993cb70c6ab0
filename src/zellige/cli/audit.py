"""`zellige audit`: every kernel of the library, whether and how it is proved, and what opts out of proof."""

from __future__ import annotations

import importlib
import json
import pkgutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

from zellige import kernels
from zellige.cli.kernel_files import Verify, check_kernel, kernels_in
from zellige.runtime.kernel import Kernel
from zellige.runtime.paths import cache_dir
from zellige.verify import VerdictCache, verify


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@click.option("--no-cache", is_flag=True, help="Prove everything again.")
@click.pass_context
def audit(ctx: click.Context, as_json: bool, no_cache: bool) -> None:
    """Prove every kernel of the library and list how it was done.

    Exit code 0: all proved; 1: some kernel is refused.
    """
    decide: Verify = verify if no_cache else VerdictCache(cache_dir("verdicts")).verify
    rows = [entry(kernel, decide) for kernel in library()]
    if as_json:
        click.echo(json.dumps({"kernels": rows}, indent=2))
    else:
        _print(rows)
    ctx.exit(0 if all(row["proved"] for row in rows) else 1)


def library() -> Iterator[Kernel]:
    """The kernels of ``zellige.kernels``, module by module."""
    for module in pkgutil.iter_modules(kernels.__path__):
        yield from kernels_in(importlib.import_module(f"{kernels.__name__}.{module.name}"))


def entry(kernel: Kernel, decide: Verify) -> dict[str, Any]:
    """What the audit says of one kernel, over all its variants: counts add up, and it is proved if every variant is."""
    results = list(check_kernel(kernel, decide))
    how: dict[str, int] = {}
    for result in results:
        for name, count in result.verdict.how().items():
            how[name] = how.get(name, 0) + count
    root = Path(kernels.__path__[0]).parents[1]
    return {
        "name": kernel.name,
        "file": str(Path(results[0].file).relative_to(root)),
        "line": results[0].line,
        "proved": all(r.verdict.proved for r in results),
        "variants": len(results),
        "obligations": sum(len(r.verdict.records) for r in results),
        "how": how,
        "seconds": round(sum(r.verdict.seconds for r in results), 6),
        "unsafe": sum(len(r.verdict.unsafe) for r in results),
        "codes": sorted({f.code for r in results for f in r.verdict.findings}),
    }


def _print(rows: list[dict[str, Any]]) -> None:
    width = max((len(row["name"]) for row in rows), default=6)
    click.echo(
        f"{'kernel':{width}}  {'verdict':8} {'variants':>8} {'obligations':>11} {'unsafe':>6}  {'seconds':>7}  how"
    )
    for row in rows:
        how = ", ".join(f"{count} {name}" for name, count in sorted(row["how"].items()))
        verdict = "proved" if row["proved"] else "refused"
        click.echo(
            f"{row['name']:{width}}  {verdict:8} {row['variants']:8} {row['obligations']:11} {row['unsafe']:6}  "
            f"{row['seconds']:7.3f}  {how}"
        )
    proved, unsafe = sum(row["proved"] for row in rows), sum(row["unsafe"] for row in rows)
    click.echo(f"\n{proved} of {len(rows)} kernels proved, {unsafe} unsafe blocks")
