"""Losses of PyTorch: against PyTorch itself, one instance at a time."""

import pytest

pytest.importorskip("torch", reason="the bridges need PyTorch")

import jax
import jax.numpy as jnp
import numpy as np
import torch
from torch import nn

from denograd_jax import Model, input_gradients, layouts, refiner, rules, run
from denograd_jax.bridges import _torch_losses, loss_from_torch
from denograd_jax.errors import ModelError, UnsupportedError

pytestmark = pytest.mark.slow  # minutes in all; CI runs it

torch.set_num_threads(1)
TOLERANCE = {"float32": 2e-6, "float64": 1e-12}
WEIGHTS = torch.tensor([0.5, 2.0, 1.0, 0.0, 3.0, 1.5, 0.1])


def against_torch(criterion, prediction, target):
    """Value and both gradients of the summed loss, in JAX and in PyTorch."""
    tensors = [torch.tensor(array) for array in (prediction, target)]
    for tensor in tensors:
        tensor.requires_grad_(tensor.is_floating_point())
    criterion = criterion.to(tensors[0].dtype)
    want = criterion(*(tensor[None] for tensor in tensors)).sum()
    wanted = [t for t in tensors if t.requires_grad]
    want_gradients = torch.autograd.grad(want, wanted)

    loss = loss_from_torch(criterion)
    arrays = [jnp.asarray(prediction), jnp.asarray(target)]
    value, gradients = jax.jit(
        jax.value_and_grad(lambda p, t: loss(p, t).sum(), argnums=tuple(range(len(wanted))))
    )(*arrays)
    tolerance = TOLERANCE[str(prediction.dtype)]
    assert value.dtype == prediction.dtype
    np.testing.assert_allclose(value, want.item(), rtol=tolerance, atol=tolerance)
    for got, tensor in zip(gradients, want_gradients, strict=True):
        np.testing.assert_allclose(got, tensor.numpy(), rtol=tolerance, atol=tolerance)


ELEMENTWISE = [
    nn.MSELoss(reduction="none"),
    nn.L1Loss(reduction="none"),
    nn.SmoothL1Loss(reduction="none"),
    nn.SmoothL1Loss(beta=0.5, reduction="none"),
    nn.SmoothL1Loss(beta=0.0, reduction="none"),
    nn.HuberLoss(reduction="none"),
    nn.HuberLoss(delta=0.5, reduction="none"),
    nn.BCEWithLogitsLoss(reduction="none"),
    nn.BCEWithLogitsLoss(weight=WEIGHTS, reduction="none"),
    nn.BCEWithLogitsLoss(weight=WEIGHTS[None], pos_weight=WEIGHTS + 1, reduction="none"),
    nn.BCEWithLogitsLoss(pos_weight=torch.tensor([3.0]), reduction="none"),
    nn.CrossEntropyLoss(reduction="none"),  # of class probabilities
    nn.CrossEntropyLoss(weight=WEIGHTS, label_smoothing=0.2, reduction="none"),
]
EXPORTED = [
    nn.KLDivLoss(reduction="none"),
    nn.KLDivLoss(log_target=True, reduction="none"),
    nn.PoissonNLLLoss(reduction="none"),
    nn.MultiLabelSoftMarginLoss(reduction="none"),
]


def name_of(criterion):
    settings = {k: v for k, v in vars(criterion).items() if k[0] != "_" and k != "training"}
    return f"{type(criterion).__name__}{settings}"[:60]


@pytest.mark.parametrize("criterion", ELEMENTWISE + EXPORTED, ids=name_of)
def test_element_by_element(criterion, dtype):
    """At equal values and on the bounds of the Huber losses too."""
    target = np.array([0.0, 0.2, 0.4, 1.0, 0.0, 1.0, 0.5], dtype)
    prediction = target + np.array([0.0, 0.5, -0.5, 1.0, -1.0, 3.0, -0.1], dtype)
    if "log_target" not in vars(criterion):
        against_torch(criterion, prediction, target)
    else:  # by a target of 0 it has no finite derivative in torch
        against_torch(criterion, prediction, target + np.asarray(0.1, dtype))


@pytest.mark.parametrize("label", [0, 3, -100, 2])
@pytest.mark.parametrize(
    "criterion",
    [
        nn.CrossEntropyLoss(reduction="none"),
        nn.CrossEntropyLoss(weight=WEIGHTS[:5], reduction="none"),
        nn.CrossEntropyLoss(label_smoothing=0.3, reduction="none"),
        nn.CrossEntropyLoss(
            weight=WEIGHTS[:5], label_smoothing=0.3, ignore_index=2, reduction="none"
        ),
        nn.NLLLoss(weight=WEIGHTS[:5], reduction="none"),  # exported
    ],
    ids=name_of,
)
def test_labels(criterion, label, dtype, rng):
    if label == -100 and criterion.ignore_index != -100:
        pytest.skip("PyTorch refuses a negative label that is not ignored")
    logits = rng.standard_normal(5).astype(dtype)
    against_torch(criterion, logits, np.array(label))


@pytest.mark.parametrize("label", [5, -1])
def test_a_label_beyond_the_classes_is_not_another_class(label):
    loss = loss_from_torch(nn.CrossEntropyLoss())
    assert jnp.isnan(loss(jnp.zeros(5), jnp.asarray(label)))


def test_a_class_without_probability_leaves_the_others_finite():
    loss = loss_from_torch(nn.CrossEntropyLoss())
    logits = jnp.array([0.0, -jnp.inf, 0.0])
    np.testing.assert_allclose(loss(logits, jnp.asarray(0)), np.log(2), rtol=1e-6)


@pytest.mark.parametrize("full", [False, True])
@pytest.mark.parametrize("shape", [(6,), (2, 3)])
def test_gaussian(full, shape, dtype):
    """A variance below the floor too, where the value is floored and the derivative passes."""
    criterion = nn.GaussianNLLLoss(full=full, eps=0.01, reduction="none")
    mean, variance, target = np.array([[1.0, 2.0, 0.0], [0.5, 0.001, 2.0], [1.5, 2.0, -1.0]], dtype)
    tensors = [torch.tensor(a, requires_grad=True) for a in (mean, target, variance)]
    want = criterion(*tensors)
    wanted = [t.numpy() for t in torch.autograd.grad(want.sum(), tensors)]

    loss = loss_from_torch(criterion)
    prediction = jnp.asarray(np.concatenate([mean, variance]).reshape(shape))
    got = loss(prediction, jnp.asarray(target))
    by_prediction, by_target = jax.grad(lambda p, t: loss(p, t).sum(), argnums=(0, 1))(
        prediction, jnp.asarray(target)
    )
    check = lambda a, b: np.testing.assert_allclose(a, b, rtol=TOLERANCE[str(dtype)])  # noqa: E731
    check(got, want.detach().numpy())
    check(by_prediction.ravel(), np.concatenate([wanted[0], wanted[2]]))
    check(by_target, wanted[1])


@pytest.mark.parametrize(
    "make",
    [
        nn.MSELoss,
        nn.L1Loss,
        nn.SmoothL1Loss,
        nn.HuberLoss,
        nn.BCEWithLogitsLoss,
        nn.CrossEntropyLoss,
        nn.GaussianNLLLoss,
    ],
)
def test_reduction_makes_no_difference(make):
    functions = {loss_from_torch(make(reduction=r)) for r in ("none", "sum", "mean")}
    assert len(functions) == 1


def test_reduction_of_an_exported_loss_makes_no_difference(rng):
    prediction, target = jnp.asarray(rng.uniform(size=(2, 4)), jnp.float32)
    losses = [loss_from_torch(nn.KLDivLoss(reduction=r)) for r in ("none", "mean", "batchmean")]
    none, mean, batchmean = (loss(prediction, target) for loss in losses)
    assert none.shape == (4,)
    np.testing.assert_array_equal(none, mean)
    np.testing.assert_array_equal(none, batchmean)


def test_equal_settings_share_functions():
    make = loss_from_torch
    weight = WEIGHTS[:3]
    assert make(nn.HuberLoss(delta=0.3)) is make(nn.HuberLoss(delta=0.3))
    assert make(nn.HuberLoss(delta=0.3)) is not make(nn.HuberLoss(delta=0.4))
    assert make(nn.CrossEntropyLoss(weight)) is make(nn.CrossEntropyLoss(weight.clone()))
    assert make(nn.CrossEntropyLoss(weight)) is not make(nn.CrossEntropyLoss(weight + 1))
    assert make(nn.GaussianNLLLoss(full=True)) is not make(nn.GaussianNLLLoss())
    assert make(nn.BCEWithLogitsLoss(weight)) is not make(nn.BCEWithLogitsLoss(pos_weight=weight))


class WeightedMSE(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.tensor([1.0, 2.0, 0.0, 4.0]))

    def forward(self, prediction, target):
        return (self.weight * (prediction - target) ** 2).mean(dim=1)


class RootMeanSquare(nn.MSELoss):
    def forward(self, prediction, target):
        return super().forward(prediction, target).sqrt()


@pytest.mark.parametrize("criterion", [WeightedMSE(), RootMeanSquare()], ids=name_of)
def test_losses_of_a_user(criterion, dtype, rng):
    """Their own reduction is left alone: a mean may be part of the formula."""
    against_torch(criterion.float(), *rng.standard_normal((2, 4)).astype(dtype))


def test_an_exported_loss_under_transformations(rng, monkeypatch):
    conversions = []
    convert = _torch_losses.convert
    monkeypatch.setattr(_torch_losses, "convert", lambda ep: conversions.append(ep) or convert(ep))
    criterion = WeightedMSE()
    loss = loss_from_torch(criterion)
    prediction, target = jnp.asarray(rng.standard_normal((2, 5, 4)), jnp.float32)
    want = criterion(torch.tensor(np.asarray(prediction)), torch.tensor(np.asarray(target)))
    for mapped in (jax.vmap(loss), jax.jit(jax.vmap(loss))):
        np.testing.assert_allclose(mapped(prediction, target), want.detach(), rtol=1e-5)
    slope = jax.jit(jax.vmap(jax.grad(loss)))(prediction, target)
    weight = np.broadcast_to(criterion.weight.detach().numpy(), slope.shape)
    np.testing.assert_allclose(slope, weight * (prediction - target) / 2, rtol=1e-5, atol=1e-7)
    assert len(conversions) == 1
    jax.jit(loss)(prediction[0, :1], target[0, :1])
    assert len(conversions) == 2
    with torch.no_grad():
        criterion.weight.zero_()  # a copy was taken
    np.testing.assert_allclose(jax.vmap(loss)(prediction, target), want.detach(), rtol=1e-5)


class ThreeInputs(nn.Module):
    def forward(self, prediction, target, weight):
        return weight * (prediction - target)


@pytest.mark.parametrize(
    ("criterion", "message"),
    [
        (nn.MSELoss, "the class MSELoss"),
        ("mse", "a str.*MSELoss.*CrossEntropyLoss"),
        (nn.functional.mse_loss, "a function"),
        (ThreeInputs(), r"ThreeInputs is called as \(prediction, target, weight\)"),
        (nn.TripletMarginLoss(), "TripletMarginLoss"),
        (nn.Linear(2, 2), "Linear is called as"),
        (nn.BCEWithLogitsLoss(weight=torch.ones(3, 2)), r"weight of shape \(3, 2\).*per instance"),
    ],
)
def test_refused(criterion, message):
    with pytest.raises(UnsupportedError, match=message):
        loss_from_torch(criterion)


class Branching(nn.Module):
    def forward(self, prediction, target):
        residual = prediction - target
        return residual**2 if residual.sum() > 0 else residual.abs()


def test_refused_when_called():
    loss = loss_from_torch(Branching())
    with pytest.raises(UnsupportedError, match=r"Branching.*depends on the values"):
        loss(jnp.ones(2), jnp.ones(2))
    weighted = loss_from_torch(nn.CrossEntropyLoss(weight=torch.ones(3)))
    with pytest.raises(UnsupportedError, match=r"3 weights.*4 prediction"):
        weighted(jnp.ones(4), jnp.asarray(1))


# A loss of distributions: its residual is measured from the mean.


def means_and_variances(params, x):
    return jnp.stack([params * x, 0.5 + x**2])


def test_the_residual_is_measured_from_the_mean():
    loss = loss_from_torch(nn.GaussianNLLLoss())
    x, y = jnp.array([1.0, 2.0]), jnp.array([1.0, 4.0])
    got = input_gradients(means_and_variances, loss)(jnp.float32(3.0), x, y)
    np.testing.assert_allclose(got.residual, [2.0, 2.0])
    variance = 0.5 + x**2
    np.testing.assert_allclose(got.loss, (jnp.log(variance) + 4 / variance).sum() / 2, rtol=1e-6)
    np.testing.assert_allclose(got.y, -2 / variance, rtol=1e-6)
    slope = x / variance + 6 / variance - 4 * x / variance**2
    np.testing.assert_allclose(got.x, slope, rtol=1e-5)


def test_a_missing_target_of_a_distribution_has_no_say():
    loss = loss_from_torch(nn.GaussianNLLLoss())
    gradients = input_gradients(means_and_variances, loss)
    x, y = jnp.array([1.0, 2.0]), jnp.array([1.0, jnp.nan])
    got = gradients(jnp.float32(3.0), x, y, jnp.array([True, False]))
    alone = gradients(jnp.float32(3.0), x[:1], y[:1])
    np.testing.assert_allclose(got.residual, [2.0, 0.0])
    np.testing.assert_allclose(got.x, [alone.x[0], 0.0])
    np.testing.assert_allclose(got.loss, alone.loss)


def test_distributions_of_another_number_than_the_targets():
    gradients = input_gradients(means_and_variances, loss_from_torch(nn.GaussianNLLLoss()))
    with pytest.raises(ModelError, match=r"4 value\(s\).*distributions of 2.*target of 3"):
        gradients(jnp.float32(3.0), jnp.ones(2), jnp.ones(3))


def test_refining_by_a_loss_of_distributions(rng):
    """The gate is the mean's: what lies on it stays; and both forms of the model agree."""

    def predict(params, x):
        return jnp.stack([x @ params, jnp.exp(x[0])])

    def predict_batch(params, x):
        return jax.vmap(predict, (None, 0))(params, x)

    params = jnp.array([1.0, -2.0, 0.5])
    x = jnp.asarray(rng.standard_normal((20, 3)), jnp.float32)
    y = (x @ params).at[10:].add(1.0)
    found = []
    for batched in (None, predict_batch):
        r = refiner(
            Model(predict, params, batched),
            rule=rules.unit_step(0.05, 0.1),
            layout=layouts.rows(),
            loss=loss_from_torch(nn.GaussianNLLLoss()),
        )
        found.append(run(r, params, r.init(x, y), max_steps=5))
    np.testing.assert_array_equal(found[0].x[:10], x[:10])
    before, after = (jnp.abs(a @ params - b)[10:] for a, b in ((x, y), (found[0].x, found[0].y)))
    assert (after < before).all()
    np.testing.assert_allclose(found[0].x, found[1].x, rtol=1e-6)
