"""Search one int8 gallery on 1, 8 and 64 devices; run in a process of its own, which has 64."""

import re
import sys

import jax
import jax.numpy as jnp
import numpy as np

from vision_jax.parallel.devices import Devices
from vision_jax.search.kernel import round_to
from vision_jax.search.sharded import Sharded, _compiled

DIM, QUERIES, K = 16, 16, 5


def main() -> None:
    rng = np.random.default_rng(0)
    vectors = rng.standard_normal((6001, DIM), np.float32)
    vectors[5000:5010] = vectors[10:20]  # ties across devices
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    values, scale = (np.asarray(part) for part in round_to(jnp.asarray(vectors), "int8").rows)
    scale = scale / np.linalg.norm(values.astype(np.float32) * scale[:, None], axis=1)
    queries = vectors[8 : 8 + QUERIES]
    found = [Sharded(values, Devices.over(count), scale).search(queries, K) for count in (1, 8, 64)]
    for scores, ids in found[1:]:
        np.testing.assert_array_equal(scores, found[0][0])
        np.testing.assert_array_equal(ids, found[0][1])
    # Each query finds itself, not its copy on another device, whose id is higher.
    np.testing.assert_array_equal(found[0][1][:, 0], np.arange(8, 8 + QUERIES))
    for count in (8, 64):
        each = -(-len(values) // count)
        program = _compiled(Devices.over(count), K, 2).lower(
            jax.ShapeDtypeStruct((QUERIES, DIM), np.float32),
            jax.ShapeDtypeStruct((count, each, 1), bool),
            jax.ShapeDtypeStruct((count, each, DIM), np.int8),
            jax.ShapeDtypeStruct((count, each, 1), np.float32),
        )
        text = program.as_text()
        kinds = r"stablehlo\.(all_\w+|reduce_scatter|collective_\w+)"
        assert re.findall(kinds, text) == ["all_gather"], re.findall(kinds, text)
        (shape,) = re.findall(r"all_gather.*?-> tensor<([\dx]+)xi32>", text, re.DOTALL)
        assert 4 * np.prod([int(size) for size in shape.split("x")]) == 8 * QUERIES * K * count
    sys.stdout.write("equal")


if __name__ == "__main__":
    main()
