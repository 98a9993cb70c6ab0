"""`zellige chat`: in a pipe, with one question, with commands, and when it is interrupted."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

from step_watch import Steps

from zellige.cli.chat import ChatSession
from zellige.cli.conversation import Conversation
from zellige.llm.api import LLM
from zellige.llm.sampling import SamplingParams

FEW = ("--max-tokens", 5)


def test_one_line_in_one_answer_out(zellige, tiny_path: Path) -> None:
    one = zellige("chat", tiny_path, *FEW, input="Hi\n")
    two = zellige("chat", tiny_path, *FEW, input="Hi\n\nAgain\n")
    assert one.exit_code == two.exit_code == 0
    assert two.stdout.startswith(one.stdout) and len(two.stdout) > len(one.stdout) > 1
    assert two.stderr.count("tok/s") == 2


def test_a_prompt_is_answered_once(zellige, tiny_path: Path) -> None:
    done = zellige("chat", tiny_path, *FEW, "--prompt", "Hi", input="never read\n")
    assert done.exit_code == 0 and done.stdout == zellige("chat", tiny_path, *FEW, input="Hi\n").stdout


def test_the_conversation_is_kept_and_can_be_reset(zellige, tiny_path: Path) -> None:
    def answers(*lines: str) -> list[str]:
        """What each question adds to the output."""
        texts = [
            zellige("chat", tiny_path, *FEW, input="".join(f"{x}\n" for x in lines[: n + 1])).stdout
            for n in range(len(lines))
        ]
        return [text[len(before) :] for before, text in zip(["", *texts], texts, strict=False)]

    kept = answers("one two three", "and now?")
    forgotten = answers("one two three", "/reset", "and now?")
    assert forgotten[2] == answers("and now?")[0] != kept[1]


def test_the_second_turn_computes_only_what_is_new(tiny_path: Path, steps: Steps) -> None:
    session = ChatSession(LLM(tiny_path), SamplingParams(max_tokens=4, ignore_eos=True), Conversation())
    session.answer("a long first question, of more than one page of tokens")
    session.answer("and a second one")
    assert session._last is not None and session._last.cached_tokens >= 48


def test_commands_answer_on_stderr_and_unknown_ones_are_errors(zellige, tiny_path: Path) -> None:
    done = zellige("chat", tiny_path, *FEW, input="/help\n/stats\n/system\n/conjure\n/quit\nnever read\n")
    assert done.stdout == "" and "/reset" in done.stderr and "KV cache" in done.stderr
    assert "error[ZL0708]" in done.stderr and done.exit_code == 1


def test_a_line_that_fails_does_not_stop_the_others_but_shows_in_the_exit_code(zellige, tiny_path: Path) -> None:
    done = zellige("chat", tiny_path, *FEW, input="x" * 300 + "\nHi\n")
    assert done.exit_code == 1 and "error[ZL0702]" in done.stderr
    assert done.stdout == zellige("chat", tiny_path, *FEW, input="Hi\n").stdout


def test_two_slashes_say_one(zellige, tiny_path: Path, tmp_path: Path) -> None:
    file = tmp_path / "c.json"
    zellige("chat", tiny_path, *FEW, input=f"//help\n/save {file}\n")
    assert json.loads(file.read_text())["messages"][0] == {"role": "user", "content": "/help"}


def test_a_saved_conversation_goes_on_where_it_was(zellige, tiny_path: Path, tmp_path: Path) -> None:
    file = tmp_path / "c.json"
    whole = zellige("chat", tiny_path, *FEW, "--system", "Be brief.", input="one\ntwo\n").stdout
    first = zellige("chat", tiny_path, *FEW, "--system", "Be brief.", input=f"one\n/save {file}\n").stdout
    second = zellige("chat", tiny_path, *FEW, input=f"/load {file}\ntwo\n").stdout
    assert first + second == whole
    assert json.loads(file.read_text())["messages"][0] == {"role": "system", "content": "Be brief."}


def test_a_file_that_holds_no_conversation_leaves_the_present_one(zellige, tiny_path: Path, tmp_path: Path) -> None:
    bad, good = tmp_path / "bad.json", tmp_path / "good.json"
    for content in ("not json", "3", "[" * 100_000, '{"messages": [{"role": "user"}]}'):
        bad.write_text(content)
        done = zellige("chat", tiny_path, *FEW, input=f"one\n/load {bad}\n/save {good}\n")
        assert done.exit_code == 1 and "error[ZL07" in done.stderr
        assert len(json.loads(good.read_text())["messages"]) == 2


def test_saving_where_one_cannot_keeps_talking(zellige, tiny_path: Path, tmp_path: Path) -> None:
    lines = (
        f"/save {tmp_path}/absent/c.json\n/save ~nobody-of-that-name/c.json\n/load ~nobody-of-that-name/c.json\nHi\n"
    )
    done = zellige("chat", tiny_path, *FEW, input=lines)
    assert done.stderr.count("error[ZL0709]") == 3
    assert "error[ZL0709]" in done.stderr and done.stdout.strip("\n") != ""


def test_the_thinking_switch_reaches_the_template(zellige, tmp_path: Path) -> None:
    from tiny_model import write_tiny_gguf

    template = "{% for m in messages %}{{ m.content }}{% endfor %}{% if enable_thinking is defined %} {{ enable_thinking }}{% endif %}"
    model = write_tiny_gguf(tmp_path / "thinking.gguf", template=template)
    told = {
        switch: zellige("chat", model, "--max-tokens", 1, *switch, input="the\n/stats\n").stderr.split("of which")[0]
        for switch in ((), ("--thinking",), ("--no-thinking",))
    }
    lengths = {switch: text.split("prompt of ")[1].split(",")[0] for switch, text in told.items()}
    assert len(set(lengths.values())) == 3, lengths  # nothing, " True" and " False" have different lengths


def test_saving_keeps_links_and_replaces_no_device(zellige, tiny_path: Path, tmp_path: Path) -> None:
    link, target, pipe = tmp_path / "link.json", tmp_path / "target.json", tmp_path / "pipe"
    link.symlink_to(target)
    os.mkfifo(pipe)
    done = zellige("chat", tiny_path, *FEW, input=f"one\n/save {link}\n/save {pipe}\n")
    assert link.is_symlink() and len(json.loads(target.read_text())["messages"]) == 2
    assert pipe.is_fifo() and "error[ZL0709]" in done.stderr and done.exit_code == 1


def test_ctrl_c_stops_the_answer_and_keeps_the_conversation(tiny_path: Path, steps: Steps, capsys) -> None:
    conversation = Conversation()
    session = ChatSession(LLM(tiny_path), SamplingParams(max_tokens=100, ignore_eos=True), conversation)
    steps.before = lambda step: os.kill(os.getpid(), signal.SIGINT) if step == 6 else None
    before = signal.getsignal(signal.SIGINT)
    session.answer("Hi")
    assert session.interrupted and session._last is not None and len(session._last.token_ids) == 6
    assert [m["role"] for m in conversation.messages] == ["user", "assistant"]
    assert conversation.messages[1]["content"] == session._last.text == capsys.readouterr().out.removesuffix("\n")
    assert signal.getsignal(signal.SIGINT) is before
    session.answer("Go on")
    assert not session.interrupted and len(conversation.messages) == 4


def test_a_base_model_without_a_template_says_what_to_do(zellige, tmp_path: Path) -> None:
    from tiny_model import write_tiny_gguf

    done = zellige("chat", write_tiny_gguf(tmp_path / "base.gguf", template=None), "--prompt", "Hi")
    assert done.exit_code == 1 and "error[ZL0610]" in done.stderr and "zellige generate" in done.stderr
