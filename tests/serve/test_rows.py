"""What a server knows of the metadata of images."""

import pytest

from vision_jax.serve.rows import date_of, facts_of

MODIFIED = {"modified": "2023-01-02T03:04:05"}


@pytest.mark.parametrize("taken", ["2024:05:17 10:00:00", "summer 1999", 1999, ""])
def test_only_dates_are_compared_as_dates(taken):
    row = {"key": "a", "split": "all", "taken": taken}
    assert date_of(row | MODIFIED) == ""
    assert facts_of([row]).dates is None


def test_a_date_taken_comes_before_one_modified():
    assert date_of({"taken": "2024-05"} | MODIFIED) == "2024-05"
    assert date_of({"taken": None} | MODIFIED) == date_of(MODIFIED) == MODIFIED["modified"]
