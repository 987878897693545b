"""Largest difference to plain NumPy loops, in float64, per rule and layout.

    python benchmarks/agreement.py

The loops are the tests' oracle (tests/oracle.py), the cases those of tests/test_against_numpy.py:
200 rows or steps, 20 epochs each.
"""

import sys
from pathlib import Path

import jax
import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))
jax.config.update("jax_enable_x64", True)

from denograd_jax import layouts, refiner, run  # noqa: E402
from tests import oracle  # noqa: E402
from tests.models import tanh_net  # noqa: E402
from tests.test_against_numpy import RULES, SERIES  # noqa: E402

EPOCHS = 20


def difference(rule, layout, net, arrays, expected):
    r = refiner(tanh_net, rule, layout)
    found = run(r, net.params, r.init(*arrays), EPOCHS)
    return max(np.abs(found.x - expected[0]).max(), np.abs(found.y - expected[1]).max())


def main():
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(200, 3)), rng.normal(size=(200, 2))
    print("| rule | layout | largest difference |\n|---|---|---|")
    for name, (rule, plain) in RULES.items():
        net = oracle.Net(rng, 3, 2)
        expected = oracle.refine_rows(net, x, y, plain, EPOCHS)
        print(f"| {name} | rows | {difference(rule, layouts.rows(), net, (x, y), expected):.1e} |")
    for name, consensus, length, horizon, stride in SERIES:
        rule, plain = RULES[name]
        net = oracle.Net(rng, length * 3, 2)
        expected = oracle.refine_series(
            net, x, y, plain, EPOCHS, length, horizon, stride, consensus
        )
        layout = layouts.windows(length, horizon, stride, consensus)
        found = difference(rule, layout, net, (x, y), expected)
        print(f"| {name} | windows({length}, {horizon}, {stride}, {consensus}) | {found:.1e} |")


if __name__ == "__main__":
    main()
