"""Answers are JSON that every parser reads."""

import json

from vision_jax.serve.answers import JSONAnswer


def strict(text: bytes):
    """Read JSON as its standard has it."""
    return json.loads(text.decode("ascii"), parse_constant=lambda name: 1 / 0)


def test_what_is_no_number_is_null_at_any_depth_and_the_rest_stays():
    content = {"a": [1.5, float("nan"), {"b": (float("-inf"), "é\udc80")}], "c": True, "d": None}
    read = strict(JSONAnswer(content).body)
    assert read == {"a": [1.5, None, {"b": [None, "é\udc80"]}], "c": True, "d": None}
    assert strict(JSONAnswer({"score": 0.1}).body) == {"score": 0.1}
