"""Text of a Triton kernel under construction: unique names, shared expressions, and removal of what nothing reads."""

from __future__ import annotations

import keyword
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

_NAME = re.compile(r"[A-Za-z_]\w*")
_RESERVED = frozenset(keyword.kwlist) | {
    "tl", "triton", "libdevice", "gdc_wait", "gdc_launch_dependents", "float", "tuple",
    "gluon", "mbarrier", "tma", "warpgroup_mma", "warpgroup_mma_init", "warpgroup_mma_wait", "fence_async_shared", "range",
    "ready", "ready_1", "ready_2", "empty", "empty_1", "empty_2", "MEMBER",
}  # fmt: skip
"""Names that generated source uses for other things; its own functions begin with an underscore, and no name made here does."""


@dataclass(slots=True)
class Line:
    """One statement. ``defines`` is set if it only gives a name to a value, so that it may go when nothing reads it."""

    text: str
    defines: str | None = None


@dataclass(slots=True)
class Nest:
    """A statement with a body, such as a loop."""

    header: str
    body: list[Line | Nest] = field(default_factory=list)


class Source:
    """The statements of one function, written top to bottom into the innermost open nest."""

    def __init__(self, parameters: Iterable[tuple[str, str]], *, shares: bool = True) -> None:
        """``parameters``: kind and name, as the kernel's author chose it, of each parameter in order.
        ``shares``: whether equal pure expressions get one name."""
        self._shares = shares
        self._names = set(_RESERVED)
        self._parameters = {(kind, name): self.name(name) for kind, name in parameters}
        self._root: list[Line | Nest] = []
        self._open: list[list[Line | Nest]] = [self._root]
        self._shared: list[dict[str, str]] = [{}]

    def parameter(self, kind: str, name: str) -> str:
        """What a parameter is called here: as its author did, unless something else has that name."""
        return self._parameters[kind, name]

    @property
    def signature(self) -> str:
        """All parameters."""
        return ", ".join(self._parameters.values())

    def name(self, hint: str) -> str:
        """A name that nothing else has."""
        base = re.sub(r"\W", "_", hint).lstrip("_") or "value"
        if base[0].isdigit():
            base = f"value_{base}"
        made, n = base, 1
        while made in self._names:
            n += 1
            made = f"{base}_{n}"
        self._names.add(made)
        return made

    def bind(self, text: str, hint: str) -> str:
        """A name for the value of a pure expression; the one that an enclosing scope has already, if any."""
        for scope in reversed(self._shared):
            if text in scope:
                return scope[text]
        made = self.name(hint)
        self._open[-1].append(Line(f"{made} = {text}", made))
        if self._shares:
            self._shared[-1][text] = made
        return made

    def load(self, text: str, hint: str) -> str:
        """A name for what a load gives; loads are never shared, since memory changes."""
        made = self.name(hint)
        self._open[-1].append(Line(f"{made} = {text}", made))
        return made

    def assign(self, target: str, text: str) -> None:
        """Gives a mutable name a value."""
        if target != text:
            self._open[-1].append(Line(f"{target} = {text}", target))

    def assign_all(self, targets: list[str], texts: list[str]) -> None:
        """Assigns at once, so that no target is overwritten before it is read."""
        pairs = [(t, x) for t, x in zip(targets, texts, strict=True) if t != x]
        targets = [t for t, _ in pairs]
        if any(set(_NAME.findall(x)) & set(targets) for _, x in pairs) and len(pairs) > 1:
            among = set(targets)
            texts = [self.load(x, f"next_{t}") if _names(x) & among else x for t, x in pairs]
            pairs = list(zip(targets, texts, strict=True))
        for target, text in pairs:
            self.assign(target, text)

    def forget(self, names: list[str]) -> None:
        """Variables have changed: expressions over their old values, and over those, are not shared any more."""
        stale = set(names)
        for scope in self._shared:
            for text, name in list(scope.items()):
                if _names(text) & stale:
                    stale.add(name)
                    del scope[text]

    def effect(self, text: str) -> None:
        """A statement that stays."""
        self._open[-1].append(Line(text))

    @contextmanager
    def nest(self, header: str) -> Iterator[None]:
        """A statement whose body is written until the ``with`` ends."""
        inner = Nest(header)
        self._open[-1].append(inner)
        self._open.append(inner.body)
        self._shared.append({})
        try:
            yield
        finally:
            self._open.pop()
            self._shared.pop()

    def render(self, indent: int = 1) -> str:
        """The statements that have an effect, directly or through what reads them."""
        live = _live(self._root)
        out: list[str] = []
        _render(self._root, live, indent, out)
        return "\n".join(out)


def _names(text: str) -> set[str]:
    return set(_NAME.findall(text))


def _statements(body: list[Line | Nest]) -> Iterator[tuple[str | None, str]]:
    for item in body:
        if isinstance(item, Line):
            yield item.defines, item.text
        else:
            yield None, item.header
            yield from _statements(item.body)


def _live(root: list[Line | Nest]) -> set[str]:
    """Names that something with an effect reads, directly or not."""
    reads: dict[str, set[str]] = {}
    pending: set[str] = set()
    for defines, text in _statements(root):
        if defines is None:
            pending |= _names(text)
        else:
            reads.setdefault(defines, set()).update(_names(text.split(" = ", 1)[1]))
    live: set[str] = set()
    while pending:
        name = pending.pop()
        if name not in live:
            live.add(name)
            pending |= reads.get(name, set())
    return live


def _render(body: list[Line | Nest], live: set[str], indent: int, out: list[str]) -> None:
    before = len(out)
    for item in body:
        if isinstance(item, Nest):
            out.append("    " * indent + item.header)
            _render(item.body, live, indent + 1, out)
        elif item.defines is None or item.defines in live:
            out.append("    " * indent + item.text)
    if len(out) == before:
        out.append("    " * indent + "pass")
