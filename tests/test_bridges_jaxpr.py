"""What conversion by export leaves for XLA: nothing on the host, and no loop written out."""

import pytest

torch = pytest.importorskip("torch", reason="the bridges need PyTorch")

import jax
import jax.numpy as jnp
import numpy as np

from denograd_jax import bridges
from tests.torch_zoo import REFUSED, ZOO, C, Recurrent, build

nn = torch.nn
torch.set_num_threads(1)  # its idle threads spin beside XLA's


def equations(jaxpr):
    """Of the loops, branches and functions within, too."""
    for equation in jaxpr.eqns:
        yield equation
        for part in jax.tree.leaves(list(equation.params.values())):
            part = getattr(part, "jaxpr", part)  # open, where it is closed over constants
            if hasattr(part, "eqns"):
                yield from equations(part)


def equations_of_gradient(model, shape):
    """Of value and input gradient, which a refinement asks for."""

    def total(params, x):
        return model.predict(params, x).sum()

    x = jnp.zeros(shape)
    return list(equations(jax.make_jaxpr(jax.value_and_grad(total, argnums=1))(model.params, x)))


def on_the_host(found):
    names = {equation.primitive.name for equation in found}
    return {name for name in names if "callback" in name or "ffi" in name}


def converted(module, shape):
    """Without the check, which runs the model instead of looking at it."""
    return bridges.from_torch(module.eval(), np.zeros((2, *shape)), check=False)


# The zoo's xLSTM is not among these: its author wrote the sLSTM as a Python loop over the steps,
# which torch.export follows step by step, so that it grows before the bridge sees it.
@pytest.mark.parametrize(
    ("settings", "cells"),
    [({}, 1), ({"num_layers": 2}, 2), ({"bidirectional": True}, 2)],
    ids=["1 layer", "2 layers", "bidirectional"],
)
@pytest.mark.parametrize(
    "layer", [nn.LSTM, *(pytest.param(n, marks=pytest.mark.slow) for n in (nn.GRU, nn.RNN))]
)
def test_a_recurrence_is_a_scan_whatever_the_length_of_the_window(layer, settings, cells):
    module = Recurrent(layer, **settings)
    short, long = (equations_of_gradient(converted(module, (w, C)), (w, C)) for w in (8, 64))
    assert len(short) == len(long)
    for length, found in ((8, short), (64, long)):
        scans = [equation for equation in found if equation.primitive.name == "scan"]
        assert [scan.params["length"] for scan in scans] == 2 * cells * [length]  # there and back
        assert not on_the_host(found)


@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=pytest.mark.slow) for name in ZOO if name not in REFUSED],
)
def test_nothing_of_a_converted_module_runs_on_the_host(name):
    if "Hugging Face" in name:
        pytest.importorskip("transformers")
    _, shape = ZOO[name]
    assert not on_the_host(equations_of_gradient(converted(build(name), shape), shape))


def test_what_runs_on_the_host_would_be_seen():
    """Else the tests above would show nothing."""
    model = bridges.from_torch_callback(nn.Linear(3, 1), np.zeros((2, 3)))

    @jax.checkpoint
    def step(params, x):
        return jax.lax.cond(x[0] > 0, model.predict, lambda params, x: x[:1], params, x)

    @jax.jit
    def loop(params, x):
        return jax.lax.scan(lambda x, _: (x + step(params, x), None), x, length=3)[0]

    found = equations_of_gradient(model._replace(predict=loop), (3,))
    assert on_the_host(found) == {"pure_callback"}
    assert not on_the_host(e for e in found if e.primitive.name == "scan")


def test_a_loop_written_out_would_be_seen():
    """As the loop over the steps of the zoo's sLSTM is."""

    class Loop(nn.Module):
        def forward(self, x):
            h = x[:, 0]
            for step in x[:, 1:].unbind(1):
                h = torch.tanh(h + step)
            return h

    short, long = (equations_of_gradient(converted(Loop(), (w, C)), (w, C)) for w in (2, 4))
    assert len(long) > 1.5 * len(short)
