"""PyTorch modules as people write them: what the bridges must convert, or refuse by name.

Each entry of `ZOO` makes a module in evaluation mode and tells the shape of one instance.
"""

import math

import torch
from torch import nn

W, C = 12, 4  # steps and channels of a window
D = 6  # features of a row


def mlp():
    return nn.Sequential(nn.Linear(D, 16), nn.ReLU(), nn.Linear(16, 1))


def mlp_batch_norm():
    return nn.Sequential(nn.Linear(D, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Linear(16, 2))


def mlp_layer_norm():
    return nn.Sequential(nn.LayerNorm(D), nn.Linear(D, 16), nn.GELU(), nn.Linear(16, 2))


def mlp_dropout():
    layers = nn.Linear(D, 16), nn.SiLU(), nn.Dropout(0.5), nn.Linear(16, 1)
    return nn.Sequential(*layers, nn.Flatten(0))


def mlp_on_windows():
    return nn.Sequential(nn.Flatten(), nn.Linear(W * C, 16), nn.Tanh(), nn.Linear(16, 1))


class Recurrent(nn.Module):
    """A recurrent layer and a head on its last step."""

    def __init__(self, layer, **settings):
        super().__init__()
        self.layer = layer(C, 8, batch_first=True, **settings)
        self.head = nn.Linear(16 if settings.get("bidirectional") else 8, 2)

    def forward(self, x):
        return self.head(self.layer(x)[0][:, -1])


def conv_stack():
    return nn.Sequential(
        nn.Conv1d(C, 8, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool1d(2),
        nn.Conv1d(8, 8, 3, padding="same"),
        nn.BatchNorm1d(8),
        nn.ELU(),
        nn.AdaptiveAvgPool1d(1),
        nn.Flatten(),
        nn.Linear(8, 1),
    )


class ConvolutionalLSTM(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv1d(C, 8, 3, padding=1)
        self.lstm = nn.LSTM(8, 8, batch_first=True)
        self.head = nn.Linear(8, 1)

    def forward(self, x):
        x = torch.relu(self.conv(x.transpose(1, 2))).transpose(1, 2)
        return self.head(self.lstm(x)[0][:, -1])


class DecompositionLinear(nn.Module):
    """Zeng et al. 2023: a moving average and the rest, with one linear map over time for each."""

    def __init__(self, kernel=5):
        super().__init__()
        self.kernel = kernel
        self.average = nn.AvgPool1d(kernel, stride=1)
        self.trend, self.rest = nn.Linear(W, 1), nn.Linear(W, 1)

    def forward(self, x):
        reach = (self.kernel - 1) // 2
        ends = x[:, :1].repeat(1, reach, 1), x[:, -1:].repeat(1, reach, 1)
        padded = torch.cat([ends[0], x, ends[1]], dim=1)
        trend = self.average(padded.transpose(1, 2))
        rest = x.transpose(1, 2) - trend
        return (self.trend(trend) + self.rest(rest)).squeeze(-1)


class Encoder(nn.Module):
    def __init__(self, causal=False):
        super().__init__()
        self.embed = nn.Linear(C, 8)
        layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, 2)
        self.head = nn.Linear(8, 1)
        self.causal = causal

    def forward(self, x):
        mask = nn.Transformer.generate_square_subsequent_mask(W) if self.causal else None
        mask = None if mask is None else mask.to(x.dtype)
        return self.head(self.encoder(self.embed(x), mask=mask)[:, -1])


class MatrixLSTM(nn.Module):
    """The mLSTM of Beck et al. 2024 in its parallel form, stabilised."""

    def __init__(self, width=8):
        super().__init__()
        self.project = nn.Linear(width, 3 * width)
        self.gates = nn.Linear(width, 2)
        self.norm = nn.LayerNorm(width)

    def forward(self, x):
        q, k, v = self.project(self.norm(x)).chunk(3, dim=-1)
        into, forget = self.gates(x).unbind(-1)
        decay = torch.cumsum(nn.functional.logsigmoid(forget), dim=1)
        scores = decay[:, :, None] - decay[:, None, :] + into[:, None, :]
        causal = torch.ones(x.shape[1], x.shape[1], dtype=torch.bool, device=x.device).tril()
        scores = scores.masked_fill(~causal, -math.inf)
        largest = scores.max(dim=-1, keepdim=True).values
        weights = (q @ k.transpose(1, 2)) / math.sqrt(q.shape[-1]) * torch.exp(scores - largest)
        size = torch.maximum(weights.sum(-1, keepdim=True).abs(), torch.exp(-largest))
        return x + (weights / size) @ v


class ScalarLSTM(nn.Module):
    """The sLSTM of Beck et al. 2024: exponential gates, step by step."""

    def __init__(self, width=8):
        super().__init__()
        self.of_input = nn.Linear(width, 4 * width)
        self.of_state = nn.Linear(width, 4 * width, bias=False)

    def forward(self, x):
        zeros = torch.zeros_like(x[:, 0])
        h, c, n, m = zeros, zeros, torch.ones_like(zeros), zeros
        outputs = []
        for step in self.of_input(x).unbind(1):
            i, f, z, o = (step + self.of_state(h)).chunk(4, dim=-1)
            f = nn.functional.logsigmoid(f)
            top = torch.maximum(f + m, i)
            into, keep = torch.exp(i - top), torch.exp(f + m - top)
            c, n, m = keep * c + into * torch.tanh(z), keep * n + into, top
            h = torch.sigmoid(o) * c / n
            outputs.append(h)
        return x + torch.stack(outputs, dim=1)


class ExtendedLSTM(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed = nn.Linear(C, 8)
        self.blocks = nn.Sequential(MatrixLSTM(), ScalarLSTM())
        self.head = nn.Linear(8, 1)

    def forward(self, x):
        return self.head(self.blocks(self.embed(x))[:, -1])


class BranchOnValues(nn.Module):
    def __init__(self):
        super().__init__()
        self.net = nn.Linear(D, 1)

    def forward(self, x):
        return self.net(x) if x.sum() > 0 else self.net(-x)


class InPlace(nn.Module):
    """Operations in place, views that are written to, buffers, a constant."""

    def __init__(self):
        super().__init__()
        self.net = nn.Linear(D, D)
        self.register_buffer("scale", torch.linspace(0.5, 1.5, D))
        self.register_buffer("times", torch.tensor(3))

    def forward(self, x):
        y = self.net(x)
        y.mul_(self.scale)
        y[:, 0] = 0
        y += torch.tensor([1.0] * D, dtype=x.dtype)
        z = torch.zeros_like(y)
        z[:, 1:3] = y.relu_()[:, 1:3]
        return (y + z * self.times).sum(-1)


class FeatureTokens(nn.Module):
    """The FT-Transformer of Gorishniy et al. 2021: a token per feature, attention between them."""

    def __init__(self):
        super().__init__()
        self.weight, self.bias = (nn.Parameter(torch.randn(D, 8)) for _ in range(2))
        self.summary = nn.Parameter(torch.randn(1, 1, 8))
        layer = nn.TransformerEncoderLayer(
            8, 2, 16, batch_first=True, norm_first=True, activation="gelu"
        )
        self.encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.head = nn.Sequential(nn.LayerNorm(8), nn.ReLU(), nn.Linear(8, 1))

    def forward(self, x):
        tokens = x[:, :, None] * self.weight + self.bias
        tokens = torch.cat([self.summary.expand(x.shape[0], -1, -1), tokens], dim=1)
        return self.head(self.encoder(tokens)[:, 0])


class TemporalConvolutions(nn.Module):
    """Bai et al. 2018: dilated causal convolutions with weight norm."""

    def __init__(self):
        super().__init__()
        widths = (C, 8, 8, 8)
        self.layers = nn.ModuleList(
            nn.utils.parametrizations.weight_norm(
                nn.Conv1d(widths[i], widths[i + 1], 3, dilation=2**i, padding=2 * 2**i)
            )
            for i in range(3)
        )
        self.head = nn.Linear(8, 1)

    def forward(self, x):
        x = x.transpose(1, 2)
        for i, layer in enumerate(self.layers):
            x = torch.relu(layer(x)[..., : -2 * 2**i])
        return self.head(x[..., -1])


class Residuals(nn.Module):
    """Oreshkin et al. 2020 (N-BEATS): blocks that explain what the ones before left over."""

    def __init__(self):
        super().__init__()
        self.blocks = nn.ModuleList(
            nn.Sequential(nn.Linear(W * C, 16), nn.ReLU(), nn.Linear(16, W * C + 1))
            for _ in range(3)
        )

    def forward(self, x):
        rest, forecast = x.flatten(1), 0
        for block in self.blocks:
            found = block(rest)
            rest = rest - found[:, :-1]
            forecast = forecast + found[:, -1:]
        return forecast


class AttentionOverFeaturesAndContext(nn.Module):
    """As TabPFN: a row attends to stored rows with their targets, after attention over features."""

    def __init__(self, context=10):
        super().__init__()
        self.register_buffer("rows", torch.randn(context, D))
        self.register_buffer("targets", torch.randn(context, 1))
        self.embed_cell, self.embed_target = nn.Linear(1, 8), nn.Linear(1, 8)
        self.over_features = nn.MultiheadAttention(8, 2, batch_first=True)
        self.over_rows = nn.MultiheadAttention(8, 2, batch_first=True)
        self.head = nn.Sequential(nn.LayerNorm(8), nn.Linear(8, 16), nn.GELU(), nn.Linear(16, 1))

    def _summary(self, rows):
        cells = self.embed_cell(rows[..., None])
        return (cells + self.over_features(cells, cells, cells, need_weights=False)[0]).mean(-2)

    def forward(self, x):
        stored = self._summary(self.rows) + self.embed_target(self.targets)
        stored = stored[None].expand(x.shape[0], -1, -1)
        asked = self._summary(x)[:, None]
        return self.head((asked + self.over_rows(asked, stored, stored)[0])[:, 0])


def patch_tst():
    """Hugging Face's PatchTST with random weights; its forecast of the first step."""
    from transformers import PatchTSTConfig, PatchTSTForPrediction

    class Forecast(nn.Module):
        def __init__(self):
            super().__init__()
            self.model = PatchTSTForPrediction(
                PatchTSTConfig(
                    num_input_channels=C,
                    context_length=W,
                    patch_length=4,
                    patch_stride=2,
                    prediction_length=1,
                    d_model=8,
                    ffn_dim=16,
                    num_attention_heads=2,
                    num_hidden_layers=2,
                    do_mask_input=False,
                )
            )

        def forward(self, x):
            return self.model(past_values=x).prediction_outputs[:, 0]

    return Forecast()


def with_statistics(module):
    """Running statistics that are not those of a fresh module."""
    for submodule in module.modules():
        if isinstance(submodule, nn.BatchNorm1d) and submodule.running_mean is not None:
            submodule.running_mean.normal_()
            submodule.running_var.uniform_(0.5, 2.0)
    return module


ZOO = {
    "MLP": (mlp, (D,)),
    "MLP, batch norm": (mlp_batch_norm, (D,)),
    "MLP, layer norm, GELU": (mlp_layer_norm, (D,)),
    "MLP, dropout": (mlp_dropout, (D,)),
    "MLP on flattened windows": (mlp_on_windows, (W, C)),
    "LSTM": (lambda: Recurrent(nn.LSTM), (W, C)),
    "LSTM, 2 layers": (lambda: Recurrent(nn.LSTM, num_layers=2, dropout=0.2), (W, C)),
    "LSTM, bidirectional": (lambda: Recurrent(nn.LSTM, bidirectional=True), (W, C)),
    "GRU": (lambda: Recurrent(nn.GRU), (W, C)),
    "Conv1d stack": (conv_stack, (C, W)),
    "CNN-LSTM": (ConvolutionalLSTM, (W, C)),
    "DLinear": (DecompositionLinear, (W, C)),
    "Transformer encoder": (Encoder, (W, C)),
    "Transformer encoder, causal mask": (lambda: Encoder(causal=True), (W, C)),
    "xLSTM (mLSTM, sLSTM)": (ExtendedLSTM, (W, C)),
    "branch on values": (BranchOnValues, (D,)),
    "operations in place, buffers": (InPlace, (D,)),
    "FT-Transformer": (FeatureTokens, (D,)),
    "TCN (dilated, weight norm)": (TemporalConvolutions, (W, C)),
    "N-BEATS-like residual stack": (Residuals, (W, C)),
    "PatchTST (Hugging Face)": (patch_tst, (W, C)),
    "TabPFN-like, over features and rows": (AttentionOverFeaturesAndContext, (D,)),
}
REFUSED = {"branch on values": "depends on the values of a tensor.*torch.cond"}


def build(name, dtype="float32"):
    """The module in evaluation mode, always with the same weights."""
    torch.manual_seed(0)
    make, _ = ZOO[name]
    return with_statistics(make()).eval().to(getattr(torch, dtype))
