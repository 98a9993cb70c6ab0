"""Where Zellige keeps what it can make or fetch again."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from zellige.diagnostics import ZelligeError


def cache_dir(*parts: str) -> Path:
    """The user's cache folder for Zellige, or the folder `parts` below it; made if missing.

    `ZELLIGE_CACHE_DIR` if set, else `XDG_CACHE_HOME`/zellige if set, else the platform's convention. Everything below
    may be deleted at any time. Error ZL0805: it cannot be made or written.
    """
    folder = _root().joinpath(*parts)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        writable = os.access(folder, os.W_OK | os.X_OK)
        reason = "no permission to write"
    except OSError as error:
        writable, reason = False, error.strerror or str(error)
    if not writable:
        raise ZelligeError(
            "ZL0805",
            f"the cache folder {folder} cannot be used: {reason}",
            facts={"folder": str(folder)},
            help="set ZELLIGE_CACHE_DIR to a folder that you can write to",
        )
    return folder


def _root() -> Path:
    environ = os.environ
    if chosen := environ.get("ZELLIGE_CACHE_DIR"):
        return Path(chosen).expanduser()
    if (xdg := environ.get("XDG_CACHE_HOME")) and Path(xdg).is_absolute():
        return Path(xdg) / "zellige"
    if sys.platform == "win32":
        local = environ.get("LOCALAPPDATA")
        return (Path(local) if local else Path.home() / "AppData" / "Local") / "zellige" / "cache"
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "zellige"
    return Path.home() / ".cache" / "zellige"
