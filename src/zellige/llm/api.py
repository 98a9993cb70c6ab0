"""`LLM`: a model, loaded and ready, for use from Python.

    from zellige.llm import LLM, SamplingParams

    llm = LLM()                                     # the default model; or a path, or a hub id
    reply = llm.chat([{"role": "user", "content": "What is the capital of France?"}])
    print(reply.text)

    for piece in llm.stream("Once upon a time", SamplingParams(max_tokens=64)):
        print(piece.text, end="", flush=True)

Every call goes through one engine, so that prompts given together run as a batch, and a conversation's next turn finds
the keys and values of the turns before it.
"""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zellige.diagnostics import ZelligeError
from zellige.llm.chat_template import ChatTemplate, Message, missing_template
from zellige.llm.engine import Engine, EngineStats
from zellige.llm.hub import resolve_model
from zellige.llm.protocol import Runner
from zellige.llm.requests import Event, FinishEvent, FinishReason, GenerateRequest, ScoreEvent, ScoreRequest, TokenEvent
from zellige.llm.sampling import SamplingParams
from zellige.llm.tokenizer import load_tokenizer
from zellige.llm.weights.known import known_config
from zellige.llm.weights.model_file import ModelFile, open_model

if TYPE_CHECKING:
    from zellige.runtime.execution import Executor

Prompt = str | Sequence[int]

_PAGE_SIZE = 16
_DEFAULT_CONTEXT = 8192


@dataclass(frozen=True, slots=True)
class Timings:
    """Seconds, and tokens a second. Prefill ends with the first token; decode is the rest."""

    prefill_s: float
    decode_s: float
    prefill_tok_s: float
    decode_tok_s: float


@dataclass(frozen=True, slots=True)
class Completion:
    """One finished answer. `logprobs` (natural log) has an entry per token where the request asked for them."""

    prompt_ids: tuple[int, ...]
    token_ids: tuple[int, ...]
    text: str
    finish_reason: FinishReason
    logprobs: tuple[float, ...] | None
    cached_tokens: int
    timings: Timings


@dataclass(frozen=True, slots=True)
class Scores:
    """Of n ids, n - 1 entries: the natural-log probability of id i + 1 given those up to i, and the likeliest id."""

    logprobs: tuple[float, ...]
    argmax: tuple[int, ...]


class LLM:
    """A loaded model.

    `model`: a `.gguf` file, a Hugging Face folder, a hub id, or None for the default model. `device`: "cpu" or "cuda".
    `load_format`: "auto", or "dummy" for random weights (for measuring: `model` then names a known size, and prompts are
    token ids). `dtype`: of the matrices of layers, "auto" (as the file has them; on a GPU bf16 unless they are fp8), "bf16"
    or "fp8" (quantised when loaded, unless they are fp8 in the file). `context`: the most tokens of one conversation; None
    is the model's own limit, at most 8192. `kv_tokens`: room for keys and values, in tokens, shared by all requests; None
    is twice the context. `max_batch`: requests that run at once. `batch_invariant`: what a request gets depends on nothing
    but itself, bit for bit: not on what runs beside it, how its prompt is cut, which prefix is cached, or whether it was
    preempted (somewhat slower; bf16 on the CPU, too). `runner`: what computes, if not Zellige's own kernels.
    `say` and `progress` hear of a download.

    Errors: ZL06xx (model file), ZL08xx (download), ZL0701 (a parameter that makes no sense).
    """

    def __init__(
        self,
        model: str | os.PathLike[str] | None = None,
        *,
        device: str = "cpu",
        load_format: str = "auto",
        dtype: str = "auto",
        context: int | None = None,
        kv_tokens: int | None = None,
        max_batch: int = 64,
        batch_invariant: bool = False,
        runner: Callable[[ModelFile], Runner] | None = None,
        say: Callable[[str], None] = lambda text: None,
        progress: Callable[[int, int | None], None] = lambda done, total: None,
    ) -> None:
        for name, value in (("context", context), ("kv_tokens", kv_tokens), ("max_batch", max_batch)):
            if value is not None and (not isinstance(value, int) or value < 2):
                raise ZelligeError("ZL0701", f"{name} is {value!r}; it must be at least 2", facts={"parameter": name})
        if device not in ("cpu", "cuda"):
            raise ZelligeError("ZL0509", f"there is no device '{device}'", help="cpu or cuda")
        if dtype not in ("auto", "bf16", "fp8"):
            raise ZelligeError(
                "ZL0701", f"there is no dtype '{dtype}'", facts={"parameter": "dtype"}, help="auto, bf16 or fp8"
            )
        if load_format == "dummy":
            started = time.perf_counter()
            config = known_config(str(model))
            self.model = ModelFile(Path(str(model)), config, {}, {}, None)
            self.tokenizer = None
            self._template = None
        elif load_format == "auto":
            path = resolve_model(model, say=say, progress=progress)
            started = time.perf_counter()
            self.model = open_model(path)
            self.tokenizer = load_tokenizer(self.model)
            config = self.model.config
            self._template = _chat_template(self.model, self.tokenizer.special_tokens)
        else:
            raise ZelligeError(
                "ZL0701", f"there is no load format '{load_format}'", help="auto or dummy (random weights)"
            )
        limit = min(context or _DEFAULT_CONTEXT, config.context_length)
        room = kv_tokens or 2 * limit
        if runner is not None:
            made = runner(self.model)
        elif device == "cuda" or load_format == "dummy" or batch_invariant or dtype != "auto" or self.model.needs_fused:
            random = load_format == "dummy"
            made = _fused_runner(
                self.model,
                random=random,
                device=device,
                dtype=dtype,
                context=limit,
                kv_tokens=room,
                lanes=max_batch,
                invariant=batch_invariant,
                progress=progress,
            )
        else:
            made = _kernel_runner(self.model, context=limit, kv_tokens=room)
        self._engine = Engine(
            made, self.tokenizer, max_sequences=max_batch, max_step_tokens=_step_tokens(device, max_batch)
        )
        self._inbox: dict[int, deque[Event]] = {}
        self.load_s = time.perf_counter() - started

    @property
    def path(self) -> Path:
        """The model's file or folder on this disk."""
        return self.model.path

    @property
    def context_limit(self) -> int:
        """The most tokens that a prompt and its answer may have together."""
        return self._engine.context_limit

    @property
    def stats(self) -> EngineStats:
        return self._engine.stats

    def chat(self, messages: Sequence[Message], params: SamplingParams | None = None, **variables: Any) -> Completion:
        """The assistant's next turn. `variables` reach the chat template. Errors: ZL0610, ZL0702, ZL0706."""
        return self.generate([self.chat_prompt(messages, **variables)], params)[0]

    def generate(self, prompts: Sequence[Prompt], params: SamplingParams | None = None) -> list[Completion]:
        """Continue each prompt (text or token ids); all run together. Results in the order of the prompts.

        Errors: ZL0702 to ZL0704 before anything runs; a device's failure as it is met.
        """
        if isinstance(prompts, str) or (prompts and isinstance(prompts[0], int)):
            raise ZelligeError("ZL0704", "generate takes a list of prompts", help="write llm.generate([prompt])")
        streams: list[Stream] = []
        try:
            streams += (self.stream(prompt, params) for prompt in prompts)
            return [stream.finish() for stream in streams]
        finally:
            for stream in streams:
                stream.close()

    def stream(self, prompt: Prompt | Sequence[Message], params: SamplingParams | None = None) -> Stream:
        """Continue one prompt (text, token ids, or messages of a conversation) piece by piece, as tokens come.

        The iterator yields `TokenEvent`s; leaving it early cancels the request. Several may be read in turns.
        """
        ids = self._prompt_ids(prompt)
        number = self._engine.submit(GenerateRequest(ids, params or SamplingParams()))
        self._inbox[number] = deque()
        return Stream(self, number, ids)

    def score(self, ids: Sequence[int]) -> Scores:
        """Teacher-forced log-probabilities of `ids`, each given those before it. Errors: ZL0702 to ZL0704."""
        number = self._engine.submit(ScoreRequest(tuple(ids)))
        self._inbox[number] = deque()
        try:
            while True:
                match self._next_event(number):
                    case ScoreEvent(logprobs=logprobs, argmax=argmax):
                        return Scores(logprobs, argmax)
                    case FinishEvent(error=ZelligeError() as error):
                        raise error
        finally:
            self._forget(number)

    def chat_prompt(self, messages: Sequence[Message], **variables: Any) -> list[int]:
        """Token ids of a conversation, opened for the assistant's next turn. Errors: ZL0610, ZL0706."""
        if self._template is None:
            raise missing_template(self.path.name)
        return self.tokenizer.encode(self._template.render(messages, **variables), special=False)

    def _prompt_ids(self, prompt: Prompt | Sequence[Message]) -> tuple[int, ...]:
        if self.tokenizer is None and prompt and not isinstance(prompt[0], int):
            raise ZelligeError(
                "ZL0704", "a model with random weights has no tokenizer", help="give prompts as token ids"
            )
        if isinstance(prompt, str):
            return tuple(self.tokenizer.encode(prompt))
        if prompt and isinstance(prompt[0], dict):
            return tuple(self.chat_prompt(prompt))  # type: ignore[arg-type]
        return tuple(prompt)  # type: ignore[arg-type]

    def _next_event(self, number: int) -> Event:
        """The next event of one request; runs steps until there is one, and keeps what others got for them."""
        inbox = self._inbox[number]
        while not inbox:
            for event in self._engine.step():
                if event.request in self._inbox:
                    self._inbox[event.request].append(event)
        return inbox.popleft()

    def _forget(self, number: int) -> None:
        self._engine.cancel(number)
        self._inbox.pop(number, None)


class Stream:
    """The answer to one request as it comes. After the last token `completion` holds the whole."""

    def __init__(self, llm: LLM, number: int, prompt_ids: tuple[int, ...]) -> None:
        self._llm = llm
        self._number = number
        self._prompt_ids = prompt_ids
        self._tokens: list[TokenEvent] = []
        self._text: list[str] = []
        self._started = time.perf_counter()
        self._first: float | None = None
        self._last = self._started
        self.completion: Completion | None = None

    def __iter__(self) -> Iterator[TokenEvent]:
        return self

    def __next__(self) -> TokenEvent:
        """The next token. The last text, held back for a stop string, comes as an event with token id -1."""
        if self.completion is not None:
            raise StopIteration
        event = self._llm._next_event(self._number)
        if isinstance(event, TokenEvent):
            self._last = time.perf_counter()
            self._first = self._first or self._last
            self._tokens.append(event)
            self._text.append(event.text)
            return event
        assert isinstance(event, FinishEvent)
        self._llm._forget(self._number)
        if event.error is not None:
            raise event.error
        self._complete(event.reason, event.text, event.cached_tokens)
        if event.text:
            return TokenEvent(self._number, -1, event.text)
        raise StopIteration

    def finish(self) -> Completion:
        """Run to the end and return the whole answer."""
        for _ in self:
            pass
        assert self.completion is not None
        return self.completion

    def close(self) -> Completion:
        """Stop now; what came so far is the answer, with finish reason "cancelled"."""
        if self.completion is None:
            events = self._llm._engine.cancel(self._number)
            self._llm._forget(self._number)
            ends = [event for event in events if isinstance(event, FinishEvent)]
            self._complete("cancelled", "".join(e.text for e in ends), sum(e.cached_tokens for e in ends))
        assert self.completion is not None
        return self.completion

    def __enter__(self) -> Stream:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def __del__(self) -> None:
        if self.completion is None:
            self._llm._forget(self._number)

    def _complete(self, reason: FinishReason, tail: str, cached: int) -> None:
        self._text.append(tail)
        logprobs = [event.logprob for event in self._tokens if event.logprob is not None]
        self.completion = Completion(
            prompt_ids=self._prompt_ids,
            token_ids=tuple(event.token_id for event in self._tokens),
            text="".join(self._text),
            finish_reason=reason,
            logprobs=tuple(logprobs) if len(logprobs) == len(self._tokens) and logprobs else None,
            cached_tokens=cached,
            timings=self._timings(cached),
        )

    def _timings(self, cached: int) -> Timings:
        first = self._first or time.perf_counter()
        prefill, decode = first - self._started, max(self._last - first, 0.0)
        after_first = max(len(self._tokens) - 1, 0)
        return Timings(
            prefill_s=prefill,
            decode_s=decode,
            prefill_tok_s=(len(self._prompt_ids) - cached) / prefill if prefill else 0.0,
            decode_tok_s=after_first / decode if decode else 0.0,
        )


def _chat_template(model: ModelFile, special_tokens: dict[str, str]) -> ChatTemplate | None:
    return None if model.chat_template is None else ChatTemplate(model.chat_template, special_tokens)


def _step_tokens(device: str, max_batch: int) -> int:
    """Most tokens of one forward pass: a GPU wants longer prefill passes."""
    return max(512 if device == "cpu" else 8192, 2 * max_batch)


def _fused_runner(
    model: ModelFile,
    *,
    random: bool,
    device: str,
    dtype: Any,
    context: int,
    kv_tokens: int,
    lanes: int,
    invariant: bool,
    progress: Callable[[int, int | None], None],
) -> Runner:
    from zellige.llm.fused_runner import FusedRunner
    from zellige.llm.models.invariant import SCHEDULES
    from zellige.runtime.execution import executor_named

    if device == "cuda" and invariant:
        from zellige.runtime.cuda.executor import CudaExecutor

        executor: Executor = CudaExecutor.open(schedules=SCHEDULES)
    else:
        executor = executor_named(device)
    made: Runner = FusedRunner(
        None if random else model, model.config, num_pages=-(-kv_tokens // _PAGE_SIZE), page_size=_PAGE_SIZE,
        max_context=context, executor=executor, dtype=dtype, lanes=lanes, invariant=invariant, progress=progress,
    )  # fmt: skip
    return made


def _kernel_runner(model: ModelFile, *, context: int, kv_tokens: int) -> Runner:
    from zellige.llm.runner import KernelRunner

    pages = -(-kv_tokens // _PAGE_SIZE)
    made: Runner = KernelRunner(model, model.config, num_pages=pages, page_size=_PAGE_SIZE, max_context=context)
    return made
