"""Conditions on metadata, against plain comparisons."""

import datetime
import re

import numpy as np
import pytest

from vision_jax.errors import InputError
from vision_jax.gallery import select_ids
from vision_jax.gallery.conditions import meets
from vision_jax.search import CosineIndex

ROWS = [
    {"label": "cat", "taken": "2023-12-31T23:59:59", "latitude": 40.0, "camera": "2024"},
    {"label": "dog", "taken": "2024-05-01T00:00:00", "latitude": -3.5},
    {"label": "a>b", "taken": "2024-05-31T23:59:59", "latitude": 50},
    {"label": "2024-05-01", "taken": "2024-06-01T00:00:00"},
    {"label": "x..y"},
]


def places(*conditions):
    return np.flatnonzero(meets(ROWS, conditions)).tolist()


@pytest.mark.parametrize(
    ("condition", "expected"),
    [
        ("taken=2024-05", [1, 2]),
        ("taken>=2024-05", [1, 2, 3]),
        ("taken>2024-05", [3]),
        ("taken<=2024-05", [0, 1, 2]),
        ("taken<2024-05", [0]),
        ("taken=2023..2024-05", [0, 1, 2]),
        ("taken=2024-05-01..2024-05-30", [1]),
        ("taken=2024-05-31T23:59", [2]),
        ("taken>2024-05-31 23:59:58", [2, 3]),
        ("latitude>=40", [0, 2]),
        ("latitude>40", [2]),
        ("latitude<4e1", [1]),
        ("latitude=-4..40", [0, 1]),
        ("latitude=50.0", [2]),
        ("latitude<=inf", [0, 1, 2]),
        ("label=a>b", [2]),
        ("label=2024-05", []),
        ("label=2024-05-01", [3]),
        ("label=x..y", [4]),
        ("camera=2024", [0]),
        ("label=None", []),
        ("camera=None", []),
    ],
)
def test_a_condition_holds_as_written(condition, expected):
    assert places(condition) == expected


def test_equalities_of_a_field_are_choices_and_all_else_must_hold():
    assert places("label=cat", "label=dog") == [0, 1]
    assert places("label=cat", "label=dog", "latitude>0") == [0]
    assert places("taken>=2024", "taken<2024-06") == [1, 2]
    assert places("taken=2023", "taken=2024-06", "taken<2024") == [0]
    assert places("latitude=40", "latitude=50..60", "latitude>45") == [2]


def test_random_dates_and_bounds_compare_as_datetimes_do():
    rng = np.random.default_rng(0)
    start = datetime.datetime(2020, 1, 1)
    times = [start + datetime.timedelta(seconds=int(s)) for s in rng.integers(0, 10**8, 200)]
    rows = [{"taken": time.isoformat()} for time in times]
    for time in times[:15]:
        for length, last in ((4, {"month": 12, "day": 31}), (10, {}), (13, {})):
            bound = time.isoformat()[:length]
            first = datetime.datetime.fromisoformat(bound + "0001-01-01T00:00:00"[length:])
            end = time.replace(**last, minute=59, second=59) if last or length == 13 else None
            end = end or time.replace(hour=23, minute=59, second=59)
            end = end.replace(hour=23) if length < 13 else end
            expected = {
                "<": [t < first for t in times],
                "<=": [t <= end for t in times],
                ">": [t > end for t in times],
                ">=": [t >= first for t in times],
                "=": [first <= t <= end for t in times],
            }
            for sign, which in expected.items():
                assert meets(rows, [f"taken{sign}{bound}"]) == which, (sign, bound)


@pytest.mark.parametrize(
    ("condition", "message"),
    [
        ("label", "a condition is 'label'; it must be FIELD=VALUE"),
        ("=cat", "a condition is '=cat'; it must be FIELD=VALUE"),
        ("taken=May", "taken is a date; one such as 2024-05-17"),
        ("taken>=2024-13", "taken is a date"),
        ("taken>2023..2024", "taken is a date"),
        ("taken=2025..2024", "'taken=2025..2024', an empty range; the lower end first"),
        ("latitude=north", "latitude is a number; one such as 40.5"),
        ("latitude>nan", "latitude is a number"),
        ("latitude=50..40", "an empty range"),
        ("latitude=..40", "latitude is a number"),
        ("label>cat", "label is text; only = is possible"),
        ("camera<2025", "camera is text"),
        ("longitude>3", "images have no 'longitude'; they have camera, label, latitude, taken"),
    ],
)
def test_what_does_not_fit_is_refused(condition, message):
    with pytest.raises(InputError, match=re.escape(message)):
        meets(ROWS, [condition])


def test_ids_are_those_of_the_images_that_meet_all():
    index = CosineIndex(2)
    fixed = {"digest": "", "split": "test"}
    rows = [row | fixed | {"key": str(place)} for place, row in enumerate(ROWS)]
    index.add(np.eye(2)[[0, 1, 0, 1, 0]], ids=[9, 3, 5, 7, 1], metadata=rows)
    assert select_ids(index, ["taken>=2024", "latitude<100"]).tolist() == [3, 5]
    assert select_ids(index, []).tolist() == [9, 3, 5, 7, 1]
    with pytest.raises(InputError, match=r"no indexed image meets label=cat taken>2024"):
        select_ids(index, ["label=cat", "taken>2024"])


def test_true_is_found_as_a_listing_writes_it():
    rows = [{"indoors": True}, {"indoors": False}, {"indoors": None}]
    assert meets(rows, ["indoors=true"]) == [True, False, False]
