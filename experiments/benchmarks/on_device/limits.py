"""What the device can do at most: the rate of a matrix product and of a copy."""

import jax
import jax.numpy as jnp

from on_device.clock import Repeat, Section, in_turns


def measure(section: Section, side: int) -> None:
    """Time a product of two square matrices in bfloat16 and in float32, and a copy.

    Args:
        section: where figures go.
        side: of the matrices.
    """
    whole = jax.random.normal(jax.random.key(0), (side, side))
    contenders = {}
    for dtype in ("bfloat16", "float32"):
        matrix = whole.astype(dtype)
        contenders[f"product in {dtype}"] = _repeated(jax.jit(jnp.matmul), matrix, matrix)
    contenders["copy in float32"] = _repeated(jax.jit(lambda rows: rows * 1.0001), whole)
    for name, row in in_turns(contenders, rounds=3, seconds=0.1).items():
        figures = {"limit": name, **row}
        if name.startswith("product"):
            figures["tflops"] = 2 * side**3 / row["seconds"] / 1e12
        else:
            figures["gb_per_second"] = 2 * whole.nbytes / row["seconds"] / 1e9
        section.rows.append(figures)


def _repeated(function: jax.stages.Wrapped, *arguments: jax.Array) -> Repeat:
    def repeat(times: int) -> None:
        for _ in range(times):
            result = function(*arguments)
        result.block_until_ready()

    return repeat
