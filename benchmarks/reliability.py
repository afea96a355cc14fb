"""Try what may go wrong and write docs/bad_input.md and docs/reliability.md about it.

    python benchmarks/reliability.py

Anything that is answered neither by an error nor as a plain float64 array would be, a damaged
model file that is neither refused nor loaded, scores of threads that differ from those of one
thread, or memory that grows, stops the script, and no page is written.
"""

import argparse
import copy
import re
import subprocess
import sys
import tempfile
import threading
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from fuzz_persistence import fuzz, peak_megabytes, reset_peak
from PIL import Image

from sklearn_ncae import NCAEDetector
from sklearn_ncae.images import read_image

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "tests"))
import bad_input  # noqa: E402

ALLOWED_GROWTH = 32  # megabytes

BAD_INPUT = """# Bad input

Made by `benchmarks/reliability.py` from the cases that the tests run. {n_arrays} inputs were given
to each of {n_tools} tools. Whatever they did not refuse, they answered as they answer the same
values as a plain float64 array, to four digits or better. Nothing was answered otherwise. (Images
of several sizes, which near_duplicate_groups is made for, are no such array.)

The tools are {tools}.

## Arrays

The estimators were fitted to 8 images of 16 x 16 pixels, so that images of another size are
refused by what scores and taken by what is fitted to them.

| input | refused by | for example |
| --- | --- | --- |
{arrays}

## Files

What `read_image`, and so `ImageLoader` and `load_image_folder`, say of files. By default the first
file that cannot be read raises, and the error names it. With `on_error="skip"`, a warning names
all of them and the others are read: `ImageLoader` gives a black image in the place of each, so
that the rows stay those of the paths, and lists these rows in `unreadable_`; set their scores to
nan, or their labels to -1. `load_image_folder` leaves them out, and `file_scoring.score_images`
and the command `ncae score` report an error for each.

| file | answer |
| --- | --- |
{files}

Names with letters of any language, quotes, tabs, emojis, a leading dash, and of the greatest length
are read.
"""

RELIABILITY = """# Reliability

What was tried to break the package, in numbers. This page is made by `benchmarks/reliability.py`,
which stops where something breaks.

| what | tried | result |
| --- | --- | --- |
| bad arrays, see [bad input](bad_input.md) | {n_pairs} pairs of an input and a tool | \
{n_refused} refused with an error that says why, {n_answered} answered as a plain float64 array |
| bad image files, see [bad input](bad_input.md) | {n_files} | {n_files_refused} refused by name, \
{n_files_read} read exactly |
| damaged model files | {n_fuzzed} | {n_fuzz_refused} refused with `ModelFileError`, \
{n_fuzz_loaded} loaded (what was changed was a date, an order or a number); no other error; \
slowest {slowest:.1f} s, peak of memory +{fuzz_grown:.0f} MB |
| scoring from {n_threads} threads at once | {n_threaded} calls | all bitwise equal to one thread |
| scoring again and again | {n_calls} calls | peak of memory +{grown:.0f} MB after the first tenth |
{faults}

The faults are tests (`make test`), which run on every change. Beyond that, the tests read stored
model files, which score as they did, and give tools arrays that
[hypothesis](https://hypothesis.readthedocs.io) makes up, which are refused, or answered as plain
float64 arrays: a hundred for each of {n_generated} tools, and a thousand each with
`make test ARGS="tests --hypothesis-profile=nightly"`.
"""

# What a fault is, the files and names of its tests, and what is left.
FAULTS = [
    (
        "saves that a full disk or an interrupt cuts short",
        ["test_persistence.py"],
        "test_a_failed_save or test_a_disk_that_fills_up",
        "the old file is as it was, and nothing is beside it",
    ),
    (
        "fits that an interrupt, an error of a callback, a lack of memory or a loss that is not "
        "finite cuts short",
        ["test_checkpoint.py", "test_wrappers.py"],
        "test_a_failed_fit",
        "the previous fit is as it was, and what was not fitted still is not",
    ),
    (
        "training processes that are killed (SIGKILL)",
        ["test_checkpoint.py"],
        "test_a_killed_process",
        "resumed from the checkpoint, the same weights, bit by bit",
    ),
    (
        "killed workers of a Dask cluster",
        ["test_large_data.py"],
        "test_a_lost_worker",
        "its chunks are computed again, and nothing is lost",
    ),
]


def try_faults() -> list[str]:
    """Rows of the table of faults; every test has to pass."""
    rows = []
    for fault, files, names, result in FAULTS:
        paths = [ROOT / "tests" / file for file in files]
        run = subprocess.run(
            [sys.executable, "-m", "pytest", "-q", *paths, "-k", names],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=False,
        )
        assert run.returncode == 0, run.stdout
        passed = re.search(r"(\d+) passed", run.stdout)
        assert passed is not None, run.stdout
        rows.append(f"| {fault} | {passed[1]} | {result} |")
    return rows


def try_arrays() -> tuple[list[str], int, int]:
    """Rows of the table of arrays, and how many were refused and answered."""
    tools = bad_input.Tools(bad_input.example_images()).by_name
    rows, n_refused, n_answered = [], 0, 0
    for case, make in bad_input.ARRAYS.items():
        refused, example = [], ""
        for name, tool in tools.items():
            found = bad_input.answer(tool, make(bad_input.example_images()))
            if isinstance(found, Exception):
                refused.append(name)
                example = example or _shown(found)
            elif (name, case) not in bad_input.ANSWERED_WITHOUT_REFERENCE:
                plain = bad_input.plain(make(bad_input.example_images()))
                assert plain is not None, (name, case)
                expected = bad_input.answer(tool, plain)
                tolerance = 1e-5 * np.abs(expected).max(initial=0)
                np.testing.assert_allclose(found, expected, rtol=1e-4, atol=tolerance)
        n_refused += len(refused)
        n_answered += len(tools) - len(refused)
        rows.append(f"| {case} | {_listed(refused, tools)} | {example} |")
    return rows, n_refused, n_answered


def _listed(names: list[str], tools: dict[str, Any]) -> str:
    if len(names) == len(tools):
        return "all"
    if len(names) > len(tools) / 2:
        return f"all but {', '.join(name for name in tools if name not in names)}"
    return ", ".join(names) or "none"


def _shown(error: Exception, length: int = 160) -> str:
    text = str(error).partition("\n")[0].replace("|", "\\|").replace("<", "&lt;")
    text = text if len(text) <= length else f"{text[: length - 3]}..."
    return f"{type(error).__name__}: {text}"


def try_files() -> tuple[list[str], int]:
    """Rows of the table of files, and how many were read."""
    pixels = np.random.default_rng(0).integers(0, 256, (16, 12), dtype=np.uint8)
    rows, n_read = [], 0
    for case, (write, is_read) in bad_input.FILES.items():
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "part.png"
            write(path, Image.fromarray(pixels))
            try:
                np.testing.assert_array_equal(read_image(path), pixels)
                said = "read"
            except (OSError, ValueError) as error:
                said = _shown(error, 200).replace(folder, "...")
        assert (said == "read") is is_read, (case, said)
        n_read += is_read
        rows.append(f"| {case} | {said} |")
    return rows, n_read


def score_from_threads(detector: NCAEDetector, images: Any, n_threads: int, n_calls: int) -> int:
    """Score parts of all sizes from threads that start at once; return the number of calls."""
    parts = [images[i : i + n] for n in (1, 3, 8) for i in range(0, len(images), n)]
    start = threading.Barrier(n_threads)
    found: list[tuple[int, Any]] = []

    def score(seed: int) -> None:
        start.wait()
        for i in np.random.default_rng(seed).integers(len(parts), size=n_calls // n_threads):
            found.append((int(i), detector.score_samples(parts[i])))

    threads = [threading.Thread(target=score, args=(seed,)) for seed in range(n_threads)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == n_calls // n_threads * n_threads, "a thread has failed"
    # Afterwards, so that the threads were the first to compile the network.
    expected = [detector.score_samples(part) for part in parts]
    n_wrong = sum(not np.array_equal(scores, expected[i]) for i, scores in found)
    assert not n_wrong, f"{n_wrong} scores differ from those of one thread"
    return len(found)


def score_repeatedly(detector: NCAEDetector, images: Any, n_calls: int) -> float:
    """Score again and again; return the megabytes that memory grew by after the first tenth."""
    before = 0.0
    for call in range(n_calls):
        if call == n_calls // 10:
            reset_peak()
            before = peak_megabytes()
        detector.score_samples(images[call % 8 : call % 8 + 3])
    grown = peak_megabytes() - before
    assert grown < ALLOWED_GROWTH, f"memory grew by {grown:.0f} MB in {n_calls} calls"
    return grown


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--files", type=int, default=2500, help="damaged model files")
    parser.add_argument("--calls", type=int, default=10_000, help="calls of score_samples")
    parser.add_argument("--threads", type=int, default=8)
    parser.add_argument("--docs", type=Path, default=ROOT / "docs", help="where the pages go")
    options = parser.parse_args()
    warnings.simplefilter("ignore")

    images = bad_input.example_images(24)
    detector = NCAEDetector(filters=(2, 4), epochs=1, contamination=0.1).fit(images)
    # A copy has yet to build its network.
    n_threaded = score_from_threads(
        copy.deepcopy(detector), images, options.threads, options.calls // 5
    )
    grown = score_repeatedly(detector, images, options.calls)
    # Compiling a graph for every size of images takes longer than running these tiny networks.
    tf.config.run_functions_eagerly(True)
    arrays, n_refused, n_answered = try_arrays()
    tf.config.run_functions_eagerly(False)
    files, n_read = try_files()
    faults = try_faults()
    result = fuzz(options.files)

    tools = list(bad_input.Tools.NAMES)
    (options.docs / "bad_input.md").write_text(
        BAD_INPUT.format(
            n_arrays=len(arrays),
            n_tools=len(tools),
            tools=", ".join(f"`{name}`" for name in tools),
            arrays="\n".join(arrays),
            files="\n".join(files),
        )
    )
    (options.docs / "reliability.md").write_text(
        RELIABILITY.format(
            n_pairs=n_refused + n_answered,
            n_refused=n_refused,
            n_answered=n_answered,
            n_files=len(files),
            n_files_read=n_read,
            n_files_refused=len(files) - n_read,
            n_fuzzed=options.files,
            n_fuzz_refused=result.of("refused"),
            n_fuzz_loaded=result.of("loaded"),
            slowest=result.slowest,
            fuzz_grown=result.grown,
            n_threads=options.threads,
            n_threaded=n_threaded,
            n_calls=options.calls,
            grown=grown,
            faults="\n".join(faults),
            n_generated=len(bad_input.GENERATED),
        )
    )


if __name__ == "__main__":
    main()
