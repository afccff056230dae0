"""Narrow and full-size vision transformers of vision_transformer and big_vision."""

import sys
import types

import jax
import jax.numpy as jnp
from cases import SIZES, images, tensors
from flax.traverse_util import flatten_dict, unflatten_dict

NARROW = {"width": 32, "depth": 2, "num_heads": 2, "patch_size": (8, 8)}


def make(sources):
    """Return the outputs of all narrow networks, and the shapes of tensors of all networks."""
    sys.path += [f"{sources}/vision_transformer", f"{sources}/big_vision"]
    # Their other modules, which need TensorFlow, load checkpoints and the like.
    for name in ("big_vision.utils", "big_vision.models.common"):
        sys.modules[name] = types.ModuleType(name)
    import big_vision
    import big_vision.models

    big_vision.utils = sys.modules["big_vision.utils"]
    big_vision.models.common = sys.modules["big_vision.models.common"]
    outputs, shapes = {}, {}
    for case, (network, stages, prefix) in narrow().items():
        x = jnp.asarray((images(SIZES[0]) - 0.5) / 0.5, jnp.float32)
        shapes[f"narrow {case}"] = {
            prefix + name: shape for name, shape in shapes_of(network, x).items()
        }
        drawn = tensors(case, shapes[f"narrow {case}"])
        params = {
            tuple(name.removeprefix(prefix).split("/")): jnp.asarray(values)
            for name, values in drawn.items()
        }
        for name, values in stages(network, {"params": unflatten_dict(params)}, x).items():
            outputs[f"{case} {SIZES[0][0]} {name}"] = values
        if "siglip" in case:
            shapes[f"narrow {case}"] |= {f"{prefix.replace('img', 'txt')}head/bias": (3,)}
            shapes[f"narrow {case}"] |= {"params/t": (1,), "params/b": (1,)}
    for name, (network, size) in full().items():
        x = jax.ShapeDtypeStruct((1, size, size, 3), jnp.float32)
        shapes[f"full big_vision {name}"] = shapes_of(network, x)
    return outputs, shapes


def shapes_of(network, x):
    shapes = jax.eval_shape(lambda x: network.init(jax.random.key(0), x, train=False), x)
    return {"/".join(path): leaf.shape for path, leaf in flatten_dict(shapes["params"]).items()}


def narrow():
    """Return by case: a network, a function from it and its variables to outputs, a prefix."""
    from big_vision.models.vit import Model
    from vit_jax.models_vit import VisionTransformer

    class Patches:
        size = (8, 8)

    old = VisionTransformer(
        num_classes=5,
        patches=Patches,
        hidden_size=32,
        transformer={"mlp_dim": 128, "num_heads": 2, "num_layers": 2},
    )
    return {
        "vision_transformer": (old, of_vision_transformer, ""),
        "big_vision": (Model(5, pool_type="tok", **NARROW), of_big_vision, "params/"),
        "big_vision mean": (Model(5, pool_type="gap", **NARROW), of_big_vision, ""),
        "big_vision siglip": (
            Model(None, pool_type="map", **NARROW),
            of_big_vision,
            "params/img/",
        ),
    }


def maps(tokens):
    return tokens[:, -16:].reshape(len(tokens), 4, 4, -1)


def of_vision_transformer(network, variables, x):
    logits, state = network.apply(variables, x, train=False, capture_intermediates=True)
    kept = state["intermediates"]
    encoder = kept["Transformer"]
    stages = {f"stage{n + 1}": encoder[f"encoderblock_{n}"]["__call__"][0] for n in range(2)}
    stages["features"] = encoder["encoder_norm"]["__call__"][0]
    found = {name: maps(tokens) for name, tokens in stages.items()}
    return {**found, "embedding": stages["features"][:, 0], "logits": logits}


def of_big_vision(network, variables, x):
    last, out = network.apply(variables, x, train=False)
    stages = {f"stage{n + 1}": out["encoder"][f"block{n:02d}"]["+mlp"] for n in range(2)}
    found = {name: maps(tokens) for name, tokens in stages.items()}
    found |= {"features": maps(out["encoded"]), "embedding": out["head_input"]}
    return {**found, "logits": last} if network.num_classes else found


def full():
    """Return full-size networks by the model's name here, and their images' size."""
    from big_vision.models.vit import Model

    return {
        "vit_base_patch16_224": (Model(1000, variant="B/16", pool_type="tok"), 224),
        "vit_large_patch16_384": (Model(1000, variant="L/16", pool_type="tok"), 384),
        "vit_small_patch16_224": (Model(1000, variant="S/16", pool_type="gap"), 224),
        "vit_base_patch16_siglip_224": (Model(variant="B/16", pool_type="map"), 224),
        "vit_so400m_patch14_siglip_224": (Model(variant="So400m/14", pool_type="map"), 224),
    }
