"""`LLM` over the NumPy oracle: many prompts with progress, threads, asyncio, cancellation."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy_llama import NumpyLlama

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
        ({"max_model_len": 10**6}, "the model's own limit is 256"),
        ({"max_batch": 0}, "max_batch is 0; it must be at least 1"),
        ({"max_batch": True}, "max_batch is True"),
        ({"kv_share": 0.0}, "kv_share is 0.0"),
        ({"kv_share": 1.5}, "kv_share is 1.5"),
        ({"kv_share": "much"}, "kv_share is 'much'; it must be above 0 and at most 1"),
        ({"kv_share": 0.5, "kv_tokens": 64}, "kv_share and kv_tokens both say"),
        ({"step": "persistent"}, "there is no step 'persistent' here"),
        ({"dtype": "int3"}, "there is no dtype 'int3'"),
    ],
)
def test_a_senseless_limit_is_refused_by_name(tiny_path: Path, wrong: dict[str, Any], words: str, refused) -> None:
    with refused("ZL0701") as caught:
        LLM(tiny_path, **wrong)
    assert words in caught.value.message


def test_prompts_may_be_arrays_texts_and_conversations(llm: LLM) -> None:
    ids = llm.tokenizer.encode("the 12")
    talk = [{"role": "user", "content": "the"}]
    wanted = [ids, ids, ids, llm.chat_prompt(talk)]
    done = llm.generate([[np.int64(i) for i in ids], np.array(ids, np.int32), "the 12", talk], PARAMS)
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
