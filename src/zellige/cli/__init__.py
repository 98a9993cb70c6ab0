"""The command line: `zellige chat | generate | score | …`.

One module a command; `COMMANDS` says which, and each loads when it is run, so that `zellige --help` costs nothing.
To add a command: a module with a click command, and one line in the table. May import everything.
"""

from __future__ import annotations

import errno
import importlib
import os
import sys
from typing import Any

import click

from zellige.diagnostics import ZelligeError

# name -> (module, attribute, what `zellige --help` says)
COMMANDS: dict[str, tuple[str, str, str]] = {
    "chat": ("zellige.cli.chat", "chat", "Talk with a model."),
    "generate": ("zellige.cli.generate", "generate", "Continue a text or a list of token ids."),
    "check": ("zellige.cli.check", "check", "Prove the kernels in files or folders."),
    "explain": ("zellige.cli.explain", "explain", "Explain an error code."),
    "audit": ("zellige.cli.audit", "audit", "Prove every kernel of the library, and say how."),
    "show": ("zellige.cli.show", "show", "What becomes of a kernel, stage by stage."),
    "draw": ("zellige.cli.draw", "draw", "A picture of which program writes what."),
    "plan": ("zellige.cli.plan", "plan", "What of a model fits into memory."),
    "profile": ("zellige.cli.profile", "profile", "Where the time of a step goes."),
    "tune": ("zellige.cli.tune", "tune", "Measure tiles on this machine and keep the fastest."),
    "bench": ("zellige.cli.bench", "bench", "Measure this machine, or a model on it."),
    "score": ("zellige.cli.score", "score", "Log-probabilities of given token ids."),
}


class LazyGroup(click.Group):
    """A group whose commands load when they are run."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module, attribute, _ = COMMANDS[cmd_name]
        command: click.Command = getattr(importlib.import_module(module), attribute)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, _, text) in COMMANDS.items()])

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except ZelligeError as error:
            click.echo(error.render(), err=True)
            ctx.exit(1)


@click.group(
    cls=LazyGroup,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="`zellige COMMAND --help` explains a command, with examples.",
)
@click.version_option(package_name="zellige", message="zellige %(version)s")
def cli() -> None:
    """Zellige: tile kernels that are proved safe before they run, and a language-model engine made of them.

    \b
    Examples:
      zellige chat                                 talk with the default model (98 MB, fetched once)
      zellige chat --prompt "Why is the sky blue?"
      zellige generate --prompt "Once upon a time" --max-tokens 64
    """


def main() -> None:
    """Entry point. Exit code 0: done; 1: an error, told on stderr; 2: wrong usage; 130: interrupted."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:  # the shell closed it
            setattr(sys, name, open(os.devnull, mode))  # noqa: SIM115
    # bytes that are not text are told by who reads them; what a terminal cannot show is "?"
    for stream, errors in ((sys.stdin, "surrogateescape"), (sys.stdout, "replace"), (sys.stderr, "replace")):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors=errors)
    code: Any
    try:
        code = cli.main(standalone_mode=False)
    except click.ClickException as error:
        error.show()
        code = error.exit_code
    except (click.Abort, KeyboardInterrupt):  # click makes the one of the other, after a new line
        click.echo("interrupted", err=True)
        code = 130
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
        wrong = ZelligeError(
            "ZL0804", f"output cannot be written: {error.strerror}", help="make room, or write elsewhere"
        )
        click.echo(wrong.render(), err=True)
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # what is left in the buffer would fail once more at the end
        code = 1
    sys.exit(code if isinstance(code, int) else 0)
