"""What an LSTM can have beyond its equations: the names under which the operator takes it.

Plain tuples that hold and check nothing; who takes one checks it. Shapes below use B, T, I, H and P
for batch size, sequence length, input size, units and projection units (P is H without a
projection). Gates stand in the order i, f, c, o.
"""

from __future__ import annotations

from typing import Any, NamedTuple, TypeAlias

from numpy.typing import ArrayLike, NDArray

__all__ = ["ActivationSpec", "Cell", "Gates", "LayerNorm", "Noise"]

Array = NDArray[Any]

# A name, or a name with its alpha, or with its alpha and beta.
ActivationSpec: TypeAlias = str | tuple[str, float] | tuple[str, float, float]


class Cell(NamedTuple):
    """The equations of a step, where they differ from the usual LSTM's.

    ::

        i = recurrent_activation(z_i)                 input gate
        f = recurrent_activation(z_f)                 forget gate; 1 - i with input_forget
        g = activation(z_c)                           candidate cell
        c_t = f * c_{t-1} + i * g                     cell update
        o = recurrent_activation(z_o)                 output gate
        h_t = o * output_activation(c_t)              hidden state

    An activation is named as in Keras: linear, relu, leaky_relu, tanh, sigmoid, hard_sigmoid,
    softplus, softsign, elu, selu, gelu, silu or swish, exponential; or as in ONNX: affine
    (``alpha * z + beta``), scaled_tanh (``alpha * tanh(beta * z)``), thresholded_relu (z where
    ``z > alpha``, else 0). A tuple gives a name with alpha, or with alpha and beta, which default
    to: leaky_relu 0.2, hard_sigmoid 1/6 and 0.5, elu 1, affine 1 and 0, scaled_tanh 1 and 1,
    thresholded_relu 1.

    Attributes
    ----------
    activation : str or tuple
        Of the candidate cell.
    recurrent_activation : str or tuple
        Of the three gates.
    output_activation : str or tuple, optional
        Of the cell on its way out; ONNX's third. By default as `activation`.
    clip : float, optional
        The gates' inputs z are clipped to ``[-clip, clip]``, bias and peephole included (ONNX's
        clip).
    cell_clip : float, optional
        The cell is clipped to ``[-cell_clip, cell_clip]`` after its update (TFLite's
        cell_clip). A clip's gradient is zero at its bounds and beyond.
    input_forget : bool
        Couple the gates: f is 1 - i (ONNX's input_forget; Greff et al. 2017).
    zoneout, cell_zoneout : float
        The rates at which h and c keep their previous values (Krueger et al. 2017). Used where no
        `Noise` says which values do: the results are then their means,
        ``rate * previous + (1 - rate) * new``.
    """

    activation: ActivationSpec = "tanh"
    recurrent_activation: ActivationSpec = "sigmoid"
    output_activation: ActivationSpec | None = None
    clip: float | None = None
    cell_clip: float | None = None
    input_forget: bool = False
    zoneout: float = 0.0
    cell_zoneout: float = 0.0


class LayerNorm(NamedTuple):
    """The weights of layer normalisation (Ba, Kiros and Hinton 2016).

    With LN over the last axis, of mean 0 and variance 1 (plus 1e-5 under the root)::

        z = LN(x_t @ kernel) * kernel_gain + LN(h_{t-1} @ recurrent_kernel) * recurrent_gain + bias
        h_t = o * tanh(LN(c_t) * cell_gain + cell_offset)

    LN of a product is over all four gates of a row, as in Haste.

    Attributes
    ----------
    kernel_gain, recurrent_gain : (4H,) array
    cell_gain, cell_offset : (H,) array
    """

    kernel_gain: ArrayLike
    recurrent_gain: ArrayLike
    cell_gain: ArrayLike
    cell_offset: ArrayLike


class Noise(NamedTuple):
    """What was drawn for one call in training; None is no noise of that kind.

    Attributes
    ----------
    x : (B, I) array, optional
        Factors of x, the same in all steps: inverted dropout of the inputs, 0 or 1 / (1 - rate)
        (Gal and Ghahramani 2016).
    h : (B, P) array, optional
        Factors of h before it is multiplied by recurrent_kernel, the same in all steps and for all
        gates: Keras's recurrent_dropout.
    zoneout : (B, T, P) array of bool, optional
        Where h keeps its previous value, step by step in the order of the output (Krueger et al.
        2017).
    cell_zoneout : (B, T, H) array of bool, optional
        The same of c.
    """

    x: ArrayLike | None = None
    h: ArrayLike | None = None
    zoneout: ArrayLike | None = None
    cell_zoneout: ArrayLike | None = None


class Gates(NamedTuple):
    """The values inside each step, in the order of the output; zeros at masked steps.

    Attributes
    ----------
    input, forget, candidate, output : (B, T, H) array
        i, f, g and o, after their activations.
    cell : (B, T, H) array
        c after the step.
    """

    input: Array
    forget: Array
    candidate: Array
    output: Array
    cell: Array
