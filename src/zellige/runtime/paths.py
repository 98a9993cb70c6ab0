"""Where Zellige keeps what it can make or fetch again."""

from __future__ import annotations

import os
from pathlib import Path

from zellige.diagnostics import ZelligeError
from zellige.diagnostics.cache_root import cache_root


def cache_dir(*parts: str) -> Path:
    """The user's cache folder for Zellige, or the folder `parts` below it; made if missing.

    Everything below may be deleted at any time. Error ZL0805: it cannot be made or written.
    """
    folder = cache_root().joinpath(*parts)
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
