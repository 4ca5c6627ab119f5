"""What a verified load costs: a checkpoint of 200 MB, hashed against the registry, built without allocating twice.

    python benchmarks/load_speed.py [--runs 5] [--goal 1.15]

The floor is what cannot be left out: one sha256 pass over the file, and one look at each of its pages. ``genreg`` is
the same with all that a run does: the registered sha256 compared, the header compared with the module, the module built
on the meta device and filled by assignment, the digest for the recipe, and then a look at each page. The peer builds
the module and copies the weights into it, unverified. CPU seconds of processes of their own, interleaved, the least of
each; the file is in the page cache. Exits with 1 where the goal is missed.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import resource
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import nn

from genreg.checkpoint import Weights
from genreg.files import sha256
from genreg.weights import resolve
from genreg_torch.weights import load_into

LAYERS, WIDTH = 130, 618  # a weight and a bias each: 260 tensors, 199 MB in float32


def build() -> nn.Module:
    return nn.Sequential(*(nn.Linear(WIDTH, WIDTH) for _ in range(LAYERS)))


def looked_at(tensors: list[torch.Tensor]) -> int:
    """Every page is read once."""
    return sum(int(tensor.view(-1)[::1024].view(torch.int32).sum()) for tensor in tensors)


def floor(path: Path) -> int:
    with path.open("rb") as file:
        hashlib.file_digest(file, "sha256").hexdigest()
    return looked_at(list(load_file(path).values()))


def verified(path: Path) -> int:
    pins = json.loads(path.with_suffix(".json").read_text())
    folder = resolve(str(path.parent), files={path.name: pins})
    module = load_into(build, Weights.open(folder / path.name))
    sha256(path)
    return looked_at([tensor.detach() for tensor in module.parameters()])


def hashed(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def copied(path: Path) -> int:
    module = build()
    module.load_state_dict(load_file(path))
    return looked_at([tensor.detach() for tensor in module.parameters()])


WAYS: dict[str, Callable[[Path], object]] = {
    "sha256 alone": hashed,
    "floor: sha256, and a look at each page": floor,
    "genreg: verified load": verified,
    "build and copy, unverified": copied,
}


def measured(name: str, path: Path) -> float:
    """CPU seconds of a way in a process of its own, without its imports."""
    done = subprocess.run(
        [sys.executable, __file__, "--way", name, "--path", str(path)], capture_output=True, text=True, check=True
    )
    return float(done.stdout)


def cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def one(name: str, path: Path) -> None:
    torch.set_num_threads(1)
    looked_at([torch.zeros(8)])  # what torch does the first time is not of the load
    before = cpu()
    WAYS[name](path)
    print(cpu() - before)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--goal", type=float, default=1.15, help="times the floor that a verified load may cost")
    parser.add_argument("--way", help=argparse.SUPPRESS)
    parser.add_argument("--path", help=argparse.SUPPRESS)
    wanted = parser.parse_args()
    if wanted.way:
        one(wanted.way, Path(wanted.path))
        return 0
    best = dict.fromkeys(WAYS, float("inf"))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "model.safetensors")
        save_file(build().state_dict(), path, {"format": "pt"})
        path.with_suffix(".json").write_text(json.dumps({"sha256": sha256(path), "size": path.stat().st_size}))
        megabytes = path.stat().st_size / 1e6
        for _ in range(wanted.runs):
            for name in WAYS:
                best[name] = min(best[name], measured(name, path))
    unit = best["floor: sha256, and a look at each page"]
    print(f"| {megabytes:.0f} MB, 260 tensors | CPU, ms | x the floor |\n|---|---:|---:|")
    for name, seconds in best.items():
        print(f"| {name} | {1000 * seconds:.0f} | {seconds / unit:.2f} |")
    ratio = best["genreg: verified load"] / unit
    met = ratio <= wanted.goal
    verdict = "within" if met else "above"
    print(f"\nA verified load costs {ratio:.2f} times the floor, {verdict} the goal of {wanted.goal:g}.")
    return 0 if met else 1


if __name__ == "__main__":
    sys.exit(main())
