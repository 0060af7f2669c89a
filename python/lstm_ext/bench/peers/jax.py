"""JAX: a compiled scan."""

from __future__ import annotations

import os
from typing import Any

import numpy as np

from ..cases import Case
from .base import Array, Peer

__all__ = ["Jax"]


class Jax(Peer):
    """jit of lax.scan, the input projected beforehand.

    Its threads can be set only before it is imported: one, or all.
    """

    name = "jax"
    requires = ("jax",)
    modes = ("forward", "stream", "training")

    def __init__(self, case: Case) -> None:
        super().__init__(case)
        if case.threads == 1:
            os.environ.setdefault(
                "XLA_FLAGS", "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"
            )
        os.environ.setdefault("JAX_PLATFORMS", "cpu")
        import jax
        from jax import numpy as jnp

        def forward(x: Any, kernel: Any, recurrent_kernel: Any, bias: Any) -> Any:
            projected = jnp.swapaxes(x @ kernel + bias, 0, 1)

            def step(state: Any, z_x: Any) -> Any:
                h, c = state
                z_i, z_f, z_c, z_o = jnp.split(z_x + h @ recurrent_kernel, 4, axis=-1)
                c = jax.nn.sigmoid(z_f) * c + jax.nn.sigmoid(z_i) * jnp.tanh(z_c)
                h = jax.nn.sigmoid(z_o) * jnp.tanh(c)
                return (h, c), h

            zeros = jnp.zeros((x.shape[0], recurrent_kernel.shape[0]), x.dtype)
            return jnp.swapaxes(jax.lax.scan(step, (zeros, zeros), projected)[1], 0, 1)

        def train(d_output: Any, *arguments: Any) -> Any:
            output, backward = jax.vjp(forward, *arguments)
            return output, backward(d_output)

        self._block = jax.block_until_ready
        arrays = [jnp.asarray(a) for a in (case.x, *case.weights)]
        if case.mode == "training":
            self._function, self._arguments = jax.jit(train), [jnp.asarray(case.d_output), *arrays]
        else:
            self._function, self._arguments = jax.jit(forward), arrays

    def run(self) -> Any:
        """Run the compiled function."""
        return self._block(self._function(*self._arguments))

    def results(self) -> tuple[Array, Array | None]:
        """Return the output and the gradient."""
        if self.case.mode != "training":
            return np.asarray(self.run()), None
        output, gradients = self.run()
        return np.asarray(output), np.asarray(gradients[1])
