"""Narrow and full-size vision transformers of the libraries that are written in PyTorch."""

import os
import sys
import tempfile
from functools import partial

os.environ.update(HF_HUB_OFFLINE="1", XFORMERS_DISABLED="1")

import timm
import torch
import transformers
from cases import SIZES, images, tensors
from safetensors.torch import load_file, save_file
from timm.models.vision_transformer import VisionTransformer as Timm
from torch import nn
from torchvision.models import vision_transformer as torchvision
from transformers.core_model_loading import revert_weight_conversion
from transformers.image_utils import (
    IMAGENET_DEFAULT_MEAN,
    IMAGENET_DEFAULT_STD,
    IMAGENET_STANDARD_MEAN,
    IMAGENET_STANDARD_STD,
    OPENAI_CLIP_MEAN,
    OPENAI_CLIP_STD,
)

HALF = IMAGENET_STANDARD_MEAN, IMAGENET_STANDARD_STD
IMAGENET = IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD
CLIP = OPENAI_CLIP_MEAN, OPENAI_CLIP_STD

LIKE_TIMM = {"img_size": 32, "patch_size": 8, "embed_dim": 32, "depth": 2, "num_heads": 2}
LIKE_TRANSFORMERS = {
    "image_size": 32,
    "patch_size": 8,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "attn_implementation": "eager",
}
TEXT = {
    "vocab_size": 50,
    "hidden_size": 16,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "bos_token_id": 1,
    "eos_token_id": 2,
}


def make(sources):
    """Return the outputs of all narrow networks, and the shapes of tensors of all networks."""
    sys.path += [f"{sources}/dinov2", f"{sources}/CLIP/clip"]
    outputs, shapes = {}, {}
    for case, (network, (mean, std), run) in narrow().items():
        network, shapes[f"narrow {case}"] = filled(case, network)
        for size in SIZES:
            x = (images(size) - mean) / std
            x = torch.tensor(x.transpose(0, 3, 1, 2), dtype=torch.float32)
            try:
                with torch.no_grad():
                    found = run(network.eval(), x)
            except (AssertionError, RuntimeError) as error:
                print(f"{case} takes no images of {size}: {error}")
                continue
            for name, values in found.items():
                outputs[f"{case} {size[0]} {name}"] = values.numpy()
    with torch.device("meta"):
        for name, network in full():
            shapes[f"full {name}"] = shapes_of(named(network))
    return outputs, shapes


def shapes_of(state):
    return {name: tuple(tensor.shape) for name, tensor in state.items()}


def named(network):
    """Return the tensors as a file names them: Transformers 5 gives its modules other names."""
    state = network.state_dict()
    is_transformers = isinstance(network, transformers.PreTrainedModel)
    return revert_weight_conversion(network, state) if is_transformers else state


def filled(case, network):
    """Return a network with drawn weights, and the shapes of its tensors."""
    shapes = shapes_of(named(network))
    drawn = {name: torch.tensor(values) for name, values in tensors(case, shapes).items()}
    if isinstance(network, transformers.PreTrainedModel):
        with tempfile.TemporaryDirectory() as folder:
            network.save_pretrained(folder)
            assert shapes == shapes_of(load_file(f"{folder}/model.safetensors"))
            save_file(drawn, f"{folder}/model.safetensors", {"format": "pt"})
            loaded = type(network).from_pretrained(folder, attn_implementation="eager")
        return loaded, shapes
    network.load_state_dict(drawn)
    return network, shapes


def staged(blocks, norm, x, call):
    """Return what `call` does, and the maps after each block and after the normalisation."""
    kept = []

    def keep(module, args, output):
        output = output[0] if isinstance(output, tuple) else output
        kept.append(output if len(output) == len(x) else output.transpose(0, 1))

    hooks = [block.register_forward_hook(keep) for block in blocks]
    found = call(x)
    for hook in hooks:
        hook.remove()
    rows, columns = (side // 8 for side in x.shape[2:])
    maps = {f"stage{n}": tokens for n, tokens in enumerate(kept, 1)} | {"features": norm(kept[-1])}
    for name, tokens in maps.items():
        found[name] = tokens[:, -rows * columns :].reshape(len(x), rows, columns, -1)
    return found


def narrow():
    """Return by case: a network, its mean and std, and a function that runs it."""
    return {
        "torchvision": (
            torchvision.VisionTransformer(32, 8, 2, 2, 32, 128, num_classes=5),
            IMAGENET,
            run_torchvision,
        ),
        **of_timm(),
        **of_transformers(),
        **of_originals(),
    }


def run_torchvision(network, x):
    def call(x):
        kept = []
        hook = network.heads.register_forward_pre_hook(lambda _, args: kept.append(args[0]))
        logits = network(x)
        hook.remove()
        return {"embedding": kept[0], "logits": logits}

    return staged(network.encoder.layers, network.encoder.ln, x, call)


def of_timm():
    like = {**LIKE_TIMM, "dynamic_img_size": True}
    dinov2 = {"num_classes": 0, "init_values": 1e-5}
    clip = {"pre_norm": True, "norm_layer": partial(nn.LayerNorm, eps=1e-5)}
    siglip = {"class_token": False, "global_pool": "map", "num_classes": 0}
    options = {
        "timm": (HALF, {"num_classes": 5}),
        "timm mean": (HALF, {"num_classes": 5, "global_pool": "avg"}),
        "timm dinov2": (IMAGENET, dinov2),
        "timm registers": (IMAGENET, {**dinov2, "reg_tokens": 4, "no_embed_class": True}),
        "timm clip": (CLIP, {**clip, "num_classes": 12, "act_layer": "quick_gelu"}),
        "timm clip classifier": (CLIP, {**clip, "num_classes": 5}),
        "timm siglip": (HALF, siglip),
    }
    return {case: (Timm(**like, **own), of, run_timm) for case, (of, own) in options.items()}


def run_timm(network, x):
    def call(x):
        tokens = network.forward_features(x)
        pooled = network.forward_head(tokens, pre_logits=True)
        logits = network.head(pooled)
        # The projection of CLIP is timm's head.
        if network.num_classes == 12:
            return {"embedding": logits}
        return {"embedding": pooled} | ({"logits": logits} if network.num_classes else {})

    return staged(network.blocks, network.norm, x, call)


def of_transformers():
    like = LIKE_TRANSFORMERS
    towers = {**like, "intermediate_size": 128}
    t = transformers
    clip = t.CLIPConfig(vision_config=towers, text_config=TEXT, projection_dim=12)
    siglip = t.SiglipConfig(vision_config=towers, text_config=TEXT)
    vit = t.ViTConfig(**like, intermediate_size=128, num_labels=5)
    registers = t.Dinov2WithRegistersConfig(**like)
    return {
        "huggingface": (t.ViTForImageClassification(vit), HALF, run_vit),
        "huggingface features": (t.ViTModel(vit), HALF, run_vit),
        "huggingface dinov2": (t.Dinov2Model(t.Dinov2Config(**like)), IMAGENET, run_dinov2),
        "huggingface registers": (t.Dinov2WithRegistersModel(registers), IMAGENET, run_dinov2),
        "huggingface clip": (t.CLIPModel(clip), CLIP, run_clip),
        "huggingface siglip": (t.SiglipModel(siglip), HALF, run_siglip),
    }


def run_vit(network, x):
    def call(x):
        tower = getattr(network, "vit", network)
        out = tower(x, interpolate_pos_encoding=True, output_attentions=True)
        found = {f"attention{n}": values for n, values in enumerate(out.attentions, 1)}
        found["embedding"] = out.last_hidden_state[:, 0]
        if tower is not network:
            found["logits"] = network.classifier(found["embedding"])
        return found

    tower = getattr(network, "vit", network)
    return staged(tower.layers, tower.layernorm, x, call)


def run_dinov2(network, x):
    blocks = network.encoder.layer if hasattr(network, "encoder") else network.layers
    return staged(blocks, network.layernorm, x, lambda x: {"embedding": network(x).pooler_output})


def run_clip(network, x):
    tower = network.vision_model

    def call(x):
        pooled = tower(x, interpolate_pos_encoding=True).pooler_output
        return {"embedding": network.visual_projection(pooled)}

    return staged(tower.encoder.layers, tower.post_layernorm, x, call)


def run_siglip(network, x):
    tower = network.vision_model

    def call(x):
        return {"embedding": tower(x, interpolate_pos_encoding=True).pooler_output}

    return staged(tower.encoder.layers, tower.post_layernorm, x, call)


def of_originals():
    """Return those of dinov2 and OpenAI's CLIP."""
    import model
    from dinov2.models.vision_transformer import DinoVisionTransformer

    like = {**LIKE_TIMM, "init_values": 1.0, "block_chunks": 0}
    registers = {"num_register_tokens": 4, "interpolate_antialias": True, "interpolate_offset": 0.0}
    openai = model.CLIP(12, 32, 2, 64, 8, 7, 50, 64, 1, 1)
    openai.visual = model.VisionTransformer(32, 8, 32, 2, 2, 12)
    return {
        "dinov2": (DinoVisionTransformer(**like), IMAGENET, run_original_dinov2),
        "dinov2 registers": (
            DinoVisionTransformer(**like, **registers),
            IMAGENET,
            run_original_dinov2,
        ),
        "openai": (openai, CLIP, run_openai),
    }


def run_original_dinov2(network, x):
    return staged(network.blocks, network.norm, x, lambda x: {"embedding": network(x)})


def run_openai(network, x):
    tower = network.visual
    blocks = tower.transformer.resblocks
    return staged(blocks, tower.ln_post, x, lambda x: {"embedding": network.encode_image(x)})


def full():
    """Yield full-size networks by source and the model's name here."""
    for name in ("vit_b_16", "vit_b_32", "vit_l_16", "vit_l_32", "vit_h_14"):
        yield f"torchvision {name}", getattr(torchvision, name)()
    for name in TIMM:
        yield f"timm {name}", timm.create_model(name)
    yield from full_transformers()
    yield from full_originals()


TIMM = [
    *(f"vit_{size}_patch16_224" for size in ("tiny", "small", "base", "large")),
    *(f"vit_{size}_patch32_224" for size in ("small", "base", "large")),
    *(f"vit_{size}_patch14_dinov2" for size in ("small", "base", "large")),
    *(f"vit_{size}_patch14_reg4_dinov2" for size in ("small", "base", "large")),
    "vit_huge_patch14_224",
    "vit_base_patch32_clip_quickgelu_224",
    "vit_base_patch16_clip_quickgelu_224",
    "vit_large_patch14_clip_quickgelu_224",
    "vit_large_patch14_clip_quickgelu_336",
    "vit_base_patch16_siglip_224",
    "vit_base_patch16_siglip_256",
    "vit_base_patch16_siglip_384",
    "vit_large_patch16_siglip_256",
    "vit_large_patch16_siglip_384",
    "vit_so400m_patch14_siglip_224",
]
SIZED = {
    "small": {"hidden_size": 384, "num_attention_heads": 6},
    "base": {"hidden_size": 768, "num_attention_heads": 12},
    "large": {"hidden_size": 1024, "num_attention_heads": 16, "num_hidden_layers": 24},
}


def full_transformers():
    t = transformers
    for size in ("base", "large"):
        config = t.ViTConfig(**SIZED[size], intermediate_size=4 * SIZED[size]["hidden_size"])
        yield f"huggingface vit_{size}_patch16_224", t.ViTForImageClassification(config)
    for size, own in SIZED.items():
        own = {**own, "image_size": 518, "patch_size": 14}
        yield f"huggingface vit_{size}_patch14_dinov2", t.Dinov2Model(t.Dinov2Config(**own))
        registers = t.Dinov2WithRegistersConfig(**own)
        network = t.Dinov2WithRegistersModel(registers)
        yield f"huggingface vit_{size}_patch14_reg4_dinov2", network
    clip = {
        "base_patch32_clip_224": ("base", 32, 224, 512),
        "base_patch16_clip_224": ("base", 16, 224, 512),
        "large_patch14_clip_224": ("large", 14, 224, 768),
        "large_patch14_clip_336": ("large", 14, 336, 768),
    }
    for name, (size, patch, side, projection) in clip.items():
        vision = {**tower(size), "patch_size": patch, "image_size": side}
        config = t.CLIPConfig(vision_config=vision, text_config=TEXT, projection_dim=projection)
        yield f"huggingface vit_{name}", t.CLIPModel(config)
    for size, side in (("base", 224), ("base", 384), ("large", 256)):
        vision = {**tower(size), "patch_size": 16, "image_size": side}
        config = t.SiglipConfig(vision_config=vision, text_config=TEXT)
        yield f"huggingface vit_{size}_patch16_siglip_{side}", t.SiglipModel(config)


def tower(size):
    return {**SIZED[size], "intermediate_size": 4 * SIZED[size]["hidden_size"]}


def full_originals():
    import model
    from dinov2.hub import backbones

    for size in ("small", "base", "large"):
        make = getattr(backbones, f"dinov2_vit{size[0]}14")
        yield f"dinov2 vit_{size}_patch14_dinov2", make(pretrained=False)
        make = getattr(backbones, f"dinov2_vit{size[0]}14_reg")
        yield f"dinov2 vit_{size}_patch14_reg4_dinov2", make(pretrained=False)
    text = (77, 50, 64, 1, 1)
    yield "openai vit_base_patch32_clip_224", model.CLIP(512, 224, 12, 768, 32, *text)
    yield "openai vit_base_patch16_clip_224", model.CLIP(512, 224, 12, 768, 16, *text)
    yield "openai vit_large_patch14_clip_224", model.CLIP(768, 224, 24, 1024, 14, *text)
