"""What the performance benchmarks share: interleaved timing, and the tables of one page."""

import gc
import re
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

PAGE = Path(__file__).parent.parent / "docs" / "performance.md"


def interleaved_seconds(
    functions: Mapping[str, Callable[[], object]], repetitions: int
) -> dict[str, list[float]]:
    """Time functions in turn, so that whatever else the machine does meets all of them alike.

    Every function runs twice untimed first, which is when it is compiled.
    """
    seconds: dict[str, list[float]] = {name: [] for name in functions}
    for function in functions.values():
        function()
        function()
    gc.disable()
    try:
        for _ in range(repetitions):
            for name, function in functions.items():
                start = time.perf_counter()
                function()
                seconds[name].append(time.perf_counter() - start)
    finally:
        gc.enable()
    return seconds


def medians(functions: Mapping[str, Callable[[], object]], repetitions: int) -> dict[str, float]:
    """Return the median time of each function in seconds, timed in turn."""
    seconds = interleaved_seconds(functions, repetitions)
    return {name: statistics.median(times) for name, times in seconds.items()}


def report(name: str, header: Sequence[str], rows: Sequence[Sequence[Any]], write: bool) -> None:
    """Print a table, and put it into its place on the page if `write` is set.

    Its place is between the comments ``<!-- name -->`` and ``<!-- end -->``.
    """
    lines = ["| " + " | ".join(map(str, row)) + " |" for row in (header, *rows)]
    lines.insert(1, "|---" * len(header) + "|")
    table = "\n".join(lines)
    print(table, flush=True)
    if write:
        page, n_places = re.subn(
            rf"(<!-- {name} -->\n).*?(<!-- end -->)",
            lambda match: f"{match[1]}\n{table}\n\n{match[2]}",
            PAGE.read_text(),
            flags=re.DOTALL,
        )
        if n_places != 1:
            raise ValueError(f"{PAGE} has {n_places} places for the table {name!r}, not one.")
        PAGE.write_text(page)
