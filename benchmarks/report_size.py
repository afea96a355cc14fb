"""Size and load time of the inspection report, by the number of images in it.

The images are drawn castings, and their scores and maps are those of a reconstruction from
principal components. The page is opened in Chromium (headless) with selenium: from the start of
the navigation until all of the page's script has run, and from a change of the threshold until
the gallery is there again.
"""

import argparse
import os
import shutil
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
from selenium import webdriver

from sklearn_ncae import ResidualDetector
from sklearn_ncae.baselines import PCAReconstructor
from sklearn_ncae.datasets import make_castings
from sklearn_ncae.inspection import write_report

DISTINCT = 300  # images that are drawn; they are repeated up to the number asked for

LOADED = "const [n] = performance.getEntriesByType('navigation'); return n.loadEventEnd"
MOVED = """
const start = performance.now(), slider = document.getElementById('slider');
slider.value = (Number(slider.min) + Number(slider.max)) / 2;
slider.dispatchEvent(new Event('input', {bubbles: true}));
return performance.now() - start;
"""
LISTED = """
const start = performance.now(), name = document.getElementById('by-name');
name.dispatchEvent(new Event('input', {bubbles: true}));
return performance.now() - start;
"""


def open_chromium() -> webdriver.Chrome:
    """Start Chromium without a window."""
    options = webdriver.ChromeOptions()
    options.binary_location = shutil.which("chromium") or ""
    options.add_argument("--headless=new")
    if hasattr(os, "geteuid") and os.geteuid() == 0:
        options.add_argument("--no-sandbox")
    return webdriver.Chrome(options, webdriver.ChromeService(shutil.which("chromedriver")))


def main() -> None:
    """Print one line per number of images."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, nargs="+", default=[500, 1000, 2000, 5000])
    parser.add_argument("--size", type=int, default=128, help="side of the images in pixels")
    parser.add_argument("--repeats", type=int, default=5, help="times that each page is opened")
    options = parser.parse_args()

    good = make_castings(DISTINCT, 0, image_size=options.size, random_state=0).images
    drawn = make_castings(DISTINCT * 4 // 5, DISTINCT // 5, image_size=options.size, random_state=1)
    detector = ResidualDetector(PCAReconstructor(30, random_state=0), random_state=0).fit(good)
    print("images   written in s   file in MB   opened in ms   threshold in ms   filter in ms")
    with tempfile.TemporaryDirectory() as folder, open_chromium() as browser:
        for n in options.images:
            rows = np.arange(n) % DISTINCT
            start = time.perf_counter()
            path = write_report(
                Path(folder) / "report.html", detector, drawn.images[rows], drawn.target[rows]
            )
            written = time.perf_counter() - start
            times = []
            for _ in range(options.repeats):
                browser.get(path.as_uri())
                times.append([browser.execute_script(code) for code in (LOADED, MOVED, LISTED)])
            opened, moved, listed = map(statistics.median, zip(*times, strict=True))
            print(
                f"{n:6} {written:14.1f} {path.stat().st_size / 1e6:12.1f} {opened:14.0f} "
                f"{moved:17.1f} {listed:14.1f}"
            )


if __name__ == "__main__":
    main()
