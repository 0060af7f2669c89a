"""Who is compared: this package, NumPy, and each framework that is installed."""

from __future__ import annotations

import importlib.util

from . import jax, keras, numpy_reference, onnxruntime, openvino, ours, torch
from .base import Peer

__all__ = ["OURS", "PEERS", "Peer", "missing"]

#: This package's ways of being called: the layer, and the operator with its gradients.
OURS: list[type[Peer]] = [ours.Ours]

#: In the order of the tables.
PEERS: list[type[Peer]] = [
    numpy_reference.Numpy,
    torch.Torch,
    onnxruntime.OnnxRuntime,
    openvino.OpenVino,
    jax.Jax,
    keras.Keras,
]


def missing(peer: type[Peer]) -> list[str]:
    """Return the packages that `peer` needs and that are not installed."""
    return [name for name in peer.requires if importlib.util.find_spec(name) is None]
