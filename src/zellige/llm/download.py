"""Fetches one file over HTTP, resumably: a killed download goes on where it stopped.

Bytes go to `<target>.part`; when all are there and their SHA-256 is right, that file is renamed to its target. So the
target is either absent or whole, whatever happens in between.
"""

from __future__ import annotations

import errno
import hashlib
import os
import ssl
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from http.client import HTTPException, HTTPResponse
from pathlib import Path
from typing import BinaryIO

from zellige.diagnostics import ZelligeError

_CHUNK = 1 << 18
_TIMEOUT_S = 30.0
_ATTEMPTS = 5

Progress = Callable[[int, int | None], None]  # (bytes present, bytes in all if known)


class RefusedError(Exception):
    """The server wants credentials that only the package installer has (HTTP 401, 403 or 407)."""


def download(url: str, target: Path, *, sha256: str, progress: Progress = lambda done, total: None) -> None:
    """Fetch `url` to `target`. Errors: ZL0802 (network), ZL0803 (wrong checksum, twice), ZL0804 (disk full)."""
    part = target.with_name(target.name + ".part")
    for last in (False, True):
        _fetch(url, part, progress)
        found = file_sha256(part)
        if found == sha256:
            os.replace(part, target)
            return
        part.unlink()
        if last:
            raise ZelligeError(
                "ZL0803",
                f"the download of {target.name} does not have the checksum that the package index states",
                facts={"expected": sha256, "found": found},
                help="a proxy or mirror may have changed it: try again later, or from another network",
            )


def file_sha256(path: Path) -> str:
    """SHA-256 of a file's content, in hexadecimal."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def disk_full(path: Path, error: OSError) -> ZelligeError | None:
    """The error for a full disk, if that is what `error` says."""
    if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return None
    return ZelligeError(
        "ZL0804",
        f"no space left for {path.name}",
        facts={"folder": str(path.parent)},
        help="free some space, or set ZELLIGE_CACHE_DIR to a folder on another disk; what was fetched is kept",
    )


def require_space(folder: Path, needed: int, what: str) -> None:
    """Raise ZL0804 unless `folder`'s disk has `needed` bytes free."""
    import shutil

    free = shutil.disk_usage(folder).free
    if free < needed:
        raise ZelligeError(
            "ZL0804",
            f"{what} needs {needed / 1e6:,.0f} MB of disk, {free / 1e6:,.0f} MB are free",
            facts={"folder": str(folder), "bytes needed": needed, "bytes free": free},
            help="free some space, or set ZELLIGE_CACHE_DIR to a folder on another disk",
        )


def _fetch(url: str, part: Path, progress: Progress) -> None:
    """Bring `part` to the whole length of `url`, over several attempts as long as the network allows."""
    failures = 0
    while True:
        before = part.stat().st_size if part.exists() else 0
        try:
            if _attempt(url, part, before, progress):
                return
            reason = "the connection closed early"
        except urllib.error.HTTPError as error:
            if error.code in (401, 403, 407):
                raise RefusedError(f"HTTP {error.code}") from None
            if error.code == 416:  # nothing lies beyond what we have: complete, or from another file
                return
            reason = f"HTTP {error.code} {error.reason}"
        except (urllib.error.URLError, TimeoutError, ConnectionError, HTTPException, ssl.SSLError) as error:
            reason = str(getattr(error, "reason", error)) or type(error).__name__
        except OSError as error:
            raise disk_full(part, error) or error from None
        after = part.stat().st_size if part.exists() else 0
        failures = 0 if after > before else failures + 1
        if failures >= _ATTEMPTS:
            raise ZelligeError(
                "ZL0802",
                f"cannot download {part.name.removesuffix('.part')}: {reason}",
                facts={"bytes so far": after},
                help="check the network and run the same command again: it goes on where it stopped",
            )
        time.sleep(min(0.2 * 2**failures, 5.0))


def _attempt(url: str, part: Path, have: int, progress: Progress) -> bool:
    """One request for what is missing; True when the end was reached."""
    request = urllib.request.Request(url, headers={"Range": f"bytes={have}-"} if have else {})
    with urllib.request.urlopen(request, timeout=_TIMEOUT_S, context=_tls()) as response:
        if have and getattr(response, "status", None) != 206:
            have = 0  # the server sends the whole file
        length = response.headers.get("Content-Length")
        total = None if length is None else have + int(length)
        with open(part, "r+b" if have else "wb") as file:
            file.seek(have)
            done = _copy(response, file, have, total, progress)
    return total is None or done >= total


def _copy(response: HTTPResponse, file: BinaryIO, done: int, total: int | None, progress: Progress) -> int:
    progress(done, total)
    while chunk := response.read(_CHUNK):
        file.write(chunk)
        done += len(chunk)
        progress(done, total)
    return done


def _tls() -> ssl.SSLContext:
    """Trust what the user's other tools trust."""
    named = (os.environ.get(name) for name in ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "PIP_CERT"))
    bundle = next((path for path in named if path and os.path.isfile(path)), None)
    return ssl.create_default_context(cafile=bundle)
