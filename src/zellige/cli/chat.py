"""`zellige chat`: talk with a model in the terminal, in a pipe, or with one question."""

from __future__ import annotations

import contextlib
import signal
import sys
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import click

from zellige.cli.conversation import Conversation
from zellige.cli.model_options import MODEL_HELP, ModelChoice, load, model_options, sampling_options, sampling_params
from zellige.cli.safe_text import shown
from zellige.diagnostics import ZelligeError

if TYPE_CHECKING:
    from zellige.llm.api import LLM
    from zellige.llm.sampling import SamplingParams
    from zellige.llm.streams import Completion

COMMANDS_HELP = """\
/help            this list
/reset           forget the conversation (the system prompt stays)
/system [TEXT]   set the system prompt and start anew; without TEXT: show it
/stats           tokens, speed and KV cache so far
/save FILE       write the conversation to FILE, as JSON
/load FILE       go on with a conversation that was saved
/quit            leave (so does Ctrl-D)
//text           say "/text"
Ctrl-C stops an answer; what came of it stays in the conversation."""


@click.command(
    help=f"""Talk with a model.

    {MODEL_HELP}
    Answers appear as they are generated. The conversation, and what the model computed for it, is kept from turn to turn.
    Ctrl-C stops an answer and keeps the conversation; /help lists what else there is. In a pipe, every line is a
    question and gets one answer. Speed goes to standard error.

    \b
    Examples:
      zellige chat
      zellige chat --prompt "What is the capital of France?"
      printf 'My name is Ada.\\nWhat is my name?\\n' | zellige chat
      zellige chat model.gguf --system "Answer in one word." --temperature 0.7 --seed 1
      zellige chat Qwen/Qwen3-0.6B --no-thinking
    """
)
@model_options
@click.option("--prompt", "-p", metavar="TEXT", help="Ask this, print the answer and exit.")
@click.option("--system", metavar="TEXT", help="The system prompt.")
@click.option(
    "--thinking/--no-thinking",
    default=None,
    help="For models whose template has such a switch, such as Qwen3's.  [default: the template's own]",
)
@click.option("--max-tokens", type=int, default=1024, show_default=True, help="Most tokens of one answer.")
@sampling_options
def chat(
    choice: ModelChoice,
    prompt: str | None,
    system: str | None,
    thinking: bool | None,
    max_tokens: int,
    **options: Any,
) -> None:
    params = sampling_params(options, max_tokens=max_tokens)
    llm = load(choice)
    session = ChatSession(llm, params, Conversation(system), {} if thinking is None else {"enable_thinking": thinking})
    if prompt is not None:
        session.answer(prompt)
        raise SystemExit(130 if session.interrupted else 0)
    raise SystemExit(session.talk() if sys.stdin.isatty() else session.read_pipe())


class ChatSession:
    """One conversation with one model, on standard input and output; ``variables`` reach its chat template."""

    def __init__(
        self, llm: LLM, params: SamplingParams, conversation: Conversation, variables: Mapping[str, Any] | None = None
    ) -> None:
        self._llm = llm
        self._params = params
        self._conversation = conversation
        self._variables = dict(variables or {})
        self._last: Completion | None = None
        self.interrupted = False

    def talk(self) -> int:
        """At a terminal: read, answer, until the user leaves. Returns the exit code."""
        with contextlib.suppress(ImportError):  # line editing and history for `input`, where there is one
            import readline  # noqa: F401
        click.echo(f"{self._llm.path.stem} · context {self._llm.context_limit} · /help for commands", err=True)
        while True:
            try:
                line = input("> ")
            except EOFError:
                click.echo()
                return 0
            except KeyboardInterrupt:
                click.echo("\n(/quit or Ctrl-D leaves)", err=True)
                continue
            try:
                if line.strip() and not self._handle(line):
                    return 0
            except ZelligeError as error:
                click.echo(error.render(), err=True)

    def read_pipe(self) -> int:
        """In a pipe: one answer a line. A line that fails is told on stderr; the others still get answers."""
        failed = False
        for line in sys.stdin:
            try:
                if line.strip() and not self._handle(line.rstrip("\r\n")):
                    break
            except ZelligeError as error:
                click.echo(error.render(), err=True)
                failed = True
            if self.interrupted:
                return 130
        return 1 if failed else 0

    def _handle(self, line: str) -> bool:
        """Act on one line; False when the user wants to leave."""
        if not line.startswith("/") or line.startswith("//"):
            self.answer(line.removeprefix("/") if line.startswith("//") else line)
            return True
        name, _, rest = line[1:].partition(" ")
        match name, rest.strip():
            case "quit" | "exit", _:
                return False
            case "help", _:
                click.echo(COMMANDS_HELP, err=True)
            case "reset", _:
                self._conversation.reset()
                click.echo("the conversation is forgotten", err=True)
            case "system", "":
                click.echo(self._conversation.system or "(the model's own)", err=True)
            case "system", text:
                self._conversation.reset(system=text)
                click.echo("new system prompt; the conversation starts anew", err=True)
            case "stats", _:
                click.echo(self._stats(), err=True)
            case "save" | "load", "":
                raise ZelligeError("ZL0708", f"/{name} needs the name of a file", help=f"/{name} conversation.json")
            case "save", file:
                self._conversation.save(file)
                click.echo(f"{len(self._conversation.messages)} messages saved to {file}", err=True)
            case "load", file:
                self._conversation.load(file)
                click.echo(f"{len(self._conversation.messages)} messages loaded from {file}", err=True)
            case _:
                raise ZelligeError("ZL0708", f"there is no command /{name}", help="/help lists those there are")
        return True

    def answer(self, question: str) -> None:
        """Ask, and print the answer as it comes. Where it fails the conversation is as before the question."""
        self.interrupted = False
        prompt = self._llm.chat_prompt(self._conversation.with_question(question), **self._variables)
        stream = self._llm.stream(prompt, self._params)
        with stream, self._stoppable():
            for piece in stream:
                click.echo(shown(piece.text), nl=False)
                sys.stdout.flush()
                if self.interrupted:
                    break
        done = self._last = stream.completion
        assert done is not None
        self._conversation.add(question, done.text)
        click.echo()
        times = done.timings
        stopped = ", stopped" if self.interrupted else ", cut at the limit" if done.finish_reason == "length" else ""
        click.echo(
            f"[{len(done.token_ids)} tokens, {times.decode_tok_s:.1f} tok/s, first after {times.prefill_s:.2f} s{stopped}]",
            err=True,
        )

    @contextlib.contextmanager
    def _stoppable(self) -> Iterator[None]:
        """Ctrl-C asks the answer to stop between two tokens; a second one, before it did, interrupts at once."""

        def stop(number: int, frame: object) -> None:
            if self.interrupted:
                raise KeyboardInterrupt
            self.interrupted = True

        before = signal.signal(signal.SIGINT, stop)
        try:
            yield
        finally:
            signal.signal(signal.SIGINT, before)

    def _stats(self) -> str:
        stats, last = self._llm.stats, self._last
        lines = [f"conversation   {len(self._conversation.messages)} messages"]
        if last is not None:
            tokens = len(last.prompt_ids) + len(last.token_ids)
            lines.append(f"context        {tokens} of {self._llm.context_limit} tokens")
            lines.append(
                f"last answer    {len(last.token_ids)} tokens at {last.timings.decode_tok_s:.1f} tok/s; prompt of "
                f"{len(last.prompt_ids)}, {last.cached_tokens} of them kept from before"
            )
        lines.append(f"KV cache       {stats.pages_held} of {stats.pages_total} pages")
        lines.append(f"loaded in      {self._llm.load_s:.2f} s")
        return "\n".join(lines)
