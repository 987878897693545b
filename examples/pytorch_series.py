"""A PyTorch LSTM on a series: a script for the PyTorch package with another import line."""

import numpy as np
import torch
from torch import nn

from denograd_jax import DenoGrad  # was: from denograd import DenoGrad

WINDOW = 16


class Forecaster(nn.Module):
    def __init__(self, channels, units=24):
        super().__init__()
        self.lstm = nn.LSTM(channels, units, num_layers=2, batch_first=True, dropout=0.1)
        self.head = nn.Sequential(nn.LayerNorm(units), nn.Linear(units, 1))

    def forward(self, windows):  # (batch, time, channel)
        states, _ = self.lstm(windows)
        return self.head(states[:, -1])


def make_data(steps=1200):
    """Two waves and their noisy measurements; the target is their product, noisy too."""
    rng = np.random.default_rng(0)
    time = np.arange(steps) / 10
    clean = np.stack([np.sin(time), np.cos(time / 3)], axis=1)
    target = clean[:, 0] * clean[:, 1]
    X = clean + rng.normal(0, 0.2, clean.shape)
    return X.astype(np.float32), (target + rng.normal(0, 0.3, steps)).astype(np.float32), target


def train(model, criterion, X, y, epochs=15):
    windows = torch.from_numpy(X).unfold(0, WINDOW, 1).transpose(1, 2)[:-1]
    targets = torch.from_numpy(y)[WINDOW:, None]
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    for _ in range(epochs):
        for batch in torch.randperm(len(windows)).split(128):
            optimizer.zero_grad()
            criterion(model(windows[batch]), targets[batch]).backward()
            optimizer.step()


def main():
    torch.manual_seed(0)
    X, y, clean = make_data()
    model, criterion = Forecaster(X.shape[1]), nn.MSELoss()
    train(model, criterion, X, y)

    denoiser = DenoGrad(model=model, criterion=criterion, device=torch.device("cpu"))
    denoiser.fit(X, y, is_ts=True, window_size=WINDOW)
    X_clean, y_clean, _, _ = denoiser.transform(nrr=0.05, nr_threshold=0.1, max_epochs=20)

    before, after = (float(np.sqrt(np.mean((a - clean) ** 2))) for a in (y, y_clean))
    print(f"X {X_clean.shape}, error of y to the clean series: {before:.3f}, then {after:.3f}")
    return {"nearer to the clean series": after < before, "shape kept": X_clean.shape == X.shape}


if __name__ == "__main__":
    main()
