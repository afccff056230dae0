"""Layers in plain JAX by their names in a model's variables, which models are held against."""

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax


def count(model, *size):
    """Return the number of parameters of a model for images of this size."""
    images = jax.ShapeDtypeStruct((1, *size), jnp.float32)
    shapes = jax.eval_shape(model.init, jax.random.key(0), images)
    return sum(leaf.size for leaf in jax.tree.leaves(shapes["params"]))


def random_variables(model, images):
    """Return weights and statistics at none of their initial values."""
    variables = jax.eval_shape(model.init, jax.random.key(0), images)
    rng = np.random.default_rng(0)

    def draw(path, leaf):
        values = rng.normal(size=leaf.shape)
        if path[-1].key in ("var", "scale", "gamma"):
            values = np.abs(values) + 0.5
        else:
            values /= np.sqrt(max(1, np.prod(leaf.shape[:-1])))
        return jnp.asarray(values, jnp.float32)

    return jax.tree_util.tree_map_with_path(draw, variables)


def relu(x):
    return jnp.maximum(x, 0)


def relu6(x):
    return jnp.clip(x, 0, 6)


def pool(x, size, stride, pad=0):
    edges = ((0, 0), (pad, pad), (pad, pad), (0, 0))
    return lax.reduce_window(
        x, -jnp.inf, lax.max, (1, size, size, 1), (1, stride, stride, 1), edges
    )


class Layers:
    """Layers of one set of variables; a name's dots are levels."""

    def __init__(self, variables, epsilon=1e-5):
        self.variables, self.epsilon = variables, epsilon

    def of(self, name, collection="params"):
        node = self.variables[collection]
        for level in name.split("."):
            node = node[level]
        return node

    def conv(self, name, x, stride=1, *, padding=None, groups=1):
        layer = self.of(name)
        kernel = layer["kernel"]
        y = lax.conv_general_dilated(
            x,
            kernel,
            (stride, stride),
            padding or [(k // 2, k // 2) for k in kernel.shape[:2]],
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
            feature_group_count=groups,
        )
        return y + layer["bias"] if "bias" in layer else y

    def norm(self, name, x):
        layer, stats = self.of(name), self.of(name, "batch_stats")
        scaled = (x - stats["mean"]) / jnp.sqrt(stats["var"] + jnp.float32(self.epsilon))
        return scaled * layer["scale"] + layer["bias"]

    def layer_norm(self, name, x):
        layer = self.of(name)
        mean, var = x.mean(-1, keepdims=True), x.var(-1, keepdims=True)
        return (x - mean) / jnp.sqrt(var + jnp.float32(1e-6)) * layer["scale"] + layer["bias"]

    def dense(self, name, x):
        layer = self.of(name)
        return x @ layer["kernel"] + layer["bias"]


def values_and_gradients(functions, variables):
    """Return for each function its (logits, features) and gradients of the logits' sines."""

    @jax.jit
    def compute(variables):
        def of(function):
            def loss(params):
                return jnp.sin(function({**variables, "params": params})[0]).sum()

            return function(variables), jax.grad(loss)(variables["params"])

        return [of(function) for function in functions]

    return compute(variables)
