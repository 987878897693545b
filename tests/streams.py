"""Series on disk for the tests, and one job on them that is interrupted and repeated."""

import jax.numpy as jnp
import numpy as np
import pytest

from denograd_jax import layouts, refiner, rules, run, stream

STEPS = 6
DATASET_NORM = rules.unit_step(2.0, norm="dataset")


def predict(params, window):
    """A network small enough to be differentiated thousands of times."""
    hidden = jnp.tanh(params["w1"] @ window.ravel())
    return params["w2"] @ hidden


def parameters(window, columns, targets, dtype="float32", seed=1):
    rng = np.random.default_rng(seed)
    return {
        "w1": rng.normal(size=(5, window * columns)).astype(dtype) / np.sqrt(window).astype(dtype),
        "w2": rng.normal(size=(targets, 5)).astype(dtype) / 2,
    }


def series(steps, columns, dtype="float32", missing=0.0, seed=0):
    rng = np.random.default_rng(seed)
    values = np.sin(np.arange(steps)[:, None] / (5 + np.arange(columns)))
    values = (values + 0.3 * rng.normal(size=(steps, columns))).astype(dtype)
    values[rng.random((steps, columns)) < missing] = np.nan
    return values


def in_memory(params, layout, rule, x, y=None, frozen=(), steps=STEPS):
    """`run`; what is missing is frozen there by the default mask, as a stream has it."""
    r = refiner(predict, rule, layout)
    movable = ~np.isnan(x)
    movable[:, list(frozen)] = False
    return run(r, params, r.init(x, y, movable_x=movable), steps)


def saved(folder, **arrays):
    """The arrays as files; gives their paths."""
    paths = [folder / f"{name}.npy" for name in arrays]
    for path, values in zip(paths, arrays.values(), strict=True):
        np.save(path, values)
    return paths


def assert_same(found, expected, tolerance):
    assert found.dtype == expected.dtype
    np.testing.assert_array_equal(np.isnan(found), np.isnan(expected))
    np.testing.assert_allclose(found, expected, rtol=0, atol=tolerance)


def plain(**more):
    """Arguments of `stream` for a series `(120, 2)`; equal ones are compiled once for all tests."""
    arguments = {
        "layout": layouts.windows(4, target_columns=(0, 1)),
        "params": parameters(4, 2, 2),
        "max_steps": 3,
        "block_steps": 50,
    }
    return arguments | more


def plain_in_memory(x, frozen=()):
    arguments = plain()
    x = x.astype(x.dtype.newbyteorder("="))
    layout, rule = arguments["layout"], rules.unit_step()
    return np.asarray(in_memory(arguments["params"], layout, rule, x, frozen=frozen, steps=3).x)


def zarr_of(path, values, driver="zarr3", chunk=17):
    ts = pytest.importorskip("tensorstore")
    store = ts.open(
        {"driver": driver, "kvstore": {"driver": "file", "path": str(path)}},
        create=True,
        dtype=ts.dtype(values.dtype),
        shape=values.shape,
        chunk_layout=ts.ChunkLayout(write_chunk_shape=(chunk, *values.shape[1:])),
    ).result()
    store.write(values).result()
    return path


def read_zarr(path):
    ts = pytest.importorskip("tensorstore")
    spec = {"driver": "zarr3", "kvstore": {"driver": "file", "path": str(path)}}
    return ts.open(spec).result().read().result()


def job(folder, ending=".npy", **more):
    """The call that is interrupted and repeated: 5 blocks, 4 steps, with gaps."""
    x = series(230, 2, missing=0.1, seed=3)
    source = folder / "x.npy"
    if not source.exists():
        np.save(source, x)
    arguments = {
        "layout": layouts.windows(6, 2, target_columns=(0, 1)),
        "params": parameters(6, 2, 2),
        "max_steps": 4,
        "block_steps": 50,
    }
    destination = more.pop("destination", folder / f"refined{ending}")
    return stream(predict, source, destination, **(arguments | more))


class PowerCut(BaseException):
    """Ends a call in this process."""


def cut_after(blocks):
    def progress(stage, done, total):
        if (stage, done) == ("refine", blocks):
            raise PowerCut

    return progress


def interrupted(folder, blocks=8, **more):
    with pytest.raises(PowerCut):
        job(folder, progress=cut_after(blocks), **more)
    return folder
