import threading
import time

import pytest

from vision_jax.parallel.threads import core_count, map_in_order


def test_results_come_in_order_and_items_are_taken_as_needed():
    taken, running, most, lock = [], 0, 0, threading.Lock()

    def items():
        for item in range(20):
            taken.append(item)
            yield item

    def square(item):
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        time.sleep(0.002 * (item % 3))
        with lock:
            running -= 1
        return item * item

    results = map_in_order(square, items(), 3)
    for place in range(20):
        assert next(results) == place * place
        assert len(taken) <= place + 4
    assert next(results, None) is None
    assert most <= 3


def test_an_error_ends_the_map():
    results = map_in_order(lambda item: 1 // item, [1, 0, 1], core_count())
    assert next(results) == 1
    with pytest.raises(ZeroDivisionError):
        next(results)
