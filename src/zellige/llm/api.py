"""`LLM`: a model, loaded and ready, for use from Python.

    from zellige.llm import LLM, SamplingParams

    llm = LLM()                                     # the default model; or a path, or a hub id
    reply = llm.chat([{"role": "user", "content": "What is the capital of France?"}])
    print(reply.text)

    for piece in llm.stream("Once upon a time", SamplingParams(max_tokens=64)):
        print(piece.text, end="", flush=True)

Every call goes through one engine, so that prompts given together run as a batch, and a conversation's next turn finds
the keys and values of the turns before it. Threads may share it; `generate_async` and `stream_async` are for asyncio.
"""

from __future__ import annotations

import asyncio
import gc
import os
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from numbers import Integral
from pathlib import Path
from typing import TYPE_CHECKING, Any, Never, cast

from zellige.diagnostics import InternalError, ZelligeError
from zellige.llm.chat_template import ChatTemplate, Message, missing_template
from zellige.llm.engine import Engine, EngineStats
from zellige.llm.hub import resolve_model
from zellige.llm.interrupts import interrupts_wait
from zellige.llm.parameters import check_params, check_sizes, precision
from zellige.llm.protocol import Runner
from zellige.llm.requests import Event, FinishEvent, GenerateRequest, ScoreEvent, ScoreRequest
from zellige.llm.sampling import SamplingParams
from zellige.llm.streams import AsyncStream, Completion, Pump, Stream
from zellige.llm.tokenizer import Tokenizer, load_tokenizer
from zellige.llm.weights.known import known_config
from zellige.llm.weights.model_file import ModelFile, open_model

if TYPE_CHECKING:
    from zellige.runtime.execution import Executor

Prompt = str | Sequence[int]

_PAGE_SIZE = 16
_DEFAULT_CONTEXT = 8192


@dataclass(frozen=True, slots=True)
class Scores:
    """Of n ids, n - 1 entries: the natural-log probability of id i + 1 given those up to i, and the likeliest id."""

    logprobs: tuple[float, ...]
    argmax: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a call of `generate` is: requests that are over, all of them, and tokens so far."""

    finished: int
    total: int
    tokens: int


class LLM:
    """A loaded model.

    `model`: a `.gguf` file, a Hugging Face folder, a hub id, or None for the default model. `device`: "cpu" or "cuda".
    `load_format`: "auto", or "dummy" for random weights (for measuring: `model` then names a known size, and prompts are
    token ids). `dtype`: of weights and activations, "auto" (as the file has its matrices; on a GPU bf16 unless they
    are f16 or fp8), "bf16", "fp16", or "fp8" (matrices of layers, quantised when loaded unless they are fp8 in the file); "bfloat16"
    and "float16" are the same as "bf16" and "fp16". `kv_dtype`: of the KV cache, "auto" (that of activations; f16 for
    packed weights on the CPU), "bf16", "fp16" or "fp8". `max_model_len`: the most tokens of one conversation; None
    is the model's own limit, at most 8192. `kv_tokens`: room for keys and values, in tokens, shared by all requests; None
    is twice that. `kv_share`: in its place, the share of the memory that is free once the weights are loaded (passes
    need some of the rest: 0.8 is a good share). `max_batch`: requests that run at once. `batch_invariant`: what a request
    gets depends on nothing but itself, bit for bit: not on what runs beside it, how its prompt is cut, which prefix is
    cached, or whether it was preempted (somewhat slower; bf16 on the CPU, too). `step`: how a decode step runs on a GPU,
    as a graph of "launches" or as one "persistent" kernel (`zl.record`). `executor`: what carries out launches, if not the
    device's own (one that only compiles, say). `runner`: what computes, if not Zellige's own kernels. `say` and `progress`
    hear of a download.

    Errors: ZL06xx (model file), ZL08xx (download), ZL0701 (a parameter that makes no sense).
    """

    def __init__(
        self,
        model: str | os.PathLike[str] | None = None,
        *,
        device: str = "cpu",
        load_format: str = "auto",
        dtype: str = "auto",
        kv_dtype: str = "auto",
        max_model_len: int | None = None,
        kv_tokens: int | None = None,
        kv_share: float | None = None,
        max_batch: int = 64,
        batch_invariant: bool = False,
        step: str = "launches",
        executor: Executor | None = None,
        runner: Callable[[ModelFile], Runner] | None = None,
        say: Callable[[str], None] = lambda text: None,
        progress: Callable[[int, int | None], None] = lambda done, total: None,
    ) -> None:
        check_sizes(max_model_len=max_model_len, kv_tokens=kv_tokens, kv_share=kv_share, max_batch=max_batch)
        if device not in ("cpu", "cuda"):
            raise ZelligeError("ZL0509", f"there is no device '{device}'", help="cpu or cuda")
        dtype, kv_dtype = precision("dtype", dtype), precision("kv_dtype", kv_dtype)
        if step not in (("launches", "persistent") if device == "cuda" and not batch_invariant else ("launches",)):
            raise ZelligeError(
                "ZL0701",
                f"there is no step '{step}' here",
                facts={"parameter": "step"},
                help="launches; on a GPU, without batch_invariant, also persistent",
            )
        if load_format == "dummy":
            started = time.perf_counter()
            config = known_config(str(model))
            self.model = ModelFile(Path(str(model)), config, {}, {}, None)
            self._tokenizer: Tokenizer | None = None
            self._template = None
        elif load_format == "auto":
            path = resolve_model(model, say=say, progress=progress)
            started = time.perf_counter()
            self.model = open_model(path)
            self._tokenizer = load_tokenizer(self.model)
            config = self.model.config
            self._template = _chat_template(self.model, self._tokenizer.special_tokens)
        else:
            raise ZelligeError(
                "ZL0701", f"there is no load format '{load_format}'", help="auto or dummy (random weights)"
            )
        if max_model_len is not None and max_model_len > config.context_length:
            raise ZelligeError(
                "ZL0701",
                f"a context of {max_model_len:,} tokens is more than the model's own limit, {config.context_length:,}",
                facts={"parameter": "max_model_len"},
                help=f"give at most {config.context_length}, or leave it out",
            )
        limit = max_model_len or min(_DEFAULT_CONTEXT, config.context_length)
        room: int | Callable[[int], int] = -(-(kv_tokens or 2 * limit) // _PAGE_SIZE)
        if kv_share is not None:
            room = _share_of_free_memory(device, kv_share)
        if runner is not None:
            made = runner(self.model)
        elif device == "cuda" or load_format == "dummy" or batch_invariant or self._needs_fused(dtype, kv_dtype):
            random = load_format == "dummy"
            made = _fused_runner(
                self.model,
                random=random,
                device=device,
                dtype=dtype,
                kv_dtype=kv_dtype,
                context=limit,
                num_pages=room,
                lanes=max_batch,
                invariant=batch_invariant,
                step=step,
                executor=executor,
                progress=progress,
            )
        else:
            pages = room if isinstance(room, int) else room(config.kv_bytes(_PAGE_SIZE))
            made = _kernel_runner(self.model, context=limit, kv_tokens=pages * _PAGE_SIZE)
        self._engine = Engine(
            made, self._tokenizer, max_sequences=max_batch, max_step_tokens=_step_tokens(device, max_batch)
        )
        self._inbox: dict[int, deque[Event]] = {}
        self._lock = threading.Lock()  # of the engine; held while a step runs
        self._abandoned: deque[int] = deque()  # requests that a finalizer found without a reader
        self._pumps: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, Pump] = weakref.WeakKeyDictionary()
        self.load_s = time.perf_counter() - started

    def close(self) -> None:
        """Ends all requests (as "cancelled") and gives the memory of weights and cache back; what is asked afterwards is refused (ZL0711).

        A ``with`` block does so at its end. It waits for a step that runs, and may be called again."""
        with self._lock:
            if isinstance(self._engine, _Closed):
                return
            self._inbox.clear()
            self._engine = cast("Engine", _Closed())
        gc.collect()  # graphs and tensors may refer to each other

    def __enter__(self) -> LLM:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def __reduce__(self) -> Never:
        raise ZelligeError(
            "ZL0711", "a loaded model cannot be copied or sent to another process", help="make an LLM where it is used"
        )

    def _needs_fused(self, dtype: str, kv_dtype: str) -> bool:
        """Whether packed weights on the CPU will not do."""
        return dtype != "auto" or kv_dtype != "auto" or self.model.needs_fused

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

    def generate(
        self,
        prompts: Sequence[Prompt],
        params: SamplingParams | Sequence[SamplingParams] | None = None,
        *,
        priority: int = 0,
        progress: Callable[[Progress], None] | None = None,
    ) -> list[Completion]:
        """Continue each prompt (text or token ids); all run together. Results in the order of the prompts.

        `params`: for all, or one for each. `progress` is called after each step.

        Errors: ZL0701 to ZL0704 before anything runs; a device's failure as it is met.
        """
        streams: list[Stream] = []
        try:
            for prompt, own in self._requests(prompts, params):
                streams.append(self.stream(prompt, own, priority=priority))
            left = streams
            while left:
                ran, before = self.advance(), left
                for stream in left:
                    stream.take_ready()
                left = [stream for stream in left if stream.completion is None]
                if not ran and len(left) == len(before):
                    raise InternalError("requests are over without an event")
                if progress is not None:
                    progress(Progress(len(streams) - len(left), len(streams), sum(stream.tokens for stream in streams)))
            return [stream.finish() for stream in streams]
        finally:
            for stream in streams:
                stream.close()

    def stream(
        self, prompt: Prompt | Sequence[Message], params: SamplingParams | None = None, *, priority: int = 0
    ) -> Stream:
        """Continue one prompt (text, token ids, or messages of a conversation) piece by piece, as tokens come.

        The iterator yields `TokenEvent`s; leaving it early cancels the request. Several may be read in turns.
        """
        request = self._request(prompt, params, priority)
        with interrupts_wait():  # which leave no request behind that nobody knows
            return Stream(self, self._submit(request), request.prompt_ids)

    def score(self, given: Prompt) -> Scores:
        """Teacher-forced log-probabilities of token ids (or those of a text), each given those before it. Errors: ZL0702 to ZL0704."""
        number = self._submit(ScoreRequest(self._prompt_ids(given)))
        try:
            return _scores(self.next_event(number))
        finally:
            self.cancel(number)

    # --- the same for asyncio: steps run in a worker thread, many requests may be awaited at once
    async def chat_async(
        self, messages: Sequence[Message], params: SamplingParams | None = None, **variables: Any
    ) -> Completion:
        """`chat` for asyncio."""
        return (await self.generate_async([self.chat_prompt(messages, **variables)], params))[0]

    async def generate_async(
        self,
        prompts: Sequence[Prompt],
        params: SamplingParams | Sequence[SamplingParams] | None = None,
        *,
        priority: int = 0,
    ) -> list[Completion]:
        """`generate` for asyncio. Cancelling it cancels the requests."""
        streams: list[AsyncStream] = []
        try:
            for prompt, own in self._requests(prompts, params):
                streams.append(await self.stream_async(prompt, own, priority=priority))
            return list(await asyncio.gather(*(stream.finish() for stream in streams)))
        finally:
            for stream in streams:
                await stream.aclose()

    async def stream_async(
        self, prompt: Prompt | Sequence[Message], params: SamplingParams | None = None, *, priority: int = 0
    ) -> AsyncStream:
        """`stream` for asyncio: `async for piece in await llm.stream_async(…)`."""
        request = self._request(prompt, params, priority)
        number = await self._submit_async(request)
        return AsyncStream(Stream(self, number, request.prompt_ids), number, self._pump())

    async def score_async(self, given: Prompt) -> Scores:
        """`score` for asyncio."""
        number = await self._submit_async(ScoreRequest(self._prompt_ids(given)))
        try:
            return _scores(await self._pump().event(number))
        finally:
            self.cancel(number)

    @property
    def tokenizer(self) -> Tokenizer:
        """The model's tokenizer. ZelligeError ZL0704 if it has none."""
        if self._tokenizer is None:
            raise ZelligeError(
                "ZL0704", "a model with random weights has no tokenizer", help="give prompts as token ids"
            )
        return self._tokenizer

    def chat_prompt(self, messages: Sequence[Message], **variables: Any) -> list[int]:
        """Token ids of a conversation, opened for the assistant's next turn. Errors: ZL0610, ZL0706."""
        if self._template is None:
            raise missing_template(self.path.name)
        return self.tokenizer.encode(self._template.render(messages, **variables), special=False)

    def _prompt_ids(self, prompt: Prompt | Sequence[Message]) -> tuple[int, ...]:
        if isinstance(prompt, str):
            return tuple(self.tokenizer.encode(prompt))
        given = prompt.tolist() if hasattr(prompt, "tolist") else prompt  # an array
        if not isinstance(given, Sequence) or isinstance(given, bytes):
            raise ZelligeError(
                "ZL0704",
                f"a prompt is text, token ids or the messages of a conversation, not {type(prompt).__name__}",
                help="decode it first" if isinstance(given, bytes) else "write llm.generate([prompt, …])",
            )
        if given and isinstance(given[0], Mapping):
            return tuple(self.chat_prompt(given))  # type: ignore[arg-type]
        ids: tuple[Any, ...] = tuple(given)
        if {*map(type, ids)} <= {int}:
            return ids
        return tuple([int(i) if isinstance(i, Integral) and not isinstance(i, bool) else i for i in ids])  # NumPy's

    def _requests(
        self, prompts: Sequence[Prompt], params: SamplingParams | Sequence[SamplingParams] | None
    ) -> Iterator[tuple[Prompt, SamplingParams | None]]:
        many = list(prompts) if isinstance(prompts, Iterable) and not isinstance(prompts, str | bytes) else None
        if many is None or (many and isinstance(many[0], Integral)):
            raise ZelligeError("ZL0704", "generate takes a list of prompts", help="write llm.generate([prompt])")
        each: list[Any] = list(params) if isinstance(params, Sequence) else [params] * len(many)
        for own in each:
            check_params(own)
        if len(each) != len(many):
            raise ZelligeError(
                "ZL0701",
                f"there are {len(many)} prompts, but {len(each)} parameters",
                facts={"parameter": "params"},
                help="give one SamplingParams for all, or one for each",
            )
        return zip(many, each, strict=True)

    def _request(
        self, prompt: Prompt | Sequence[Message], params: SamplingParams | None, priority: int
    ) -> GenerateRequest:
        check_params(params)
        if isinstance(priority, bool) or not isinstance(priority, int):
            raise ZelligeError(
                "ZL0701", f"priority is {priority!r}; it must be a whole number", facts={"parameter": "priority"}
            )
        return GenerateRequest(self._prompt_ids(prompt), params or SamplingParams(), priority)

    def _submit(self, request: GenerateRequest | ScoreRequest) -> int:
        with self._lock:
            number = self._engine.submit(request)
            self._inbox[number] = deque()
        return number

    async def _submit_async(self, request: GenerateRequest | ScoreRequest) -> int:
        """`_submit`, which waits for a step that runs, in a thread. If the caller is cancelled meanwhile, so is the request."""
        made = asyncio.get_running_loop().run_in_executor(None, self._submit, request)
        try:
            return await asyncio.shield(made)
        except asyncio.CancelledError:
            made.add_done_callback(
                lambda done: None if done.cancelled() or done.exception() else self.abandon(done.result())
            )
            raise

    def _pump(self) -> Pump:
        """What runs steps for those who wait in this event loop."""
        return self._pumps.setdefault(asyncio.get_running_loop(), Pump(self))

    # --- where streams get their events (`streams.Source`)
    def next_event(self, number: int) -> Event | None:
        """The next event of one request; runs steps until there is one, and keeps what others got for them. None: it was cancelled."""
        while (inbox := self._inbox.get(number)) is not None:
            if inbox:
                return inbox.popleft()
            if not self.advance() and not inbox and number in self._inbox:
                raise InternalError(f"request {number} is over without an event")
        return None

    def inbox(self, number: int) -> deque[Event] | None:
        """The events of one request that are there already, for who takes them out; None once it is forgotten."""
        return self._inbox.get(number)

    def advance(self) -> bool:
        """Runs one step of the engine and keeps what came of it for whom it concerns. False: no request is unfinished."""
        with interrupts_wait(), self._lock:
            self._end_abandoned()
            if not self._engine.busy:
                return False
            try:
                events = self._engine.step()
            except BaseException:
                self._end_interrupted()
                raise
            for event in events:
                inbox = self._inbox.get(event.request)
                if inbox is not None:
                    inbox.append(event)
        return True

    def cancel(self, number: int) -> list[Event]:
        """Ends a request now, if it has not ended, and forgets it."""
        with self._lock:
            return [] if self._inbox.pop(number, None) is None else self._engine.cancel(number)

    def abandon(self, number: int) -> None:
        """The same for a finalizer, which may run within a step: then it is done before the next one."""
        self._abandoned.append(number)
        if self._lock.acquire(blocking=False):
            try:
                self._end_abandoned()
            finally:
                self._lock.release()

    def _end_abandoned(self) -> None:
        while self._abandoned:
            number = self._abandoned.popleft()
            if self._inbox.pop(number, None) is not None:
                self._engine.cancel(number)

    def _end_interrupted(self) -> None:
        """Tells whoever waits, in other threads, for requests of a pass that an interrupt has ended in this one."""
        for number, inbox in self._inbox.items():
            if not self._engine.unfinished(number):
                error = ZelligeError("ZL0710", "the forward pass was interrupted", help="ask again")
                inbox.append(FinishEvent(number, "error", error=error))


class _Closed:
    """Stands where the engine of a closed `LLM` was."""

    def __getattr__(self, name: str) -> Never:
        raise ZelligeError("ZL0711", "this LLM is closed", help="make another one")


def _scores(event: Event | None) -> Scores:
    match event:
        case ScoreEvent(logprobs=logprobs, argmax=argmax):
            return Scores(logprobs, argmax)
        case FinishEvent(error=ZelligeError() as error):
            raise error
    raise InternalError(f"a score request ends with {event}")


def _chat_template(model: ModelFile, special_tokens: dict[str, str]) -> ChatTemplate | None:
    return None if model.chat_template is None else ChatTemplate(model.chat_template, special_tokens)


def _step_tokens(device: str, max_batch: int) -> int:
    """Most tokens of one forward pass: a GPU wants longer prefill passes."""
    return max(512 if device == "cpu" else 8192, 2 * max_batch)


def _share_of_free_memory(device: str, share: float) -> Callable[[int], int]:
    """How many pages of so many bytes a share of the free memory holds. ZelligeError ZL0506 if none."""
    from zellige.runtime.cpu import CpuExecutor

    def pages(page_bytes: int) -> int:
        if device == "cpu":
            free = CpuExecutor.default().free_bytes()
        else:
            from zellige.runtime.cuda.driver import free_memory

            free = free_memory()
        found = int(free * share) // page_bytes
        if found < 1:
            raise ZelligeError(
                "ZL0506",
                "no memory for a single page of keys and values",
                facts={"free bytes": free, "share": share, "bytes of a page": page_bytes},
                help="use a smaller model, or raise kv_share",
            )
        return found

    return pages


def _fused_runner(
    model: ModelFile,
    *,
    random: bool,
    device: str,
    dtype: Any,
    kv_dtype: Any,
    context: int,
    num_pages: int | Callable[[int], int],
    lanes: int,
    invariant: bool,
    step: Any,
    executor: Executor | None,
    progress: Callable[[int, int | None], None],
) -> Runner:
    from zellige.llm.fused_runner import FusedRunner
    from zellige.llm.models.invariant import SCHEDULES
    from zellige.runtime.execution import executor_named

    if executor is None and device == "cuda" and invariant:
        from zellige.runtime.cuda.executor import CudaExecutor

        executor = CudaExecutor.open(schedules=SCHEDULES)
    elif executor is None:
        executor = executor_named(device)
    made: Runner = FusedRunner(
        None if random else model, model.config, num_pages=num_pages, page_size=_PAGE_SIZE, max_context=context,
        executor=executor, dtype=dtype, kv_dtype=kv_dtype, lanes=lanes, invariant=invariant, step=step, progress=progress,
    )  # fmt: skip
    return made


def _kernel_runner(model: ModelFile, *, context: int, kv_tokens: int) -> Runner:
    from zellige.llm.runner import KernelRunner

    pages = -(-kv_tokens // _PAGE_SIZE)
    made: Runner = KernelRunner(model, model.config, num_pages=pages, page_size=_PAGE_SIZE, max_context=context)
    return made
