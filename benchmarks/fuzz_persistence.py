"""Damage model files in thousands of ways and count how `persistence.load` answers.

    python benchmarks/fuzz_persistence.py --files 2000

Every damaged file has to be refused with a `ModelFileError`, or to load into a detector that
scores images; anything else stops the script with the seed of the file. A third of the files
are damaged blindly, a third in the values of their JSON and arrays with the checksums made right
again, a third in the structure of the zip: the last two as someone would who wants to do harm.
"""

import argparse
import io
import json
import re
import resource
import struct
import tempfile
import time
import warnings
import zipfile
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from sklearn_ncae import NCAEDetector, persistence
from sklearn_ncae.texture import TextureDetector

Rng = np.random.Generator
Members = dict[str, bytes]

EVIL: list[Any] = [
    *(None, True, False, 0, 1, -1, 2**31, 10**30, -(10**400), 0.5, 1e308, -1e-308),
    *("", "x", "mse", "../../etc/passwd", "\ud800", "__class__", [], [[]], {}, [0] * 1000),
    *({"tuple": []}, {"tuple": [0, 0, 0]}, {"tuple": [2**40] * 3}, {"tuple": None}, {"dict": {}}),
    *({"array": 0}, {"array": -1}, {"array": "0"}, {"array": 2**70}, {"names": 0}),
    *({"float": "nan"}, {"float": "1"}, {"object": {}}, {"object": None}, {"pickle": "cos\n"}),
    {"object": {"class": "os.system", "parameters": {}, "attributes": {}}},
    {"object": {"class": "PixelScale", "parameters": {}, "attributes": {}}},
    {"object": {"class": "NCAEReconstructor", "parameters": {}, "attributes": {}}},
]
HEADERS = [
    "{'descr': '<f4', 'fortran_order': False, 'shape': (1000000000000,), }",
    "{'descr': '<f4', 'fortran_order': True, 'shape': (2, 2), }",
    "{'descr': '|O', 'fortran_order': False, 'shape': (1,), }",
    "{'descr': '<U0', 'fortran_order': False, 'shape': (1000000000000,), }",
    "{'descr': '<f4', 'fortran_order': False, 'shape': (-1, -16), }",
    "{'descr': [('a', '<f4')], 'fortran_order': False, 'shape': (4,), }",
    "{'descr': '<f4', 'fortran_order': False, 'shape': (4L,), }",
    "(" * 500,
    "-" * 900 + "1",
    "__import__('os').system('true')",
    "{" + " " * 60000 + "}",
]


def unpack(data: bytes) -> Members:
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def pack(members: list[tuple[str, bytes]], compression: int = zipfile.ZIP_STORED) -> bytes:
    stream = io.BytesIO()
    with warnings.catch_warnings(), zipfile.ZipFile(stream, "w", compression) as archive:
        warnings.filterwarnings("ignore", message="Duplicate name")
        for name, data in members:
            archive.writestr(zipfile.ZipInfo(name), data, compression)
    return stream.getvalue()


def flip_bits(data: bytes, rng: Rng) -> bytes:
    damaged = bytearray(data)
    for place in rng.integers(len(data), size=rng.integers(1, 9)):
        damaged[place] ^= 1 << rng.integers(8)
    return bytes(damaged)


def truncate(data: bytes, rng: Rng) -> bytes:
    n = int(rng.integers(len(data)))
    return data[:n] if rng.random() < 0.5 else data[n:]


def overwrite(data: bytes, rng: Rng) -> bytes:
    start = int(rng.integers(len(data)))
    n = int(rng.integers(1, 200))
    fill = [bytes(n), b"\xff" * n, rng.bytes(n), data[:n], b""][rng.integers(5)]
    return data[:start] + fill + data[start + n :]


def change_json(data: bytes, rng: Rng) -> bytes:
    members = unpack(data)
    document = json.loads(members["model.json"])
    for _ in range(rng.integers(1, 4)):
        places = [
            (node, key)
            for node in _containers(document)
            for key in (node if isinstance(node, dict) else range(len(node)))
        ]
        node, key = places[rng.integers(len(places))]
        other, other_key = places[rng.integers(len(places))]
        match rng.integers(5):
            case 0:
                del node[key]
            case 1 if isinstance(node, dict):
                node[f"_{key}"] = node[key]
            case 2:  # a copy, for the other may be around this one
                node[key] = json.loads(json.dumps(other[other_key]))
            case 3 if isinstance(node[key], int | float):
                node[key] *= [-1, 0, 2, 1000, 1.5][rng.integers(5)]
            case _:
                node[key] = EVIL[rng.integers(len(EVIL))]
    return pack([*{**members, "model.json": json.dumps(document).encode()}.items()])


def break_json(data: bytes, rng: Rng) -> bytes:
    members = unpack(data)
    text = members["model.json"]
    hostile = [
        *(b"", b"null", b"[]", b"{", b"[" * 100_000, b'{"a":' * 100_000, b"9" * 5000, b"\xff\xfe"),
        *(b" " * 4_000_001, text.replace(b"0", b"NaN"), text.replace(b"1", b"1e999")),
        *(text.replace(b"tuple", b"dict"), text.replace(b"array", b"names")),
        text.replace(b'"format_version": 6', b'"format_version": 5'),
    ]
    chosen = hostile[rng.integers(len(hostile) + 1) - 1] if rng.random() < 0.5 else None
    return pack([*{**members, "model.json": chosen or overwrite(text, rng)}.items()])


def change_array(data: bytes, rng: Rng) -> bytes:
    members = unpack(data)
    names = [name for name in members if name.endswith(".npy")]
    name = names[rng.integers(len(names))]
    array = np.load(io.BytesIO(members[name]))
    header = HEADERS[rng.integers(len(HEADERS))].encode()
    header = struct.pack("<H", min(len(header), 65535)) + header[:65535]
    changed = [
        array[None],
        array.ravel()[:-1],
        array.astype(">f8"),
        array.astype("c8"),
        array.astype("U9"),
        np.full_like(array, np.nan),
        np.full_like(array, 3e38),
        rng.permutation(array.ravel()),
        flip_bits(members[name], rng),
        members[names[rng.integers(len(names))]],
        b"\x93NUMPY\x01\x00" + header + array.tobytes(),
        b"",
    ][rng.integers(12)]
    if isinstance(changed, np.ndarray):
        stream = io.BytesIO()
        np.save(stream, changed)
        changed = stream.getvalue()
    return pack([*{**members, name: changed}.items()])


def change_zip(data: bytes, rng: Rng) -> bytes:
    members = [*unpack(data).items()]
    place = int(rng.integers(len(members)))
    content = members[place][1]
    bomb = bytes(1_000_000)
    match rng.integers(9):
        case 0:
            return pack(members, zipfile.ZIP_DEFLATED)
        case 1:
            return pack([*members, ("arrays/bomb.npy", bomb)], zipfile.ZIP_DEFLATED)
        case 2:
            names = ["../../evil", "/etc/evil", "C:\\evil", "arrays/../evil", "", "\0", "é" * 99]
            return pack([*members[:place], (names[rng.integers(7)], content), *members[place:]])
        case 3:
            return pack([*members[:place], *members[place + 1 :]])
        case 4:
            return pack([*members, (f"arrays/{len(members) - 1}.npy", content)])
        case 5:
            return pack([*members, *((f"{i:0200}", b"") for i in range(5000))])
        case 6:
            shuffled = rng.permutation(len(members))
            return pack([members[i] for i in shuffled])  # which is allowed
        case 7:
            return data[:-2] + struct.pack("<H", 7) + b"comment"
    return change_directory(data, rng)


def change_directory(data: bytes, rng: Rng) -> bytes:
    """Lie in a size, place, method or flag of a member, or in the end of the directory."""
    places = [i for i in range(len(data) - 4) if data[i : i + 4] == b"PK\x01\x02"]
    start = places[rng.integers(len(places))] if rng.random() < 0.8 else len(data) - 22
    offset, kind = [(8, "H"), (10, "H"), (16, "I"), (20, "I"), (24, "I"), (28, "H"), (42, "I")][
        rng.integers(7)
    ]
    lie = [0, 1, 8, 255, 65535, 2**31, 2**32 - 1][rng.integers(7)] % (
        65536 if kind == "H" else 2**32
    )
    damaged = bytearray(data + bytes(64))
    struct.pack_into("<" + kind, damaged, start + offset, lie)
    return bytes(damaged[: len(data)])


def _containers(node: Any) -> list[Any]:
    if not isinstance(node, dict | list):
        return []
    inner = node.values() if isinstance(node, dict) else node
    return [node, *(found for item in inner for found in _containers(item))] if node else []


MUTATIONS: list[Callable[[bytes, Rng], bytes]] = [
    *(flip_bits, truncate, overwrite),
    *(change_json, change_array, break_json),
    *(change_zip, change_directory, change_zip),
]


def damage(data: bytes, seed: int) -> tuple[str, bytes]:
    """Damage a file in one way, or in two."""
    rng = np.random.default_rng(seed)
    mutation = MUTATIONS[seed % len(MUTATIONS)]
    damaged = mutation(data, rng)
    if rng.random() < 0.2:
        damaged = flip_bits(damaged, rng) if damaged else damaged
    return mutation.__name__, damaged


def answer(path: Path, images: Any) -> str:
    """Load a file: ``"refused"``, ``"loaded"``, or an exception for anything else."""
    try:
        detector = persistence.load(path)
    except persistence.ModelFileError:
        return "refused"
    if hasattr(detector, "score_samples") and detector.image_shape_ == (*images.shape[1:], 1):
        try:
            with np.errstate(all="ignore"):
                scores = detector.score_samples(images)
        except ValueError as error:  # weights so large that what the network returns is infinite
            if "contains NaN" not in str(error) and "contains infinity" not in str(error):
                raise
        else:
            assert scores.shape == (len(images),), scores.shape
    return "loaded"


def model_files(images: Any, folder: Path) -> list[bytes]:
    """Small files of the kinds there are."""
    options: dict[str, Any] = {"filters": (2, 3), "epochs": 1, "random_state": 0}
    detectors = [
        NCAEDetector(**options, false_alarm_rate=0.3),
        NCAEDetector(**options, statistic=["defect_peak", "mse"], false_alarm_rate=0.3),
        NCAEDetector(**options, training="reconstruct", bottleneck="dense", contamination=0.1),
        TextureDetector(),
    ]
    files = []
    for detector in detectors:
        persistence.save(detector.fit(images), folder / "model.ncae")
        files.append((folder / "model.ncae").read_bytes())
    return files


@dataclass
class Result:
    """How the damaged files were answered.

    Attributes
    ----------
    counts : Counter
        By the name of the damage and the answer.
    slowest : float
        Seconds that the slowest file took.
    grown : float
        Megabytes that the peak of memory grew by.
    """

    counts: Counter[tuple[str, str]]
    slowest: float
    grown: float

    def of(self, answer: str) -> int:
        """Count the files with an answer."""
        return sum(n for (_, kind), n in self.counts.items() if kind == answer)


def fuzz(n_files: int, first_seed: int = 0) -> Result:
    """Damage files and load them.

    Raises
    ------
    BaseException
        What a file raised that was neither refused nor loaded.
    """
    images = np.random.RandomState(0).randint(0, 256, (30, 16, 16), dtype=np.uint8)
    result = Result(Counter(), 0.0, 0.0)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "damaged.ncae"
        originals = model_files(images, Path(folder))
        for original in originals:
            path.write_bytes(original)
            answer(path, images)
        reset_peak()
        before = peak_megabytes()
        for seed in range(first_seed, first_seed + n_files):
            name, damaged = damage(originals[seed // len(MUTATIONS) % len(originals)], seed)
            path.write_bytes(damaged)
            start = time.perf_counter()
            try:
                result.counts[name, answer(path, images[:2])] += 1
            except BaseException:
                print(f"The file of seed {seed} ({name}) was neither refused nor loaded:")
                raise
            result.slowest = max(result.slowest, time.perf_counter() - start)
        result.grown = peak_megabytes() - before
    return result


def reset_peak() -> None:
    """Have the peak of memory begin anew, at what the process takes now; on Linux only."""
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def peak_megabytes() -> float:
    """Return the most memory this process has taken so far, on Linux since `reset_peak`."""
    status = Path("/proc/self/status")
    if not status.exists():
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    (peak,) = re.findall(r"VmHWM:\s+(\d+) kB", status.read_text())
    return int(peak) / 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--files", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    result = fuzz(options.files, options.seed)
    print(f"{'damage':20} {'refused':>8} {'loaded':>8}")
    for name in dict.fromkeys(mutation.__name__ for mutation in MUTATIONS):
        refused, loaded = result.counts[name, "refused"], result.counts[name, "loaded"]
        print(f"{name:20} {refused:8} {loaded:8}")
    print(f"{'all':20} {result.of('refused'):8} {result.of('loaded'):8}")
    print(f"No other answer. Slowest file {result.slowest:.2f} s, peak +{result.grown:.0f} MB.")


if __name__ == "__main__":
    main()
