"""The recipe for ImageNet."""

import jax
import resnet50_imagenet

from vision_jax.data.info import DataInfo
from vision_jax.run.build import build_task
from vision_jax.training.loop import initial_state


def test_recipe_is_resnet50_with_a_rate_for_each_256_images():
    config = resnet50_imagenet.recipe(batch_size=512)
    assert config.optimizer.learning_rate == 0.2
    names = tuple(map(str, range(1000)))
    task = build_task(config, DataInfo((224, 224, 3), names, 1_281_167, 2502))
    state = jax.eval_shape(lambda: initial_state(task, 0, (224, 224, 3)))
    # torchvision's resnet50 has as many.
    assert sum(leaf.size for leaf in jax.tree.leaves(state.params)) == 25_557_032


def test_bad_values_are_one_line(tmp_path, capsys):
    assert resnet50_imagenet.main(tmp_path, data_dir=str(tmp_path), batch_size=0) == 2
    assert capsys.readouterr().err.count("\n") == 1
