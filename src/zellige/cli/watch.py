"""`zellige check --watch`: checks files again when they, or what they import, change.

Each check is a process of its own: a changed module is imported anew, with all that depends on it.
"""

from __future__ import annotations

import ast
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import click

from zellige.cli.kernel_files import python_files

PAUSE = 0.3
"""Seconds between two looks at the files."""


class Changes:
    """What changed below some paths since the last look."""

    def __init__(self, paths: Sequence[Path]) -> None:
        self.paths = paths
        self.seen = self._stamps()

    def _stamps(self) -> dict[Path, tuple[int, int]]:
        stamps = {}
        for path in self.paths:
            for file in python_files(path) if path.exists() else ():
                try:
                    status = file.stat()
                except FileNotFoundError:  # deleted since it was listed
                    continue
                stamps[file] = (status.st_mtime_ns, status.st_size)
        return stamps

    def look(self) -> list[Path]:
        """Files that are new or different, and those that import one of them."""
        now = self._stamps()
        changed = {file for file, stamp in now.items() if self.seen.get(file) != stamp}
        self.seen = now
        stems = {file.stem for file in changed}
        return sorted(file for file in now if file in changed or (stems and imported(file) & stems))


def imported(file: Path) -> set[str]:
    """Last parts of the names of all modules that a file imports; none if it is not Python."""
    try:
        tree = ast.parse(file.read_bytes())
    except (OSError, SyntaxError, ValueError):  # a check of the file itself says what is wrong with it
        return set()
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {part for alias in node.names for part in alias.name.split(".")}
        elif isinstance(node, ast.ImportFrom):
            names |= {*(node.module or "").split("."), *(alias.name for alias in node.names)}
    return names - {""}


def imports_zellige(file: Path) -> bool:
    """Whether a file imports zellige, or cannot be read as Python (which a check of it then says)."""
    try:
        ast.parse(file.read_bytes())
    except (OSError, SyntaxError, ValueError):
        return True
    return "zellige" in imported(file)


def watch_and_check(paths: Sequence[Path], options: Sequence[str]) -> None:
    """Checks everything, then whatever changes, until Ctrl-C. ZelligeError ZL0130 if a path does not exist."""
    for path in paths:
        python_files(path)
    changes = Changes(paths)
    try:
        _check([*paths], options)
        click.echo("watching; Ctrl-C ends", err=True)
        while True:
            time.sleep(PAUSE)
            changed = changes.look()
            if changed:
                click.echo(f"\n{time.strftime('%H:%M:%S')}  {', '.join(file.name for file in changed)}", err=True)
                _check(changed, options)
    except KeyboardInterrupt:
        click.echo(err=True)


def _check(files: Sequence[Path], options: Sequence[str]) -> None:
    sys.stdout.flush()
    subprocess.run([sys.executable, "-m", "zellige", "check", *options, *map(str, files)], check=False)
