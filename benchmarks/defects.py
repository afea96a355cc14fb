"""Time of `sklearn_ncae.defects.draw_defects`, in processor milliseconds per batch."""

import argparse
import time

import numpy as np

from sklearn_ncae.defects import draw_defects


def main() -> None:
    """Print the median and the 90th percentile over many batches."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--size", type=int, default=96, help="height and width in pixels")
    parser.add_argument("--channels", type=int, default=1)
    parser.add_argument("--batches", type=int, default=200)
    args = parser.parse_args()

    random_state = np.random.RandomState(0)
    shape = (args.batch_size, args.size, args.size, args.channels)
    images = random_state.normal(size=shape).astype(np.float32)
    milliseconds = []
    for _ in range(args.batches):
        # Of the processor and not of the clock: other programs do not count.
        start = time.process_time()
        draw_defects(images, random_state=random_state)
        milliseconds.append(1000 * (time.process_time() - start))
    median, slow = np.percentile(milliseconds, [50, 90])
    print(f"{shape}: {median:.1f} ms per batch, nine in ten below {slow:.1f} ms")


if __name__ == "__main__":
    main()
