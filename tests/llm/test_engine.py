"""The engine over a model in NumPy: batching, paging, ending and failing change nothing that a request can see."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from ledger_runner import LedgerRunner, continuation
from numpy_llama import NumpyLlama

from zellige.llm.engine import Engine
from zellige.llm.requests import FinishEvent, GenerateRequest, ScoreEvent, ScoreRequest, TokenEvent
from zellige.llm.sampling import SamplingParams
from zellige.llm.tokenizer import load_tokenizer
from zellige.llm.weights.model_file import ModelFile

PROMPTS = [[10, 20, 30], list(range(40, 80)), [10, 20, 30, 40, 50], [7], list(range(100, 117))]


def run(engine: Engine, requests: Sequence[GenerateRequest | ScoreRequest]) -> dict[int, list[Any]]:
    """All events, by position of the request."""
    numbers = [engine.submit(request) for request in requests]
    events: dict[int, list[Any]] = {number: [] for number in numbers}
    while engine.busy:
        for event in engine.step():
            events[event.request].append(event)
    return {index: events[number] for index, number in enumerate(numbers)}


def tokens(events: list[Any]) -> list[int]:
    return [event.token_id for event in events if isinstance(event, TokenEvent)]


def requests(**params: Any) -> list[GenerateRequest]:
    return [GenerateRequest(tuple(prompt), SamplingParams(max_tokens=12, **params)) for prompt in PROMPTS]


@pytest.fixture(scope="module")
def alone(tiny: ModelFile) -> dict[str, list[list[int]]]:
    """What each request gives when it has the engine to itself."""
    answers: dict[str, list[list[int]]] = {}
    for name, params in KINDS.items():
        answers[name] = [
            tokens(run(Engine(NumpyLlama(tiny), load_tokenizer(tiny), prefix_cache=False), [request])[0])
            for request in requests(**params)
        ]
    return answers


KINDS: dict[str, dict[str, Any]] = {
    "greedy": {"ignore_eos": True},
    "sampled": {"temperature": 1.0, "top_k": 40, "top_p": 0.95, "min_p": 0.01, "seed": 7, "ignore_eos": True},
    "penalised": {"repetition_penalty": 1.3, "ignore_eos": True},
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("pages", "batch", "budget"), [(256, 8, 512), (256, 2, 7), (6, 8, 16), (4, 3, 9)])
def test_neighbours_chunks_and_preemption_do_not_change_an_answer(
    tiny: ModelFile, alone: dict[str, list[list[int]]], kind: str, pages: int, batch: int, budget: int
) -> None:
    runner = NumpyLlama(tiny, num_pages=pages)
    engine = Engine(runner, load_tokenizer(tiny), max_sequences=batch, max_step_tokens=max(budget, batch + 1))
    together = run(engine, requests(**KINDS[kind]))
    assert [tokens(events) for events in together.values()] == alone[kind]
    assert (engine.stats.preemptions > 0) == (pages < 10)


def test_decode_steps_and_prompt_chunks_share_a_batch(tiny: ModelFile) -> None:
    runner = NumpyLlama(tiny)
    run(Engine(runner, max_sequences=4, max_step_tokens=16), requests())
    assert any(len({*np.diff(batch.offsets)} - {1}) and 1 in np.diff(batch.offsets) for batch in runner.batches)
    assert max(batch.tokens for batch in runner.batches) == 16


def test_scores_in_chunks_equal_scores_in_one_step(tiny: ModelFile) -> None:
    ids = tuple(range(5, 95))
    whole = run(Engine(NumpyLlama(tiny)), [ScoreRequest(ids)])[0][-1]
    parts = run(Engine(NumpyLlama(tiny), max_sequences=2, max_step_tokens=7), [ScoreRequest(ids), *requests()])[0][-1]
    assert isinstance(whole, ScoreEvent) and isinstance(parts, ScoreEvent)
    assert len(whole.logprobs) == len(whole.argmax) == len(ids) - 1
    np.testing.assert_allclose(parts.logprobs, whole.logprobs, atol=1e-4)
    assert parts.argmax == whole.argmax


def test_the_score_of_an_answer_is_what_generating_it_reported(tiny: ModelFile) -> None:
    engine = Engine(NumpyLlama(tiny))
    request = GenerateRequest((10, 20, 30), SamplingParams(max_tokens=9, logprobs=True))
    events = [e for e in run(engine, [request])[0] if isinstance(e, TokenEvent)]
    score = run(engine, [ScoreRequest((10, 20, 30, *(e.token_id for e in events)))])[0][-1]
    np.testing.assert_allclose(score.logprobs[2:], [e.logprob for e in events], atol=1e-4)
    assert list(score.argmax[2:]) == [e.token_id for e in events]


def test_one_id_has_no_scores(tiny: ModelFile) -> None:
    assert run(Engine(NumpyLlama(tiny)), [ScoreRequest((3,))])[0] == [ScoreEvent(0, (), ())]


def test_the_next_turn_finds_the_keys_and_values_of_the_turns_before() -> None:
    engine = Engine(LedgerRunner(num_pages=16), max_sequences=2, max_step_tokens=64)
    first = run(engine, [GenerateRequest(tuple(range(10)), SamplingParams(max_tokens=6))])[0]
    history = [*range(10), *tokens(first)]
    second = run(engine, [GenerateRequest((*history, 1, 2), SamplingParams(max_tokens=1))])[0][-1]
    assert second.cached_tokens == 12  # 15 tokens had been computed: three whole pages of 4


@pytest.mark.parametrize("seed", [0, 1, 2**64 - 1])
def test_a_seed_repeats_an_answer_and_another_seed_changes_it(tiny: ModelFile, seed: int) -> None:
    def answer(chosen: int) -> list[int]:
        params = SamplingParams(temperature=1.0, seed=chosen, max_tokens=20, ignore_eos=True)
        return tokens(run(Engine(NumpyLlama(tiny)), [GenerateRequest((1, 2, 3), params)])[0])

    assert answer(seed) == answer(seed) != answer(seed // 2 + 12345)


def test_an_answer_ends_at_the_models_end_a_stop_id_or_the_limit(tiny: ModelFile) -> None:
    def ending(**params: Any) -> tuple[int, str]:
        events = run(Engine(NumpyLlama(tiny), tokenizer), [GenerateRequest((9, 8, 7), SamplingParams(**params))])[0]
        return len(tokens(events)), events[-1].reason

    tokenizer = load_tokenizer(tiny)
    free = tokens(
        run(Engine(NumpyLlama(tiny)), [GenerateRequest((9, 8, 7), SamplingParams(max_tokens=10, ignore_eos=True))])[0]
    )
    fourth = free.index(free[3]) + 1
    assert ending(max_tokens=5, ignore_eos=True) == (5, "length")
    assert ending(max_tokens=10, ignore_eos=True, stop_token_ids=(free[3],)) == (fourth, "stop")
    tokenizer.eos_ids = frozenset({free[3]})
    assert ending(max_tokens=10) == (fourth, "stop")
    assert ending(max_tokens=10, ignore_eos=True) == (10, "length")
    assert ending(ignore_eos=True) == (tiny.config.context_length - 3, "length")


def test_a_stop_string_ends_the_text_before_it_even_across_tokens(tiny: ModelFile) -> None:
    tokenizer = load_tokenizer(tiny)
    params = SamplingParams(max_tokens=30, ignore_eos=True)
    whole = run(Engine(NumpyLlama(tiny), tokenizer), [GenerateRequest((9, 8, 7), params)])[0]
    text = "".join(event.text for event in whole)
    printable = [i for i in range(2, len(text) - 4) if text[i : i + 3].isascii()]
    stop = text[printable[0] : printable[0] + 3] if printable else text[4:7]
    params = SamplingParams(max_tokens=30, ignore_eos=True, stop=(stop,))
    cut = run(Engine(NumpyLlama(tiny), tokenizer), [GenerateRequest((9, 8, 7), params)])[0]
    assert "".join(event.text for event in cut) == text[: text.index(stop)]
    assert cut[-1].reason == "stop" and len(tokens(cut)) < 30


@pytest.mark.parametrize(("least_tail", "cached"), [(1, 6), (2, 6), (3, 4)])
def test_a_page_that_agrees_in_part_is_copied_where_that_is_worth_it(least_tail: int, cached: int) -> None:
    runner = LedgerRunner(num_pages=16, page_size=4, least_tail=least_tail)
    engine = Engine(runner)
    one, other = (1, 2, 3, 4, 5, 6, 7, 8, 9), (1, 2, 3, 4, 5, 6, 9, 9)
    for prompt, found in ((one, 0), (other, cached), (one, 8)):
        engine.submit(GenerateRequest(prompt, SamplingParams(max_tokens=5)))
        events = []
        while engine.busy:
            events += engine.step()
        assert tokens(events) == continuation(list(prompt), 5, runner.vocab_size)
        assert events[-1].cached_tokens == found
    assert sum(len(batch.copies) for batch in runner.batches) == (cached == 6)


@pytest.mark.parametrize(
    ("prompt", "copies"), [((1, 2, 3, 4, 5, 6, 7, 8), 1), ((1, 2, 3, 4, 5, 6, 7), 1), ((1, 2, 3, 4, 5), 0)]
)
def test_a_prompt_that_comes_again_has_one_token_to_compute(prompt: tuple[int, ...], copies: int) -> None:
    runner = LedgerRunner(num_pages=16, page_size=4, least_tail=4)  # as a GPU says
    engine = Engine(runner)
    for again in (False, True):
        engine.submit(GenerateRequest(prompt, SamplingParams(max_tokens=5)))
        events = []
        while engine.busy:
            events += engine.step()
        assert tokens(events) == continuation(list(prompt), 5, runner.vocab_size)
        assert events[-1].cached_tokens == (len(prompt) - 1 if again else 0)
    assert sum(len(batch.copies) for batch in runner.batches) == copies


def test_a_failing_step_fails_its_requests_and_no_other() -> None:
    runner = LedgerRunner(num_pages=16)
    engine = Engine(runner, max_sequences=1, max_step_tokens=8)
    first = engine.submit(GenerateRequest((1, 2, 3), SamplingParams(max_tokens=3)))
    second = engine.submit(GenerateRequest((1, 2, 4), SamplingParams(max_tokens=3)))
    runner.fail_next = True
    events = []
    while engine.busy:
        events += engine.step()
    ends = {event.request: event for event in events if isinstance(event, FinishEvent)}
    assert ends[first].reason == "error" and ends[first].error.code == "ZL0501"
    assert ends[second].reason == "length" and ends[second].generated_tokens == 3
    assert engine.stats.pages_held == engine.stats.pages_cached


def interrupted(lookahead: bool, error: type[BaseException]) -> tuple[Engine, LedgerRunner, int, int]:
    """An engine whose first request's next pass will raise, and that request and another that waits."""
    runner = LedgerRunner(num_pages=16, lookahead=lookahead)
    engine = Engine(runner, max_sequences=1, max_step_tokens=8, prefix_cache=False)
    first = engine.submit(GenerateRequest((1, 2, 3), SamplingParams(max_tokens=9)))
    other = engine.submit(GenerateRequest((1, 2, 4), SamplingParams(max_tokens=3)))
    engine.step()
    runner.error = error
    return engine, runner, first, other


@pytest.mark.parametrize("lookahead", [False, True])
def test_an_interrupt_is_raised_and_the_engine_goes_on_with_the_others(lookahead: bool) -> None:
    engine, _, _, other = interrupted(lookahead, KeyboardInterrupt)
    with pytest.raises(KeyboardInterrupt):
        for _ in range(3):
            engine.step()
    events = []
    while engine.busy:
        events += engine.step()
    engine.step()
    assert {event.request for event in events} == {other} and events[-1].reason == "length"
    assert engine.stats.pages_held == 0 and engine._pool.free == 16


@pytest.mark.parametrize("lookahead", [False, True])
@pytest.mark.parametrize("error", [RuntimeError, MemoryError, OSError])
def test_a_pass_that_dies_ends_its_requests_with_an_error_and_no_other(lookahead: bool, error: type) -> None:
    """As when a driver loses its device: an error that is not ours, while the next pass may be in flight already."""
    engine, _, first, other = interrupted(lookahead, error)
    events = []
    while engine.busy:
        events += engine.step()
    engine.step()
    ends = {event.request: event for event in events if isinstance(event, FinishEvent)}
    assert ends[first].reason == "error" and ends[first].error.code == "ZL0710"
    assert isinstance(ends[first].error.__cause__, error)
    assert ends[other].reason == "length" and ends[other].generated_tokens == 3
    assert engine.stats.pages_held == 0 and engine._pool.free == 16 and not engine._scheduler.running


def test_a_cancelled_request_is_over_at_once_and_gives_its_pages_back() -> None:
    engine = Engine(LedgerRunner(num_pages=16), prefix_cache=False)
    number = engine.submit(GenerateRequest((1, 2, 3), SamplingParams(max_tokens=50)))
    engine.step()
    assert engine.stats.pages_held == 1
    assert [event.reason for event in engine.cancel(number)] == ["cancelled"]
    assert engine.stats.pages_held == 0 and not engine.busy and engine.cancel(number) == []


def test_what_cannot_run_is_refused_before_it_is_queued(refused) -> None:
    engine = Engine(LedgerRunner(num_pages=8, max_context=30))
    with refused("ZL0702") as caught:
        engine.submit(GenerateRequest(tuple([1] * 31)))
    assert caught.value.facts["prompt tokens"] == 31 and caught.value.facts["most that fit"] == 29
    with refused("ZL0703"):
        engine.submit(GenerateRequest((1, 50)))
    with refused("ZL0703"):
        engine.submit(ScoreRequest((-1,)))
    with refused("ZL0704"):
        engine.submit(GenerateRequest(()))
    with refused("ZL0701"):
        engine.submit(GenerateRequest((1,), SamplingParams(stop=("x",))))
    assert not engine.busy


def test_a_thousand_short_requests_leave_nothing_behind() -> None:
    engine = Engine(LedgerRunner(num_pages=12), max_sequences=8, max_step_tokens=64)
    for start in range(0, 1000, 50):
        run(
            engine, [GenerateRequest((i % 50, i // 50), SamplingParams(max_tokens=1)) for i in range(start, start + 50)]
        )
    assert engine.stats.pages_held == engine.stats.pages_cached and not engine._active


def test_a_full_prefix_cache_delays_nobody_while_steps_run_ahead() -> None:
    runner = LedgerRunner(
        num_pages=288, lookahead=True
    )  # of 4 tokens: 32 requests of 8 pages, and a page more for each
    engine = Engine(runner, None, max_sequences=32, max_step_tokens=128)
    steps = []
    for first in range(4):
        before = len(runner.batches)
        prompts = [(first, i, *range(14)) for i in range(32)]
        run(engine, [GenerateRequest(prompt, SamplingParams(max_tokens=16, ignore_eos=True)) for prompt in prompts])
        steps.append(len(runner.batches) - before)
    assert engine.stats.pages_cached > 200
    assert max(steps) <= steps[0] + 1, "what is in the cache holds up those who come"
