"""Compare scores of image files from Spark and from Ray with those of this process.

On this machine alone, with two workers. Spark needs Java.

    pip install "sklearn-ncae[images]" pyspark "ray[data]"
    python benchmarks/spark_and_ray.py
    python benchmarks/spark_and_ray.py --systems ray --images 1000
"""

import argparse
import os
import sys
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
# Spark's workers are to run in this environment.
os.environ.setdefault("PYSPARK_PYTHON", sys.executable)

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from sklearn.pipeline import make_pipeline

from sklearn_ncae import ImageLoader, NCAEDetector
from sklearn_ncae.datasets import make_castings
from sklearn_ncae.large_data import score_in_chunks


def with_spark(pipeline: Any, paths: list[str]) -> NDArray[np.float64]:
    """Score the partitions of an RDD of paths."""
    from pyspark.sql import SparkSession

    builder = SparkSession.builder.master("local[2]").config("spark.ui.enabled", "false")
    context = builder.getOrCreate().sparkContext
    model = context.broadcast(pipeline)
    rdd = context.parallelize(paths, 4)
    scores = rdd.mapPartitions(lambda part: score_in_chunks(model.value, list(part))).collect()
    context.stop()
    return np.array(scores)


def with_ray(pipeline: Any, paths: list[str]) -> NDArray[np.float64]:
    """Score the batches of a Ray data set with a column of paths."""
    import ray

    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
    dataset = ray.data.from_items([{"path": path} for path in paths])
    scored = dataset.map_batches(
        lambda batch: {**batch, "score": pipeline.score_samples(list(batch["path"]))},
        batch_size=-(-len(paths) // 4),
    )
    # Batches come back in any order.
    score_of = {row["path"]: row["score"] for row in scored.take_all()}
    ray.shutdown()
    return np.array([score_of[path] for path in paths])


SYSTEMS: dict[str, Callable[[Any, list[str]], NDArray[np.float64]]] = {
    "spark": with_spark,
    "ray": with_ray,
}


def main() -> None:
    """Score files in every way, and compare."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--systems", nargs="+", choices=SYSTEMS, default=list(SYSTEMS))
    parser.add_argument("--images", type=int, default=200)
    options = parser.parse_args()
    images = make_castings(
        n_good=options.images, n_defect=1, image_size=(64, 64), random_state=0
    ).images[: options.images]
    with TemporaryDirectory() as folder:
        paths = [str(Path(folder, f"{index}.png")) for index in range(len(images))]
        for image, path in zip(images, paths, strict=True):
            Image.fromarray(image).save(path)
        detector = NCAEDetector(epochs=1, contamination=0.1, random_state=0)
        pipeline = make_pipeline(ImageLoader(), detector).fit(paths)
        expected = pipeline.score_samples(paths)
        for system in options.systems:
            scores = SYSTEMS[system](pipeline, paths)
            n_same = int(np.sum(scores == expected))
            print(f"==> {system}: {n_same} of {len(paths)} scores are the same, bit by bit")


if __name__ == "__main__":
    main()
