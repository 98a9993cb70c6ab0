"""Tokens of the IR's text, and the parts that the parser reads most: names, numbers, strings, extents."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass

from zellige.diagnostics.errors import ZelligeError
from zellige.ir.extent import Const, Dim, Extent, Nary, Quotient, opposite

_TOKEN = re.compile(
    r"""\s*(?:
      (?P<string>"(?:[^"\\]|\\.)*")
    | (?P<value>%(?:\w+\.)?\d+)
    | (?P<number>-?(?:inf|nan)\b|-?\d+(?:\.\d+)?(?:e[+-]?\d+)?)
    | (?P<name>[^\W\d]\w*)
    | (?P<sign>[\[\]{}(),:=@*+-])
    )""",
    re.VERBOSE,
)


@dataclass(frozen=True, slots=True)
class Token:
    """A piece of text, what it is, and its line."""

    kind: str
    text: str
    line: int


def tokens(text: str) -> list[Token]:
    """The tokens of ``text``, ending in one of kind ``end``. ZelligeError ZL0120 at a character that starts none."""
    found: list[Token] = []
    position, line = 0, 1
    end = len(text.rstrip())
    while position < end:
        match = _TOKEN.match(text, position)
        if match is None:
            raise ZelligeError("ZL0120", f"IR text, line {line}: unexpected {text[position : position + 20]!r}")
        line += text.count("\n", position, match.start(str(match.lastgroup)))
        found.append(Token(str(match.lastgroup), match.group(str(match.lastgroup)), line))
        position = match.end()
    found.append(Token("end", "", line))
    return found


class Reader:
    """A position in a list of tokens."""

    def __init__(self, text: str) -> None:
        self.tokens = tokens(text)
        self.at = 0

    @property
    def next(self) -> Token:
        """The token that comes next."""
        return self.tokens[self.at]

    def fail(self, wanted: str) -> ZelligeError:
        """The error for a token that is not what is wanted."""
        return ZelligeError("ZL0120", f"IR text, line {self.next.line}: {wanted} is expected, not {self.next.text!r}")

    def is_next(self, text: str) -> bool:
        """Whether this sign or word comes next."""
        return self.next.text == text and self.next.kind != "string"

    def accept(self, text: str) -> bool:
        """Takes this sign or word if it comes next."""
        if self.is_next(text):
            self.at += 1
            return True
        return False

    def expect(self, text: str) -> None:
        """Takes this sign or word. ZelligeError if another comes."""
        if not self.accept(text):
            raise self.fail(repr(text))

    def take(self, kind: str) -> str:
        """Takes a token of this kind. ZelligeError if another comes."""
        token = self.next
        if token.kind != kind:
            raise self.fail(f"a {kind}")
        self.at += 1
        return token.text

    def name(self) -> str:
        return self.take("name")

    def integer(self) -> int:
        return int(self.take("number"))

    def string(self) -> str:
        return str(json.loads(self.take("string")))

    def number(self) -> int | float | bool:
        """A Python number as ``repr`` writes it."""
        if self.next.text in ("True", "False"):
            return self.name() == "True"
        written = self.take("number")
        return int(written) if re.fullmatch(r"-?\d+", written) else float(written)

    def extent(self) -> Extent:
        """An extent, with the very structure that was printed."""
        if self.next.kind == "number":
            return Const(self.integer())
        if self.accept("("):
            terms = [self.extent()]
            op = "mul" if self.is_next("*") else "add"
            while not self.accept(")"):
                if op == "add" and self.accept("-"):
                    terms.append(opposite(self.extent()))
                    continue
                self.expect("*" if op == "mul" else "+")
                terms.append(self.extent())
            return Nary(op, tuple(terms))
        name = self.name()
        if not self.accept("("):
            return Dim(name)
        terms = [self.extent()]
        while self.accept(","):
            terms.append(self.extent())
        self.expect(")")
        return Nary(name, tuple(terms)) if name in ("min", "max") else Quotient(name, terms[0], terms[1])
