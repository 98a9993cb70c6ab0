from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent.parent / "llm"))

from click.testing import CliRunner, Result
from numpy_llama import NumpyLlama
from step_watch import Steps
from tiny_model import write_tiny_gguf

import zellige.llm.api as api
from zellige.cli import cli
from zellige.llm.weights.model_file import ModelFile


@pytest.fixture(scope="session")
def tiny_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_gguf(tmp_path_factory.mktemp("tiny") / "tiny.gguf")


@pytest.fixture
def steps(monkeypatch: pytest.MonkeyPatch) -> Steps:
    """Commands compute with the NumPy oracle in place of kernels: these tests are about the command line."""
    steps = Steps()

    class Watched(NumpyLlama):
        def step(self, batch):
            steps.count += 1
            steps.before(steps.count)
            return super().step(batch)

    def oracle(model: ModelFile, *, context: int, kv_tokens: int) -> NumpyLlama:
        return Watched(model, num_pages=-(-kv_tokens // 16), max_context=context)

    monkeypatch.setattr(api, "_kernel_runner", oracle)
    return steps


@pytest.fixture
def zellige(steps: Steps) -> Callable[..., Result]:
    """Runs `zellige` with arguments and standard input, in this process."""

    def run(*arguments: object, input: str | None = None) -> Result:
        result = CliRunner().invoke(cli, [str(argument) for argument in arguments], input=input)
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        return result

    return run
