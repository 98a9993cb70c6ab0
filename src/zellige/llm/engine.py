"""The engine core: takes requests, yields events. Knows nothing of HTTP, terminals, files or kernels.

One step is: the scheduler picks tokens, `StepBuilder` makes arrays of them, the runner computes, and each sequence whose
tokens are all computed gets one more token, or ends. The caller owns the loop.

Where the runner allows it, a step is started before the results of the one before are there, on the assumption that no
answer ends by what it says: the device works while the host turns tokens to text. What is computed for a sequence that did
end is dropped; its pages are leased until that step has run.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass, replace

from zellige.diagnostics import InternalError, ZelligeError
from zellige.llm.kv_cache import PagePool
from zellige.llm.prefix_cache import PrefixCache
from zellige.llm.protocol import Runner, StepBatch, StepResult
from zellige.llm.requests import (
    Event,
    FinishEvent,
    FinishReason,
    GenerateRequest,
    ScoreEvent,
    ScoreRequest,
    TokenEvent,
)
from zellige.llm.scheduler import Scheduler, Work
from zellige.llm.sequence import Sequence
from zellige.llm.step_builder import StepBuilder
from zellige.llm.stop_strings import StopMatcher
from zellige.llm.tokenizer import TextDecoder, Tokenizer


@dataclass(frozen=True, slots=True)
class EngineStats:
    """Counts since the engine was made, and the pages now."""

    steps: int
    computed_tokens: int
    cached_tokens: int
    preemptions: int
    pages_total: int
    pages_held: int
    pages_cached: int


@dataclass(slots=True)
class _Output:
    """The text side of one running request."""

    decoder: TextDecoder | None
    matcher: StopMatcher
    ends: frozenset[int]
    """Ids that end the answer."""

    def push(self, token: int) -> tuple[str, bool]:
        """The text that `token` makes safe to show, and whether a stop string occurred."""
        return self.matcher.push(self.decoder.push(token)) if self.decoder is not None else ("", False)


@dataclass(frozen=True, slots=True)
class _Flight:
    """A step that was started."""

    number: int
    work: list[Work]
    batch: StepBatch
    wait: Callable[[], StepResult]


class Engine:
    """Runs many requests over one runner.

    `tokenizer` turns tokens to text and says which ids end an answer; without one, events carry no text and stop
    strings are refused. `max_sequences` and `max_step_tokens` bound one step's B and T.
    """

    def __init__(
        self,
        runner: Runner,
        tokenizer: Tokenizer | None = None,
        *,
        max_sequences: int = 64,
        max_step_tokens: int = 512,
        prefix_cache: bool = True,
    ) -> None:
        if max_sequences > runner.lanes:
            raise InternalError(f"{max_sequences} sequences at once, but the runner has {runner.lanes} lanes")
        self._runner = runner
        self._tokenizer = tokenizer
        self._pool = PagePool(runner.num_pages, runner.page_size)
        self._cache = PrefixCache(self._pool) if prefix_cache else None
        self._scheduler = Scheduler(
            self._pool,
            self._cache,
            max_sequences=max_sequences,
            max_tokens=max_step_tokens,
            least_tail=runner.least_tail,
        )
        self._builder = StepBuilder(runner.page_size, self._pool.pages_for(runner.max_context))
        self._flight: _Flight | None = None
        self._limit = min(runner.max_context, runner.num_pages * runner.page_size)
        self._ids = itertools.count()
        self._active: dict[int, tuple[Sequence, _Output]] = {}
        self._steps = self._computed_tokens = self._cached_tokens = 0

    @property
    def context_limit(self) -> int:
        """The most tokens that one request may have, prompt and answer: what model and KV cache allow."""
        return self._limit

    @property
    def busy(self) -> bool:
        """Whether any request is unfinished."""
        return bool(self._active)

    def unfinished(self, request: int) -> bool:
        """Whether a request has not ended."""
        return request in self._active

    @property
    def stats(self) -> EngineStats:
        return EngineStats(
            steps=self._steps,
            computed_tokens=self._computed_tokens,
            cached_tokens=self._cached_tokens,
            preemptions=self._scheduler.preemptions,
            pages_total=self._pool.num_pages,
            pages_held=self._pool.held,
            pages_cached=0 if self._cache is None else self._cache.pages,
        )

    def submit(self, request: GenerateRequest | ScoreRequest) -> int:
        """Queue a request; returns the number that its events carry.

        Errors: ZL0702 (longer than the context), ZL0703 (an id outside the vocabulary), ZL0704 (nothing given).
        """
        self._check(request)
        if isinstance(request, GenerateRequest):
            request = replace(request, params=request.params.seeded())
        number = next(self._ids)
        sequence = Sequence(number, request, limit=self._limit)
        decoder = self._tokenizer.stream() if self._tokenizer is not None and not sequence.scores else None
        ends = frozenset(sequence.params.stop_token_ids)
        if self._tokenizer is not None and not sequence.params.ignore_eos:
            ends |= self._tokenizer.eos_ids
        self._active[number] = (sequence, _Output(decoder, StopMatcher(sequence.params.stop), ends))
        self._scheduler.add(sequence)
        return number

    def cancel(self, request: int) -> list[Event]:
        """End a request at once; its pages come back. Unknown and finished requests are left alone."""
        if request not in self._active:
            return []
        return [self._finish(self._active[request][0], "cancelled")]

    def step(self) -> list[Event]:
        """Finish one forward pass; returns what came of it. Without unfinished requests: nothing happens.

        An error of the pass ends its requests: with that error if it is a `ZelligeError`, else with ZL0710, of which it is
        the cause. An interrupt is raised; the requests of that pass are over then. The engine can go on with the others."""
        flight = self._flight or self._start()
        if flight is None:
            return []
        self._flight = self._start() if self._runner.lookahead else None
        try:
            result = flight.wait()
        except ZelligeError as error:
            return self._fail(flight, error)
        except Exception as error:
            died = ZelligeError(
                "ZL0710",
                f"the forward pass died of {type(error).__name__}: {error}",
                help="restart the process if every pass does; if no device failed, please report it",
            )
            died.__cause__ = error
            return self._fail(flight, died)
        except BaseException:
            self._fail(flight, None)
            raise
        finally:
            self._pool.complete_step(flight.number)
        self._steps += 1
        self._computed_tokens += flight.batch.tokens
        return self._collect(flight, result)

    def _fail(self, flight: _Flight, error: ZelligeError | None) -> list[Event]:
        """End what is unfinished of a pass that did not come to its end."""
        failed = [item.sequence for item in flight.work if item.sequence.request_id in self._active]
        return [self._finish(sequence, "error", error=error) for sequence in failed]

    def _start(self) -> _Flight | None:
        """Give the next step to the runner; None if there is nothing to compute before another one has completed."""
        work = self._scheduler.schedule()
        if not work:
            return None
        batch = self._builder.build(work)
        number = self._pool.begin_step()
        self._scheduler.started(work)
        try:
            return _Flight(number, work, batch, self._runner.start(batch))
        except BaseException as error:  # raised in its turn, when the passes before it have been awaited
            return _Flight(number, work, batch, _raising(error))

    def _collect(self, flight: _Flight, result: StepResult) -> list[Event]:
        events: list[Event] = []
        active, completed = self._active, self._scheduler.completed
        tokens, logprobs = result.token_ids.tolist(), result.logprobs.tolist()
        for b, item in enumerate(flight.work):
            sequence, _, completes, _, _ = item
            entry = active.get(sequence.request_id)
            if entry is None:
                continue  # it ended or was cancelled after this step had been started
            completed(item)
            if sequence.scores:
                if not item.stale:
                    events += self._score(item, result, int(flight.batch.offsets[b]))
            elif completes:
                self._append(sequence, entry[1], tokens[b], logprobs[b], events)
        return events

    def _append(self, sequence: Sequence, output: _Output, token: int, logprob: float, events: list[Event]) -> None:
        known = sequence.tokens
        if len(known) == sequence.prompt_tokens:
            self._cached_tokens += sequence.cached_tokens or 0
        sequence.drawing -= 1
        known.append(token)
        text, stopped = output.push(token)
        events.append(TokenEvent(sequence.request_id, token, text, logprob if sequence.params.logprobs else None))
        if stopped or token in output.ends:
            events.append(self._finish(sequence, "stop", drop_text=stopped))
        elif len(known) >= sequence.limit:
            events.append(self._finish(sequence, "length"))

    def _score(self, item: Work, result: StepResult, first: int) -> list[Event]:
        sequence = item.sequence
        assert result.row_logprobs is not None and result.row_argmax is not None
        rows = slice(first, first + min(item.length, len(sequence.tokens) - 1 - len(sequence.logprobs)))
        sequence.logprobs += result.row_logprobs[rows].tolist()
        sequence.argmax += result.row_argmax[rows].tolist()
        if sequence.stored < len(sequence.tokens):
            return []
        del self._active[sequence.request_id]
        self._scheduler.remove(sequence)
        return [ScoreEvent(sequence.request_id, tuple(sequence.logprobs), tuple(sequence.argmax))]

    def _finish(
        self,
        sequence: Sequence,
        reason: FinishReason,
        *,
        drop_text: bool = False,
        error: ZelligeError | None = None,
    ) -> FinishEvent:
        _, output = self._active.pop(sequence.request_id)
        self._scheduler.remove(sequence)
        text = ""
        if not drop_text:
            tail, stopped = output.matcher.push(output.decoder.finish() if output.decoder else "")
            text = tail if stopped else tail + output.matcher.finish()
        return FinishEvent(
            sequence.request_id,
            reason,
            text,
            prompt_tokens=sequence.prompt_tokens,
            cached_tokens=sequence.cached_tokens or 0,
            generated_tokens=sequence.generated,
            error=error,
        )

    def _check(self, request: GenerateRequest | ScoreRequest) -> None:
        generate = isinstance(request, GenerateRequest)
        ids = request.prompt_ids if isinstance(request, GenerateRequest) else request.ids
        if not ids:
            raise ZelligeError("ZL0704", "the prompt is empty", help="give at least one token")
        vocab = self._runner.vocab_size
        stops = request.params.stop_token_ids if isinstance(request, GenerateRequest) else ()
        biased = tuple(request.params.logit_bias) if isinstance(request, GenerateRequest) else ()
        for where, tokens in (("prompt", ids), ("stop_token_ids", stops), ("logit_bias", biased)):
            if not tokens or ({*map(type, tokens)} == {int} and min(tokens) >= 0 and max(tokens) < vocab):
                continue
            for index, token in enumerate(tokens):
                if isinstance(token, bool) or not isinstance(token, int) or not 0 <= token < vocab:
                    raise ZelligeError(
                        "ZL0703",
                        f"{where}: id {token!r} at index {index} is not in the vocabulary",
                        facts={"vocabulary": f"0 to {vocab - 1}"},
                    )
        most = self.context_limit - 1 if generate else self.context_limit
        if len(ids) > most:
            raise ZelligeError(
                "ZL0702",
                f"the prompt has {len(ids):,} tokens, {most:,} fit",
                facts={
                    "prompt tokens": len(ids),
                    "most that fit": most,
                    "context": self._runner.max_context,
                    "KV cache, in tokens": self._runner.num_pages * self._runner.page_size,
                },
                help=f"shorten it by {len(ids) - most:,} tokens, or raise the context size if the model allows",
            )
        if generate and request.params.stop and self._tokenizer is None:  # type: ignore[union-attr]
            raise ZelligeError("ZL0701", "stop strings need a tokenizer", help="use stop_token_ids")


def _raising(error: BaseException) -> Callable[[], StepResult]:
    def wait() -> StepResult:
        raise error

    return wait
