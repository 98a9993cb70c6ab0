"""Text to token ids and back, from the vocabulary in the model's own file.

Byte-level BPE (the GPT-2 scheme): text is cut into words by a pattern that the file names (`tokenizer.ggml.pre`), each
word's UTF-8 bytes are written as printable characters, and merges are applied in order of rank. `tokenizers` does the
work; this file says which pattern belongs to which name. Decoding goes through bytes, so that a character whose bytes
are spread over several tokens is shown once it is complete and never in pieces.
"""

from __future__ import annotations

import codecs
import functools
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from zellige.diagnostics import ZelligeError

if TYPE_CHECKING:
    import tokenizers

    from zellige.llm.weights.model_file import ModelFile

# GGUF's token types (tokenizer.ggml.token_type).
_CONTROL, _USER_DEFINED = 3, 4

_CONTRACTIONS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)"
_REST = r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
_SPLIT_QWEN2 = _CONTRACTIONS + r"|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}" + _REST
_SPLIT_LLAMA3 = _CONTRACTIONS + r"|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}" + _REST

# tokenizer.ggml.pre -> how text is cut into words: a split pattern, or one of the two GPT-2 forms.
_GPT2, _GPT2_SINGLE_DIGITS = "gpt2", "gpt2, each digit alone"
PRE_TOKENIZERS: dict[str, str] = {
    "gpt-2": _GPT2,
    "gpt2": _GPT2,
    "smollm": _GPT2_SINGLE_DIGITS,
    "starcoder": _GPT2_SINGLE_DIGITS,
    "qwen2": _SPLIT_QWEN2,
    "llama-bpe": _SPLIT_LLAMA3,
    "llama3": _SPLIT_LLAMA3,
    "llama-v3": _SPLIT_LLAMA3,
}


class Tokenizer:
    """Encodes and decodes for one model.

    `vocab_size` is V; `eos_ids` end an answer; `bos_id` is put before a prompt where the model wants it (`add_bos`);
    `special_tokens` maps names such as "bos_token" to their text, for chat templates.
    """

    def __init__(
        self,
        backend: tokenizers.Tokenizer,
        *,
        control_ids: Iterable[int],
        literal_ids: Iterable[int],
        eos_ids: Iterable[int],
        bos_id: int | None,
        add_bos: bool,
        special_tokens: Mapping[str, str],
    ) -> None:
        self._backend = backend
        self._control = frozenset(control_ids)
        self._literal = frozenset(literal_ids) | self._control
        self.eos_ids = frozenset(eos_ids)
        self.bos_id = bos_id
        self.add_bos = add_bos
        self.special_tokens = dict(special_tokens)
        self.vocab_size = backend.get_vocab_size(with_added_tokens=True)

    def encode(self, text: str, *, special: bool = True) -> list[int]:
        """Token ids of `text`. `special`: put BOS first where the model wants it; a rendered chat brings its own.

        ZelligeError ZL0704: it has surrogates, as Python makes of bytes that are not UTF-8, or of half a pair in JSON."""
        try:
            text.encode()
        except UnicodeEncodeError as error:
            bad = text[error.start]
            byte = "\udc80" <= bad <= "\udcff"  # PEP 383
            raise ZelligeError(
                "ZL0704",
                f"the prompt is not text: {bad!r} at character {error.start} "
                + ("stands for a byte that is not UTF-8" if byte else "is half of a surrogate pair"),
                help="convert it to UTF-8" if byte else "cut texts between characters, not within one",
            ) from None
        ids: list[int] = self._backend.encode(text, add_special_tokens=False).ids
        if special and self.add_bos and self.bos_id is not None and ids[:1] != [self.bos_id]:
            ids = [self.bos_id, *ids]
        return ids

    def decode(self, ids: Sequence[int], *, show_control: bool = False) -> str:
        """The text of `ids`; bytes that are not UTF-8 show as U+FFFD; control tokens show only when asked for."""
        raw = b"".join(self.token_bytes(i, show_control=show_control) for i in ids)
        return raw.decode("utf-8", errors="replace")

    def token_bytes(self, token_id: int, *, show_control: bool = False) -> bytes:
        """The bytes that one token stands for; none for a control token unless asked, or for an id without a token."""
        if token_id in self._control and not show_control:
            return b""
        piece = self._backend.id_to_token(token_id) if 0 <= token_id < 1 << 32 else None  # -1: see `TokenEvent`
        if piece is None:
            return b""
        if token_id in self._literal:
            return str(piece).encode("utf-8")
        table = _byte_of_character()
        return bytes(table[character] for character in piece if character in table)

    def stream(self) -> TextDecoder:
        """A decoder for tokens that arrive one at a time."""
        return TextDecoder(self)


class TextDecoder:
    """Turns tokens into text as they come; the pieces joined equal `Tokenizer.decode` of all ids."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._utf8 = codecs.getincrementaldecoder("utf-8")(errors="replace")

    def push(self, token_id: int) -> str:
        """The text that `token_id` completes: possibly none, never half a character."""
        return self._utf8.decode(self._tokenizer.token_bytes(token_id))

    def finish(self) -> str:
        """What is left: U+FFFD for a character that never got complete."""
        return self._utf8.decode(b"", final=True)


@functools.cache
def _byte_of_character() -> dict[str, int]:
    """GPT-2's printable stand-in for each byte, inverted: those that print stand for themselves, others for U+0100…"""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in set(printable)]
    table = {chr(byte): byte for byte in printable}
    table.update({chr(0x100 + index): byte for index, byte in enumerate(others)})
    return table


def load_tokenizer(model: ModelFile) -> Tokenizer:
    """The tokenizer of an open model. Error ZL0609: a scheme that is not supported, or a damaged vocabulary."""
    if model.tokenizer_json is not None:
        return _from_tokenizer_json(model.tokenizer_json, model.metadata)
    return tokenizer_from_gguf(model.metadata, model.path)


def tokenizer_from_gguf(metadata: Mapping[str, Any], path: Path) -> Tokenizer:
    """Build a tokenizer from the `tokenizer.ggml.*` metadata of `path`. Error: ZL0609."""
    import tokenizers
    from tokenizers import decoders, models

    def key(name: str, default: Any = None) -> Any:
        return metadata.get(f"tokenizer.ggml.{name}", default)

    scheme, pre = key("model"), key("pre")
    if scheme != "gpt2":
        raise _unsupported(path, f"its tokenizer is of kind {scheme!r}", "gpt2 (byte-level BPE)")
    if pre not in PRE_TOKENIZERS:
        raise _unsupported(path, f"its tokenizer cuts words in the way {pre!r}", ", ".join(PRE_TOKENIZERS))
    tokens, merges, kinds = key("tokens"), key("merges"), key("token_type")
    if not (isinstance(tokens, list) and isinstance(merges, list)):
        raise _unsupported(path, "its vocabulary or its merges are missing", "gpt2 (byte-level BPE)")
    kinds = np.ones(len(tokens), dtype=np.int32) if kinds is None else np.asarray(kinds)
    vocab = {token: index for index, token in enumerate(tokens)}
    pairs = [tuple(merge.split(" ", 1)) for merge in merges]
    try:
        backend = tokenizers.Tokenizer(models.BPE(vocab, pairs, ignore_merges=PRE_TOKENIZERS[pre] == _SPLIT_LLAMA3))
    except Exception as error:  # the Rust side raises bare Exception for a merge outside the vocabulary
        raise _unsupported(path, f"its vocabulary is damaged ({error})", "gpt2 (byte-level BPE)") from None
    _set_word_pattern(backend, PRE_TOKENIZERS[pre])
    backend.decoder = decoders.ByteLevel()
    control = [int(i) for i in np.flatnonzero(kinds == _CONTROL)]
    literal = [int(i) for i in np.flatnonzero(kinds == _USER_DEFINED)]
    backend.add_special_tokens([tokenizers.AddedToken(tokens[i], normalized=False, special=True) for i in control])
    backend.add_tokens([tokenizers.AddedToken(tokens[i], normalized=False) for i in literal])

    def identifier(name: str) -> int | None:
        value = key(name)
        return int(value) if value is not None and 0 <= int(value) < len(tokens) else None

    bos, eos = identifier("bos_token_id"), identifier("eos_token_id")
    ends = {i for i in (eos, identifier("eot_token_id")) if i is not None}
    named = {"bos_token": bos, "eos_token": eos, "unk_token": identifier("unknown_token_id")}
    named["pad_token"] = identifier("padding_token_id")
    return Tokenizer(
        backend,
        control_ids=control,
        literal_ids=literal,
        eos_ids=ends,
        bos_id=bos,
        add_bos=bool(key("add_bos_token", PRE_TOKENIZERS[pre] == _SPLIT_LLAMA3)),
        special_tokens={name: tokens[i] for name, i in named.items() if i is not None},
    )


def _set_word_pattern(backend: tokenizers.Tokenizer, pattern: str) -> None:
    import tokenizers
    from tokenizers import normalizers, pre_tokenizers

    if pattern in (_GPT2, _GPT2_SINGLE_DIGITS):
        words = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
        digits = pre_tokenizers.Digits(individual_digits=True)
        backend.pre_tokenizer = words if pattern == _GPT2 else pre_tokenizers.Sequence([digits, words])
        return
    split = pre_tokenizers.Split(tokenizers.Regex(pattern), behavior="isolated", invert=False)
    to_bytes = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    backend.pre_tokenizer = pre_tokenizers.Sequence([split, to_bytes])
    if pattern == _SPLIT_QWEN2:
        backend.normalizer = normalizers.NFC()


def _from_tokenizer_json(path: Path, settings: Mapping[str, Any]) -> Tokenizer:
    """A Hugging Face `tokenizer.json`, with the special tokens that `tokenizer_config.json` (`settings`) names."""
    import tokenizers
    from tokenizers import decoders

    try:
        backend = tokenizers.Tokenizer.from_file(str(path))
    except Exception as error:  # the Rust side raises bare Exception
        raise _unsupported(path, f"it cannot be read ({error})", "tokenizer.json with byte-level BPE") from None
    if not isinstance(backend.decoder, decoders.ByteLevel):
        raise _unsupported(path, f"its decoder is {type(backend.decoder).__name__}", "ByteLevel")
    added = backend.get_added_tokens_decoder()

    def text_of(name: str) -> str | None:
        value = settings.get(name)
        return value.get("content") if isinstance(value, dict) else value

    names = ("bos_token", "eos_token", "unk_token", "pad_token")
    special = {name: text for name in names if (text := text_of(name)) is not None}
    bos = backend.token_to_id(special["bos_token"]) if "bos_token" in special else None
    ends = {backend.token_to_id(special["eos_token"])} if "eos_token" in special else set()
    ends |= set(settings.get("eos_token_ids", ()))
    return Tokenizer(
        backend,
        control_ids=[i for i, token in added.items() if token.special],
        literal_ids=[i for i, token in added.items() if not token.special],
        eos_ids={i for i in ends if i is not None},
        bos_id=bos,
        add_bos=bool(settings.get("add_bos_token", False)),
        special_tokens=special,
    )


def _unsupported(path: Path, what: str, supported: str) -> ZelligeError:
    return ZelligeError(
        "ZL0609",
        f"the tokenizer of {path.name} cannot be used: {what}",
        facts={"file": str(path), "supported": supported},
        help="use a model whose tokenizer is supported",
    )
