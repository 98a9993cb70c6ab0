"""Where all caches are: here, since the CPU backend, the runtime and the engine keep some, and this package is below them all."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from zellige.diagnostics.errors import ZelligeError


def cache_root() -> Path:
    """`ZELLIGE_CACHE_DIR` if set, else `XDG_CACHE_HOME`/zellige if set, else the platform's convention. Error: ZL0805."""
    try:
        return _root()
    except RuntimeError:  # no HOME, and nobody of this process's number has one
        raise ZelligeError(
            "ZL0805",
            "there is no place for a cache folder: the home folder of this user is not known",
            help="set ZELLIGE_CACHE_DIR to a folder that you can write to",
        ) from None


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
