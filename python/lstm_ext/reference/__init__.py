"""The LSTM in NumPy, as its equations are written: what the kernels are held to.

Shares no code with the kernels and runs in any float dtype, so that a result in float32 can be
compared with the same result in float64, and that with longdouble. It is plain, not fast.

With gates in the order i, f, c, o along an axis of ``4 * units``, and rows as vectors::

    z_t = x_t @ kernel + h_{t-1} @ recurrent_kernel + bias
    i_t = sigmoid(z_i)                          input gate
    f_t = sigmoid(z_f)                          forget gate
    g_t = tanh(z_c)                             candidate cell
    o_t = sigmoid(z_o)                          output gate
    c_t = f_t * c_{t-1} + i_t * g_t             cell update
    h_t = o_t * tanh(c_t)                       hidden state

(Hochreiter and Schmidhuber 1997; the forget gate of Gers, Schmidhuber and Cummins 2000.) `cell.py`
has the equations of all variants, `sequences.py` what masks and resets make of them. Shapes in this
package use B, T, I, H and P for batch size, sequence length, input size, units and projection units
(P is H without a projection).
"""

from .operator import Gradients, lstm, lstm_vjp

__all__ = ["Gradients", "lstm", "lstm_vjp"]
