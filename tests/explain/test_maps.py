"""Maps of runs, whatever the images, the target and the method."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import vision_jax
from vision_jax.errors import InputError
from vision_jax.explain import METHODS, Class, Cosine, Difference, Neuron, saliency, target_scores


@pytest.fixture(scope="module")
def run(workdir):
    return vision_jax.load_run(workdir)


@pytest.fixture(scope="module")
def images(run):
    return np.stack([example["image"] for example in run.source("test").read(range(5))])


def test_integrated_gradients_are_complete(run, images):
    """A map sums to the score less that of the baseline."""
    maps = saliency(run, images, "integrated_gradients", 3)
    lost = target_scores(run, images, 3) - target_scores(run, np.zeros_like(images), 3)
    np.testing.assert_allclose(maps.sum((1, 2)), lost, rtol=0.01, atol=0.01)


def test_the_predicted_class_is_the_default(run, images):
    predicted = run.predict(images).argmax(1)
    for method in ("grad_cam", "integrated_gradients"):
        own = saliency(run, images, method)
        np.testing.assert_allclose(own, saliency(run, images, method, predicted), atol=1e-5)
        named = [run.info.label_names[label] for label in predicted]
        np.testing.assert_allclose(own, saliency(run, images, method, Class(named)), atol=1e-5)


def test_a_difference_is_that_of_two_maps(run, images):
    """The gradient is linear in the score."""
    maps = saliency(run, images, "gradient_x_input", Difference(3, "5"))
    parts = [saliency(run, images, "gradient_x_input", label) for label in (3, 5)]
    np.testing.assert_allclose(maps, parts[0] - parts[1], atol=1e-5)


def test_the_cosine_with_itself_is_one(run, images):
    np.testing.assert_allclose(target_scores(run, images, Cosine(images)), 1, atol=1e-5)
    # …and at its maximum, where it does not change.
    maps = saliency(run, images, "gradient", Cosine(images))
    other = saliency(run, images, "gradient", Cosine(images[0]))
    assert maps.max() < 0.01 * other.max()


def test_a_neuron_is_an_element_of_an_endpoint(run, images):
    vectors = run.embed(images)
    np.testing.assert_allclose(
        target_scores(run, images, Neuron("embedding", 7)), vectors[:, 7], atol=1e-5
    )


# Small, so that the tests are quick.
OPTIONS = {
    "integrated_gradients": {"steps": 8},
    "smooth_grad": {"samples": 3},
    "rise": {"masks": 300, "grid": 3},
    "shapley": {"permutations": 2, "grid": 2},
}


QUICK = ("hires_cam", "gradient_x_input", "occlusion")


@pytest.mark.parametrize(
    "method",
    [
        pytest.param(name, marks=[] if name in QUICK else pytest.mark.slow)
        for name in METHODS
        if name != "attention_rollout"
    ],
)
def test_sources_floats_and_parts_give_equal_maps(run, images, method):
    options = OPTIONS.get(method, {})
    whole = saliency(run, images, method, **options)
    assert whole.dtype == np.float32
    part = saliency(run, np.float32(images[:2]) / 255, method, **options)
    np.testing.assert_allclose(whole[:2], part, atol=1e-4 * np.abs(whole).max())
    assert saliency(run, [], method, **options).shape == (0, 8, 8)


@pytest.mark.slow
@pytest.mark.parametrize("method", ["occlusion", "rise", "shapley"])
def test_black_boxes_are_the_pure_functions_in_parts(run, images, method):
    """The run's map is that of the predicted class's logit as a function of images."""
    options = OPTIONS.get(method, {})
    label = int(run.predict(images[:1]).argmax())
    pixels = np.float32(images[:1]) / 255
    keys = [jax.vmap(lambda number: jax.random.fold_in(jax.random.key(5), number))(jnp.arange(1))]
    expected = METHODS[method](
        lambda x: run.task.logits(run.state, x)[:, label],
        jnp.asarray(pixels),
        *([] if method == "occlusion" else keys),
        **options,
    )
    made = saliency(run, images[:1], method, seed=5, **options)
    np.testing.assert_allclose(made, expected, atol=1e-4 * np.abs(expected).max())


def test_a_source_is_read_as_an_array_is(run, images):
    source = run.source("test")
    whole = saliency(run, source, "hires_cam")
    assert whole.shape == (len(source), 8, 8)
    np.testing.assert_allclose(whole[:5], saliency(run, images, "hires_cam"), atol=1e-4)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("grad_camm",), "method is 'grad_camm'; did you mean 'grad_cam'"),
        (
            ("grad_cam", 10),
            r"target is 10; a class's number in \[0, 10\) or its name is needed, one of 0, 1",
        ),
        (("grad_cam", "ten"), "target is 'ten'"),
        (("grad_cam", [1, 2]), "target has 2 classes; one, or one for each of 5 images"),
        (
            ("grad_cam", Neuron("embedding", 64)),
            r"target.index is 64; embedding is of shape \(64,\)",
        ),
        (("grad_cam", Neuron("dense", 1)), "target.endpoint is 'dense'"),
        (("grad_cam", Cosine(np.ones(3))), "references of 3 values; the run embeds to 64"),
    ],
)
def test_bad_targets_are_refused(run, images, arguments, message):
    with pytest.raises(InputError, match=message):
        saliency(run, images, *arguments)


@pytest.mark.parametrize(
    ("method", "options", "message"),
    [
        ("grad_cam", {"steps": 3}, "steps is no option of grad_cam; it takes layer"),
        ("integrated_gradients", {"steps": 0}, "steps is 0; a whole number of at least 1"),
        ("integrated_gradients", {"baseline": "pink"}, "baseline is 'pink'.*black, white"),
        ("occlusion", {"baseline": 255}, r"baseline is from 255 to 255; values in \[0, 1\]"),
        ("occlusion", {"baseline": np.zeros((9, 8, 1))}, r"baseline has shape \(9, 8, 1\); a name"),
        ("integrated_gradients", {"baseline": np.nan}, "baseline is from nan to nan"),
        ("smooth_grad", {"seed": -1}, r"seed is -1; it must be in \[0, 2\*\*32\)"),
        ("grad_cam", {"layer": "stage9"}, "layer is 'stage9'.*stage1, stage2"),
    ],
)
def test_bad_options_are_refused(run, images, method, options, message):
    with pytest.raises(InputError, match=message):
        saliency(run, images, method, **options)


def test_images_of_another_shape_are_refused(run):
    with pytest.raises(InputError, match=r"images have shape \(9, 9, 1\)"):
        saliency(run, np.zeros((2, 9, 9, 1), np.uint8))


def test_a_baseline_may_be_an_image_of_bytes(run, images):
    maps = [
        saliency(run, images, "integrated_gradients", 3, baseline=image)
        for image in (images[1], images[1].astype(np.float32) / 255)
    ]
    np.testing.assert_allclose(*maps, atol=1e-5)


@pytest.mark.parametrize("method", ["integrated_gradients", "occlusion"])
def test_another_baseline_compiles_nothing(run, images, method):
    options = {"steps": 4} if method == "integrated_gradients" else {"window": 4}
    first = saliency(run, images, method, 3, baseline=images[0], **options)
    compiled = []
    jax.monitoring.register_event_duration_secs_listener(
        lambda name, *_, **__: compiled.append(name)
    )
    black = [
        saliency(run, images, method, 3, baseline=baseline, **options)
        for baseline in (np.zeros_like(images[0]), np.zeros_like(images), [np.zeros((8, 8, 1))])
    ]
    assert [name for name in compiled if "compile" in name] == []
    assert (first != black[0]).any()
    named = saliency(run, images, method, 3, baseline="black", **options)
    for maps in black:
        np.testing.assert_allclose(maps, named, atol=1e-5)


def test_classes_may_be_arrays(run, images):
    numbers = [1, 2, 3, 4, 5]
    wanted = target_scores(run, images, numbers)
    for given in (np.array(numbers), jnp.array(numbers)):
        np.testing.assert_array_equal(target_scores(run, images, given), wanted)
    one = target_scores(run, images, 3)
    for given in (np.int64(3), np.array(3), jnp.argmax(jnp.arange(4))):
        np.testing.assert_array_equal(target_scores(run, images, given), one)


@pytest.mark.parametrize("method", ["smooth_grad", "rise"])
def test_another_seed_compiles_nothing(run, images, method):
    options = {"samples": 4} if method == "smooth_grad" else {"masks": 8}
    first = saliency(run, images, method, 3, **options)
    compiled = []
    jax.monitoring.register_event_duration_secs_listener(
        lambda name, *_, **__: compiled.append(name)
    )
    second = saliency(run, images, method, 3, seed=1, **options)
    assert [name for name in compiled if "compile" in name] == []
    assert (first != second).any()
    np.testing.assert_array_equal(saliency(run, images, method, 3, **options), first)
