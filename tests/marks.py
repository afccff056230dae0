"""Marks that files of tests have in common."""

import pytest


def slow_but(quick, cases):
    """Leave all cases but some to the slow tests."""
    return [one if one in quick else pytest.param(one, marks=pytest.mark.slow) for one in cases]
