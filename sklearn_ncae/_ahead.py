"""What is computed in a thread, ahead of its use."""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


def one_ahead(function: Callable[[Item], Result], items: Sequence[Item]) -> Iterator[Result]:
    """Yield the result of a function for each item; the next one is computed meanwhile.

    What the function raises is raised when its result is asked for.
    """
    if len(items) < 2:
        yield from map(function, items)
        return
    with ThreadPoolExecutor(max_workers=1) as thread:
        coming = thread.submit(function, items[0])
        for item in items[1:]:
            result, coming = coming, thread.submit(function, item)
            yield result.result()
        yield coming.result()
