"""Fourier transform of each row: by one radix-2 step a launch (Stockham), and by a product with the DFT matrix."""

from __future__ import annotations

import numpy as np

import zellige as zl
from zellige import f32

M, N, HALF, GROUPS, STRIDE = zl.dims("M N HALF GROUPS STRIDE")
TAU = 6.283185307179586


@zl.kernel
def radix_2_step(
    re: zl.In[f32, M, 2, HALF, STRIDE], im: zl.In[f32, M, 2, HALF, STRIDE],
    *, yre: zl.Out[f32, M, HALF, 2, STRIDE], yim: zl.Out[f32, M, HALF, 2, STRIDE],
):  # fmt: skip
    """One pass of the Stockham recursion: sums and twisted differences of the two halves, interleaved."""
    m, i = zl.grid(M, HALF)
    angle = -TAU / 2.0 * i.to(f32) / HALF
    a, b, c, d = re[m, 0, i, :], im[m, 0, i, :], re[m, 1, i, :], im[m, 1, i, :]
    yre[m, i, 0, :], yim[m, i, 0, :] = a + c, b + d
    cosine, sine = zl.cos(angle), zl.sin(angle)
    yre[m, i, 1, :] = (a - c) * cosine - (b - d) * sine
    yim[m, i, 1, :] = (a - c) * sine + (b - d) * cosine


@zl.kernel
def dft(
    re: zl.In[f32, M, N], im: zl.In[f32, M, N], *, yre: zl.Out[f32, M, N], yim: zl.Out[f32, M, N], B: zl.Static = 16
):
    """y = x·F with F[j, k] = exp(−2πi·j·k / N), made on the way; any N."""
    rows, cols = zl.grid(M.tiles(B), N.tiles(B))
    sum_re, sum_im = zl.zeros((B, B), f32), zl.zeros((B, B), f32)
    for j in N.tiles(B):
        angle = (j[:, None] * cols[None, :] % N).to(f32) * (-TAU / N)
        cosine, sine = zl.cos(angle), zl.sin(angle)
        a, b = re[rows, j], im[rows, j]
        sum_re = sum_re + zl.dot(a, cosine) - zl.dot(b, sine)
        sum_im = sum_im + zl.dot(a, sine) + zl.dot(b, cosine)
    yre[rows, cols], yim[rows, cols] = sum_re, sum_im


def fft(re: np.ndarray, im: np.ndarray) -> np.ndarray:
    """The transform of each row, of a length that is a power of two."""
    m, n = re.shape
    re, im, stride = zl.tensor(re), zl.tensor(im), 1
    while stride < n:
        half = n // (2 * stride)
        re, im = radix_2_step(re.reshape(m, 2, half, stride), im.reshape(m, 2, half, stride))
        stride *= 2
    return (re.numpy() + 1j * im.numpy()).reshape(m, n)


def check() -> None:
    rng = np.random.default_rng(0)
    for m, n in ((1, 1), (3, 64), (2, 128)):
        re, im = rng.standard_normal((2, m, n), np.float32)
        np.testing.assert_allclose(fft(re, im), np.fft.fft(re + 1j * im), atol=1e-3)
    for m, n in ((1, 1), (5, 21)):
        re, im = rng.standard_normal((2, m, n), np.float32)
        yre, yim = dft(re, im)
        np.testing.assert_allclose(yre.numpy() + 1j * yim.numpy(), np.fft.fft(re + 1j * im), atol=1e-3)


if __name__ == "__main__":
    check()
