"""Renders a conversation to the text that the model was trained on, by the Jinja template in the model's own file.

Templates come from files that somebody else wrote, so they run in Jinja's immutable sandbox: no attribute that starts
with an underscore, no change to what they are given.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any, NoReturn

from zellige.diagnostics import ZelligeError

if TYPE_CHECKING:
    from jinja2 import Template

Message = Mapping[str, Any]  # {"role": "user", "content": "…"}, further keys as the template knows them


class ChatTemplate:
    """One template, compiled on first use. Errors: ZL0610 (does not compile, or fails), ZL0706 (malformed messages)."""

    def __init__(self, source: str, special_tokens: Mapping[str, str] | None = None) -> None:
        self.source = source
        self._special = dict(special_tokens or {})

    def render(self, messages: Sequence[Message], *, add_generation_prompt: bool = True, **variables: Any) -> str:
        """The conversation as text, with the opening of the assistant's next turn unless told otherwise.

        `variables` reach the template (`tools`, `enable_thinking`, …).
        """
        check_messages(messages)
        import jinja2

        context = {**self._special, "messages": [dict(message) for message in messages], **variables}
        try:
            return _compile(self.source).render(context, add_generation_prompt=add_generation_prompt)
        except jinja2.TemplateError as error:
            raise self._failure(error) from None
        except (ArithmeticError, AttributeError, LookupError, RecursionError, TypeError, ValueError) as error:
            raise self._failure(error) from None

    def _failure(self, error: Exception) -> ZelligeError:
        line = getattr(error, "lineno", None)
        return ZelligeError(
            "ZL0610",
            f"the model's chat template fails: {error or type(error).__name__}",
            facts={} if line is None else {"template line": line},
            help="check the roles of the messages; or send the prompt as text with `zellige generate`",
        )


def check_messages(messages: Sequence[Message]) -> None:
    """Raise ZL0706 unless every message has a role and a content, and there is at least one."""
    if not messages:
        raise ZelligeError("ZL0706", "a conversation needs at least one message")
    for index, message in enumerate(messages):
        if not isinstance(message, Mapping) or not isinstance(message.get("role"), str) or "content" not in message:
            raise ZelligeError(
                "ZL0706",
                f"message {index} is not of the form {{'role': …, 'content': …}}",
                facts={"message": repr(message)[:200]},
            )


def missing_template(file: str) -> ZelligeError:
    """The error for chatting with a model that brings no template."""
    return ZelligeError(
        "ZL0610",
        f"{file} has no chat template: it is a base model, or its converter left the template out",
        help="use `zellige generate --prompt`, or an instruction-tuned model",
    )


@functools.lru_cache(maxsize=8)
def _compile(source: str) -> Template:
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    def raise_exception(message: str) -> NoReturn:
        from jinja2 import TemplateError

        raise TemplateError(message)

    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols"]
    )
    environment.filters["tojson"] = _to_json
    environment.globals["raise_exception"] = raise_exception
    environment.globals["strftime_now"] = lambda pattern: datetime.now().strftime(pattern)
    return environment.from_string(source)


def _to_json(value: Any, indent: int | None = None) -> str:
    """JSON as it is, where Jinja's own filter would escape it for HTML."""
    import json

    return json.dumps(value, ensure_ascii=False, indent=indent)
