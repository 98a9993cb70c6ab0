"""Answers as they come: `Stream` for a thread that waits, `AsyncStream` for asyncio; and what is left when they are over."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from typing import Protocol

from zellige.diagnostics import InternalError
from zellige.llm.requests import Event, FinishEvent, FinishReason, TokenEvent


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


class Source(Protocol):
    """Where the events of requests come from; any thread may ask."""

    def next_event(self, number: int) -> Event | None:
        """The next event of one request; runs steps until there is one. None: somebody else cancelled it."""

    def inbox(self, number: int) -> deque[Event] | None:
        """The events of one request that are there already, for who takes them out; None once it is forgotten."""

    def advance(self) -> bool:
        """Runs one step and keeps what came of it for whom it concerns. False: no request is unfinished."""

    def cancel(self, number: int) -> list[Event]:
        """Ends a request now, if it has not ended, and forgets it."""

    def abandon(self, number: int) -> None:
        """The same where it may not happen at once: in a finalizer, which runs anywhere, in the middle of a step, too."""


class Stream:
    """The answer to one request as it comes. After the last token `completion` holds the whole."""

    def __init__(self, source: Source, number: int, prompt_ids: tuple[int, ...]) -> None:
        self._source = source
        self._number = number
        self._prompt_ids = prompt_ids
        self._tokens: list[TokenEvent] = []
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
        event = self._source.next_event(self._number)
        if event is None:
            self.close()
            raise StopIteration
        token = self.take(event)
        if token is None:
            raise StopIteration
        return token

    @property
    def tokens(self) -> int:
        """How many have come."""
        return len(self._tokens)

    def take(self, event: Event) -> TokenEvent | None:
        """Note the request's next event; gives what to show of it, None at the end. Raises the error of a failed request."""
        if isinstance(event, TokenEvent):
            self._last = time.perf_counter()
            if self._first is None:
                self._first = self._last
            self._tokens.append(event)
            return event
        assert isinstance(event, FinishEvent)
        self._source.cancel(self._number)
        self._complete(event.reason, event.text, event.cached_tokens)
        if event.error is not None:
            raise event.error
        return TokenEvent(self._number, -1, event.text) if event.text else None

    def take_ready(self) -> None:
        """Note all events that are there already, without waiting. Raises the error of a failed request."""
        inbox = self._source.inbox(self._number)
        while inbox and self.completion is None:
            self.take(inbox.popleft())

    def finish(self) -> Completion:
        """Run to the end and return the whole answer."""
        for _ in self:
            pass
        return self.close()  # which it is, unless another thread does so just now

    def close(self) -> Completion:
        """Stop now; what came so far is the answer, with finish reason "cancelled"."""
        if self.completion is None:
            events = self._source.cancel(self._number)
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
            self._source.abandon(self._number)

    def _complete(self, reason: FinishReason, tail: str, cached: int) -> None:
        logprobs = [event.logprob for event in self._tokens if event.logprob is not None]
        self.completion = Completion(
            prompt_ids=self._prompt_ids,
            token_ids=tuple(event.token_id for event in self._tokens),
            text="".join([event.text for event in self._tokens]) + tail,
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
            prefill_tok_s=(len(self._prompt_ids) - cached) / prefill if self._first else 0.0,
            decode_tok_s=after_first / decode if decode else 0.0,
        )


class Pump:
    """Runs steps in a worker thread for as long as somebody in its event loop awaits an event, and wakes those for whom one came.

    Other loops (with pumps of their own) and threads may run steps, too."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._waiting: dict[int, asyncio.Future[Event | None]] = {}
        self._task: asyncio.Task[None] | None = None

    async def event(self, number: int) -> Event | None:
        """The next event of one request; None if somebody else cancelled it."""
        inbox = self._source.inbox(number)
        if inbox is None or inbox:
            return inbox.popleft() if inbox else None
        if number in self._waiting:
            raise RuntimeError("two tasks await the next token of one stream")
        future: asyncio.Future[Event | None] = asyncio.get_running_loop().create_future()
        self._waiting[number] = future
        if self._task is None:
            self._task = asyncio.create_task(self._run())
        try:
            return await future
        finally:
            self._waiting.pop(number, None)

    async def _run(self) -> None:
        try:
            while self._waiting:
                ran = await asyncio.to_thread(self._source.advance)
                if not self._deliver() and not ran and self._waiting:
                    raise InternalError("events are awaited, but no request is unfinished")
                await asyncio.sleep(0)  # those who were woken run, and may wait again, before the next step
        except BaseException as error:
            for future in self._waiting.values():
                if not future.done():
                    future.set_exception(error)
        finally:
            self._task = None  # which knows the loop, that need not live on

    def _deliver(self) -> bool:
        """Wakes those whose event is there, or who wait for none any more; whether there were any."""
        woken = False
        for number, future in self._waiting.items():
            inbox = self._source.inbox(number)
            if not future.done() and (inbox is None or inbox):
                future.set_result(inbox.popleft() if inbox else None)
                woken = True
        return woken


class AsyncStream:
    """`Stream` for asyncio: `async for piece in stream`. Cancelling the task that reads it cancels the request."""

    def __init__(self, stream: Stream, number: int, pump: Pump) -> None:
        self._stream = stream
        self._number = number
        self._pump = pump

    @property
    def completion(self) -> Completion | None:
        """The whole answer, once it is over."""
        return self._stream.completion

    def __aiter__(self) -> AsyncIterator[TokenEvent]:
        return self

    async def __anext__(self) -> TokenEvent:
        """The next token. The last text, held back for a stop string, comes as an event with token id -1."""
        if self._stream.completion is not None:
            raise StopAsyncIteration
        try:
            event = await self._pump.event(self._number)
        except asyncio.CancelledError:
            self._stream.close()
            raise
        if event is None:
            self._stream.close()
            raise StopAsyncIteration
        token = self._stream.take(event)
        if token is None:
            raise StopAsyncIteration
        return token

    async def finish(self) -> Completion:
        """Run to the end and return the whole answer."""
        async for _ in self:
            pass
        return await self.aclose()

    async def aclose(self) -> Completion:
        """Stop now; what came so far is the answer, with finish reason "cancelled"."""
        return self._stream.close()

    async def __aenter__(self) -> AsyncStream:
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.aclose()
