"""The LSTM operator: arrays in, arrays out, nothing kept.

The equations, with gates in the order i, f, c, o along an axis of ``4 * units``::

    z_t = x_t @ kernel + h_{t-1} @ recurrent_kernel + bias
    i, f, o = sigmoid(z_i), sigmoid(z_f), sigmoid(z_o)
    c_t = f * c_{t-1} + i * tanh(z_c)
    h_t = o * tanh(c_t)

(Hochreiter and Schmidhuber 1997; Gers, Schmidhuber and Cummins 2000.) `Cell` says what a cell may
have instead. Shapes in this package use B, T, I, H for batch size, sequence length, input size and
units, and P for the size of h: H, but with a projection the projection's.
"""

from ..variants import Cell, Gates, LayerNorm, Noise
from ._packing import PackedWeights, pack
from ._products import matmul
from ._several import bidirectional, bidirectional_vjp, stack
from ._single import lstm, lstm_vjp
from ._steps import Gradients

__all__ = [
    "Cell",
    "Gates",
    "Gradients",
    "LayerNorm",
    "Noise",
    "PackedWeights",
    "bidirectional",
    "bidirectional_vjp",
    "lstm",
    "lstm_vjp",
    "matmul",
    "pack",
    "stack",
]
