"""A model-based test of engine, scheduler, page pool and prefix cache: whatever is asked of them in whatever order,
no page leaks, none is shared wrongly, nobody starves, and every request gets the tokens that it would get alone."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, initialize, invariant, multiple, rule
from ledger_runner import LedgerRunner, continuation, next_token

from zellige.llm.engine import Engine
from zellige.llm.requests import Event, FinishEvent, GenerateRequest, ScoreEvent, ScoreRequest, TokenEvent
from zellige.llm.sampling import SamplingParams

VOCAB = 50
# Long prompts with few distinct beginnings, so that requests share pages and compete for them.
prompts = st.builds(
    lambda beginning, length, tail: [beginning] * length + tail,
    st.integers(0, 1),
    st.sampled_from([0, 3, 7, 8, 11, 14, 22, 23, 27]),
    st.lists(st.integers(0, 2), min_size=1, max_size=2),
)
batches = st.lists(st.tuples(prompts, st.sampled_from([1, 4, 9, 25])), min_size=1, max_size=6)


class EngineMachine(RuleBasedStateMachine):
    requests = Bundle("requests")

    @initialize(
        pages=st.sampled_from([10, 11, 13, 20]),
        cache=st.sampled_from([True, True, False]),
        sequences=st.sampled_from([4, 3, 2, 1]),
        extra=st.sampled_from([30, 8, 3, 1]),
        lookahead=st.booleans(),
        least_tail=st.sampled_from([1, 1, 2, 4]),
    )
    def start(self, pages: int, cache: bool, sequences: int, extra: int, lookahead: bool, least_tail: int) -> None:
        self.runner = LedgerRunner(
            num_pages=pages, vocab_size=VOCAB, max_context=40, lookahead=lookahead, least_tail=least_tail
        )
        self.engine = Engine(
            self.runner, max_sequences=sequences, max_step_tokens=sequences + extra, prefix_cache=cache
        )
        self.expected: dict[int, list[int]] = {}
        self.prompts: dict[int, list[int]] = {}
        self.finished: list[list[int]] = []  # prompts with their answers
        self.scores: dict[int, list[int]] = {}
        self.got: dict[int, list[int]] = {}

    @rule(target=requests, batch=batches, priority=st.sampled_from([0, 0, 0, 1, -1]))
    def ask(self, batch: list[tuple[list[int], int]], priority: int) -> Any:
        return multiple(*(self.submit(prompt, count, priority) for prompt, count in batch))

    @rule(target=requests, prompt=prompts, after=st.integers(1, 6))
    def ask_with_a_stop(self, prompt: list[int], after: int) -> Any:
        """An answer that ends by what it says, which a step that runs ahead cannot know."""
        whole = continuation(prompt, after, VOCAB)
        if len(prompt) + after > self.engine.context_limit:
            return multiple()
        number = self.submit(prompt, 25, stop=(whole[-1],))
        self.expected[number] = whole[: whole.index(whole[-1]) + 1]
        return number

    @rule(target=requests, index=st.integers(0, 5), tail=st.lists(st.integers(0, 2), max_size=5))
    def go_on(self, index: int, tail: list[int]) -> Any:
        """As in a conversation: the next prompt is an earlier one, its answer, and more."""
        if not self.finished:
            return multiple()
        prompt = self.finished[-1 - index % len(self.finished)] + tail
        if len(prompt) >= self.engine.context_limit:
            return multiple()
        return self.submit(prompt, 2)

    def submit(self, prompt: list[int], count: int, priority: int = 0, stop: tuple[int, ...] = ()) -> int:
        params = SamplingParams(max_tokens=count, stop_token_ids=stop)
        number = self.engine.submit(GenerateRequest(tuple(prompt), params, priority))
        self.prompts[number] = prompt
        self.expected[number] = continuation(prompt, min(count, self.engine.context_limit - len(prompt)), VOCAB)
        self.got[number] = []
        return number

    @rule(ids=prompts)
    def score(self, ids: list[int]) -> None:
        self.scores[self.engine.submit(ScoreRequest(tuple(ids)))] = ids

    @rule(request=consumes(requests))
    def cancel(self, request: int) -> None:
        events = self.engine.cancel(request)
        assert [e.reason for e in events if isinstance(e, FinishEvent)] == (["cancelled"] if events else [])
        self.expected.pop(request, None)

    @rule(steps=st.integers(1, 12))
    def run(self, steps: int) -> None:
        for _ in range(steps):
            self.receive(self.engine.step())

    @rule()
    def fail(self) -> None:
        """The step that is started next fails; one in flight before it does not."""
        self.runner.fail_next = True
        for _ in range(3):
            events = self.engine.step()
            failed = {e.request for e in events if isinstance(e, FinishEvent) and e.reason == "error"}
            for request in failed:
                self.expected.pop(request, None)
                self.scores.pop(request, None)
            self.receive(event for event in events if event.request not in failed)
        self.runner.fail_next = False

    @rule()
    def drain(self) -> None:
        """Nobody starves: what is left takes a bounded number of steps."""
        waiting = sum(len(v) for v in self.expected.values()) + sum(len(v) for v in self.scores.values())
        bound = 60 + 20 * (waiting + 40 * (len(self.expected) + len(self.scores)))
        for _ in range(bound):
            if not self.engine.busy:
                break
            self.receive(self.engine.step())
        assert not self.engine.busy and not self.expected and not self.scores
        assert self.engine.stats.pages_held == self.engine.stats.pages_cached

    def teardown(self) -> None:
        if hasattr(self, "engine"):
            self.drain()

    def receive(self, events: Iterable[Event]) -> None:
        self.pages_are_held_by_those_who_may()
        self.order_of_arrival_is_kept()
        for event in events:
            match event:
                case TokenEvent(request=request, token_id=token):
                    self.got[request].append(token)
                    assert self.got[request] == self.expected[request][: len(self.got[request])]
                case FinishEvent(request=request, reason=reason):
                    assert reason in ("length", "stop") and self.got[request] == self.expected.pop(request)
                    self.finished.append(self.prompts[request] + self.got[request])
                case ScoreEvent(request=request, logprobs=logprobs, argmax=argmax):
                    ids = self.scores.pop(request)
                    assert list(logprobs) == [-float(i) for i in ids[1:]]
                    assert list(argmax) == [next_token(ids[: i + 1], VOCAB) for i in range(len(ids) - 1)]

    @invariant()
    def pages_are_held_by_those_who_may(self) -> None:
        pool, scheduler, cache = self.engine._pool, self.engine._scheduler, self.engine._cache
        holders = [page for sequence in scheduler.running for page in sequence.pages]
        cached = [] if cache is None else [page for page, _ in _tree(cache)]
        assert len(cached) == len(set(cached))
        for page in range(pool.num_pages):
            assert pool.references(page) == holders.count(page) + cached.count(page)
        assert pool.free + pool.held + pool.retiring == pool.num_pages
        assert pool.retiring == 0 or self.engine._flight is not None
        lanes = [sequence.lane for sequence in scheduler.running]
        assert sorted(lanes + scheduler._lanes) == list(range(len(lanes) + len(scheduler._lanes)))
        assert all(not sequence.pages for sequence in scheduler.waiting)

    @invariant()
    def shared_pages_have_the_same_tokens(self) -> None:
        size = self.runner.page_size
        content: dict[int, tuple[int, ...]] = {}
        for sequence in self.engine._scheduler.running:
            for index, page in enumerate(sequence.pages):
                if (index + 1) * size <= sequence.stored:
                    tokens = tuple(sequence.tokens[: (index + 1) * size])
                    assert content.setdefault(page, tokens) == tokens
        if self.engine._cache is not None:
            for page, tokens in _tree(self.engine._cache):
                assert content.setdefault(page, tokens) == tokens

    @invariant()
    def order_of_arrival_is_kept(self) -> None:
        scheduler = self.engine._scheduler
        running = [(-s.priority, s.arrival) for s in scheduler.running]
        waiting = [(-s.priority, s.arrival) for s in scheduler.waiting]
        assert running == sorted(running) and waiting == sorted(waiting)
        for priority in {turn[0] for turn in running + waiting}:  # among equals, who came first runs first
            ran, waits = ([t for t in turns if t[0] == priority] for turns in (running, waiting))
            assert not ran or not waits or max(ran) < min(waits)


def _tree(cache) -> list[tuple[int, tuple[int, ...]]]:
    """Every page of the tree with all tokens up to its end."""
    found, stack = [], [(cache._root, ())]
    while stack:
        node, tokens = stack.pop()
        for key, child in node.children.items():
            size = len(key)
            assert key == child.tokens[:size] and len(child.tokens) >= size * len(child.pages) > 0
            assert child.parent is node and child in node.by_first[key[0]]
            for index, page in enumerate(child.pages):
                assert cache._nodes[page] is child
                found.append((page, tokens + child.tokens[: (index + 1) * size]))
            stack.append((child, tokens + child.tokens[: size * len(child.pages)]))
    assert len(found) == cache.pages
    return found


TestEngineMachine = EngineMachine.TestCase
TestEngineMachine.settings = settings(max_examples=150, stateful_step_count=30, deadline=None)
