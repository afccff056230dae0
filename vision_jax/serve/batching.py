"""Calls that come together are worked on together, by one thread."""

import queue
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import Any, Generic, TypeVar

from vision_jax.serve.faults import RequestError

_PATIENCE = 0.6  # of a batch's time: those who come late would need about a batch of their own
_LONGEST = 0.1  # seconds: a batch that had to compile says nothing about the next

Job = TypeVar("Job")
Answer = TypeVar("Answer")


class Batcher(Generic[Job, Answer]):
    """Gathers jobs and has them answered many at a time.

    What comes while a batch is worked on makes the next one, so that the more there is to do, the
    larger batches get. Callers who were just answered are likely to ask again at once: for as many
    jobs as were answered the next batch waits a little, or two groups of callers would take turns
    and each wait for the other.

    Args:
        answer: jobs to one answer each, in order; an exception among them is that job's alone.
        size: how much of a batch a job takes.
        largest: of a batch; a single job may be larger.
        wait: seconds that the next batch waits at least after one, while fewer jobs have come than
            are expected; longer after a batch that took long.
        waiting: jobs that may wait; more are refused.
        seen: called with the size of each batch.
    """

    def __init__(
        self,
        answer: Callable[[Sequence[Job]], Sequence[Answer | Exception]],
        *,
        size: Callable[[Job], int] = lambda job: 1,
        largest: int = 128,
        wait: float = 0.002,
        waiting: int = 512,
        seen: Callable[[int], None] = lambda count: None,
    ) -> None:
        self._answer, self._size, self._seen = answer, size, seen
        self._largest, self._wait = largest, wait
        self._queue: queue.Queue[tuple[Job, Future[Answer]] | None] = queue.Queue(waiting)
        self._left: tuple[Job, Future[Answer]] | None = None  # did not fit into the last batch
        self._until, self._expected = 0.0, 0  # when the next batch begins, or with how much
        self._thread = threading.Thread(target=self._work, daemon=True)
        self._thread.start()

    def submit(self, job: Job) -> "Future[Answer]":
        """Put a job into the next batch.

        Raises:
            RequestError: too many are waiting.
        """
        future: Future[Answer] = Future()
        try:
            self._queue.put_nowait((job, future))
        except queue.Full:
            raise RequestError("too many requests are waiting; try again", status=503) from None
        return future

    def close(self) -> None:
        """End the thread after the jobs that wait."""
        self._queue.put(None)
        self._thread.join()

    def _work(self) -> None:
        while (first := self._left or self._queue.get()) is not None:
            self._left = None
            batch, ended = self._gather(first)
            # A caller that is gone has cancelled its future.
            batch = [part for part in batch if part[1].set_running_or_notify_cancel()]
            if batch:
                self._seen(sum(self._size(job) for job, _ in batch))
                self._finish(batch)
            if ended:
                return

    def _gather(self, first: Any) -> tuple[list[Any], bool]:
        batch, size = [first], self._size(first[0])
        while size < self._largest:
            left = self._until - time.monotonic() if size < self._expected else 0.0
            try:
                part = self._queue.get(timeout=left) if left > 0 else self._queue.get_nowait()
            except queue.Empty:
                break
            if part is None:
                return batch, True
            size += self._size(part[0])
            if size > self._largest:
                self._left = part
                break
            batch.append(part)
        return batch, False

    def _finish(self, batch: list[Any]) -> None:
        began = time.monotonic()
        try:
            answers: Sequence[Answer | Exception] = self._answer([job for job, _ in batch])
        except Exception as error:
            answers = [error] * len(batch)
        done = time.monotonic()
        patience = min(_LONGEST, _PATIENCE * (done - began))
        self._until = done + max(self._wait, patience)
        self._expected = self._queue.qsize() + sum(self._size(job) for job, _ in batch)
        for (_, future), answer in zip(batch, answers, strict=True):
            if isinstance(answer, Exception):
                future.set_exception(answer)
            else:
                future.set_result(answer)
