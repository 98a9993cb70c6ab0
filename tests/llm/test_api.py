"""`LLM` over the NumPy oracle: many prompts with progress, threads, asyncio, cancellation."""

from __future__ import annotations

import asyncio
import copy
import gc
import pickle
import signal
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import pytest
from numpy_llama import NumpyLlama

from zellige.diagnostics import ZelligeError
from zellige.llm.api import LLM, Progress
from zellige.llm.sampling import SamplingParams
from zellige.runtime.cpu import CpuExecutor

PROMPTS = [[10, 20, 30], list(range(40, 80)), [7], list(range(100, 117))]
PARAMS = SamplingParams(max_tokens=9, ignore_eos=True)


@pytest.fixture
def llm(tiny_path: Path) -> LLM:
    return LLM(tiny_path, max_model_len=128, kv_tokens=1024, runner=lambda model: NumpyLlama(model, lookahead=True))


@pytest.fixture(scope="module")
def expected(tiny_path: Path) -> list[tuple[int, ...]]:
    llm = LLM(tiny_path, max_model_len=128, kv_tokens=1024, runner=NumpyLlama)
    return [llm.generate([prompt], PARAMS)[0].token_ids for prompt in PROMPTS]


def nothing_runs(llm: LLM) -> bool:
    return not llm._engine.busy and not llm._inbox


def test_generate_tells_how_far_it_is_and_takes_parameters_for_each(llm: LLM, expected: list[tuple[int, ...]]) -> None:
    seen: list[Progress] = []
    each = [SamplingParams(max_tokens=n, ignore_eos=True) for n in (1, 9, 4, 6)]
    done = llm.generate(PROMPTS, each, progress=seen.append)
    assert [c.token_ids for c in done] == [tokens[:n] for tokens, n in zip(expected, (1, 9, 4, 6), strict=True)]
    assert seen[-1] == Progress(4, 4, 20) and seen[0].finished < 4
    assert [p.tokens for p in seen] == sorted(p.tokens for p in seen)
    assert nothing_runs(llm)


def test_parameters_for_each_must_be_as_many_as_prompts(llm: LLM, refused: Callable[..., Any]) -> None:
    with refused("ZL0701"):
        llm.generate(PROMPTS, [PARAMS])
    assert nothing_runs(llm)


def test_a_bad_prompt_among_good_ones_leaves_nothing_running(llm: LLM, refused: Callable[..., Any]) -> None:
    with refused("ZL0703"):
        llm.generate([[1, 2], [10**9]], PARAMS)
    assert nothing_runs(llm)


def test_threads_share_a_model(llm: LLM, expected: list[tuple[int, ...]]) -> None:
    found: dict[int, tuple[int, ...]] = {}

    def ask(i: int) -> None:
        found[i] = llm.generate([PROMPTS[i % 4]], PARAMS)[0].token_ids

    threads = [threading.Thread(target=ask, args=(i,)) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert found == {i: expected[i % 4] for i in range(8)}


def test_awaited_answers_run_together(llm: LLM, expected: list[tuple[int, ...]]) -> None:
    async def main() -> None:
        ids = [7, 8, 9, 10]
        done, streamed, scores = await asyncio.gather(
            llm.generate_async(PROMPTS, PARAMS), collect(PROMPTS[1]), llm.score_async(ids)
        )
        assert [c.token_ids for c in done] == expected
        assert tuple(streamed) == expected[1]
        assert len(scores.logprobs) == 3

    async def collect(prompt: list[int]) -> list[int]:
        return [piece.token_id async for piece in await llm.stream_async(prompt, PARAMS) if piece.token_id >= 0]

    asyncio.run(main())
    steps = llm.stats.steps
    assert steps < 30  # 6 requests of up to 9 tokens one after the other would take more
    assert nothing_runs(llm)
    asyncio.run(main())  # and again, in another event loop


def test_a_cancelled_task_cancels_its_request_and_no_other(llm: LLM, expected: list[tuple[int, ...]]) -> None:
    async def main() -> None:
        long = SamplingParams(max_tokens=80, ignore_eos=True)
        endless = asyncio.create_task(llm.generate_async([[1, 2, 3]], long))
        stream = await llm.stream_async(PROMPTS[0], PARAMS)
        first = await anext(stream)
        endless.cancel()
        with pytest.raises(asyncio.CancelledError):
            await endless
        rest = await stream.finish()
        assert rest.token_ids == expected[0] and first.token_id == expected[0][0]

    asyncio.run(main())
    assert nothing_runs(llm) and llm._engine.stats.pages_held == llm._engine.stats.pages_cached


def test_leaving_an_async_stream_early_cancels_it(llm: LLM) -> None:
    async def main() -> None:
        async with await llm.stream_async([5, 6], SamplingParams(max_tokens=80, ignore_eos=True)) as stream:
            async for _ in stream:
                break
        assert stream.completion is not None and stream.completion.finish_reason == "cancelled"

    asyncio.run(main())
    assert nothing_runs(llm)


def test_a_failing_step_reaches_whoever_awaits(llm: LLM, monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        monkeypatch.setattr(llm._engine, "step", lambda: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            await asyncio.wait_for(llm.generate_async([[5, 6]], PARAMS), 30)

    asyncio.run(main())


def test_urgent_requests_overtake_those_that_wait(tiny_path: Path) -> None:
    llm = LLM(tiny_path, max_model_len=128, max_batch=2, runner=NumpyLlama)
    order = []
    streams = {name: llm.stream([i + 1], SamplingParams(max_tokens=4, ignore_eos=True), priority=p)
               for i, (name, p) in enumerate([("a", 0), ("b", 0), ("c", 0), ("urgent", 5)])}  # fmt: skip
    while any(stream.completion is None for stream in streams.values()):
        llm.advance()
        for name, stream in streams.items():
            if stream.completion is None:
                stream.take_ready()
                if stream.completion is not None:
                    order.append(name)
    assert order.index("urgent") < order.index("b") < order.index("c")


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"max_model_len": 1}, "max_model_len is 1; it must be at least 2"),
        ({"max_model_len": 10**6}, "a context of 1,000,000 tokens is more than the model's own limit, 256"),
        ({"max_batch": 0}, "max_batch is 0; it must be at least 1"),
        ({"max_batch": True}, "max_batch is True"),
        ({"kv_share": 0.0}, "kv_share is 0.0"),
        ({"kv_share": 1.5}, "kv_share is 1.5"),
        ({"kv_share": "much"}, "kv_share is 'much'; it must be above 0 and at most 1"),
        ({"kv_share": 0.5, "kv_tokens": 64}, "kv_share and kv_tokens both say"),
        ({"step": "persistent"}, "there is no step 'persistent' here"),
        ({"dtype": "int3"}, "there is no dtype 'int3'"),
        ({"dtype": ["bf16"]}, "there is no dtype '['bf16']'"),
    ],
)
def test_a_senseless_limit_is_refused_by_name(tiny_path: Path, wrong: dict[str, Any], words: str, refused) -> None:
    with refused("ZL0701") as caught:
        LLM(tiny_path, **wrong)
    assert words in caught.value.message


def test_prompts_may_be_arrays_texts_and_conversations(llm: LLM) -> None:
    ids = llm.tokenizer.encode("the 12")
    talk = [{"role": "user", "content": "the"}]
    wanted = [ids, ids, ids, llm.chat_prompt(talk), llm.chat_prompt(talk)]
    same = [MappingProxyType(message) for message in talk]
    done = llm.generate([[np.int64(i) for i in ids], np.array(ids, np.int32), "the 12", talk, same], PARAMS)
    assert [list(c.prompt_ids) for c in done] == wanted
    assert [list(c.prompt_ids) for c in llm.generate(np.array([ids, ids]), PARAMS)] == [ids, ids]
    assert llm.score(np.array(ids)) == llm.score("the 12") == llm.score(ids)
    assert asyncio.run(llm.score_async("the 12")) == llm.score(ids)


@pytest.mark.parametrize(
    ("call", "code"),
    [
        (lambda llm: llm.generate("the"), "ZL0704"),
        (lambda llm: llm.generate(np.array([1, 2])), "ZL0704"),
        (lambda llm: llm.generate(None), "ZL0704"),
        (lambda llm: llm.generate([None]), "ZL0704"),
        (lambda llm: llm.generate([b"the"]), "ZL0704"),
        (lambda llm: llm.generate([[1.0]]), "ZL0703"),
        (lambda llm: llm.generate([[True]]), "ZL0703"),
        (lambda llm: llm.generate([[1]], {"max_tokens": 3}), "ZL0701"),
        (lambda llm: llm.generate([[1]], ["greedy"]), "ZL0701"),
        (lambda llm: llm.generate([[1]], priority="first"), "ZL0701"),
        (lambda llm: llm.stream([1], 0.7), "ZL0701"),
        (lambda llm: llm.score([]), "ZL0704"),
        (lambda llm: llm.chat("hi"), "ZL0706"),
        (lambda llm: LLM(3), "ZL0601"),  # type: ignore[arg-type]
        (lambda llm: LLM(""), "ZL0601"),
    ],
)
def test_what_is_no_request_is_refused_and_leaves_nothing(llm: LLM, call: Any, code: str, refused) -> None:
    with refused(code):
        call(llm)
    assert nothing_runs(llm)


def test_one_request_at_a_time_is_a_batch_of_one(tiny_path: Path, expected: list[tuple[int, ...]]) -> None:
    done = LLM(tiny_path, max_batch=1, runner=NumpyLlama).generate(PROMPTS, PARAMS)
    assert [completion.token_ids for completion in done] == expected


def test_a_share_of_the_free_memory_holds_keys_and_values(
    tiny_path: Path, monkeypatch: pytest.MonkeyPatch, refused: Callable[..., Any]
) -> None:
    monkeypatch.setattr(CpuExecutor, "free_bytes", lambda self: 1_000_000)
    llm = LLM(tiny_path, kv_share=0.5)
    page = 2 * 2 * 16 * 2 * 16 * 2  # keys and values, layers, tokens, heads, width of a head, bytes
    assert llm.stats.pages_total == 500_000 // page
    assert len(llm.generate([[1, 2, 3]], SamplingParams(max_tokens=3, ignore_eos=True))[0].token_ids) == 3
    monkeypatch.setattr(CpuExecutor, "free_bytes", lambda self: page)
    with refused("ZL0506"):
        LLM(tiny_path, kv_share=0.5)


# --- those who read an answer are not alone
LONG = SamplingParams(max_tokens=100, ignore_eos=True)


def test_closing_a_stream_that_another_task_reads_ends_it_and_no_other(
    llm: LLM, expected: list[tuple[int, ...]]
) -> None:
    async def main(pause_s: float) -> None:
        stream = await llm.stream_async([5, 6], LONG)

        async def read() -> int:
            return len([piece async for piece in stream])

        reader, other = asyncio.create_task(read()), asyncio.create_task(llm.generate_async(PROMPTS, PARAMS))
        await asyncio.sleep(pause_s)  # whatever the reader is at then
        await stream.aclose()
        assert await asyncio.wait_for(reader, 30) < 100
        assert [done.token_ids for done in await asyncio.wait_for(other, 30)] == expected

    for pause in range(10):
        asyncio.run(main(pause * 0.001))
    assert nothing_runs(llm)


def test_two_tasks_do_not_await_one_token(llm: LLM) -> None:
    async def main() -> None:
        stream = await llm.stream_async([5, 6], LONG)
        first, second = (asyncio.create_task(anext(stream)) for _ in range(2))
        with pytest.raises(RuntimeError, match="two tasks"):
            await asyncio.wait_for(second, 30)
        assert (await asyncio.wait_for(first, 30)).token_id >= 0
        await stream.aclose()

    asyncio.run(main())


def test_closing_a_stream_that_another_thread_reads_ends_it(llm: LLM) -> None:
    stream, read = llm.stream([5, 6], LONG), []
    next(stream)
    reader = threading.Thread(target=lambda: read.append(len(list(stream))))
    with llm._lock:  # so that the reader waits for its next token
        reader.start()
    stream.close()
    reader.join(30)
    assert read and read[0] < 100
    assert nothing_runs(llm)


def test_event_loops_of_several_threads_share_a_model(llm: LLM, expected: list[tuple[int, ...]]) -> None:
    found: list[list[tuple[int, ...]]] = []

    def run() -> None:
        found.append([done.token_ids for done in asyncio.run(llm.generate_async(PROMPTS, PARAMS))])

    threads = [threading.Thread(target=run, daemon=True) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert found == [expected] * 3
    gc.collect()
    assert nothing_runs(llm) and not llm._pumps


def test_a_request_that_is_cancelled_before_it_is_submitted_leaves_nothing(llm: LLM) -> None:
    async def main() -> None:
        with llm._lock:  # as when a step runs
            waiting = [
                asyncio.create_task(llm.generate_async([[5, 6]], LONG)),
                asyncio.create_task(llm.score_async([5, 6])),
            ]
            await asyncio.sleep(0.05)
            for task in waiting:
                task.cancel()
            await asyncio.gather(*waiting, return_exceptions=True)

    asyncio.run(main())  # which waits for the threads
    assert nothing_runs(llm)


def test_an_interrupt_in_one_thread_is_told_to_those_that_wait_in_others(
    tiny_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    llm = LLM(tiny_path, max_model_len=128, kv_tokens=1024, runner=NumpyLlama)  # a pass begins and ends in one thread
    told: list[str] = []

    def wait() -> None:
        try:
            llm.generate([[5, 6]], LONG)
        except ZelligeError as error:
            told.append(error.code)

    def interrupted(batch: Any) -> Any:
        if threading.current_thread() is threading.main_thread() and batch.sequences == 2:
            raise KeyboardInterrupt
        return start(batch)

    start = llm._engine._runner.start
    monkeypatch.setattr(llm._engine._runner, "start", interrupted)
    other = threading.Thread(target=wait, daemon=True)
    other.start()
    while not llm.stats.steps:
        time.sleep(0.001)
    with pytest.raises(KeyboardInterrupt):
        llm.generate([[7, 8]], LONG)
    other.join(30)
    assert told == ["ZL0710"]
    assert nothing_runs(llm)


@pytest.fixture
def listens() -> Iterator[None]:
    """Ctrl-C is heard by Python, which it is not in a process that a shell has put in the background."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("listens")
@pytest.mark.parametrize("times", [1, 2])
def test_ctrl_c_waits_for_the_step_that_runs_and_the_second_does_not(
    llm: LLM, monkeypatch: pytest.MonkeyPatch, times: int
) -> None:
    step, ended = llm._engine.step, []

    def pressed() -> Any:
        for _ in range(times):
            signal.raise_signal(signal.SIGINT)
        ended.append(True)
        return step()

    with monkeypatch.context() as patched:
        patched.setattr(llm._engine, "step", pressed)
        with pytest.raises(KeyboardInterrupt):
            llm.generate([[5, 6]], PARAMS)
    assert ended == [True] * (times == 1)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    assert nothing_runs(llm)


def test_a_stream_that_is_collected_within_a_step_is_cancelled_after_it(
    llm: LLM, expected: list[tuple[int, ...]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The collector runs anywhere: here it finds streams in a circle while the scheduler goes through its lists."""
    step = llm._engine._scheduler.schedule
    within: list[bool] = []

    def schedule() -> Any:
        before = len(llm._engine._active)
        gc.collect()
        within.append(len(llm._engine._active) == before)
        return step()

    lost: Any = [llm.stream([5, 6], LONG) for _ in range(3)]
    for stream in lost:
        stream.itself = stream
    monkeypatch.setattr(llm._engine._scheduler, "schedule", schedule)
    gc.disable()
    try:
        del lost, stream
        found = [done.token_ids for done in llm.generate(PROMPTS, PARAMS)]
    finally:
        gc.enable()
    assert found == expected and all(within)
    assert nothing_runs(llm)


def test_a_closed_llm_has_ended_its_requests_and_given_its_memory_back(
    llm: LLM, expected: list[tuple[int, ...]], refused: Callable[..., Any]
) -> None:
    runner = weakref.ref(llm._engine._runner)
    with llm as entered:
        assert entered is llm and llm.generate(PROMPTS[:1], PARAMS)[0].token_ids == expected[0]
        stream, other = llm.stream(PROMPTS[0], PARAMS), llm.stream(PROMPTS[1], PARAMS)
        first = next(stream)
    assert runner() is None
    rest = stream.finish()
    assert rest.token_ids[:1] == (first.token_id,) and rest.finish_reason == "cancelled"
    del other
    llm.close()
    for ask in (
        lambda: llm.generate(PROMPTS, PARAMS),
        lambda: llm.stream(PROMPTS[0]),
        lambda: llm.score(PROMPTS[0]),
        lambda: llm.stats,
        lambda: asyncio.run(llm.generate_async(PROMPTS)),
    ):
        with refused("ZL0711"):
            ask()


def test_who_awaits_an_answer_of_an_llm_that_is_closed_gets_what_there_is(llm: LLM) -> None:
    async def run() -> Any:
        stream = await llm.stream_async(PROMPTS[0], SamplingParams(max_tokens=60, ignore_eos=True))
        seen = [await anext(stream)]
        await asyncio.to_thread(llm.close)
        seen += [piece async for piece in stream]
        return seen, stream.completion

    seen, completion = asyncio.run(asyncio.wait_for(run(), 20))
    assert 1 <= len(seen) < 60 and completion is not None and completion.finish_reason == "cancelled"


@pytest.mark.parametrize("make", [copy.copy, copy.deepcopy, pickle.dumps])
def test_a_loaded_model_stays_where_it_is(llm: LLM, make: Callable[[Any], Any], refused: Callable[..., Any]) -> None:
    with refused("ZL0711"):
        make(llm)
