from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from numpy_llama import NumpyLlama
from tiny_model import write_tiny_gguf

from zellige.diagnostics import ZelligeError
from zellige.llm.default_model import default_model
from zellige.llm.weights.model_file import ModelFile, open_model

REFERENCE = Path(__file__).parent.parent / "data" / "smollm2-135m-q4_1.json"


@pytest.fixture(scope="session")
def reference() -> list[dict[str, Any]]:
    """Prompts, ids, greedy continuations and log-probabilities by transformers in float32."""
    cases: list[dict[str, Any]] = json.loads(REFERENCE.read_text("utf-8"))["cases"]
    return cases


@pytest.fixture(scope="session")
def tiny_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_gguf(tmp_path_factory.mktemp("tiny") / "tiny.gguf")


@pytest.fixture(scope="session")
def tiny(tiny_path: Path) -> ModelFile:
    return open_model(tiny_path)


@pytest.fixture(scope="session")
def smollm2() -> ModelFile:
    """The default model, fetched into the user's cache when it is not there."""
    return open_model(default_model())


@pytest.fixture(scope="session")
def smollm2_oracle(smollm2: ModelFile) -> NumpyLlama:
    return NumpyLlama(smollm2, num_pages=64)


@pytest.fixture
def refused() -> Callable[..., Any]:
    """`with refused("ZL0601") as caught:` — the block must raise that error."""

    def expect(code: str) -> Any:
        return pytest.raises(ZelligeError, check=lambda error: error.code == code)

    return expect
