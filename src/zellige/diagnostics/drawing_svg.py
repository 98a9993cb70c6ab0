"""A drawing as SVG: one square an element, coloured by program, tiles outlined and named, what is wrong marked."""

from __future__ import annotations

from colorsys import hls_to_rgb
from xml.sax.saxutils import escape

from zellige.diagnostics.drawing import MEANING, Drawing, Mark, Panel, Place

_HUES = (210, 35, 150, 275, 185, 55, 320, 100, 240, 20, 170)
"""Degrees. A prime number of them, so that tiles above each other differ on grids of most widths; red is kept for marks."""
_RED, _INK, _GREY, _LINE = "#c62828", "#1f2933", "#66727f", "#d5dbe1"
_PAGE, _LABEL = 28, 13


def colour(number: int, at: tuple[int, ...]) -> str:
    """The colour of a program: the hue by its number, lighter and darker like a chessboard."""
    red, green, blue = hls_to_rgb(_HUES[number % len(_HUES)] / 360, 0.74 if sum(at) % 2 else 0.66, 0.52)
    return f"#{round(red * 255):02x}{round(green * 255):02x}{round(blue * 255):02x}"


def svg(drawing: Drawing) -> str:
    """The drawing as an SVG document."""
    return _Canvas(drawing).document()


class _Canvas:
    """Puts elements below each other and keeps track of the size."""

    def __init__(self, drawing: Drawing) -> None:
        self.drawing = drawing
        self.parts: list[str] = []
        self.y = float(_PAGE)
        self.right = 480.0

    def document(self) -> str:
        self.y += 14
        self.write(_PAGE, self.y, self.drawing.title, size=18, weight=600)
        if self.drawing.subtitle:
            self.y += 22
            self.write(_PAGE, self.y, self.drawing.subtitle, fill=_RED if self.drawing.marks() else _GREY)
        for panel in self.drawing.panels:
            self.panel(panel)
        self.legend()
        width, height = round(self.right + _PAGE), round(self.y + _PAGE)
        return "\n".join(
            [
                f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" viewBox="0 0 {width} {height}" '
                'font-family="Inter, Helvetica, Arial, DejaVu Sans, sans-serif">',
                f'<rect width="{width}" height="{height}" fill="#ffffff"/>',
                _HATCHING,
                *self.parts,
                "</svg>",
                "",
            ]
        )

    def write(self, x: float, y: float, text: str, *, size: float = _LABEL, fill: str = _INK, weight: int = 400,
              anchor: str = "start") -> None:  # fmt: skip
        bold = "" if weight == 400 else f' font-weight="{weight}"'
        where = "" if anchor == "start" else f' text-anchor="{anchor}"'
        self.parts.append(
            f'<text x="{x:g}" y="{y:g}" font-size="{size:g}" fill="{fill}"{bold}{where}>{escape(text)}</text>'
        )
        if anchor == "start":
            self.right = max(self.right, x + 0.56 * size * len(text))

    def line(self, x1: float, y1: float, x2: float, y2: float, stroke: str, width: float) -> None:
        self.parts.append(
            f'<line x1="{x1:g}" y1="{y1:g}" x2="{x2:g}" y2="{y2:g}" stroke="{stroke}" stroke-width="{width:g}" '
            'stroke-linecap="square"/>'
        )

    def square(self, x: float, y: float, side: float, fill: str, *, stroke: str = "none", dashed: bool = False) -> None:
        edge = "" if stroke == "none" else f' stroke="{stroke}" stroke-width="1.5"'
        dashes = ' stroke-dasharray="3 2"' if dashed else ""
        inset = 0.5 if stroke == "none" else 1.75
        self.parts.append(
            f'<rect x="{x + inset:g}" y="{y + inset:g}" width="{side - 2 * inset:g}" height="{side - 2 * inset:g}" '
            f'fill="{fill}"{edge}{dashes}/>'
        )

    # --- one array
    def panel(self, panel: Panel) -> None:
        near = panel.near()
        self.y += 40
        self.write(_PAGE, self.y, panel.title, size=14, weight=600)
        self.write(_PAGE + 8.2 * len(panel.title) + 12, self.y, panel.summary(), fill=_RED if _wrong(panel) else _GREY)
        owners = {place: panel.owners(at) for at in panel.elements() if (place := panel.place(at)) is not None}
        places = [*owners, *near]
        if not places:
            self.y += 8
            return
        top, bottom = min(r for r, _ in places), max(r for r, _ in places)
        left, right = min(c for _, c in places), max(c for _, c in places)
        side = max(12, min(34, 840 // (right - left + 1)))
        gutter = max((6.5 * len(panel.row_label(r)) for r in range(top, bottom + 1)), default=0.0) + 10
        x0, y0 = _PAGE + gutter - left * side, self.y + 30 - top * side
        self.axes(panel, (top, bottom, left, right), side, x0, y0)
        for at in panel.elements():
            place = panel.place(at)
            assert place is not None
            self.element(panel.mark(at), owners[place], x0 + place[1] * side, y0 + place[0] * side, side)
        self.outlines(owners, side, x0, y0)
        self.names(panel, owners, side, x0, y0)
        for place, programs in near.items():
            self.outside(place, programs, side, x0, y0)
        self.right = max(self.right, x0 + (right + 1) * side)
        self.y = y0 + (bottom + 1) * side

    def axes(self, panel: Panel, box: tuple[int, int, int, int], side: float, x0: float, y0: float) -> None:
        top, bottom, left, right = box
        every = 1 if side >= 22 else 2 if side >= 15 else 5
        for column in range(left, right + 1):
            if column % every == 0:
                inside = 0 <= column < panel.columns
                self.write(x0 + (column + 0.5) * side, y0 + top * side - 6, str(column), size=10.5,
                           fill=_GREY if inside else _RED, anchor="middle")  # fmt: skip
        for row in range(top, bottom + 1):
            label = panel.row_label(row)
            if label and (row % every == 0 or len(panel.shape) > 2):
                self.write(x0 + left * side - 8, y0 + (row + 0.5) * side + 4, label, size=10.5,
                           fill=_GREY if 0 <= row < panel.rows else _RED, anchor="end")  # fmt: skip

    def element(self, mark: Mark | None, owners: list[int], x: float, y: float, side: float) -> None:
        match mark:
            case Mark.GAP:
                self.square(x, y, side, "#ffffff", stroke=_RED, dashed=True)
            case Mark.OVERLAP:
                self.square(x, y, side, self.colour(owners[0]))
                if len(owners) > 1:
                    self.parts.append(
                        f'<path d="M{x + side - 0.5:g} {y + 0.5:g}V{y + side - 0.5:g}H{x + 0.5:g}Z" '
                        f'fill="{self.colour(owners[1])}"/>'
                    )
                self.square(x, y, side, "url(#clash)", stroke=_RED)
            case _:
                self.square(x, y, side, self.colour(owners[0]) if owners else "#eef1f4")
                if len(set(owners)) > 1:  # shared, and allowed to be
                    self.parts.append(f'<circle cx="{x + side / 2:g}" cy="{y + side / 2:g}" r="2.5" fill="{_INK}"/>')

    def outlines(self, owners: dict[Place, list[int]], side: float, x0: float, y0: float) -> None:
        """A line wherever two neighbours have different owners, and around the array."""
        for (row, column), mine in owners.items():
            x, y = x0 + column * side, y0 + row * side
            if owners.get((row - 1, column)) != mine:
                self.line(x, y, x + side, y, _INK, 1.2)
            if owners.get((row, column - 1)) != mine:
                self.line(x, y, x, y + side, _INK, 1.2)
            if (row + 1, column) not in owners:
                self.line(x, y + side, x + side, y + side, _INK, 1.2)
            if (row, column + 1) not in owners:
                self.line(x + side, y, x + side, y + side, _INK, 1.2)

    def names(self, panel: Panel, owners: dict[Place, list[int]], side: float, x0: float, y0: float) -> None:
        """Each program's position, in the middle of its tile if it is one rectangle, else in its first element."""
        tiles: dict[int, list[Place]] = {}
        for place, programs in owners.items():
            if len(set(programs)) == 1:
                tiles.setdefault(programs[0], []).append(place)
        for number, places in tiles.items():
            rows, columns = sorted({r for r, _ in places}), sorted({c for _, c in places})
            whole = len(places) == (rows[-1] - rows[0] + 1) * (columns[-1] - columns[0] + 1)
            if not whole:
                rows, columns = [places[0][0]], [places[0][1]]
            name = ",".join(map(str, self.drawing.programs[number]))
            width, height = (columns[-1] - columns[0] + 1) * side, (rows[-1] - rows[0] + 1) * side
            size = min(15.0, 0.5 * height, (width - 4) / max(0.62 * len(name), 1))
            if size >= 7:
                middle = y0 + (rows[0] + rows[-1] + 1) / 2 * side + 0.35 * size
                self.write(
                    x0 + (columns[0] + columns[-1] + 1) / 2 * side, middle, name, size=size, weight=600, anchor="middle"
                )

    def outside(self, place: Place, programs: list[int], side: float, x0: float, y0: float) -> None:
        x, y = x0 + place[1] * side, y0 + place[0] * side
        self.square(x, y, side, "#fdecea", stroke=_RED)
        near, far = 0.32 * side, 0.68 * side
        self.line(x + near, y + near, x + far, y + far, _RED, 2)
        self.line(x + far, y + near, x + near, y + far, _RED, 2)
        self.square(x + 1.5, y + 1.5, max(6.0, 0.26 * side), self.colour(programs[0]))

    def colour(self, number: int) -> str:
        return colour(number, self.drawing.programs[number])

    # --- below
    def legend(self) -> None:
        self.y += 34
        x, limit = float(_PAGE), max(self.right, 640.0)
        shown = list(self.drawing.programs.items())[:16]
        self.write(x, self.y + 12, "programs", fill=_GREY)
        x += 70
        if not shown:
            self.write(x, self.y + 11, "none")
        for number, at in shown:
            name = f"({', '.join(map(str, at))})"
            if x + 24 + 7.5 * len(name) > limit:
                x, self.y = float(_PAGE + 70), self.y + 22
            self.square(x, self.y, 15, colour(number, at))
            self.write(x + 20, self.y + 12, name)
            x += 34 + 7.2 * len(name)
        if len(self.drawing.programs) > len(shown):
            self.write(x, self.y + 12, f"… {len(self.drawing.programs) - len(shown)} more", fill=_GREY)
        self.y += 15
        for mark in self.drawing.marks():
            self.y += 9
            self.sample(mark, _PAGE, self.y)
            self.write(_PAGE + 26, self.y + 13, MEANING[mark])
            self.y += 17
        for note in self.drawing.all_notes():
            self.y += 22
            self.write(_PAGE, self.y, note, fill=_GREY)

    def sample(self, mark: Mark, x: float, y: float) -> None:
        if mark is Mark.OUTSIDE:
            self.square(x, y, 18, "#fdecea", stroke=_RED)
            self.line(x + 6, y + 6, x + 12, y + 12, _RED, 2)
            self.line(x + 12, y + 6, x + 6, y + 12, _RED, 2)
        else:
            self.element(mark, list(self.drawing.programs)[:2], x, y, 18)


def _wrong(panel: Panel) -> bool:
    return bool(panel.outside) or any(panel.mark(at) for at in panel.elements())


_HATCHING = (
    '<defs><pattern id="clash" width="6" height="6" patternUnits="userSpaceOnUse" patternTransform="rotate(45)">'
    f'<rect width="2" height="6" fill="{_RED}" fill-opacity="0.75"/></pattern></defs>'
)
