"""`zellige generate`, `score` and the group: what they print, where, and with which exit code."""

from __future__ import annotations

import errno
import io
import json
import math
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import click
import pytest

from zellige.cli import main
from zellige.llm import api


def test_help_loads_no_engine_and_no_library_but_click() -> None:
    code = (
        "import sys; sys.argv = ['zellige', '--help']\n"
        "from zellige.cli import main\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "print(sorted({'numpy', 'rich', 'jinja2', 'tokenizers', 'gguf', 'llvmlite', 'z3'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=os.environ)
    assert done.stdout.splitlines()[-1] == "[]"
    for command in ("chat", "generate", "score"):
        assert f"  {command} " in done.stdout


@pytest.mark.parametrize("command", ["chat", "generate", "score"])
def test_each_commands_help_has_examples_and_says_what_a_model_is(zellige, command: str) -> None:
    text = zellige(command, "--help").stdout
    assert "Examples:" in text and f"  zellige {command}" in text and "owner/name" in text


def test_generate_prints_one_json_object(zellige, tiny_path: Path) -> None:
    done = zellige(
        "generate", tiny_path, "--ids", "10,20,30", "--max-tokens", 5, "--ignore-eos", "--logprobs", "--json"
    )
    value = json.loads(done.stdout)
    assert list(value) == ["prompt_ids", "token_ids", "logprobs", "text", "finish_reason", "timings"]
    assert value["prompt_ids"] == [10, 20, 30] and value["finish_reason"] == "length"
    assert len(value["token_ids"]) == len(value["logprobs"]) == 5 and all(p <= 0 for p in value["logprobs"])
    assert set(value["timings"]) == {"load_s", "prefill_s", "decode_s", "prefill_tok_s", "decode_tok_s"}
    assert all(isinstance(v, float) and v > 0 for v in value["timings"].values())


def test_generate_without_logprobs_gives_none(zellige, tiny_path: Path) -> None:
    value = json.loads(zellige("generate", tiny_path, "--prompt", "the", "--max-tokens", 2, "--json").stdout)
    assert value["logprobs"] is None and len(value["prompt_ids"]) == 1


def test_generate_shows_the_text_on_stdout_and_the_speed_on_stderr(zellige, tiny_path: Path) -> None:
    arguments = ("generate", tiny_path, "--prompt", "-", "--max-tokens", 6, "--ignore-eos")
    done = zellige(*arguments, input="the")
    text = json.loads(zellige(*arguments, "--json", input="the").stdout)["text"]
    assert done.stdout == text + "\n" and "6 tokens" in done.stderr and "tok/s" in done.stderr


def test_a_seed_repeats_what_generate_samples(zellige, tiny_path: Path) -> None:
    arguments = ["generate", tiny_path, "--prompt", "the", "--temperature", 1, "--max-tokens", 12, "--ignore-eos"]
    first, same, other = (zellige(*arguments, "--seed", seed).stdout for seed in (5, 5, 6))
    assert first == same != other


def test_score_agrees_with_generate(zellige, tiny_path: Path, tmp_path: Path) -> None:
    made = json.loads(
        zellige(
            "generate", tiny_path, "--ids", "10,20", "--max-tokens", 6, "--ignore-eos", "--logprobs", "--json"
        ).stdout
    )
    ids = tmp_path / "ids.json"
    ids.write_text(json.dumps(made["prompt_ids"] + made["token_ids"]))
    value = json.loads(zellige("score", tiny_path, "--ids-file", ids, "--json").stdout)
    assert list(value) == ["logprobs", "argmax"] and len(value["logprobs"]) == len(value["argmax"]) == 7
    assert value["argmax"][1:] == made["token_ids"]
    assert value["logprobs"][1:] == pytest.approx(made["logprobs"], abs=1e-4)
    one = zellige("score", tiny_path, "--ids-file", "-", input="[5]")
    assert one.exit_code == 1 and "ZL0707" in one.stderr and "nothing to score" in one.stderr
    text = zellige("score", tiny_path, "--ids-file", ids).stdout
    assert f"{math.exp(-sum(value['logprobs']) / 7):.4f}" in text


@pytest.mark.parametrize(
    ("arguments", "code", "exit_code"),
    [
        (["generate", "TINY", "--ids", "1,x"], "ZL0707", 1),
        (["generate", "TINY", "--ids", "1,9999"], "ZL0703", 1),
        (["generate", "TINY", "--ids", ",".join(["1"] * 256)], "ZL0702", 1),
        (["generate", "TINY", "--prompt", ""], "ZL0704", 1),
        (["generate", "TINY", "--prompt", "a", "--temperature", "-1"], "ZL0701", 1),
        (["generate", "TINY", "--prompt", "a", "--max-tokens", "0"], "ZL0701", 1),
        (["generate", "absent.gguf", "--prompt", "a"], "ZL0601", 1),
        (["score", "TINY", "--ids-file", "absent.json"], "ZL0707", 1),
        (["score", "TINY", "--ids-file", "-"], "ZL0707", 1),
        (["generate", "TINY"], "--prompt and --ids", 2),
        (["generate", "TINY", "--prompt", "a", "--ids", "1"], "--prompt and --ids", 2),
        (["generate", "TINY", "--prompt", "a", "--max-tokens", "many"], "--max-tokens", 2),
        (["conjure"], "conjure", 2),
    ],
)
def test_an_error_is_one_block_on_stderr(
    zellige, tiny_path: Path, arguments: list[str], code: str, exit_code: int
) -> None:
    done = zellige(*[str(tiny_path) if a == "TINY" else a for a in arguments], input="{}")
    assert done.exit_code == exit_code and done.stdout == "" and code in done.stderr
    assert "Traceback" not in done.stderr
    if exit_code == 1:
        assert done.stderr.startswith(f"error[{code}]: ") and done.stderr.count("error[") == 1


# --- Ctrl-C, and places that cannot be written or read
def run_main(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> int:
    """The exit code of the command as the shell runs it."""
    monkeypatch.setattr(sys, "argv", ["zellige", *map(str, arguments)])
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # who runs in the background starts without it
    try:
        with pytest.raises(SystemExit) as ended:
            main()
    finally:
        signal.signal(signal.SIGINT, before)
    return int(ended.value.code or 0)


def interrupt(step: int) -> None:
    if step == 4:
        os.kill(os.getpid(), signal.SIGINT)


@pytest.mark.parametrize("as_json", [False, True])
def test_an_interrupted_answer_is_kept_as_far_as_it_came(
    steps, tiny_path: Path, monkeypatch, capsys: pytest.CaptureFixture[str], as_json: bool
) -> None:
    steps.before = interrupt
    arguments = ("generate", tiny_path, "--prompt", "the", "--max-tokens", 40, "--ignore-eos")
    code = run_main(monkeypatch, *arguments, *(["--json"] if as_json else []))
    shown = capsys.readouterr()
    assert code == 130
    assert shown.err.strip().splitlines()[-1] == "interrupted" and "Traceback" not in shown.err
    if as_json:
        value = json.loads(shown.out)
        assert value["finish_reason"] == "cancelled" and len(value["token_ids"]) == 3
    else:
        assert "[3 tokens" in shown.err


def test_an_interrupt_while_a_model_loads_is_one_line(
    steps, tiny_path: Path, monkeypatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(api, "open_model", lambda path: os.kill(os.getpid(), signal.SIGINT))
    assert run_main(monkeypatch, "generate", tiny_path, "--prompt", "the") == 130
    shown = capsys.readouterr()
    assert shown.out == "" and shown.err.split() == ["interrupted"]


def test_a_full_disk_under_the_output_is_told(
    steps, tiny_path: Path, monkeypatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(*words: object, **options: object) -> None:
        if options.get("err"):
            return plain(*words, **options)
        raise OSError(errno.ENOSPC, "No space left on device")

    plain, left = click.echo, []
    monkeypatch.setattr(click, "echo", full)
    monkeypatch.setattr(os, "dup2", lambda new, old: left.append(old))
    assert run_main(monkeypatch, "generate", tiny_path, "--prompt", "the", "--max-tokens", 2) == 1
    assert "error[ZL0804]: output cannot be written" in capsys.readouterr().err and left == [1]


def test_output_that_the_shell_has_closed_is_no_crash(
    steps, tiny_path: Path, monkeypatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "stdout", None)
    assert run_main(monkeypatch, "generate", tiny_path, "--prompt", "the", "--max-tokens", 2) == 0
    assert "2 tokens" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("command", "code", "told"), [("chat", 0, ""), ("generate", 1, "ZL0704"), ("score", 1, "ZL0707")]
)
def test_input_that_the_shell_has_closed_is_empty(
    steps, tiny_path: Path, monkeypatch, capsys: pytest.CaptureFixture[str], command: str, code: int, told: str
) -> None:
    monkeypatch.setattr(sys, "stdin", None)
    source = {"chat": (), "generate": ("--prompt", "-"), "score": ("--ids-file", "-")}[command]
    assert run_main(monkeypatch, command, tiny_path, *source) == code
    assert told in capsys.readouterr().err


def test_lines_that_are_not_utf_8_are_told_and_the_others_answered(
    steps, tiny_path: Path, monkeypatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Where the locale says that input is UTF-8, Python itself would give up."""
    given = io.TextIOWrapper(io.BytesIO(b"caf\xe9\nthe\n"), "utf-8", errors="strict")
    monkeypatch.setattr(sys, "stdin", given)
    assert run_main(monkeypatch, "chat", tiny_path, "--max-tokens", 2) == 1
    shown = capsys.readouterr().err
    assert "error[ZL0704]: the prompt is not text" in shown and "[2 tokens" in shown


def test_codes_of_the_shell_are_those_that_are_documented(
    steps, tiny_path: Path, monkeypatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_main(monkeypatch, "generate", tiny_path, "--prompt", "the", "--max-tokens", 2) == 0
    assert run_main(monkeypatch, "generate", tiny_path, "--prompt", "") == 1
    assert run_main(monkeypatch, "generate", tiny_path) == 2
    assert "Error: give one of --prompt and --ids" in capsys.readouterr().err


def test_a_prompt_that_is_not_utf_8_is_told(zellige, tiny_path: Path) -> None:
    done = zellige("generate", tiny_path, "--prompt", "caf\udce9")
    assert done.exit_code == 1 and "error[ZL0704]: the prompt is not text" in done.stderr


def test_weights_and_cache_have_the_type_that_is_asked_for(zellige, tiny_path: Path) -> None:
    arguments = ("generate", tiny_path, "--prompt", "the", "--max-tokens", 2, "--kv-share")
    assert "error[ZL0701]: there is no dtype 'int3'" in zellige(*arguments, 0.5, "--dtype", "int3").stderr
    assert "error[ZL0701]: there is no kv_dtype 'x'" in zellige(*arguments, 0.5, "--kv-dtype", "x").stderr
    assert "error[ZL0701]: kv_share is 3.0" in zellige(*arguments, 3).stderr


def test_a_model_does_not_drive_the_terminal(
    steps, tiny_path: Path, monkeypatch, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = (
        "generate",
        tiny_path,
        "--ids",
        "1,2,3",
        "--max-tokens",
        80,
        "--ignore-eos",
        "--temperature",
        9,
        "--seed",
        1,
    )
    assert run_main(monkeypatch, *arguments) == 0
    assert "\x13" in capsys.readouterr().out  # in a pipe, text is as it is
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    assert run_main(monkeypatch, *arguments) == 0
    seen = capsys.readouterr().out
    assert len(seen) > 40 and not {c for c in seen if ord(c) < 32} - {"\n", "\t"}


def test_json_that_is_too_deep_is_told(zellige, tiny_path: Path) -> None:
    done = zellige("score", tiny_path, "--ids-file", "-", input="[" * 100_000)
    assert done.exit_code == 1 and "error[ZL0707]" in done.stderr


@pytest.mark.skipif(shutil.which("make") is None, reason="needs make")
@pytest.mark.parametrize("prompt", ['Say "hi" to `id`; it\'s me', "é; exit 3"])
def test_make_chat_hands_over_a_prompt_as_it_is(tmp_path: Path, prompt: str) -> None:
    for name, text in (("zellige", '#!/bin/sh\nprintf "%s\\n" "$@"\n'), ("python", ""), ("ready", "")):
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o755)
    command = ["make", "-s", "chat", f"BIN={tmp_path}", f"READY={tmp_path / 'ready'}", f"PROMPT={prompt}"]
    done = subprocess.run(
        [*command, "MODEL=a b.gguf"], cwd=Path(__file__).parents[2], capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines() == ["chat", "a b.gguf", "--prompt", prompt]
