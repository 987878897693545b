"""The iterated Kalman update as plain NumPy loops, written from the equations alone.

Sigma and S are dense matrices, nothing is scaled, one instance after another.
"""

import numpy as np

SCALE, MISFIT = 0.7, 0.3


def from_origin(net, z, z0, shape, sigma, misfit, dirty=1.0):
    """How far one instance goes from z0 = (x, y), linearised at z, and the gate."""
    q = z.size - np.prod(shape)
    x, y = z[:-q].reshape(shape), z[-q:]
    g = np.hstack([net.jacobian(x), -np.eye(q)])
    covariance = np.diag(sigma**2)
    s = misfit**2 * np.eye(q)
    at_origin = net.value(x) - y - g @ (z - z0)
    v1 = g @ covariance @ g.T + s
    dz = -covariance @ g.T @ np.linalg.pinv(v1) @ at_origin
    if dirty == 1:
        return dz, 1.0
    densities = []
    for v in (v1, s):
        normal = np.exp(-0.5 * at_origin @ np.linalg.solve(v, at_origin))
        densities.append(normal / np.sqrt(np.linalg.det(2 * np.pi * v)))
    p = dirty * densities[0] / (dirty * densities[0] + (1 - dirty) * densities[1])
    return p * dz, p


def solve_rows(net, x, y, noise_x, noise_y, steps, misfit=MISFIT, dirty=1.0):
    """Noise is that of the cells times the scale; 0 holds a cell."""
    z0 = np.column_stack([x, y])
    sigma = np.column_stack([noise_x, noise_y])
    z, gates = z0.copy(), np.zeros(len(x))
    for _ in range(steps):
        for i in range(len(z)):
            dz, gates[i] = from_origin(net, z[i], z0[i], x.shape[1:], sigma[i], misfit, dirty)
            z[i] = z0[i] + dz
    return z[:, : x.shape[1]], z[:, x.shape[1] :], gates


def solve_series(net, x, y, noise_x, noise_y, steps, layout, columns=None, misfit=MISFIT):
    """y is None where the target is columns of x; each cell goes to the mean of all proposals."""
    x0, y0 = x, y
    for _ in range(steps):
        sum_x, count_x = np.zeros(x0.shape), np.zeros(x0.shape)
        q = len(columns) if y is None else y.shape[1]
        sum_y, count_y = np.zeros((len(x), q)), np.zeros((len(x), 1))
        for s in range(0, len(x) - layout.span + 1, layout.stride):
            here, t = slice(s, s + layout.length), s + layout.span - 1

            def joined(xs, ys, here=here, t=t):
                target = xs[t, columns] if columns is not None else ys[t]
                return np.append(xs[here].ravel(), target)

            shape = (layout.length, x.shape[1])
            sigma = joined(noise_x, noise_y)
            dz, _ = from_origin(net, joined(x, y), joined(x0, y0), shape, sigma, misfit)
            sum_x[here] += dz[:-q].reshape(shape)
            count_x[here] += 1
            sum_y[t] += dz[-q:]
            count_y[t] += 1
        if columns is not None:
            sum_x[:, columns] += sum_y
            count_x[:, columns] += count_y
        x = x0 + sum_x / np.maximum(count_x, 1)
        y = None if y0 is None else y0 + sum_y / np.maximum(count_y, 1)
    return x, y


def noise_of(rng, shape):
    """Standard deviations of cells, of which some are 0."""
    return rng.uniform(0.1, 2.0, shape) * (rng.random(shape) > 0.1)
