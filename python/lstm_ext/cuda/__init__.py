"""The LSTM operator on a CUDA device: device arrays in, device arrays out, nothing kept.

`lstm` and `lstm_vjp` are those of `lstm_ext.functional` for arrays of CuPy, torch and whatever
else offers ``__cuda_array_interface__`` or DLPack. Work is put on the caller's current stream and
not waited for. CuPy makes the arrays and the matrix products over whole sequences; it is imported
when the first device array arrives.
"""

from .availability import available
from .operator import Gradients, lstm, lstm_vjp, synchronize
from .stream import DeviceStream

__all__ = ["DeviceStream", "Gradients", "available", "lstm", "lstm_vjp", "synchronize"]
