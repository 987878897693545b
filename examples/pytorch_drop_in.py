"""A script written for the PyTorch package: only the import line is another one."""

import numpy as np
import torch
from torch import nn

from denograd_jax import DenoGrad  # was: from denograd import DenoGrad


def make_data(seed=0, rows=600):
    """A known surface, noise on its inputs and targets."""
    rng = np.random.default_rng(seed)
    clean = rng.normal(size=(rows, 4))
    target = np.tanh(clean[:, 0]) + 0.5 * clean[:, 1]
    noisy = clean + rng.normal(0, 0.2, clean.shape)
    return noisy.astype(np.float32), (target + rng.normal(0, 0.4, rows)).astype(np.float32), target


def train(model, criterion, x, y):
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    x, y = torch.from_numpy(x), torch.from_numpy(y)[:, None]
    for _ in range(150):
        optimizer.zero_grad()
        criterion(model(x), y).backward()
        optimizer.step()


def main():
    torch.manual_seed(0)
    X, y, clean_y = make_data()
    model = nn.Sequential(nn.Linear(4, 32), nn.ReLU(), nn.Linear(32, 1))
    criterion = nn.MSELoss()
    train(model, criterion, X, y)

    denoiser = DenoGrad(model=model, criterion=criterion, device=torch.device("cpu"))
    X_clean, y_clean, grad_x, _ = denoiser.fit_transform(
        X=X, y=y, nrr=0.05, nr_threshold=0.1, max_epochs=20
    )

    before = float(np.sqrt(np.mean((y - clean_y) ** 2)))
    after = float(np.sqrt(np.mean((y_clean - clean_y) ** 2)))
    print(f"X {X_clean.shape}, {len(grad_x)} epochs of gradients {grad_x[0].shape}")
    print(f"error of y to the clean surface: {before:.3f} before, {after:.3f} after")
    return {"nearer to the clean surface": after < before}


if __name__ == "__main__":
    main()
