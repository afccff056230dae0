"""The form for GPU and TPU: its answers on a CPU, and its program as exported."""

import re
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax._src.interpreters import mlir
from jax._src.lib.mlir import ir

from vision_jax.search import cosine_top_k, kernel, tiled
from vision_jax.search.kernel import RawRows, Rows

RNG = np.random.default_rng(0)
DIM = 16

search = jax.jit(tiled.search, static_argnums=(3, 4, 5))
search_coarse = jax.jit(tiled.search_coarse, static_argnums=(5, 6))


def unit(count):
    rows = RNG.standard_normal((count, DIM), np.float32)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def brute_force(queries, rows, where, k):
    rows = rows.astype(np.float64)
    lengths = np.linalg.norm(rows, axis=1)
    scores = queries.astype(np.float64) @ (rows / np.where(lengths > 0, lengths, 1)[:, None]).T
    scores = np.where(where, scores, -np.inf)
    ids = np.argsort(-scores, axis=1, kind="stable")[:, :k]
    best = np.take_along_axis(scores, ids, 1)
    return best, np.where(best > -np.inf, ids, -1)


def same(found, expected):
    np.testing.assert_allclose(found[0], expected[0], atol=1e-6)
    np.testing.assert_array_equal(found[1], expected[1])


# So small that a test's gallery takes many tiles and slabs.
SMALL = tiled.Form(tile=20 * 2500, kept=20 * 200)


@pytest.mark.parametrize(("queries", "k", "each"), [(1, 10, False), (3, 100, True), (20, 10, True)])
def test_equals_brute_force(queries, k, each):
    rows = RNG.standard_normal((20_011, DIM), np.float32) * 5
    asked = unit(queries)
    where = RNG.random((queries if each else 1, len(rows))) < 0.5
    found = search(asked, RawRows(jnp.asarray(rows)), where, len(rows), k, SMALL)
    same(found, brute_force(asked, rows, where, k))


@pytest.mark.parametrize("dtype", ["int8", "bfloat16"])
def test_a_rounded_copy_proves_its_answers(dtype):
    rows, asked, used = unit(20_000), unit(20), 9_000
    where = (RNG.random((1, len(rows))) < 0.5) & (np.arange(len(rows)) < used)
    held = Rows(jnp.asarray(rows), jnp.ones(len(rows)))
    coarse = kernel.round_to(held.values, dtype)
    scores, ids, proven = search_coarse(asked, held, coarse, where, jnp.int32(used), 10, SMALL)
    assert proven.all()
    same((scores, ids), brute_force(asked, rows, where, 10))


def test_equal_rows_go_to_the_lower_id_in_a_second_pass():
    rows = np.tile(unit(100), (200, 1))
    asked = jnp.asarray(np.concatenate([rows[:5], unit(4)]))
    where = jnp.ones((1, len(rows)), bool)
    held = Rows(jnp.asarray(rows), jnp.ones(len(rows)))
    coarse = kernel.round_to(held.values, "bfloat16")
    *_, proven = search_coarse(asked, held, coarse, where, len(rows), 10)
    assert not proven.any()  # too many rows score as high as the tenth
    _, ids = search(asked, held, where, len(rows), 10)
    np.testing.assert_array_equal(ids[:5], np.arange(5)[:, None] + 100 * np.arange(10))


def test_rows_without_a_direction_and_few_that_may_be_found():
    rows = unit(5_000)
    rows[3], rows[4], rows[5] = np.nan, np.inf, 0
    where = np.zeros((1, len(rows)), bool)
    where[0, :7] = True
    asked = np.concatenate([rows[7:15], np.zeros((1, DIM), np.float32)])
    given = (jnp.asarray(asked), RawRows(jnp.asarray(rows)), jnp.asarray(where), len(rows), 10)
    scores, ids = search(*given)
    scaled, sound = kernel.measured(*given[1:3])
    same((scores, ids), kernel.search(given[0], scaled, sound, len(rows), 10))
    assert set(np.asarray(ids).flat) == {0, 1, 2, 5, 6, -1}


def test_scores_have_gradients():
    rows, asked = unit(5_000), unit(9)
    held = Rows(jnp.asarray(rows), jnp.ones(len(rows)))
    where = np.ones((1, len(rows)), bool)
    best = partial(search, rows=held, where=where, used=len(rows), k=2)
    gradient = jax.grad(lambda queries: best(queries)[0].sum())(jnp.asarray(asked))
    ids = np.asarray(best(asked)[1])
    np.testing.assert_allclose(gradient, rows[ids].sum(1), atol=1e-6)


def cost(operations, functions, times=1):
    """Count multiplications of products, bytes of rows read, and steps, on the way mostly taken."""
    total = np.zeros(3)
    for operation in operations:
        name, branches = operation.name, [region.blocks[0] for region in operation.regions]
        if name == "stablehlo.while":
            (compare,) = (o for o in branches[0] if o.name == "stablehlo.compare")
            limit = compare.operands[1].owner
            steps = int(ir.DenseIntElementsAttr(limit.attributes["value"])[0])
            total += cost(branches[1], functions, times * steps)
            total[2] += times * steps
        elif name == "stablehlo.case":  # of the last branch: what was found is proven
            total += cost(branches[-1], functions, times)
        elif name == "func.call":
            callee = ir.FlatSymbolRefAttr(operation.attributes["callee"]).value
            total += cost(functions[callee].regions[0].blocks[0], functions, times)
        elif name == "stablehlo.dot_general":
            inputs = ir.RankedTensorType(operation.operands[0].type).shape
            outputs = ir.RankedTensorType(operation.results[0].type).shape
            total[0] += times * inputs[1] * np.prod(outputs)
        elif name in ("stablehlo.dynamic_slice", "stablehlo.gather"):
            shape = ir.RankedTensorType(operation.results[0].type).shape
            if shape[-1] == WIDTH:
                total[1] += times * 4 * np.prod(shape)
    return total


WIDTH, ITEMS = 128, 10_000_000


@pytest.mark.parametrize(("platform", "queries"), [("cuda", 128), ("cuda", 4096), ("tpu", 4096)])
def test_its_program_does_little_more_than_it_must(platform, queries):
    shapes = (
        jax.ShapeDtypeStruct((queries, WIDTH), jnp.float32),
        jax.ShapeDtypeStruct((ITEMS, WIDTH), jnp.float32),
    )
    find = jax.jit(lambda queries, rows: cosine_top_k(queries, rows, 10))
    text = jax.export.export(find, platforms=[platform])(*shapes).mlir_module()
    with mlir.make_ir_context():
        module = ir.Module.parse(text)
        functions = {ir.StringAttr(f.attributes["sym_name"]).value: f for f in module.body}
        products, read, steps = cost(functions["main"].regions[0].blocks[0], functions)
    assert queries * ITEMS * WIDTH <= products < 1.2 * queries * ITEMS * WIDTH
    shortlist = queries * kernel.shortlist_size(10) * kernel.GROUP
    # The gallery's rows once, and each query's shortlist once more, in float32. For many queries
    # the shortlists, which proofs need, are no small part: 1.63 times the gallery for 4,096.
    assert read == pytest.approx((ITEMS + shortlist) * WIDTH * 4, rel=0.01)
    assert read / (ITEMS * WIDTH * 4) < {128: 1.03, 4096: 1.64}[queries]
    assert steps < 1.2 * queries * ITEMS / tiled.FORM.tile + 1  # over rows, and none over queries
    for product in re.findall(r"dot_general.*?->", text):
        assert "bf16>, " in product or "HIGHEST, HIGHEST" in product  # and never TF32
