"""Several files at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from ftjobs.storage.protocol import Storage

Item = TypeVar("Item")
Result = TypeVar("Result")

_FILES_AT_A_TIME = 8


def in_parallel(storage: Storage, work: Callable[[Item], Result], items: Iterable[Item]) -> list[Result]:
    """`[work(item) for item in items]`, several at a time; raises the first error, and starts nothing more after it.

    When the process is asked to end (KeyboardInterrupt and its like), it does not wait for what is under way.
    """
    pool = ThreadPoolExecutor(_FILES_AT_A_TIME, thread_name_prefix="ftjobs-files")
    try:
        return list(pool.map(work, items))
    except Exception:
        pool.shutdown(cancel_futures=True)
        raise
    except BaseException:
        storage.hurry()
        pool.shutdown(wait=False, cancel_futures=True)
        raise
    finally:
        pool.shutdown(wait=False)
