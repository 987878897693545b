"""The published algorithms as plain NumPy loops, in float64: written from the equations alone.

Nothing here uses JAX or the library, so agreement is evidence.
"""

import numpy as np


class Net:
    """q outputs of one tanh layer on a flattened instance, with its analytic input gradient."""

    def __init__(self, rng, size, outputs=1, hidden=7):
        self.w1 = rng.normal(size=(hidden, size)) / np.sqrt(size)
        self.b1 = rng.normal(size=hidden)
        self.w2 = rng.normal(size=(outputs, hidden))
        self.b2 = rng.normal(size=outputs)

    @property
    def params(self):
        return {"w1": self.w1, "b1": self.b1, "w2": self.w2, "b2": self.b2}

    def value(self, x):
        return self.w2 @ np.tanh(self.w1 @ x.ravel() + self.b1) + self.b2

    def jacobian(self, x):
        slope = 1 - np.tanh(self.w1 @ x.ravel() + self.b1) ** 2
        return (self.w2 * slope) @ self.w1


def move(net, x, y, rule, observed=None):
    """One instance's move (dx, dy), its gate and its gradient's squared norm."""
    r = net.value(x) - y
    if observed is not None:
        r = np.where(observed, r, 0.0)
    gx = (2 * r) @ net.jacobian(x)
    gy = -2 * r
    squared = np.sum(gx**2) + np.sum(gy**2)
    gate = float(np.any(np.abs(r) > rule["tolerance"]))
    if squared == 0 or gate == 0:
        return np.zeros_like(x), np.zeros_like(y), gate, squared
    norm = np.sqrt(squared)
    if rule["name"] == "unit_step":
        factor = rule["step_size"] / norm
        wx = wy = 1.0
    elif rule["name"] == "dataset_norm":
        factor = rule["step_size"]
        wx = wy = 1.0
    else:
        surface = norm / np.linalg.norm(gy)
        factor = rule["step_size"] * np.linalg.norm(r) / surface / norm
        wx, wy = rule["x_weight"], rule["y_weight"]
    return -factor * wx * gx.reshape(x.shape), -factor * wy * gy, gate, squared


def refine_rows(net, x, y, rule, epochs, refine_targets=True):
    x, y = x.copy(), y.copy()
    for _ in range(epochs):
        moves = [move(net, x[i], y[i], rule) for i in range(len(x))]
        scale = 1.0
        if rule["name"] == "dataset_norm":
            scale = 1 / np.sqrt(sum(m[3] for m in moves))
        if not any(m[2] for m in moves):
            break
        for i, (dx, dy, _, _) in enumerate(moves):
            x[i] += scale * dx
            if refine_targets:
                y[i] += scale * dy
    return x, y


def refine_series(
    net, x, y, rule, epochs, length, horizon, stride, consensus, target_columns=None, segments=None
):
    """y is None when the target is columns of x, one variable with it."""
    x = x.copy()
    y = None if y is None else y.copy()
    steps = len(x)
    for _ in range(epochs):
        gx, cx = np.zeros_like(x), np.zeros(x.shape)
        q = len(target_columns) if y is None else y.shape[1]
        gy, cy = np.zeros((steps, q)), np.zeros(steps)
        total, any_gate = 0.0, False
        for s in range(0, steps - length - horizon + 1, stride):
            t = s + length + horizon - 1
            if segments is not None and segments[s] != segments[t]:
                continue
            target = x[t, target_columns] if y is None else y[t]
            dx, dy, gate, squared = move(net, x[s : s + length], target, rule)
            total += squared
            any_gate |= gate > 0
            voice = 1.0 if consensus == "visits" else gate
            gx[s : s + length] += dx
            cx[s : s + length] += voice
            gy[t] += dy
            cy[t] += voice
        if y is None:
            gx[:, target_columns] += gy
            cx[:, target_columns] += cy[:, None]
        if consensus == "sum":
            cx, cy = np.ones_like(cx), np.ones_like(cy)
        scale = 1 / np.sqrt(total) if rule["name"] == "dataset_norm" and total > 0 else 1.0
        x += scale * gx / np.maximum(cx, 1)
        if y is not None:
            y += scale * gy / np.maximum(cy, 1)[:, None]
        if not any_gate:
            break
    return x, y
