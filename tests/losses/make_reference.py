"""Write reference.npz: losses and gradients of pytorch-metric-learning and of published formulas.

    pip install torch==2.13.0 pytorch-metric-learning==2.9.0
    python tests/losses/make_reference.py

Inputs are float32, losses and gradients are computed in float64. Each loss is the mean over the
batch. What pytorch-metric-learning lacks is written in PyTorch as its authors' code has it.
"""

from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from pytorch_metric_learning import losses, miners, reducers

CLASSES, EACH, DIM, CENTRES = 8, 3, 6, 2

random = np.random.default_rng(0)
labels = np.repeat(np.arange(CLASSES), EACH)
means = random.normal(size=(CLASSES, DIM))
vectors = means[labels] + 1.2 * random.normal(size=(len(labels), DIM))
vectors[-1] = -8 * means[-1] + 0.1 * random.normal(size=DIM)  # an angle near π
given = {
    "labels": labels,
    "vectors": vectors,
    "tight": means[labels] + 0.5 * random.normal(size=vectors.shape),
    "square": random.normal(size=(EACH + 1, DIM)).repeat(EACH + 1, 0)
    + random.normal(size=((EACH + 1) ** 2, DIM)),
    "right": vectors + 0.3 * random.normal(size=vectors.shape),
    "centres": means + 0.5 * random.normal(size=(CLASSES, DIM)),
    "sub_centres": means[:, None] + 0.5 * random.normal(size=(CLASSES, CENTRES, DIM)),
    "student": random.normal(size=(5, 4, 7)),
    "teacher": random.normal(size=(5, 2, 7)),
    "centre": random.normal(size=7),
}
given = {k: v if k == "labels" else v.astype(np.float32) for k, v in given.items()}
found = {}


def record(name, loss, *inputs):
    """Store the value of a loss of some inputs, and its gradients."""
    leaves = [torch.tensor(given[key], dtype=torch.float64, requires_grad=True) for key in inputs]
    value = loss(*leaves)
    value.backward()
    found[f"{name}/value"] = value.detach().numpy()
    for key, leaf in zip(inputs, leaves, strict=True):
        grad = torch.zeros_like(leaf) if leaf.grad is None else leaf.grad
        found[f"{name}/{key}"] = grad.numpy()


def softmax(make):
    """A loss of PML with centres of its own, as a function of vectors and centres."""

    def loss(vectors, centres):
        module = make(num_classes=CLASSES, embedding_size=DIM)
        name = "proxies" if hasattr(module, "proxies") else "W"
        rows = centres.reshape(-1, DIM)
        delattr(module, name)
        setattr(module, name, rows if name == "proxies" else rows.T)
        module.cast_types = lambda *_: None
        return module(vectors, torch.tensor(labels))

    return loss


def pairwise(module, miner=None):
    def loss(vectors):
        names = torch.tensor(labels)
        return module(vectors, names, miner(vectors, names) if miner else None)

    return loss


def semi_hard(vectors):
    """Choose FaceNet's triplets by loops, and let PML compute their loss."""
    with torch.no_grad():
        far = torch.cdist(*[F.normalize(vectors)] * 2).numpy()
    triplets = []
    for a in range(len(labels)):
        others = [n for n in range(len(labels)) if labels[n] != labels[a]]
        for p in np.flatnonzero((labels == labels[a]) & (np.arange(len(labels)) != a)):
            farther = [n for n in others if far[a, n] > far[a, p]]
            n = (
                min(farther, key=lambda n: far[a, n])
                if farther
                else max(others, key=lambda n: far[a, n])
            )
            triplets.append((a, p, n))
    module = losses.TripletMarginLoss(margin=0.2, reducer=reducers.MeanReducer())
    return module(vectors, torch.tensor(labels), tuple(torch.tensor(triplets).T))


def off_diagonal(matrix):
    return matrix[~torch.eye(len(matrix), dtype=bool)]


def barlow_twins(left, right):
    scaled = [(x - x.mean(0)) / torch.sqrt(x.var(0, unbiased=False) + 1e-5) for x in (left, right)]
    c = scaled[0].T @ scaled[1] / len(left)
    return ((torch.diagonal(c) - 1) ** 2).sum() + 0.0051 * (off_diagonal(c) ** 2).sum()


def byol(left, right):
    """The two views' predictions are given, and are their own targets."""
    p, z = [[F.normalize(x, dim=-1) for x in (left, right)] for _ in range(2)]
    first, second = (2 - 2 * (p[i] * z[1 - i].detach()).sum(-1) for i in (0, 1))
    return ((first + second) / 2).mean()


def dino(student, teacher):
    """DINOLoss.forward of facebookresearch/dino, less the distributed parts."""
    outs = [student[:, v] / 0.1 for v in range(4)]
    targets = F.softmax((teacher.detach() - torch.tensor(given["centre"])) / 0.04, dim=-1)
    total, terms = 0, 0
    for iq in range(2):
        for v in range(4):
            if v != iq:
                term = torch.sum(-targets[:, iq] * F.log_softmax(outs[v], dim=-1), dim=-1)
                total, terms = total + term.mean(), terms + 1
    return total / terms


mean = reducers.MeanReducer()
record(
    "norm_softmax",
    softmax(lambda **k: losses.NormalizedSoftmaxLoss(temperature=0.05, **k)),
    "vectors",
    "centres",
)
record("cosface", softmax(losses.CosFaceLoss), "vectors", "centres")
record("arcface", softmax(losses.ArcFaceLoss), "vectors", "centres")
record(
    "sub_centre_arcface",
    softmax(lambda **k: losses.SubCenterArcFaceLoss(sub_centers=CENTRES, **k)),
    "vectors",
    "sub_centres",
)
record("proxy_anchor", softmax(losses.ProxyAnchorLoss), "vectors", "centres")
record("multi_similarity", pairwise(losses.MultiSimilarityLoss()), "tight")
record(
    "multi_similarity_mined",
    pairwise(losses.MultiSimilarityLoss(), miners.MultiSimilarityMiner(epsilon=0.1)),
    "tight",
)
record("supervised_contrastive", pairwise(losses.SupConLoss(reducer=mean)), "vectors")
record(
    "nt_xent",
    lambda left, right: losses.SelfSupervisedLoss(losses.NTXentLoss(temperature=0.5))(left, right),
    "vectors",
    "right",
)
record(
    "batch_hard",
    pairwise(losses.TripletMarginLoss(margin=0.2, reducer=mean), miners.BatchHardMiner()),
    "vectors",
)
record("semi_hard", semi_hard, "vectors")
# PML takes the images of a class for the number of classes, so both must be equal.
record(
    "smooth_ap",
    lambda rows: losses.SmoothAPLoss(temperature=0.1)(
        rows, torch.arange(EACH + 1).repeat_interleave(EACH + 1)
    ),
    "square",
)
record("vicreg", lambda left, right: losses.VICRegLoss()(left, ref_emb=right), "vectors", "right")
record("barlow_twins", barlow_twins, "vectors", "right")
record("byol", byol, "vectors", "right")
record("dino", dino, "student", "teacher")
np.savez_compressed(Path(__file__).with_name("reference.npz"), **given, **found)
