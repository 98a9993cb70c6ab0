"""Cross-entropy over logits, forward and backward in one pass over each row; absent labels (−1) count as nothing."""

from __future__ import annotations

import numpy as np

import zellige as zl
from zellige import f32

B, V = zl.dims("B V")


@zl.kernel
def cross_entropy(
    logits: zl.In[f32, B, V],
    label: zl.In[zl.Index[V, zl.optional], B],
    *,
    loss: zl.Out[f32, B],
    grad: zl.Out[f32, B, V],
):
    """loss = log Σ exp(logits) − logits[label], grad = softmax(logits) − onehot(label)."""
    b = zl.grid(B)
    row, goal = logits[b, :], label[b]
    if goal.present:
        top = zl.max(row)
        e = zl.exp(row - top)
        total = zl.sum(e)
        loss[b] = zl.log(total) + top - logits[b, goal]
        grad[b, :] = e / total - zl.where(zl.arange(V) == goal, 1.0, 0.0)
    else:
        loss[b] = 0.0
        grad[b, :] = zl.zeros((V,), f32)


def check() -> None:
    rng = np.random.default_rng(0)
    for shape in ((1, 1), (4, 3), (3, 131)):
        x, label = 3 * rng.standard_normal(shape, np.float32), rng.integers(0, shape[1], shape[0]).astype(np.int32)
        p = np.exp(x) / np.exp(x).sum(1, keepdims=True)
        at = np.arange(len(label)), label
        expected_loss, expected_grad = -np.log(p[at]), p.copy()
        expected_grad[at] -= 1
        label[-1] = -1
        expected_loss[-1], expected_grad[-1] = 0, 0
        loss, grad = cross_entropy(x, label)
        np.testing.assert_allclose(loss.numpy(), expected_loss, rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(grad.numpy(), expected_grad, rtol=1e-4, atol=1e-6)


if __name__ == "__main__":
    check()
