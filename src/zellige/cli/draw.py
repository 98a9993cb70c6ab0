"""`zellige draw`: a picture of which program writes which element, and of what is wrong."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import click

from zellige.cli.kernel_choice import KERNEL_HELP, Choice, choose, kernel_options, pairs, read_size
from zellige.cli.touched import touch
from zellige.diagnostics import ZelligeError
from zellige.diagnostics.drawing import Drawing, Mark, text
from zellige.diagnostics.findings import Finding
from zellige.runtime.paths import cache_dir
from zellige.verify import VerdictCache

SIZES = (5, 7, 4, 6, 3) * 8
"""For dims that nobody gave a size."""


@click.command(
    help=f"""Draw which program writes which element of KERNEL's outputs, at small sizes.

    Gaps, overlaps and lanes out of bounds are marked. A refused kernel is drawn at its counterexample's sizes, unless
    --sizes says otherwise; small tiles (--static) show at small sizes what large ones do at large sizes.

    {KERNEL_HELP}
    \b
    Examples:
      zellige draw rms_norm --sizes T=4,D=6
      zellige draw my_kernels.py:matmul --sizes M=5,N=7,K=3 --static BM=2,BN=4,BK=2 --output matmul.svg
      zellige draw refused.py:shift
    """
)
@kernel_options
@click.option("--sizes", multiple=True, metavar="M=5,N=7", help="The extents to draw it at.")
@click.option(
    "--output", type=click.Path(path_type=Path, dir_okay=False), metavar="FILE.svg", help="Write an SVG file."
)
@click.option(
    "--seed", type=click.IntRange(0), default=0, show_default=True, help="Of the random contents of index arrays."
)
def draw(
    kernel: str,
    statics: tuple[str, ...],
    dtypes: tuple[str, ...],
    sizes: tuple[str, ...],
    output: Path | None,
    seed: int,
) -> None:
    drawing = drawn(choose(kernel, statics, dtypes), sizes, seed)
    if output is None:
        click.echo(text(drawing, _style) if sys.stdout.isatty() else text(drawing))
        return
    from zellige.diagnostics.drawing_svg import svg

    if output.suffix.lower() != ".svg":
        raise ZelligeError("ZL0133", f"{output} is not an .svg file", help="--output picture.svg")
    try:
        output.write_text(svg(drawing), encoding="utf-8")
    except OSError as error:
        raise ZelligeError("ZL0133", f"{output} cannot be written: {error.strerror}", help="another --output") from None
    click.echo(f"{output}: {drawing.title}")


def drawn(choice: Choice, sizes: tuple[str, ...], seed: int) -> Drawing:
    """The picture of a kernel. ZelligeError ZL0132, ZL0133."""
    function = choice.lower()
    given = pairs(sizes, "--sizes", function.dims(), read_size)
    finding = next(iter(VerdictCache(cache_dir("verdicts")).verify(function).findings), None)
    dims, elements, scalars = _counterexample(finding) if finding and not given else ({}, {}, {})
    dims |= given
    if finding and not given:  # some findings hold at any size
        dims = {**dict(zip(sorted(function.dims()), SIZES, strict=False)), **dims}
    missing = sorted(function.dims() - dims.keys())
    if missing:
        raise ZelligeError(
            "ZL0133", f"'{function.name}' needs sizes for {', '.join(missing)}",
            help="--sizes " + ",".join(f"{name}={size}" for name, size in zip(missing, SIZES, strict=False)),
        )  # fmt: skip
    used = {name: dims[name] for name in sorted(function.dims())}
    touched = touch(function, used, seed, elements, scalars)
    fixed = {**choice.statics, **{k: v.name for k, v in choice.dtypes.items()}}
    title = f"{function.name} · {', '.join(f'{k} = {v}' for k, v in used.items())}"
    if fixed:
        title += f" · {', '.join(f'{k} = {v}' for k, v in fixed.items())}"
    subtitle = f"refused: {finding.code}, {finding.message}" if finding else "proved for all sizes"
    if finding and given and (found := finding.facts.get("sizes")):  # the finding's numbers are not the picture's
        subtitle += f" (at {found})"
    return Drawing(title, subtitle, touched.panels, touched.programs, touched.stopped)


def _counterexample(finding: Finding) -> tuple[dict[str, int], dict[str, dict[tuple[int, ...], int]], dict[str, int]]:
    """Sizes, elements of index arrays, and scalars that a finding names."""
    sizes = {n: int(v) for n, v in re.findall(r"(\w+) = (\d+)", str(finding.facts.get("sizes", "")))}
    elements: dict[str, dict[tuple[int, ...], int]] = {}
    scalars: dict[str, int] = {}
    for name, value in finding.facts.items():
        if isinstance(value, int) and name.startswith("scalar "):
            scalars[name.removeprefix("scalar ")] = value
        elif isinstance(value, int) and (found := re.fullmatch(r"(\w+)\[([\d, ]*)\]", name)):
            at = tuple(int(i) for i in found[2].split(",") if i.strip())
            elements.setdefault(found[1], {})[at] = value
    return sizes, elements, scalars


_ANSI = (75, 215, 114, 141, 80, 222, 212, 150, 105, 209, 79)


def _style(symbol: str, program: int | None, mark: Mark | None) -> str:
    """A symbol in its program's colour; red where something is wrong."""
    if mark is not None:
        return click.style(symbol, fg="bright_white", bg="red", bold=True)
    return symbol if program is None else click.style(symbol, fg=_ANSI[program % len(_ANSI)])
