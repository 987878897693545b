"""Blocks of steps and rows on several (virtual) devices: the same result as on one."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from denograd_jax import errors, global_refiner, layouts, refiner, rules, run
from tests import oracle
from tests.models import tanh_net

# 4 for everyone; CI runs all.
DEVICES = [pytest.param(2, marks=pytest.mark.slow), 4, pytest.param(8, marks=pytest.mark.slow)]
BAR = {"float32": 1e-5, "float64": 1e-10}


def mesh_of(devices, name="time"):
    return Mesh(np.array(jax.devices()[:devices]), (name,))


def problem(rng, dtype, steps, length, targets=2, missing=0.1):
    net = oracle.Net(rng, length * 2, targets)
    x, y = rng.normal(size=(steps, 2)), rng.normal(size=(steps, targets))
    x[rng.random(x.shape) < missing] = np.nan
    y[rng.random(y.shape) < missing] = np.nan
    x[0], y[-1] = 0.5, 0.5
    params = jax.tree.map(lambda a: a.astype(dtype), net.params)
    return params, x.astype(dtype), y.astype(dtype)


def check_arrays(many, one, bar):
    """The same, and behind them nothing but padding; no device has it all."""
    np.testing.assert_allclose(many[: len(one)], one, rtol=0, atol=bar)
    assert jnp.isnan(many[len(one) :]).all()
    assert many.addressable_shards[0].data.shape[0] < max(len(one), 2)


def check_equal(one, many):
    bar = BAR[one.x.dtype.name]
    check_arrays(many.x, one.x, bar)
    if one.y is not None:
        check_arrays(many.y, one.y, bar)
    assert many.info.nonfinite == one.info.nonfinite
    assert many.info.valid.sum() == one.info.valid.sum()
    count = len(one.info.residual)
    np.testing.assert_allclose(many.info.residual[:count], one.info.residual, rtol=0, atol=10 * bar)
    assert not many.info.valid[count:].any()
    return bar


@pytest.mark.parametrize("devices", DEVICES)
@pytest.mark.parametrize(
    ("steps", "length", "horizon", "stride"),
    [
        (6, 4, 1, 1),  # two windows, fewer steps than devices
        pytest.param(9, 5, 3, 1, marks=pytest.mark.slow),
        pytest.param(64, 4, 1, 1, marks=pytest.mark.slow),
        (97, 5, 2, 3),  # nothing divides anything
        pytest.param(101, 3, 1, 7, marks=pytest.mark.slow),  # windows that do not overlap
    ],
)
def test_consensus(devices, steps, length, horizon, stride, x64, rng):
    params, x, y = problem(rng, np.dtype("float64"), steps, length)
    layout = layouts.windows(length, horizon, stride)
    check_refiners(devices, rules.unit_step(0.05, 0.1), layout, params, (x, y))


RULES = {
    "unit_step": rules.unit_step(0.05, 0.1),
    "gauss_newton": rules.gauss_newton(0.5, 0.1),
    "dataset_norm": rules.unit_step(0.05, 0.1, norm="dataset"),
}


@pytest.mark.parametrize(
    "rule",
    [
        "gauss_newton",
        *(pytest.param(r, marks=pytest.mark.slow) for r in RULES if r != "gauss_newton"),
    ],
)
def test_every_rule(rule, dtype, rng):
    params, x, y = problem(rng, dtype, 97, 5)
    check_refiners(4, RULES[rule], layouts.windows(5, 2, 3), params, (x, y))


def check_refiners(devices, rule, layout, params, arrays):
    one = refiner(tanh_net, rule, layout, keep_direction=True)
    many = refiner(tanh_net, rule, layout, keep_direction=True, mesh=mesh_of(devices))
    single, shared = (run(r, params, r.init(*arrays), 4) for r in (one, many))
    bar = check_equal(single, shared)
    assert shared.info.active == single.info.active
    for expected, found in zip(single.info.direction, shared.info.direction, strict=True):
        np.testing.assert_allclose(found[: len(expected)], expected, rtol=0, atol=10 * bar)


@pytest.mark.parametrize("devices", DEVICES)
@pytest.mark.parametrize(
    ("steps", "horizon", "stride", "shared"),
    [
        pytest.param(7, 1, 1, True, marks=pytest.mark.slow),
        (97, 2, 3, True),
        pytest.param(97, 2, 1, False, marks=pytest.mark.slow),
    ],
)
def test_global(devices, steps, horizon, stride, shared, x64, rng):
    params, x, y = problem(rng, np.dtype("float64"), steps, 5)
    arrays = (x,) if shared else (x, y)
    layout = layouts.windows(5, horizon, stride, target_columns=[0, 1] if shared else None)
    check_global_refiners(devices, optax.adam(0.05), layout, params, arrays)


@pytest.mark.slow
def test_global_by_lbfgs(dtype, rng):
    params, x, _ = problem(rng, dtype, 97, 5)
    layout = layouts.windows(5, target_columns=[0, 1])
    check_global_refiners(4, optax.lbfgs(), layout, params, (x,))


def check_global_refiners(devices, optimizer, layout, params, arrays):
    one = global_refiner(tanh_net, layout, optimizer=optimizer)
    many = global_refiner(tanh_net, layout, optimizer=optimizer, mesh=mesh_of(devices))
    single, shared = (run(r, params, r.init(*arrays), 5) for r in (one, many))
    bar = check_equal(single, shared)
    np.testing.assert_allclose(shared.info.objective, single.info.objective, rtol=bar)


@pytest.mark.parametrize("devices", [pytest.param(2, marks=pytest.mark.slow), 8])
def test_rows(devices, dtype, rng):
    params, x, y = problem(rng, dtype, 101, 1)
    one, many = refiner(tanh_net), refiner(tanh_net, mesh=mesh_of(devices, "batch"))
    check_equal(*(run(r, params, r.init(x, y), 4) for r in (one, many)))


def test_rows_by_annotation_alone(rng):
    """Arrays that lie on several devices stay there; one chunk leaves the partition to XLA."""
    params, x, y = problem(rng, np.dtype("float32"), 64, 1, missing=0)
    r = refiner(tanh_net, chunk_size=64)
    place = NamedSharding(mesh_of(8, "batch"), PartitionSpec("batch"))
    found = run(r, params, r.init(jax.device_put(x, place), jax.device_put(y, place)), 4)
    assert len(found.x.sharding.device_set) == 8
    np.testing.assert_allclose(found.x, run(r, params, r.init(x, y), 4).x, atol=1e-6)


def test_panels_with_masks(dtype, rng):
    """Series of a panel end to end: no window crosses a border, whichever device has it."""
    params, x, _ = problem(rng, dtype, 90, 4)
    segments = np.repeat([3, 1, 2], [25, 5, 60])
    masks = {"movable_x": rng.random(x.shape) < 0.8, "observed_x": rng.random(x.shape) < 0.9}
    layout = layouts.windows(4, target_columns=[1, 0])
    one, many = (refiner(tanh_net, layout=layout, mesh=mesh) for mesh in (None, mesh_of(4)))
    arguments = {"segments": segments} | masks
    single, shared = (run(r, params, r.init(x, **arguments), 4) for r in (one, many))
    check_equal(single, shared)


@pytest.mark.slow
def test_class_labels(rng):
    x, labels = np.float32(rng.normal(size=(50, 3))), rng.integers(0, 4, size=50)
    weights = jnp.float32(rng.normal(size=(4, 3)))
    loss = optax.losses.softmax_cross_entropy_with_integer_labels
    one, many = (
        refiner(lambda w, x: w @ x, loss=loss, refine_targets=False, mesh=mesh)
        for mesh in (None, mesh_of(8))
    )
    single, shared = (run(r, weights, r.init(x, labels), 3) for r in (one, many))
    check_arrays(shared.x, single.x, 1e-6)
    np.testing.assert_array_equal(shared.y[: len(labels)], labels)


def test_where_things_lie(rng):
    """Equal blocks, the padding missing."""
    _, x, y = problem(rng, np.dtype("float32"), 50, 4, missing=0)
    r = refiner(tanh_net, layout=layouts.windows(4, stride=3), mesh=mesh_of(8))
    state = r.init(x, y)
    assert state.data.x.shape == (72, 2)  # blocks of at least 50 / 8 steps, whole strides
    assert {s.data.shape for s in state.data.x.addressable_shards} == {(9, 2)}
    assert state.data.length.given == 50
    assert not state.data.observed_x[50:].any()
    params = oracle.Net(rng, 8, 2).params
    found = run(r, jax.tree.map(np.float32, params), state, 2)
    assert found.x.sharding.spec == found.state.data.x.sharding.spec == PartitionSpec("time")
    assert jnp.isnan(found.x[50:]).all()
    assert not jnp.isnan(found.x[:50]).any()


def test_only_halos_travel(rng):
    """Bytes sent per step do not depend on the length: no array is gathered on one device."""
    sent = []
    for steps in (80, 800):
        params, x, y = problem(rng, np.dtype("float32"), steps, 4)
        r = refiner(tanh_net, layout=layouts.windows(4), mesh=mesh_of(8))
        text = r.step.lower(params, r.init(x, y)).compile().as_text()
        assert "all-gather" not in text
        sent.append(sorted(line.split(" = ")[1].split("{")[0] for line in permutes(text)))
    assert sent[0] == sent[1] != []
    assert all("[4" in shape for shape in sent[0])  # length + horizon - 1 steps


def test_gaps_longer_than_a_block(rng):
    """What was last seen comes from as many blocks away as need be, within the segment only."""
    x = rng.normal(size=(80, 3))
    x[9:45, 0] = x[:30, 1] = x[20:70, 2] = np.nan
    x[0, 1] = 7
    layout = layouts.windows(4, target_columns=[0])
    one, many = (refiner(tanh_net, layout=layout, mesh=mesh) for mesh in (None, mesh_of(8)))
    for segments in (None, np.repeat([5, 4, 5], [25, 27, 28])):
        states = [r.init(x, segments=segments) for r in (one, many)]
        np.testing.assert_allclose(*(s.data.x for s in states), rtol=1e-6)
    assert (states[1].data.x[9:25, 0] == np.float32(x[8, 0])).all()


@pytest.mark.slow
def test_a_long_series_is_not_quadratic_work(rng):
    """500,000 steps a device: a cumulative maximum left to XLA's partitioner took minutes."""
    params, x, y = problem(rng, np.dtype("float32"), 1_000_000, 4)
    one, many = (
        refiner(tanh_net, layout=layouts.windows(4), mesh=mesh) for mesh in (None, mesh_of(2))
    )
    single, shared = (run(r, params, r.init(x, y), 2) for r in (one, many))
    check_equal(single, shared)


def permutes(text):
    return [line for line in text.splitlines() if " collective-permute(" in line]


@pytest.mark.slow
def test_a_mesh_with_other_axes(rng):
    """Explicit axes, a second axis, an axis by name: as `jax.make_mesh` makes them."""
    params, x, y = problem(rng, np.dtype("float32"), 40, 4)
    mesh = jax.make_mesh((2, 4), ("replica", "time"), axis_types=(AxisType.Explicit,) * 2)
    layout = layouts.windows(4)
    one, many = (
        refiner(tanh_net, layout=layout),
        refiner(tanh_net, layout=layout, mesh=mesh, axis="time"),
    )
    single, shared = (run(r, params, r.init(x, y), 3) for r in (one, many))
    check_arrays(shared.x, single.x, 1e-6)


@pytest.mark.slow
def test_vmap_and_gradient_through_a_mesh(rng):
    """The step of a mesh composes too: a sweep of step sizes, and a slope by one."""
    params, x, y = problem(rng, np.dtype("float32"), 40, 4, missing=0)
    layout = layouts.windows(4)
    one, many = (refiner(tanh_net, layout=layout, mesh=mesh) for mesh in (None, mesh_of(4)))

    def size_after(r, step_size):
        state = r.init(x, y)
        numbers = state.hyperparameters | {"step_size": step_size}
        state, _ = r.step(params, state._replace(hyperparameters=numbers))
        return jnp.sum(state.data.x[:40] ** 2)

    sizes = jnp.array([0.01, 0.1])
    for transform in (jax.vmap, lambda f: jax.vmap(jax.grad(f))):
        single, shared = (transform(lambda s, r=r: size_after(r, s))(sizes) for r in (one, many))
        np.testing.assert_allclose(shared, single, rtol=1e-4)


@pytest.mark.slow
def test_vmap_over_init(rng):
    """A batch whose size is no multiple of the devices."""
    params, x, y = problem(rng, np.dtype("float32"), 40, 4, missing=0)
    layout = layouts.windows(4)
    one, many = (refiner(tanh_net, layout=layout, mesh=mesh) for mesh in (None, mesh_of(4)))
    copies = jnp.stack([x, 2 * x, 3 * x])
    single, shared = (
        jax.vmap(lambda x, r=r: run(r, params, r.init(x, y), 2).x)(copies) for r in (one, many)
    )
    np.testing.assert_allclose(shared, single, atol=1e-6)


def test_a_mesh_in_context(rng):
    params, x, y = problem(rng, np.dtype("float32"), 40, 4)
    explicit = jax.make_mesh((4,), ("time",), axis_types=(AxisType.Explicit,))
    with jax.set_mesh(explicit), pytest.raises(errors.UnsupportedError, match="automatic axes"):
        refiner(tanh_net, layout=layouts.windows(4), mesh=explicit)
    automatic = jax.make_mesh((4,), ("time",), axis_types=(AxisType.Auto,))
    one = refiner(tanh_net, layout=layouts.windows(4))
    with jax.set_mesh(automatic):
        many = refiner(tanh_net, layout=layouts.windows(4), mesh=automatic)
        shared = run(many, params, many.init(x, y), 2)
    check_arrays(shared.x, run(one, params, one.init(x, y), 2).x, 1e-6)


def test_errors(rng):
    with pytest.raises(errors.UnsupportedError, match="mesh must be a"):
        refiner(tanh_net, mesh=jax.devices())
    one, many = (refiner(tanh_net, mesh=mesh) for mesh in (None, mesh_of(2)))
    with pytest.raises(errors.UnsupportedError, match="without this mesh"):
        many.step(None, one.init(np.ones((4, 2)), np.ones(4)))
    with pytest.raises(errors.UnsupportedError, match=r"the mesh has the axes \('time',\), not"):
        refiner(tanh_net, mesh=mesh_of(2), axis="rows")
    r = refiner(tanh_net, layout=layouts.windows(4), mesh=mesh_of(8))
    with pytest.raises(errors.ShapeError, match="no window fits: 3 steps"):
        r.init(np.zeros((3, 2)), np.zeros(3))
    with pytest.raises(errors.DataError, match="1 infinite"):
        r.init(np.array([[np.inf]] + [[0.0]] * 9), np.zeros(10))
    with pytest.raises(errors.UnsupportedError, match="x must be an array of numbers"):
        r.init(np.array([["a"]] * 9), np.zeros(9))
    with pytest.raises(errors.DataError, match="every cell of y is missing"):
        r.init(np.zeros((9, 1)), np.full(9, np.nan))
