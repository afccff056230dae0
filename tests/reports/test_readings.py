"""What pages say of the methods of explanation."""

from vision_jax.explain import METHODS
from vision_jax.reports.readings import READINGS


def test_every_method_is_explained_and_offered():
    assert READINGS.keys() == METHODS.keys() | {"similarity"}
