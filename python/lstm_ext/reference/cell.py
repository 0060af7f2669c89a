"""One step of the LSTM with all its variants, forward and back.

With everything that can be there, and ``LN`` the normalisation over a row::

    z = (x_t * noise_x) @ kernel + (h_{t-1} * noise_h) @ recurrent_kernel + bias
    z = LN(...) * kernel_gain + LN(...) * recurrent_gain + bias       with layer_norm
    i = recurrent_activation(clip(z_i + p_i * c_{t-1}))
    f = recurrent_activation(clip(z_f + p_f * c_{t-1}))               or 1 - i with input_forget
    g = activation(clip(z_c))
    c' = cell_clip(f * c_{t-1} + i * g)
    c_t = keep(c_{t-1}, c')                                           cell_zoneout
    o = recurrent_activation(clip(z_o + p_o * c_t))
    m = o * output_activation(c_t)                                    of LN(c_t) with layer_norm
    h' = m @ projection_kernel                                        m without a projection
    h_t = keep(h_{t-1}, h')                                           zoneout

Sources: peepholes p, Gers and Schmidhuber 2000; projection, Sak, Senior and Beaufays 2014; layer
normalisation, Ba, Kiros and Hinton 2016; zoneout, Krueger et al. 2017; noise, Gal and Ghahramani
2016; clip and input_forget as ONNX defines them.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .activations import Activation

__all__ = [
    "Equations", "Norm", "Parameters", "Step", "StepGradients", "StepNoise", "step", "step_back",
]  # fmt: skip

Array = NDArray[Any]

_EPSILON = 1e-5


class Norm(NamedTuple):
    """What `variants.LayerNorm` holds."""

    kernel_gain: Array  # (4H,)
    recurrent_gain: Array  # (4H,)
    cell_gain: Array  # (H,)
    cell_offset: Array  # (H,)


class Parameters(NamedTuple):
    """The weights; also their gradients."""

    kernel: Array  # (I, 4H)
    recurrent_kernel: Array  # (P, 4H)
    bias: Array | None  # (4H,)
    peephole: Array | None  # (3H,): i, f, o
    projection_kernel: Array | None  # (H, P)
    layer_norm: Norm | None


class Equations(NamedTuple):
    """What `variants.Cell` says, with its activations looked up."""

    activation: Activation
    recurrent_activation: Activation
    output_activation: Activation
    clip: float | None
    cell_clip: float | None
    input_forget: bool
    zoneout: float
    cell_zoneout: float


class StepNoise(NamedTuple):
    """What `variants.Noise` says of the rows of one step."""

    x: Array | None  # (B, I)
    h: Array | None  # (B, P)
    zoneout: Array | None  # (B, P) of bool
    cell_zoneout: Array | None  # (B, H) of bool


class Step(NamedTuple):
    """One step's values, as its backward step needs them."""

    noise: StepNoise
    x: Array  # (B, I), with noise
    h_prev: Array  # (B, P), with noise
    c_prev: Array  # (B, H), as are those without a shape
    z: tuple[Array, Array, Array, Array]  # of i, f, c, o, with peephole, before the clip
    i: Array
    f: Array
    g: Array
    o: Array
    update: Array  # f * c_{t-1} + i * g
    c: Array
    m: Array
    h: Array  # (B, P)


class StepGradients(NamedTuple):
    """The gradients of what went into a step."""

    x: Array
    h_prev: Array
    c_prev: Array
    parameters: Parameters


def step(
    x: Array, h_prev: Array, c_prev: Array, p: Parameters, eq: Equations, noise: StepNoise
) -> Step:
    """Return the values of a step over rows x (B, I), h_prev (B, P) and c_prev (B, H)."""
    x_in = x if noise.x is None else x * noise.x
    h_in = h_prev if noise.h is None else h_prev * noise.h
    a, b = x_in @ p.kernel, h_in @ p.recurrent_kernel
    if p.layer_norm is not None:
        a, b = _norm(a) * p.layer_norm.kernel_gain, _norm(b) * p.layer_norm.recurrent_gain
    z = a + b if p.bias is None else a + b + p.bias
    z_i, z_f, z_c, z_o = np.split(z, 4, axis=1)
    if p.peephole is not None:
        p_i, p_f, p_o = np.split(p.peephole, 3)
        z_i, z_f = z_i + p_i * c_prev, z_f + p_f * c_prev
    i = eq.recurrent_activation(_clip(z_i, eq.clip))
    f = 1 - i if eq.input_forget else eq.recurrent_activation(_clip(z_f, eq.clip))
    g = eq.activation(_clip(z_c, eq.clip))
    update = f * c_prev + i * g
    c = _keep(c_prev, _clip(update, eq.cell_clip), noise.cell_zoneout, eq.cell_zoneout)
    if p.peephole is not None:
        z_o = z_o + p_o * c
    o = eq.recurrent_activation(_clip(z_o, eq.clip))
    m = o * eq.output_activation(_seen(c, p))
    h = m if p.projection_kernel is None else m @ p.projection_kernel
    h = _keep(h_prev, h, noise.zoneout, eq.zoneout)
    return Step(noise, x_in, h_in, c_prev, (z_i, z_f, z_c, z_o), i, f, g, o, update, c, m, h)


def step_back(s: Step, d_h: Array, d_c: Array, p: Parameters, eq: Equations) -> StepGradients:
    """Return a step's gradients, given those from all later uses of h_t (B, P) and c_t (B, H)."""
    d_h_prev, d_projected = _keep_back(d_h, s.noise.zoneout, eq.zoneout)
    d_m, d_projection_kernel = d_projected, None
    if p.projection_kernel is not None:
        d_m = d_projected @ p.projection_kernel.T
        d_projection_kernel = s.m.T @ d_projected
    d_z_o, d_seen = _output_back(s, d_m, p, eq)
    d_seen_c = d_seen if p.layer_norm is None else _norm_back(d_seen * p.layer_norm.cell_gain, s.c)
    d_z, d_c_prev = _cell_back(s, d_z_o, d_c + d_seen_c, p, eq)

    d_a = d_b = d_z  # of x @ kernel and of h @ recurrent_kernel
    d_norm = None
    if p.layer_norm is not None:
        a, b = s.x @ p.kernel, s.h_prev @ p.recurrent_kernel
        gains = [
            (d * n).sum(axis=0) for d, n in ((d_z, _norm(a)), (d_z, _norm(b)), (d_seen, _norm(s.c)))
        ]
        d_norm = Norm(gains[0], gains[1], gains[2], d_seen.sum(axis=0))
        d_a = _norm_back(d_z * p.layer_norm.kernel_gain, a)
        d_b = _norm_back(d_z * p.layer_norm.recurrent_gain, b)
    d_x, d_h_in = d_a @ p.kernel.T, d_b @ p.recurrent_kernel.T
    d_parameters = Parameters(
        s.x.T @ d_a,
        s.h_prev.T @ d_b,
        None if p.bias is None else d_z.sum(axis=0),
        None if p.peephole is None else _peephole_back(s, d_z),
        d_projection_kernel,
        d_norm,
    )
    return StepGradients(
        d_x if s.noise.x is None else d_x * s.noise.x,
        d_h_prev + (d_h_in if s.noise.h is None else d_h_in * s.noise.h),
        d_c_prev,
        d_parameters,
    )


def _output_back(s: Step, d_m: Array, p: Parameters, eq: Equations) -> tuple[Array, Array]:
    """Return the gradients of z_o and of what the output activation saw of c_t."""
    seen = _seen(s.c, p)
    y = eq.output_activation(seen)
    d_z_o = _gate_back(d_m * y, s.z[3], s.o, eq.recurrent_activation, eq.clip)
    return d_z_o, eq.output_activation.back(d_m * s.o, seen, y)


def _cell_back(
    s: Step, d_z_o: Array, d_c: Array, p: Parameters, eq: Equations
) -> tuple[Array, Array]:
    """Return the gradients of z (B, 4H) and of c_{t-1}."""
    z_i, z_f, z_c, _ = s.z
    if p.peephole is not None:
        d_c = d_c + np.split(p.peephole, 3)[2] * d_z_o
    d_c_prev, d_clipped = _keep_back(d_c, s.noise.cell_zoneout, eq.cell_zoneout)
    d_update = _clip_back(d_clipped, s.update, eq.cell_clip)
    d_c_prev = d_c_prev + d_update * s.f
    d_i, d_f = d_update * s.g, d_update * s.c_prev
    if eq.input_forget:
        d_i = d_i - d_f
        d_z_f = np.zeros_like(d_f)
    else:
        d_z_f = _gate_back(d_f, z_f, s.f, eq.recurrent_activation, eq.clip)
    d_z_i = _gate_back(d_i, z_i, s.i, eq.recurrent_activation, eq.clip)
    d_z_c = _gate_back(d_update * s.i, z_c, s.g, eq.activation, eq.clip)
    if p.peephole is not None:
        p_i, p_f, _ = np.split(p.peephole, 3)
        d_c_prev = d_c_prev + p_i * d_z_i + p_f * d_z_f
    return np.concatenate([d_z_i, d_z_f, d_z_c, d_z_o], axis=1), d_c_prev


def _peephole_back(s: Step, d_z: Array) -> Array:
    d_z_i, d_z_f, _, d_z_o = np.split(d_z, 4, axis=1)
    uses = [d_z_i * s.c_prev, d_z_f * s.c_prev, d_z_o * s.c]
    return np.concatenate([use.sum(axis=0) for use in uses])


def _gate_back(d: Array, z: Array, y: Array, activation: Activation, clip: float | None) -> Array:
    """Return the gradient of z, given that of y = activation(clip(z))."""
    return _clip_back(activation.back(d, _clip(z, clip), y), z, clip)


def _clip(z: Array, bound: float | None) -> Array:
    return z if bound is None else np.clip(z, -bound, bound)


def _clip_back(d: Array, z: Array, bound: float | None) -> Array:
    """Return the gradient of z: zero where it lies at a bound or beyond."""
    return d if bound is None else np.where(np.abs(z) >= bound, d.dtype.type(0), d)


def _keep(previous: Array, new: Array, where: Array | None, rate: float) -> Array:
    """Return the previous value at some places, or its mean with the new one."""
    if where is not None:
        return np.where(where, previous, new)
    return new if rate == 0 else rate * previous + (1 - rate) * new


def _keep_back(d: Array, where: Array | None, rate: float) -> tuple[Array, Array]:
    """Return the gradients of the previous and of the new value."""
    if where is not None:
        zeros = np.zeros_like(d)
        return np.where(where, d, zeros), np.where(where, zeros, d)
    if rate == 0:
        return np.zeros_like(d), d
    return rate * d, (1 - rate) * d


def _seen(c: Array, p: Parameters) -> Array:
    """Return what the output activation sees of the cell."""
    if p.layer_norm is None:
        return c
    return _norm(c) * p.layer_norm.cell_gain + p.layer_norm.cell_offset


def _deviation(a: Array) -> Array:
    deviation: Array = np.sqrt(a.var(axis=1, keepdims=True) + _EPSILON)
    return deviation


def _norm(a: Array) -> Array:
    normed: Array = (a - a.mean(axis=1, keepdims=True)) / _deviation(a)
    return normed


def _norm_back(d: Array, a: Array) -> Array:
    y = _norm(a)
    mean, along = d.mean(axis=1, keepdims=True), (d * y).mean(axis=1, keepdims=True)
    d_a: Array = (d - mean - y * along) / _deviation(a)
    return d_a
