"""What is computed in a thread, ahead of its use."""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import sklearn

Item = TypeVar("Item")
Result = TypeVar("Result")


def one_ahead(function: Callable[[Item], Result], items: Sequence[Item]) -> Iterator[Result]:
    """Yield the result of a function for each item; the next one is computed meanwhile.

    What the function raises is raised when its result is asked for. scikit-learn's configuration is
    that of the caller, which other threads would not have.
    """
    if len(items) < 2:
        yield from map(function, items)
        return
    config = sklearn.get_config()

    def compute(item: Item) -> Result:
        with sklearn.config_context(**config):
            return function(item)

    with ThreadPoolExecutor(max_workers=1) as thread:
        coming = thread.submit(compute, items[0])
        for item in items[1:]:
            result, coming = coming, thread.submit(compute, item)
            yield result.result()
        yield coming.result()
