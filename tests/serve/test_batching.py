"""Jobs that come together are worked on together, and none is lost."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor, wait

import pytest

from vision_jax.serve.batching import Batcher
from vision_jax.serve.faults import RequestError


def test_each_job_gets_its_own_answer_and_batches_are_bounded():
    sizes = []

    def answer(jobs):
        time.sleep(0.001)
        return [job * 2 for job in jobs]

    batcher = Batcher(answer, largest=8, wait=0.001, seen=sizes.append)
    with ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(lambda job: batcher.submit(job).result(10), range(500)))
    batcher.close()
    assert answers == [2 * job for job in range(500)]
    assert sum(sizes) == 500
    assert 1 < max(sizes) <= 8


def test_a_fault_is_its_jobs_alone():
    def answer(jobs):
        return [ValueError(job) if job == 2 else job for job in jobs]

    batcher = Batcher(answer, wait=0.05)
    futures = [batcher.submit(job) for job in range(4)]
    wait(futures, 10)
    batcher.close()
    assert isinstance(futures[2].exception(), ValueError)
    assert [futures[job].result() for job in (0, 1, 3)] == [0, 1, 3]


def test_what_fails_as_a_whole_fails_each_and_the_thread_goes_on():
    def answer(jobs):
        if "bad" in jobs:
            raise MemoryError
        return jobs

    batcher = Batcher(answer)
    with pytest.raises(MemoryError):
        batcher.submit("bad").result(10)
    assert batcher.submit("good").result(10) == "good"
    batcher.close()


def test_too_many_are_refused_and_those_who_are_gone_are_left_out():
    free, seen = threading.Event(), []

    def answer(jobs):
        free.wait(10)
        seen.extend(jobs)
        return jobs

    batcher = Batcher(answer, waiting=3, wait=0.0)
    first = batcher.submit(0)
    while not first.running():
        time.sleep(0.001)
    others = [batcher.submit(job) for job in (1, 2, 3)]
    with pytest.raises(RequestError) as refused:
        batcher.submit(4)
    assert refused.value.status == 503
    others[1].cancel()
    free.set()
    wait([first, others[0], others[2]], 10)
    batcher.close()
    assert seen == [0, 1, 3]


def test_who_was_just_answered_is_waited_for_and_nobody_else():
    free, sizes = threading.Event(), []

    def answer(jobs):
        free.wait(10)
        return jobs

    batcher = Batcher(answer, wait=5.0, seen=sizes.append)
    began = time.monotonic()
    first = batcher.submit(0)
    while not first.running():
        time.sleep(0.001)
    others = [batcher.submit(job) for job in (1, 2, 3)]
    free.set()
    first.result(10)
    time.sleep(0.05)
    wait([*others, batcher.submit(4)], 10)
    assert sizes == [1, 4]  # and no 3 before
    wait([batcher.submit(job) for job in (5, 6, 7, 8)], 10)
    assert sizes == [1, 4, 4]
    assert time.monotonic() - began < 4  # each began once complete
    batcher.close()
