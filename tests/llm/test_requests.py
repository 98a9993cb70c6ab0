"""Sampling parameters, stop strings, chat templates: what is accepted, what is refused and why."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from zellige.llm.chat_template import ChatTemplate
from zellige.llm.sampling import SamplingParams
from zellige.llm.stop_strings import StopMatcher


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("temperature", -0.1), ("temperature", math.inf), ("temperature", math.nan), ("temperature", "hot"),
        ("top_k", -1), ("top_k", 1.5), ("top_p", 0.0), ("top_p", 1.1), ("top_p", math.nan), ("min_p", -0.1), ("min_p", 2),
        ("repetition_penalty", 0), ("seed", -1), ("seed", 2**64), ("max_tokens", 0), ("max_tokens", True),
        ("stop", ("",)), ("stop", (3,)), ("stop_token_ids", (-1,)), ("stop_token_ids", (1.0,)), ("stop_token_ids", {3}),
        ("temperature", 1e39), ("temperature", 10**400), ("repetition_penalty", 1e-46), ("repetition_penalty", 1e39),
        ("ignore_eos", "no"), ("logprobs", 5), ("max_tokens", 2.0), ("temperature", np.bool_(True)),
    ],
)  # fmt: skip
def test_a_senseless_parameter_is_refused_by_name(name: str, value: Any, refused) -> None:
    with refused("ZL0701") as caught:
        SamplingParams(**{name: value})
    assert caught.value.facts["parameter"] == name and repr(value) in caught.value.message


def test_numbers_may_be_numpys() -> None:
    given = SamplingParams(
        temperature=np.float32(0.5), top_k=np.int64(3), seed=np.uint64(2**64 - 1), max_tokens=np.int32(4),  # type: ignore[arg-type]
        stop_token_ids=np.array([5, 6]), logit_bias={np.int64(7): np.float32(2)},  # type: ignore[arg-type]
    )  # fmt: skip
    assert given == SamplingParams(
        temperature=0.5, top_k=3, seed=2**64 - 1, max_tokens=4, stop_token_ids=(5, 6), logit_bias={7: 2.0}
    )
    assert type(given.top_k) is int and type(given.temperature) is float


def test_a_bias_that_was_checked_does_not_change() -> None:
    bias = {5: 1.0}
    params = SamplingParams(logit_bias=bias)
    bias[5] = math.nan
    assert params.spec().bias == ((5, 1.0),)


def test_a_single_stop_string_may_be_given_as_it_is() -> None:
    assert SamplingParams(stop="END").stop == ("END",)  # type: ignore[arg-type]


def test_a_seed_is_drawn_once() -> None:
    seeded = SamplingParams().seeded()
    assert seeded.seed is not None and seeded.seeded() is seeded


@given(
    pieces=st.lists(st.text("ab", max_size=3), max_size=12),
    stops=st.lists(st.text("ab", min_size=1, max_size=4), max_size=3).map(tuple),
)
def test_text_ends_before_the_first_stop_string_however_it_is_cut(pieces: list[str], stops: tuple[str, ...]) -> None:
    matcher = StopMatcher(stops)
    shown, seen, stopped = "", "", False
    for piece in pieces:
        seen += piece
        safe, stopped = matcher.push(piece)
        shown += safe
        assert seen.startswith(shown)
        assert stopped == any(stop in seen for stop in stops)
        if stopped:
            break
    if stopped:
        assert shown == seen[: min(seen.index(stop) for stop in stops if stop in seen)]
    else:
        assert shown + matcher.finish() == seen


def test_a_stop_string_that_does_not_come_true_is_shown_late_but_shown() -> None:
    matcher = StopMatcher(("END",))
    assert [matcher.push(c)[0] for c in "xENx"] == ["x", "", "", "ENx"]


MESSAGES = [{"role": "user", "content": "Hi"}]


@pytest.mark.parametrize(
    "source",
    [
        "{{ raise_exception('roles must alternate') }}",
        "{% for %}",
        "{{ messages[7].content.upper() }}",
        "{{ 1 / 0 }}",
        "{{ messages + 1 }}",
        "{{ ''.__class__.__mro__[1].__subclasses__() }}",
        "{{ messages.append(1) }}",
    ],
)
def test_a_template_that_fails_or_reaches_out_is_an_error(source: str, refused) -> None:
    with refused("ZL0610") as caught:
        ChatTemplate(source).render(MESSAGES)
    assert "chat template fails" in caught.value.message


def test_a_templates_own_complaint_is_passed_on(refused) -> None:
    with refused("ZL0610") as caught:
        ChatTemplate("{{ raise_exception('roles must alternate') }}").render(MESSAGES)
    assert "roles must alternate" in caught.value.message


def test_a_template_gets_special_tokens_and_variables() -> None:
    template = ChatTemplate("{{ bos_token }}{{ messages[0].content }}{{ mood }}", {"bos_token": "<s>"})
    assert template.render(MESSAGES, mood="!") == "<s>Hi!"


@pytest.mark.parametrize(
    "messages", [[], ["Hi"], [{"role": "user"}], [{"content": "Hi"}], [{"role": 1, "content": ""}]]
)
def test_malformed_messages_are_refused(messages: Any, refused) -> None:
    with refused("ZL0706"):
        ChatTemplate("").render(messages)
