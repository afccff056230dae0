"""A run's encoder as one function of images, traced for any number of them."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import Literal, Primitive
from jaxtyping import Array, Float

from vision_jax.errors import InputError
from vision_jax.ops.cpu.primitive import NATIVE_FORMS
from vision_jax.run.run import Run
from vision_jax.tasks.base import Classifies

PLATFORMS = ("cpu", "cuda", "tpu")
EMBEDDING, PROBABILITIES = "embedding", "probabilities"

Encoder = Callable[[Array], dict[str, Array]]
"""Float images (B, H, W, C) in [0, 1] to `embedding` (B, D) and, of a classifier, `probabilities`
(B, classes)."""

Traced = Any
"""A function as `jax.make_jaxpr` returns it, whose type has no public name in later JAX."""


def encoder_of(run: Run) -> Encoder:
    """Return a run's encoder, its weights held as constants.

    Args:
        run: the run.

    Returns:
        A pure function whose results are those of `run.embed` and `run.predict`.
    """
    task, temperature = run.task, np.float32(run.temperature)
    state = jax.tree.map(_on_one_device, run.state)
    activate = jax.nn.sigmoid if run.info.multi_label else jax.nn.softmax

    def encode(images: Float[Array, "batch height width channels"]) -> dict[str, Array]:
        made = {EMBEDDING: task.embed(state, images).astype(jnp.float32)}
        if isinstance(task, Classifies):
            made[PROBABILITIES] = activate(task.logits(state, images) / temperature)
        return made

    return encode


def trace(run: Run, *, native: bool = False) -> tuple[Traced, list[str]]:
    """Trace a run's encoder for any number of images.

    Args:
        run: the run.
        native: whether to replace the project's own operations by XLA's.

    Returns:
        A flat list of operations, none of them twice, and the names of what it returns.

    Raises:
        InputError: the model computes something that depends on the number of images.
    """
    encode, shape = encoder_of(run), run.info.image_shape
    (batch,) = jax.export.symbolic_shape("batch")
    images = jax.ShapeDtypeStruct((batch, *shape), jnp.float32)
    try:
        traced = jax.make_jaxpr(encode)(images)
    except (TypeError, jax.errors.JAXTypeError, jax.errors.InconclusiveDimensionOperation):
        # A model that asks for the number of images as a number is mapped over single ones.
        encode = jax.vmap(lambda image, one=encode: jax.tree.map(_first, one(image[None])))
        try:
            traced = jax.make_jaxpr(encode)(images)
        except (TypeError, ValueError, jax.errors.InconclusiveDimensionOperation) as error:
            reason = str(error).partition("\n")[0]
            raise InputError(
                f"the model of {run.workdir} cannot be exported for any number of images: {reason}"
            ) from error
    names = list(jax.eval_shape(encode, images))
    return jax.make_jaxpr(lambda images: evaluate(traced, [images], native=native))(images), names


def serialized(run: Run) -> tuple[bytes, dict[str, Any]]:
    """Serialize a run's encoder for jax.

    Args:
        run: the run.

    Returns:
        What `jax.export.deserialize` reads, for all of `PLATFORMS`; and the versions that wrote it.

    Raises:
        InputError: see `trace`.
    """
    traced, names = trace(run)

    def encode(images: Array) -> dict[str, Array]:
        return dict(zip(names, evaluate(traced, [images]), strict=True))

    exported = jax.export.export(jax.jit(encode), platforms=PLATFORMS)(*traced.in_avals)
    versions = {
        "jax": jax.__version__,
        "calling_convention": exported.calling_convention_version,
        "platforms": list(exported.platforms),
    }
    return bytes(exported.serialize()), versions


def evaluate(traced: Traced, inputs: list[Any], *, native: bool = False) -> list[Any]:
    """Evaluate a traced function, calls within it inlined and nothing computed twice.

    Args:
        traced: the function.
        inputs: its arguments.
        native: see `trace`.
    """
    return _evaluate(traced.jaxpr, traced.consts, inputs, native, {})


def _evaluate(
    jaxpr: Any, consts: list[Any], inputs: list[Any], native: bool, known: dict[Any, Any]
) -> list[Any]:
    values: dict[Any, Any] = dict(zip(jaxpr.constvars, consts, strict=True))
    values |= zip(jaxpr.invars, inputs, strict=True)

    def read(var: Any) -> Any:
        return var.val if isinstance(var, Literal) else values[var]

    for equation in jaxpr.eqns:
        taken = [read(var) for var in equation.invars]
        primitive, params = equation.primitive, equation.params
        if primitive.name in _CALLS:
            inner = params.get("call_jaxpr") or params["jaxpr"]
            consts = getattr(inner, "consts", [])
            made = _evaluate(getattr(inner, "jaxpr", inner), consts, taken, native, known)
        elif primitive.name == "name":
            made = taken
        else:
            # `known` holds what was taken too, so that no identity is used again.
            same = primitive.name, *map(_identity, taken), str(sorted(params.items(), key=str))
            if same not in known:
                known[same] = taken, _apply(primitive, taken, params, native)
            made = known[same][1]
        values |= zip(equation.outvars, made, strict=True)
    return [read(var) for var in jaxpr.outvars]


_CALLS = (
    "jit",
    "pjit",
    "closed_call",
    "custom_jvp_call",
    "custom_vjp_call",
    "checkpoint",
    "remat2",
)
_SMALL = 1024


def _apply(primitive: Primitive, inputs: list[Any], params: Any, native: bool) -> list[Any]:
    if native and primitive in NATIVE_FORMS:
        form = NATIVE_FORMS[primitive]
        inner = jax.make_jaxpr(lambda *values: form(*values, **params))(*inputs)
        return evaluate(inner, inputs)
    made = primitive.bind(*inputs, **primitive.get_bind_params(params))
    return list(made) if primitive.multiple_results else [made]


def _identity(value: Any) -> Any:
    """Return what two values share if they are the same; small constants by what they hold."""
    if isinstance(value, jax.core.Tracer) or np.size(value) > _SMALL:
        return id(value)
    array = np.asarray(value)
    return array.dtype, array.shape, array.tobytes()


def _first(rows: Array) -> Array:
    return rows[0]


def _on_one_device(leaf: Array) -> Array:
    # Each device holds all of it, unless devices share the state.
    return leaf.addressable_data(0) if leaf.is_fully_replicated else jnp.asarray(np.asarray(leaf))
