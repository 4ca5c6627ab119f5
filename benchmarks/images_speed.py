"""What a folder of images costs over a bare loop: ``python benchmarks/images_speed.py``.

Both decode and resize the same JPEG files in as many threads. The peer is ``Image.open(file).resize(size)`` and no
more: it keeps no class, checks nothing and makes no array. CPU seconds of the process, the least of several repeats
that take turns. The goal: at most 10 % over the bare loop.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from PIL import Image
from PIL.Image import Resampling
from sklearn.datasets import load_sample_images

from genreg_data import images

THREADS = 2
REPEATS = 7
GOAL = 1.10
CASES = {
    "photos of 256 to 427 pixels to 64": (256, 427, 64, 200),
    "crops of 48 to 160 pixels to 32": (48, 160, 32, 800),
}


def put(folder: Path, least: int, most: int, count: int) -> list[Path]:
    """Crops of scikit-learn's two photos as JPEG, in two classes."""
    photos, rng = load_sample_images().images, np.random.default_rng(0)
    files = []
    for at in range(count):
        photo = photos[at % 2]
        height, width = rng.integers(least, most + 1, 2)
        y, x = rng.integers(0, photo.shape[0] - height + 1), rng.integers(0, photo.shape[1] - width + 1)
        files.append(folder / f"class{at % 2}" / f"{at:05d}.jpg")
        files[-1].parent.mkdir(exist_ok=True)
        Image.fromarray(photo[y : y + height, x : x + width]).save(files[-1], quality=90)
    return sorted(files)


def bare(files: list[Path], size: int) -> int:
    """Image.open().resize() of each file in threads."""

    def one(file: Path) -> int:
        with Image.open(file) as image:
            return image.resize((size, size), Resampling.BICUBIC).width

    with ThreadPoolExecutor(THREADS) as pool:
        return sum(1 for _ in pool.map(one, files))


def genreg(folder: Path, size: int) -> int:
    """The same by the loader, all its batches."""
    source = images(folder, size=size, channels=3, fit="resize", threads=THREADS)
    return sum(batch.num_rows for batch in source.batches(size=1024))


def seconds(works: dict[str, Callable[[], int]], count: int) -> Iterator[tuple[str, float]]:
    """The least CPU seconds of each work, which take turns."""
    taken: dict[str, list[float]] = {name: [] for name in works}
    for _ in range(REPEATS):
        for name, work in works.items():
            start = time.process_time()
            assert work() == count
            taken[name].append(time.process_time() - start)
    return ((name, min(each)) for name, each in taken.items())


def main() -> int:
    """Print the table; 1 where the goal is missed."""
    print("| case | images | bare loop, s | genreg, s | ratio | goal |\n|---|---:|---:|---:|---:|---:|")
    met = True
    for case, (least, most, size, count) in CASES.items():
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            files = put(folder, least, most, count)
            works = {"bare": lambda: bare(files, size), "genreg": lambda: genreg(folder, size)}  # noqa: B023 - called here
            found = dict(seconds(works, count))
        ratio = found["genreg"] / found["bare"]
        met &= ratio <= GOAL
        print(f"| {case} | {count:,} | {found['bare']:.3f} | {found['genreg']:.3f} | {ratio:.2f} | ≤ {GOAL:.2f} |")
    return 0 if met else 1


if __name__ == "__main__":
    sys.exit(main())
