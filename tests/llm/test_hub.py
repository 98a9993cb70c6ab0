"""Models by hub id: fetched once, served from the cache without a network, and what is told when that fails."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from fake_hub import FakeHub
from tiny_model import write_tiny_gguf

from zellige.llm.hub import resolve_model
from zellige.llm.tokenizer import load_tokenizer
from zellige.llm.weights.model_file import open_model

SMOLLM2 = Path(__file__).parent.parent / "data" / "transformers" / "smollm2"
WANTED = (".json", ".safetensors")
Run = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[FakeHub]:
    kinds = {kind: write_tiny_gguf(tmp_path / f"tiny-{kind}.gguf", kind=kind).read_bytes() for kind in ("Q8_0", "F16")}
    folder = {file.name: file.read_bytes() for file in SMOLLM2.iterdir() if file.suffix in WANTED}
    folder["tokenizer.json"] = load_tokenizer(open_model(tmp_path / "tiny-F16.gguf"))._backend.to_str().encode()
    made = FakeHub(
        {
            "some/gguf": {f"tiny-{kind}.gguf": content for kind, content in kinds.items()},
            "some/folder": {**folder, "README.md": b"# not needed", "pytorch_model.bin": b"not wanted"},
            "some/empty": {"README.md": b"# nothing"},
        }
    )
    yield made
    made.close()


@pytest.fixture
def generate(hub: FakeHub, tmp_path: Path) -> Run:
    """`zellige generate` in a process whose hub is the fake one, and whose cache starts empty."""

    def run(model: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "zellige", "generate", model, "--prompt", "Hi", "--max-tokens", "4", "--json"],
            env={**os.environ, "HF_ENDPOINT": hub.url, "HF_HOME": str(tmp_path / "hub"), "HF_HUB_DISABLE_TELEMETRY": "1"},
            capture_output=True, text=True,
        )  # fmt: skip

    return run


@pytest.mark.parametrize(
    ("model", "fetched"),
    [
        ("some/gguf", ["tiny-Q8_0.gguf"]),
        ("some/gguf:F16", ["tiny-F16.gguf"]),
        ("some/folder", sorted(f.name for f in SMOLLM2.iterdir() if f.suffix in WANTED)),
    ],
    ids=["best gguf", "named gguf", "safetensors"],
)  # fmt: skip
def test_a_model_is_fetched_once_and_then_served_without_a_network(
    hub: FakeHub, generate: Run, model: str, fetched: list[str]
) -> None:
    first = generate(model)
    assert first.returncode == 0, first.stderr
    assert sorted({path.rpartition("/")[2] for path in hub.asked if "/resolve/" in path}) == fetched
    hub.close()
    second = generate(model)
    assert second.returncode == 0, second.stderr
    assert first.stdout.partition('"timings"')[0] == second.stdout.partition('"timings"')[0] != ""


@pytest.mark.parametrize(
    ("model", "code", "words"),
    [
        ("some/stranger", "ZL0807", "no model some/stranger"),
        ("some/gguf:Q2_K", "ZL0807", "tiny-F16.gguf, tiny-Q8_0.gguf"),
        ("some/empty", "ZL0807", "files: README.md"),
    ],
)
def test_what_the_hub_does_not_have_is_told(generate: Run, model: str, code: str, words: str) -> None:
    done = generate(model)
    assert done.returncode == 1 and f"error[{code}]" in done.stderr and words in done.stderr, done.stderr


def test_without_a_network_and_a_cache_it_is_the_network(hub: FakeHub, generate: Run) -> None:
    hub.close()
    done = generate("some/gguf")
    assert done.returncode == 1 and "error[ZL0802]" in done.stderr and "help: check the network" in done.stderr


@pytest.mark.parametrize("name", ["~nobody-of-that-name/x.gguf", "a" * 5000, "a/" * 3000 + "x.gguf", "a\0b"])
def test_what_cannot_be_a_path_is_no_model(name: str, refused) -> None:
    with refused("ZL0601"):
        resolve_model(name)
