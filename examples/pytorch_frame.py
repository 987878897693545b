"""A DataFrame and the name of its target, from a script for the PyTorch package."""

import numpy as np
import pandas as pd
import torch
from torch import nn

from denograd_jax import DenoGrad  # was: from denograd import DenoGrad


def make_frame(rows=500):
    rng = np.random.default_rng(0)
    area, age = rng.uniform(-1, 1, rows), rng.uniform(-1, 1, rows)
    clean = 2 * area - age**2
    frame = pd.DataFrame({"area": area, "age": age, "price": clean})
    return frame + rng.normal(0, 0.25, frame.shape), clean


def train(model, criterion, x, y):
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    for _ in range(200):
        optimizer.zero_grad()
        criterion(model(x), y).backward()
        optimizer.step()


def main():
    torch.manual_seed(0)
    frame, clean = make_frame()
    layers = nn.Linear(2, 32), nn.BatchNorm1d(32), nn.GELU(), nn.Dropout(0.1), nn.Linear(32, 1)
    model, criterion = nn.Sequential(*layers), nn.SmoothL1Loss()
    x, y = (torch.tensor(frame[c].to_numpy(np.float32)) for c in (["area", "age"], ["price"]))
    train(model, criterion, x, y)

    X_clean, y_clean, _, _ = DenoGrad(model, criterion).fit_transform(
        frame, "price", nrr=0.05, nr_threshold=0.1, max_epochs=10
    )
    before, after = (
        float(np.sqrt(np.mean((a - clean) ** 2))) for a in (frame["price"].to_numpy(), y_clean)
    )
    print(f"X {X_clean.shape}, error of the price: {before:.3f} before, {after:.3f} after")
    return {"nearer to the clean prices": after < before, "still training": model.training}


if __name__ == "__main__":
    main()
