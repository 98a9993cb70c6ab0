"""`zellige explain`: the long form of an error code, with an example."""

from __future__ import annotations

import click

from zellige.diagnostics.codes import explanation, titles


@click.command()
@click.argument("code", required=False)
def explain(code: str | None) -> None:
    """Explain an error CODE (such as ZL0301), with an example; without a code, list all of them."""
    if code is None:
        for known, title in titles().items():
            click.echo(f"{known}  {title}")
        return
    click.echo(explanation(code))
