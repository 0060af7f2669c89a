"""Who is compared: this package, NumPy, and each framework that is installed."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence

from ..cases import Case
from . import jax, keras, ncnn, numpy_reference, onnxruntime, openvino, ours, torch
from .base import Peer

__all__ = ["OURS", "PEERS", "Peer", "chosen", "missing"]

#: What is measured, and what is always measured beside it if it can do the case.
OURS: list[type[Peer]] = [ours.Ours, ours.OursInFull, ours.OursPadded]

#: In the order of the tables.
PEERS: list[type[Peer]] = [
    numpy_reference.Numpy,
    torch.Torch,
    torch.TorchBfloat16,
    torch.TorchInt8,
    onnxruntime.OnnxRuntime,
    onnxruntime.OnnxRuntimeInt8,
    openvino.OpenVino,
    jax.Jax,
    keras.Keras,
    ncnn.Ncnn,
]


def chosen(case: Case, names: Sequence[str] | None) -> list[type[Peer]]:
    """Return what to measure beside this package: peers by name, or all that suit the case."""
    beside = [peer for peer in OURS[1:] if peer.suits(case)]
    if names is None:
        return beside + [peer for peer in PEERS if peer.suits(case)]
    return beside + [peer for peer in PEERS if peer.name in names]


def missing(peer: type[Peer]) -> list[str]:
    """Return the packages that `peer` needs and that are not installed."""
    return [name for name in peer.requires if importlib.util.find_spec(name) is None]
