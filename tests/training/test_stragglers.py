import pytest

from vision_jax.training.stragglers import find_late, late_process


@pytest.mark.parametrize(
    ("waits", "late"),
    [
        ([0.01, 0.6, 0.02, 0.0], 1),
        ([0.5, 0.1], 0),
        ([0.5, 0.4], None),  # all wait: the storage is slow, not a process
        ([0.01, 0.1, 0.02], None),  # too little to matter
        ([0.9], None),
    ],
)
def test_the_process_that_the_others_wait_for_is_found(waits, late):
    assert find_late(waits) == late


def test_one_process_waits_for_nobody():
    assert late_process(0.9) is None
