"""Which program touches which element, as a picture: the data, where an element stands in it, and the text form.

`drawing_svg.py` makes the SVG. Colours stand for programs; gaps, overlaps and lanes out of bounds are marked.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum
from itertools import product
from math import prod

WRAP = 32
"""Elements in a row of a one-dimensional array."""
MARGIN = 4
"""Rows and columns around an array in which lanes out of bounds are drawn; those further out are counted."""
SYMBOLS = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"

Coordinate = tuple[int, ...]
Place = tuple[int, int]


class Mark(Enum):
    """What is wrong with an element, and how the text shows it."""

    GAP = "."
    OVERLAP = "#"
    OUTSIDE = "!"


MEANING = {
    Mark.GAP: "gap: no program writes it",
    Mark.OVERLAP: "overlap: two programs, or two lanes, meet in it",
    Mark.OUTSIDE: "out of bounds: there is no such element",
}


@dataclass
class Panel:
    """One array: the programs that write (or update) each element, and what is outside."""

    name: str
    title: str
    shape: tuple[int, ...]
    must_cover: bool = False
    """Whether every element must be written."""
    may_share: bool = False
    """Whether several programs may meet in one element (updates)."""
    read_only: bool = False
    """Whether it is an input, drawn by who reads it."""
    writers: dict[Coordinate, list[int]] = field(default_factory=dict)
    readers: dict[Coordinate, list[int]] = field(default_factory=dict)
    twice: set[Coordinate] = field(default_factory=set)
    """Elements that two lanes of one store write."""
    outside: dict[Coordinate, list[int]] = field(default_factory=dict)

    @property
    def columns(self) -> int:
        """Width in elements."""
        if len(self.shape) < 2:
            return min(WRAP, max(prod(self.shape), 1))
        return self.shape[-1]

    @property
    def rows(self) -> int:
        """Height in elements."""
        if len(self.shape) < 2:
            return -(-prod(self.shape) // self.columns)
        return prod(self.shape[:-1])

    def place(self, at: Coordinate) -> Place | None:
        """Row and column of a coordinate; None if it is outside in an axis that the picture folds."""
        if len(self.shape) == 0:
            return (0, 0)
        if len(self.shape) == 1:
            return divmod(at[0], self.columns) if self.shape[0] > WRAP else (0, at[0])
        row = at[0]
        for size, position in zip(self.shape[1:-1], at[1:-1], strict=True):
            if not 0 <= position < size:
                return None
            row = row * size + position
        return (row, at[-1])

    def elements(self) -> list[Coordinate]:
        """All coordinates, row-major."""
        return list(product(*map(range, self.shape)))

    def owners(self, at: Coordinate) -> list[int]:
        """The programs whose colour an element has."""
        return (self.readers if self.read_only else self.writers).get(at, [])

    def mark(self, at: Coordinate) -> Mark | None:
        """What is wrong with an element inside."""
        writers = self.writers.get(at, [])
        if not writers:
            return Mark.GAP if self.must_cover else None
        if self.may_share:
            return None
        others = set(writers) | set(self.readers.get(at, []))
        return Mark.OVERLAP if len(others) > 1 or at in self.twice else None

    def near(self) -> dict[Place, list[int]]:
        """Lanes out of bounds that are close enough to be drawn."""
        places: dict[Place, list[int]] = {}
        for at, programs in self.outside.items():
            place = self.place(at)
            if place and -MARGIN <= place[0] < self.rows + MARGIN and -MARGIN <= place[1] < self.columns + MARGIN:
                places[place] = programs
        return places

    def row_label(self, row: int) -> str:
        """What stands beside a row of elements."""
        if len(self.shape) == 0 or (len(self.shape) == 1 and self.shape[0] <= WRAP):
            return ""
        if len(self.shape) == 1:
            return str(row * self.columns)
        if len(self.shape) == 2 or not 0 <= row < self.rows:
            return str(row) if len(self.shape) == 2 else ""
        parts = []
        for size in reversed(self.shape[1:-1]):
            row, position = divmod(row, size)
            parts.append(position)
        return ", ".join(map(str, [row, *reversed(parts)]))

    def summary(self) -> str:
        """What is right or wrong with the array, in a few words."""
        marks = [self.mark(at) for at in self.elements()]
        gaps, overlaps, outside = marks.count(Mark.GAP), marks.count(Mark.OVERLAP), len(self.outside)
        found = [
            _count(gaps, "gap"), _count(overlaps, "overlap"),
            _count(outside, "coordinate") + " out of bounds" if outside else "",
        ]  # fmt: skip
        if any(found):
            return ", ".join(filter(None, found))
        if not marks:
            return "no elements"
        if self.must_cover:
            return "every element written by one program"
        return "updates may share elements" if self.may_share else "no two programs meet"

    def far(self) -> list[Coordinate]:
        """Coordinates out of bounds that are too far out to be drawn."""
        drawn = self.near()
        return [at for at in self.outside if self.place(at) not in drawn]


@dataclass
class Drawing:
    """A kernel at some sizes."""

    title: str
    subtitle: str
    panels: list[Panel]
    programs: dict[int, Coordinate]
    """Linear program number to position on the grid."""
    notes: list[str] = field(default_factory=list)

    def all_notes(self) -> list[str]:
        """Notes, and what is too far out to be drawn."""
        notes = list(self.notes)
        for panel in self.panels:
            far = panel.far()
            if far:
                first = ", ".join(map(str, far[0]))
                more = f" and {len(far) - 1} more" if len(far) > 1 else ""
                notes.append(f"'{panel.name}': {panel.name}[{first}]{more} out of bounds, too far out to be drawn")
        return notes

    def marks(self) -> list[Mark]:
        """The marks that occur."""
        found = {panel.mark(at) for panel in self.panels for at in panel.elements()}
        if any(panel.outside for panel in self.panels):
            found.add(Mark.OUTSIDE)
        return [mark for mark in Mark if mark in found]


def _count(number: int, what: str) -> str:
    return "" if not number else f"1 {what}" if number == 1 else f"{number} {what}s"


Style = Callable[[str, int | None, Mark | None], str]
"""Colours a symbol, given the program and the mark that it stands for."""


def text(drawing: Drawing, style: Style = lambda symbol, program, mark: symbol) -> str:
    """The drawing for a terminal: one symbol an element."""
    lines = [drawing.title, *([drawing.subtitle] if drawing.subtitle else [])]
    for panel in drawing.panels:
        lines += ["", f"{panel.title}: {panel.summary()}", *_panel_text(panel, style)]
    lines += ["", _programs_text(drawing, style)]
    lines += [f"  {style(mark.value, None, mark)}  {MEANING[mark]}" for mark in drawing.marks()]
    lines += [f"note: {note}" for note in drawing.all_notes()]
    return "\n".join(line.rstrip() for line in lines)


def _panel_text(panel: Panel, style: Style) -> list[str]:
    near = panel.near()
    cells: dict[Place, str] = {}
    for at in panel.elements():
        place = panel.place(at)
        assert place is not None
        mark, owners = panel.mark(at), panel.owners(at)
        owner = owners[0] if owners else None
        symbol = mark.value if mark else " " if owner is None else SYMBOLS[owner % len(SYMBOLS)]
        cells[place] = style(symbol, owner, mark)
    for place in near:
        cells[place] = style(Mark.OUTSIDE.value, None, Mark.OUTSIDE)
    if not cells:
        return []
    top, bottom = min(r for r, _ in cells), max(r for r, _ in cells)
    left, right = min(c for _, c in cells), max(c for _, c in cells)
    labels = {row: panel.row_label(row) for row in range(top, bottom + 1)}
    gutter = max(map(len, labels.values())) + 2
    step = 1 if right < 10 and left >= 0 else 5
    ruler = [" "] * (2 * (right - left + 1) + 8)
    for column in range(left, right + 1):
        if column % step == 0:
            start = 2 * (column - left)
            ruler[start : start + len(str(column))] = str(column)
    body = [
        f"{labels[row]:>{gutter}} │ " + " ".join(cells.get((row, c), " ") for c in range(left, right + 1))
        for row in range(top, bottom + 1)
    ]
    return [" " * (gutter + 3) + "".join(ruler), *body]


def _programs_text(drawing: Drawing, style: Style) -> str:
    """Which symbol stands for which program."""
    shown = list(drawing.programs.items())[:24]
    named = [f"{style(SYMBOLS[n % len(SYMBOLS)], n, None)} = ({', '.join(map(str, at))})" for n, at in shown]
    rest = len(drawing.programs) - len(shown)
    return "programs: " + ("  ".join(named) or "none") + (f"  … {rest} more" if rest else "")
