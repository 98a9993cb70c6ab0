"""Tile operations: what the names mean inside a kernel.

Every function is a declaration. Called outside a kernel it raises ZL0101, inside one the frontend lowers it by name.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from zellige.diagnostics.errors import ZelligeError

F = TypeVar("F", bound=Callable[..., Any])


def operation(function: F) -> F:
    """Marks a declaration; the frontend finds the lowering by the function's name."""

    def outside(*_: Any, **__: Any) -> Any:
        raise ZelligeError(
            "ZL0101",
            f"zl.{function.__name__} was called outside a kernel",
            help="call it in a function decorated with @zl.kernel or @zl.inline",
        )

    outside.__name__, outside.__doc__ = function.__name__, function.__doc__
    outside.__zl_operation__ = function.__name__  # type: ignore[attr-defined]
    outside.__wrapped__ = function  # type: ignore[attr-defined]
    return outside  # type: ignore[return-value]


def inline(function: F) -> F:
    """Decorator of a device function: inlined where a kernel calls it, generic over shapes and dtypes."""
    function.__zl_inline__ = True  # type: ignore[attr-defined]
    return function


# --- the grid and loops
@operation
def grid(*axes: Any, order: Any = None) -> Any:
    """One program per tile of ``M.tiles(B)`` and per index of a plain extent; gives this program's span or index of each.

    Of ``offsets.tiles(B)``, where ``offsets`` is an input of contract ``Offsets[T]``, it gives two: the segment, and a span of T
    inside that segment. Spans of different programs are disjoint, and together they cover T."""


@operation
def grouped(rows: int) -> Any:
    """A grid order in which ``rows`` rows of tiles run together. A hint: never changes meaning."""


@operation
def tiles(*bounds: Any, size: Any = None) -> Any:
    """``zl.tiles(stop, size)`` or ``zl.tiles(start, stop, size)``: spans of ``size`` lanes that cover [start, stop). Bounds are
    dim expressions or index scalars; ``size`` is static. No spans if stop ≤ start. ``M.tiles(size)[n]`` is tile number n."""


@operation
def bounded(condition: Any, limit: Any) -> Any:
    """In ``while zl.bounded(condition, limit)``: stops after ``limit`` iterations at the latest."""


@operation
def unroll(iterable: Any) -> Any:
    """In ``for i in zl.unroll(range(4))``: the body is repeated at compile time with i a static int."""


# --- making tiles
@operation
def arange(extent: Any) -> Any:
    """0, 1, …, extent−1 as an index tile."""


@operation
def zeros(shape: Any, dtype: Any) -> Any:
    """A tile of zeros."""


@operation
def full(shape: Any, value: Any, dtype: Any) -> Any:
    """A tile of one value."""


@operation
def where(condition: Any, x: Any, y: Any) -> Any:
    """x where condition, else y. Lanes inactive in x become active where ``condition`` replaces them."""


@operation
def only(x: Any, condition: Any) -> Any:
    """x, with the lanes where ``condition`` is false made inactive."""


@operation
def guard(x: Any, below: Any) -> Any:
    """x as an index below ``below``; lanes that fail become inactive and raise an error at the next synchronisation."""


@operation
def requires(condition: Any) -> None:
    """A precondition over dims and scalars: checked at launch, assumed afterwards."""


@operation
def random_bits(seed: Any, counter: Any) -> Any:
    """u32 words of Philox-4x32-10 for a scalar seed and a tile of counters."""


@operation
def random_uniform(seed: Any, counter: Any) -> Any:
    """f32 uniform in (0, 1): (word + ½)·2⁻³² of ``random_bits``, rounded to 24 bits."""


@operation
def random_normal(seed: Any, counter: Any) -> Any:
    """f32 of the standard normal distribution, by Box and Muller from ``random_uniform`` at counters 2c and 2c + 1."""


# --- elementwise
@operation
def exp(x: Any) -> Any:
    """eˣ."""


@operation
def exp2(x: Any) -> Any:
    """2ˣ."""


@operation
def log(x: Any) -> Any:
    """Natural logarithm."""


@operation
def log2(x: Any) -> Any:
    """Base-2 logarithm."""


@operation
def sqrt(x: Any) -> Any:
    """Square root."""


@operation
def rsqrt(x: Any) -> Any:
    """1/√x."""


@operation
def sin(x: Any) -> Any:
    """Sine of radians."""


@operation
def cos(x: Any) -> Any:
    """Cosine of radians."""


@operation
def tanh(x: Any) -> Any:
    """Hyperbolic tangent."""


@operation
def erf(x: Any) -> Any:
    """Error function."""


@operation
def sigmoid(x: Any) -> Any:
    """1/(1 + e⁻ˣ)."""


@operation
def abs(x: Any) -> Any:
    """Absolute value."""


@operation
def floor(x: Any) -> Any:
    """Rounds towards minus infinity."""


@operation
def ceil(x: Any) -> Any:
    """Rounds towards infinity."""


@operation
def round(x: Any) -> Any:
    """Rounds to nearest, ties to even."""


@operation
def minimum(x: Any, y: Any) -> Any:
    """The smaller, elementwise."""


@operation
def maximum(x: Any, y: Any) -> Any:
    """The larger, elementwise."""


@operation
def clamp(x: Any, low: Any, high: Any) -> Any:
    """x limited to [low, high]."""


@operation
def fma(x: Any, y: Any, z: Any) -> Any:
    """x·y + z of floats, rounded once (f16, bf16 and fp8: to f32, then to the type); of integers, as they wrap."""


@operation
def popcount(x: Any) -> Any:
    """How many bits of an integer are 1, of a negative one in two's complement: i32."""


# --- across lanes
@operation
def sum(x: Any, axis: Any = None, keepdims: bool = False) -> Any:
    """Sum over an axis (all axes if None); inactive lanes add nothing."""


@operation
def prod(x: Any, axis: Any = None, keepdims: bool = False, pad: Any = None) -> Any:
    """Product over an axis."""


@operation
def mean(x: Any, axis: Any = None, keepdims: bool = False) -> Any:
    """Mean over an axis whose lanes are all active."""


@operation
def max(x: Any, axis: Any = None, keepdims: bool = False, pad: Any = None) -> Any:
    """Maximum over an axis; say ``pad`` where lanes may be inactive."""


@operation
def min(x: Any, axis: Any = None, keepdims: bool = False, pad: Any = None) -> Any:
    """Minimum over an axis; say ``pad`` where lanes may be inactive."""


@operation
def argmax(x: Any, axis: Any = None, pad: Any = None) -> Any:
    """First position of the maximum along an axis: an index below the axis's extent."""


@operation
def argmin(x: Any, axis: Any = None, pad: Any = None) -> Any:
    """First position of the minimum along an axis."""


@operation
def any(x: Any, axis: Any = None) -> Any:
    """True if an active lane is true."""


@operation
def all(x: Any, axis: Any = None, pad: Any = None) -> Any:
    """True if every lane is true."""


@operation
def cumsum(x: Any, axis: int = -1) -> Any:
    """Inclusive running sum along an axis; inactive lanes add nothing."""


@operation
def cumprod(x: Any, axis: int = -1, pad: Any = None) -> Any:
    """Inclusive running product along an axis; say ``pad`` where lanes may be inactive."""


@operation
def cummax(x: Any, axis: int = -1, pad: Any = None) -> Any:
    """Inclusive running maximum along an axis; say ``pad`` where lanes may be inactive."""


@operation
def cummin(x: Any, axis: int = -1, pad: Any = None) -> Any:
    """Inclusive running minimum along an axis; say ``pad`` where lanes may be inactive."""


@operation
def reduce(x: Any, combine: Any, axis: int = -1, pad: Any = None) -> Any:
    """The lanes along an axis of static extent, combined in order by an associative ``@zl.inline`` function of two tiles.

    ``x`` may be a tuple of tiles of one shape (and ``pad`` one of pads): ``combine`` then takes and returns tuples. Neighbours are
    combined first, so the order of floating-point operations is fixed by the extent."""


@operation
def scan(x: Any, combine: Any, axis: int = -1, pad: Any = None) -> Any:
    """Inclusive running combination along an axis of static extent, as in ``reduce``: lane i combines lanes 0 … i in order."""


@operation
def histogram(x: Any, bins: Any) -> Any:
    """How often each of 0 … bins−1 occurs in a tile of integers: i32 of extent ``bins``. Others and inactive lanes do not count."""


@operation
def offsets(lengths: Any, total: Any) -> Any:
    """Offsets of segments with these lengths (an integer tile of extent n): n + 1 indices, 0 first, each ``total`` at most, the
    last ``total`` itself. They never decrease whatever the lengths hold (negative ones count as 0), so that a whole tile of them
    may be stored to an output of contract ``Offsets[total]``."""


@operation
def sort(x: Any, descending: bool = False) -> Any:
    """(sorted values, source positions) along the last axis."""


@operation
def top_k(x: Any, k: int, pad: Any = None) -> Any:
    """(values, positions) of the k largest lanes along the last axis, largest first; of equal ones the first comes first."""


@operation
def flip(x: Any, axis: int = -1, pad: Any = None) -> Any:
    """The lanes along an axis in reverse."""


@operation
def join(a: Any, b: Any) -> Any:
    """Two tiles of one shape as one with a last axis of extent 2."""


@operation
def split(x: Any) -> Any:
    """The two halves of a tile whose last axis has extent 2: undoes ``join``."""


@operation
def gather(x: Any, positions: Any, axis: int = -1) -> Any:
    """Elements of a tile by position along an axis."""


@operation
def dot(a: Any, b: Any, acc: Any = None) -> Any:
    """a·b (+ acc): (…, M, K) × (…, K, N) → (…, M, N), summed in f32 unless ``acc`` says otherwise."""


# --- shape
@operation
def reshape(x: Any, shape: Any) -> Any:
    """Row-major reshape."""


@operation
def transpose(x: Any, permutation: Any) -> Any:
    """Result axis i is axis permutation[i] of x."""


@operation
def broadcast_to(x: Any, shape: Any) -> Any:
    """x stretched to ``shape``."""


@operation
def bitcast(x: Any, dtype: Any) -> Any:
    """The same bits as another dtype of equal width."""


@operation
def unsafe(reason: str) -> Any:
    """``with zl.unsafe("why it is sound"):`` opts accesses out of proof; counted by ``zellige audit``."""


inf = float("inf")
"""Infinity."""
