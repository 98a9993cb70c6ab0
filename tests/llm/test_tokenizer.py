"""Text to ids and back."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_model import write_tiny_gguf

from zellige.llm.tokenizer import Tokenizer, load_tokenizer
from zellige.llm.weights.model_file import ModelFile, open_model


@pytest.fixture(scope="module")
def tokenizer(tiny: ModelFile) -> Tokenizer:
    return load_tokenizer(tiny)


@pytest.fixture(scope="module")
def smollm2_tokenizer(smollm2: ModelFile) -> Tokenizer:
    return load_tokenizer(smollm2)


@pytest.mark.model
def test_every_reference_prompt_has_the_ids_that_transformers_gives(smollm2: ModelFile, reference: list[Any]) -> None:
    tokenizer = load_tokenizer(smollm2)
    for case in reference:
        assert tokenizer.encode(case.get("text") or case["rendered"]) == case["ids"]
        assert tokenizer.decode(case["greedy"], show_control=True) == case["decoded"]


@pytest.mark.model
# The model's vocabulary lacks some control characters and bytes that only unassigned characters have.
@settings(max_examples=100, deadline=None)
@given(text=st.text(st.characters(min_codepoint=32, max_codepoint=0x1FAFF, exclude_categories=["Cs"]), max_size=40))
def test_the_default_models_text_survives_the_round_trip(smollm2_tokenizer: Tokenizer, text: str) -> None:
    tokenizer = smollm2_tokenizer
    assert tokenizer.decode(tokenizer.encode(text), show_control=True) == text


@settings(max_examples=200, deadline=None)
@given(text=st.text(max_size=40))
def test_text_survives_the_round_trip(tokenizer: Tokenizer, text: str) -> None:
    assert tokenizer.decode(tokenizer.encode(text), show_control=True) == text


@settings(max_examples=200, deadline=None)
@given(text=st.text(max_size=40))
def test_streamed_text_never_shows_half_a_character(tokenizer: Tokenizer, text: str) -> None:
    if "�" in text:
        return
    decoder = tokenizer.stream()
    pieces = [decoder.push(i) for i in tokenizer.encode(text)] + [decoder.finish()]
    assert not any("�" in piece for piece in pieces)
    assert "".join(pieces) == tokenizer.decode(tokenizer.encode(text))


@settings(max_examples=200, deadline=None)
@given(ids=st.lists(st.integers(0, 268), max_size=20))
def test_streaming_any_tokens_gives_what_decoding_them_at_once_gives(tokenizer: Tokenizer, ids: list[int]) -> None:
    decoder = tokenizer.stream()
    assert "".join([*(decoder.push(i) for i in ids), decoder.finish()]) == tokenizer.decode(ids)


def test_a_character_of_four_bytes_comes_with_its_last_byte(tokenizer: Tokenizer) -> None:
    ids = tokenizer.encode("🧩")
    assert len(ids) == 4
    decoder = tokenizer.stream()
    assert [decoder.push(i) for i in ids] == ["", "", "", "🧩"]


def test_control_tokens_are_one_token_and_are_not_shown(tokenizer: Tokenizer) -> None:
    assert tokenizer.encode("<|im_end|>") == [2]
    assert tokenizer.decode([2]) == ""
    assert tokenizer.decode([2], show_control=True) == "<|im_end|>"
    assert tokenizer.eos_ids == {2}


@pytest.mark.parametrize(
    ("pre", "text", "expected"),
    [
        ("smollm", "123", ["1", "2", "3"]),  # each digit alone, although "12" and "123" are in the vocabulary
        ("gpt-2", "123", ["123"]),
        ("qwen2", "123", ["1", "2", "3"]),
        ("llama-bpe", "1231", ["123", "1"]),  # digits in threes
        ("gpt-2", "the the", ["the", " the"]),
        ("llama-bpe", "the the", ["the", " the"]),
        ("qwen2", "the\n\nthe", ["the", "\n", "\n", "the"]),
    ],
)
def test_words_are_cut_as_the_file_says(tmp_path: Path, pre: str, text: str, expected: list[str]) -> None:
    tokenizer = load_tokenizer(open_model(write_tiny_gguf(tmp_path / "m.gguf", pre=pre)))
    assert [tokenizer.decode([i]) for i in tokenizer.encode(text)] == expected


def test_an_unknown_way_to_cut_words_is_named_with_those_known(tmp_path: Path, refused) -> None:
    with refused("ZL0609") as caught:
        load_tokenizer(open_model(write_tiny_gguf(tmp_path / "m.gguf", pre="viking")))
    assert "'viking'" in caught.value.message and "smollm" in caught.value.facts["supported"]


@pytest.mark.parametrize(
    ("text", "what"), [("a\udce9", "a byte that is not UTF-8"), ("a\ud83d", "half of a surrogate")]
)
def test_what_is_no_text_is_told(tokenizer: Tokenizer, text: str, what: str, refused) -> None:
    with refused("ZL0704") as caught:
        tokenizer.encode(text)
    assert what in caught.value.message and "at character 1 " in caught.value.message


def test_ids_without_a_token_have_no_text(tokenizer: Tokenizer) -> None:
    known = tokenizer.encode("the")
    assert tokenizer.decode([-1, *known, 10**6, 2**32, 10**30]) == "the"
