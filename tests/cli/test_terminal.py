"""`zellige chat` at a terminal of its own: the prompt, Ctrl-C in the middle of an answer, Ctrl-D."""

from __future__ import annotations

import os
import pty
import select
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from tiny_model import write_tiny_gguf

PATIENCE_S = 120.0
"""The first answer compiles the kernels, and the machine may be busy with other tests."""


class Terminal:
    """A process at the other end of a pseudo-terminal."""

    def __init__(self, *command: str) -> None:
        self._ours, theirs = pty.openpty()
        self.process = subprocess.Popen(
            command, stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True,
            preexec_fn=lambda: os.close(os.open(os.ttyname(0), os.O_RDWR)),  # makes it the terminal that Ctrl-C comes from
            env={**os.environ, "TERM": "dumb"},
        )  # fmt: skip
        os.close(theirs)
        self.seen = ""

    def wait_for(self, text: str, *, after: int = 0) -> int:
        """Reads until ``text`` has come, past place ``after`` of what was seen; the place behind it."""
        while (at := self.seen.find(text, after)) < 0:
            self._read()
        return at + len(text)

    def wait_for_more(self, count: int) -> None:
        """Reads until ``count`` characters more have come."""
        wanted = len(self.seen) + count
        while len(self.seen) < wanted:
            self._read()

    def _read(self) -> None:
        ready, _, _ = select.select([self._ours], [], [], PATIENCE_S)
        assert ready, f"nothing after {self.seen[-300:]!r}"
        self.seen += os.read(self._ours, 4096).decode(errors="replace")

    def type(self, keys: str) -> None:
        os.write(self._ours, keys.encode())

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        os.close(self._ours)


@pytest.fixture
def chat(tmp_path: Path) -> Iterator[Terminal]:
    """A chat whose answers go on for many seconds."""
    model = write_tiny_gguf(tmp_path / "tiny.gguf", context=16384)
    terminal = Terminal(
        sys.executable, "-m", "zellige", "chat", str(model), "--context", "16384", "--max-tokens", "16000"
    )
    yield terminal
    terminal.close()


def test_ctrl_c_stops_the_answer_and_keeps_the_conversation_and_ctrl_d_leaves(chat: Terminal) -> None:
    at = chat.wait_for("> ")
    chat.type("count for me\n")
    at = chat.wait_for("count for me", after=at)
    chat.wait_for("\n", after=at)
    chat.wait_for_more(12)  # the answer has begun
    chat.type("\x03")
    at = chat.wait_for("stopped]", after=at)
    at = chat.wait_for("> ", after=at)
    chat.type("/stats\n")
    at = chat.wait_for("2 messages", after=at)
    chat.wait_for("> ", after=at)
    chat.type("\x04")
    assert chat.process.wait(PATIENCE_S) == 0
