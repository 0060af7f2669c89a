"""Writes torch_*.safetensors and torch.npz: LSTMs of torch, and what torch computes with them.

The weights are float32; x and the output are what torch computes in float64 with them. Names in
torch.npz begin with the file's.

    python tests/golden_interchange/make_torch.py

Needs torch and safetensors, which the tests do not.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file

HERE = Path(__file__).parent


class Encoder(torch.nn.Module):
    """An LSTM within something else, as in most checkpoints."""

    def __init__(self, lstm: torch.nn.LSTM) -> None:
        super().__init__()
        self.rnn = lstm
        self.head = torch.nn.Linear(lstm.hidden_size, 2)


CASES = {
    "one_layer": torch.nn.LSTM(3, 5, batch_first=True),
    "square": torch.nn.LSTM(4, 4, batch_first=True),
    "three_layers": torch.nn.LSTM(4, 4, num_layers=3),
    "no_bias": torch.nn.LSTM(2, 3, num_layers=2, bias=False, batch_first=True),
    "inside": torch.nn.LSTM(3, 4, num_layers=2, batch_first=True),
    "both_ways": torch.nn.LSTM(8, 4, num_layers=2, bidirectional=True, batch_first=True),
    "projection": torch.nn.LSTM(3, 5, num_layers=2, proj_size=3, batch_first=True),
    "both_ways_projection": torch.nn.LSTM(4, 4, proj_size=2, bidirectional=True, bias=False),
}


def main() -> None:
    """Draw weights that differ everywhere and record what comes of them."""
    rng = np.random.default_rng(11)
    results = {}
    for name, lstm in CASES.items():
        for kind, weight in lstm.named_parameters():
            scale = np.repeat([0.5, 0.8, 1.1, 1.4], lstm.hidden_size)  # the gates differ
            if kind.startswith("weight_hr"):
                scale = np.ones(lstm.proj_size)
            drawn = (rng.normal(size=tuple(weight.shape)).T * scale).T
            if weight.ndim == 1:  # a bias; float32 shall hold the sum of two
                drawn = np.round(drawn * 2**12) / 2**12
            weight.data = torch.tensor(drawn, dtype=torch.float32)
        module = Encoder(lstm) if name == "inside" else lstm
        save_file(module.state_dict(), HERE / f"torch_{name}.safetensors")
        x = rng.normal(size=(3, 6, lstm.input_size))
        lstm.double()
        with torch.no_grad():
            given = torch.tensor(x if lstm.batch_first else x.swapaxes(0, 1))
            output = lstm(given)[0].numpy()
        results[f"{name}/x"] = x
        results[f"{name}/output"] = output if lstm.batch_first else output.swapaxes(0, 1)
    np.savez_compressed(HERE / "torch.npz", **results)


if __name__ == "__main__":
    main()
