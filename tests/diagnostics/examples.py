"""The examples in the explanations of codes: what kinds there are, and how each is run as its reader would run it.

- ``python refused`` and ``python accepted``: a file that ``zellige check`` is given;
- ``python raises`` and ``python runs``: a program, run in an empty folder;
- ``python NAME.py``: a file beside the commands that follow;
- ``console``: lines ``$ command``, run in that folder, which also has the models of ``MODELS``.
"""

from __future__ import annotations

import contextlib
import io
import re
import runpy
import shlex
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from zellige.cli import cli
from zellige.cli.kernel_files import Checked, check_kernel, kernels_in, load, refusal
from zellige.diagnostics import ZelligeError
from zellige.diagnostics.codes import CODES, explanation
from zellige.diagnostics.render import render
from zellige.verify import verify

MODELS: dict[str, dict[str, Any]] = {
    "model.gguf": {},
    "base.gguf": {"template": None},
    "mxfp4.gguf": {"kind": "MXFP4"},
    "incomplete.gguf": {"leave_out": ["blk.1.attn_k.weight", "blk.1.attn_q.weight"]},
    "reshaped.gguf": {"reshape": ["blk.0.attn_q.weight"]},
    "poisoned.gguf": {"poison": ["blk.1.ffn_up.weight"]},
    "other-tokenizer.gguf": {"pre": "unheard-of"},
}
"""Small random models, by what is wrong with them: arguments of ``write_tiny_gguf``."""

_BLOCK = re.compile(r"^```(python [\w.]+|console)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Example:
    """One block that is meant to get its page's code (or, with kind accepted or runs, no code)."""

    code: str
    kind: str
    body: str
    files: tuple[tuple[str, str], ...] = ()


def examples(code: str) -> list[Example]:
    """The examples on the page of a code, in order."""
    found, files = [], []
    for info, body in _BLOCK.findall(explanation(code)):
        kind = info.removeprefix("python ")
        if kind.endswith(".py"):
            files.append((kind, body))
        else:
            found.append(Example(code, kind, body, tuple(files)))
    return found


CORRECT = ("accepted", "runs")
"""Kinds that get no code."""
ALL = [example for code in CODES for example in examples(code)]


def shown(example: Example, folder: Path) -> tuple[set[str], str]:
    """The codes that an example gets, and the text that its reader sees."""
    for name, text in example.files:
        (folder / name).write_text(text)
    with contextlib.chdir(folder):
        match example.kind:
            case "refused" | "accepted":
                return _checked(example.body, folder / "example.py")
            case "raises" | "runs":
                return _run(example.body, folder / "example.py")
            case "console":
                return _console(example.body)
    raise ValueError(f"{example.code}: there is no kind of example '{example.kind}'")


def _checked(source: str, path: Path) -> tuple[set[str], str]:
    path.write_text(source)
    try:
        results = [c for k in kernels_in(load(path)) for c in check_kernel(k, verify)]
    except ZelligeError as error:
        results = [Checked(path.name, str(path), 1, "", refusal(path.name, error))]
    findings = [f for c in results for f in c.verdict.findings]
    return {f.code for f in findings}, "\n\n".join(map(render, findings))


def _run(source: str, path: Path) -> tuple[set[str], str]:
    path.write_text(source)
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            runpy.run_path(str(path))
    except ZelligeError as error:
        return {error.code}, error.render()
    return set(), ""


def _console(lines: str) -> tuple[set[str], str]:
    """Runs ``$ [NAME=value] zellige …``, ``$ echo TEXT | zellige …`` and ``$ echo TEXT > FILE``."""
    from click.testing import CliRunner

    seen = []
    for line in lines.splitlines():
        assert line.startswith("$ "), f"not a command: {line}"
        seen.append(line)
        words, typed = shlex.split(line[2:]), None
        if words[0] == "echo" and words[2] == ">":
            Path(words[3]).write_text(words[1])
            continue
        if words[0] == "echo":
            typed, words = words[1] + "\n", words[3:]
        environment = {}
        while "=" in words[0]:
            name, _, value = words.pop(0).partition("=")
            environment[name] = value
        assert words[0] == "zellige", f"not a command that is run here: {line}"
        result = CliRunner(env=environment).invoke(cli, words[1:], input=typed)
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        seen.append(result.stderr)
    text = "\n".join(seen)
    return set(re.findall(r"error\[(ZL\d{4})\]", text)), text


@pytest.fixture
def example_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the models. What they compute is the oracle's, in NumPy: these tests are about messages."""
    sys.path.insert(0, str(Path(__file__).parent.parent / "llm"))
    from numpy_llama import NumpyLlama
    from tiny_model import write_tiny_gguf

    import zellige.llm.api as api
    from zellige.llm.weights.model_file import ModelFile

    def oracle(model: ModelFile, *, context: int, kv_tokens: int) -> NumpyLlama:
        return NumpyLlama(model, num_pages=-(-kv_tokens // 16), max_context=context)

    monkeypatch.setattr(api, "_kernel_runner", oracle)
    for name, options in MODELS.items():
        write_tiny_gguf(tmp_path / name, **options)
    return tmp_path
