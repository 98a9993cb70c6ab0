"""The messages of a chat: what was said, kept, saved and loaded."""

from __future__ import annotations

import json
import os
import tempfile
from pathlib import Path
from typing import Any

from zellige.diagnostics import ZelligeError

Message = dict[str, Any]


class Conversation:
    """Messages in order, after an optional system prompt."""

    def __init__(self, system: str | None = None) -> None:
        self.system = system
        self.messages: list[Message] = []

    def reset(self, *, system: str | None = None) -> None:
        """Forget what was said; `system` replaces the system prompt where given."""
        self.system = system if system is not None else self.system
        self.messages = []

    def with_question(self, question: str) -> list[Message]:
        """What the model is asked: everything so far and `question`. Nothing is added yet."""
        return [*self._all(), {"role": "user", "content": question}]

    def add(self, question: str, answer: str) -> None:
        """Note a question and its answer, or what came of it."""
        self.messages += [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]

    def save(self, file: str) -> None:
        """Write everything as JSON, beside and then renamed: an older file stays whole until the new one is. ZL0709."""
        target = Path(os.path.expanduser(file)).resolve()  # a link stays one
        if target.exists() and not target.is_file():  # a device would be replaced, too
            raise ZelligeError(
                "ZL0709", f"cannot save to {target}: it is not a file", help="name a new file, or one of yours"
            )
        try:
            with tempfile.NamedTemporaryFile(
                "w", dir=target.parent, suffix=".part", encoding="utf-8", delete=False
            ) as part:
                try:
                    json.dump({"messages": self._all()}, part, ensure_ascii=False, indent=1)
                    part.close()
                    os.replace(part.name, target)
                except BaseException:
                    os.unlink(part.name)
                    raise
        except OSError as error:
            raise ZelligeError("ZL0709", f"cannot save to {target}: {error.strerror or error}") from None

    def load(self, file: str) -> None:
        """Go on with a saved conversation. Error ZL0709: not readable, or not a conversation; nothing changes then."""
        from zellige.llm.chat_template import check_messages

        source = Path(os.path.expanduser(file))
        try:
            value = json.loads(source.read_text("utf-8"))
        except (OSError, ValueError, RecursionError) as error:
            raise ZelligeError("ZL0709", f"cannot load {source}: {getattr(error, 'strerror', None) or error}") from None
        messages = value.get("messages") if isinstance(value, dict) else value
        if not isinstance(messages, list):
            raise ZelligeError("ZL0709", f"{source} holds no conversation", help="load a file that /save wrote")
        if messages:
            check_messages(messages)
        first_is_system = bool(messages) and messages[0]["role"] == "system"
        self.system = messages[0]["content"] if first_is_system else None
        self.messages = messages[first_is_system:]

    def _all(self) -> list[Message]:
        return [*([{"role": "system", "content": self.system}] if self.system else []), *self.messages]
