"""How fast are pictures painted? StyleGAN2 config-f at 256 and 1024 pixels, StyleGAN3-T at 256: CPU seconds a picture.

    OMP_NUM_THREADS=1 python benchmarks/stylegan_speed.py

The yardstick is the network's convolutions alone: `F.conv2d` in float32 and torch's default layout, once for each layer
at its shape (one that doubles the size at the shape of its input, which is the same number of products). The literal
version is `stylegan_literal.py`. Goals (one thread): float32 takes at most 1.25 times the yardstick at 256 pixels and
1.8 times at 1024; bfloat16 is at least 3.5 times as fast as the literal version where the CPU multiplies matrices of
bfloat16 (AMX), and 2.5 times elsewhere; StyleGAN3-T is at least 2.5 times as fast as its literal version. Rounds are
interleaved, and the best of each is taken. Errors are the largest difference from the literal version over the largest
value, and the ratio of peak to noise. Memory is what painting adds to weights that are loaded, at its peak. Weights are
random: they do not change the speed. The exit code is 1 when a goal is missed.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from stylegan_literal import literal2, literal3
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 - torch's own convention

from genreg_stylegan.config import Stylegan2Config, Stylegan3Config
from genreg_stylegan.model import generator_of
from genreg_stylegan.painting import painter2
from genreg_stylegan.painting3 import painter3
from genreg_stylegan.stylegan2 import Generator2

ROUNDS = 3
CPU = torch.device("cpu")
AMX = torch.cpu._is_amx_tile_supported()
CONFIGS: dict[str, Stylegan2Config | Stylegan3Config] = {
    "StyleGAN2 256": Stylegan2Config(resolution=256, mapping_layers=2, conv_clamp=256),
    "StyleGAN2 1024": Stylegan2Config(resolution=1024, mapping_layers=2, conv_clamp=256),
    "StyleGAN3-T 256": Stylegan3Config(resolution=256),
}
MOST_YARDSTICKS = {"StyleGAN2 256": 1.25, "StyleGAN2 1024": 1.8}
LEAST_FASTER = {"bfloat16": 3.5 if AMX else 2.5, "StyleGAN3-T 256": 2.5}


def network(name: str) -> tuple[torch.nn.Module, Tensor]:
    """A generator whose noise and biases are at work, and styles [1, num_ws, w_dim]."""
    torch.manual_seed(0)
    generator = generator_of(CONFIGS[name]).eval().requires_grad_(False)
    for key, tensor in generator.state_dict().items():
        if key.endswith(("noise_strength", "conv0.bias", "conv1.bias")):
            tensor.copy_(0.2 * torch.randn_like(tensor))
    return generator, torch.randn(1, CONFIGS[name].num_ws, 512)


def ways(name: str) -> dict[str, Callable[[], Tensor]]:
    """What is timed, by name."""
    generator, ws = network(name)
    fast = generator_of(CONFIGS[name]).eval().requires_grad_(False)
    fast.load_state_dict(generator.state_dict())
    fast.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    if not isinstance(generator, Generator2):
        paint = painter3(fast.synthesis, CPU, torch.float32)
        return {"literal": lambda: literal3(generator.synthesis, ws), "float32": lambda: next(paint(ws, None, None))}
    paints = {kind: painter2(fast.synthesis, CPU, getattr(torch, kind)) for kind in ("float32", "bfloat16")}
    shapes = [(conv.weight, conv.resolution // (1 + conv.up)) for conv in generator.synthesis.convs]
    maps = [torch.randn(1, weight.shape[1], side, side) for weight, side in shapes]

    def yardstick() -> Tensor:
        return [F.conv2d(x, weight, padding=1) for x, (weight, _) in zip(maps, shapes, strict=True)][-1]

    return {
        "yardstick": yardstick,
        "literal": lambda: literal2(generator.synthesis, ws),
        **{kind: lambda paint=paint: next(paint(ws, None, None)) for kind, paint in paints.items()},
    }


def timed(known: Mapping[str, Callable[[], Tensor]], rounds: int) -> tuple[dict[str, float], dict[str, Tensor]]:
    """The best CPU seconds of each way, and what it made."""
    best, made = dict.fromkeys(known, float("inf")), {}
    for _ in range(rounds + 1):  # the first warms up
        for name, way in known.items():
            began = time.process_time()
            made[name] = way()
            best[name] = min(best[name], time.process_time() - began)
    return best, made


def added_memory(name: str, kind: str) -> float:
    """MB that painting adds, measured in a process of its own."""
    script = f"import stylegan_speed; stylegan_speed.paint_and_tell({name!r}, {kind!r})"
    done = subprocess.run([sys.executable, "-c", script], cwd=Path(__file__).parent, stdout=subprocess.PIPE, check=True)
    return float(done.stdout)


def paint_and_tell(name: str, kind: str) -> None:
    """Paint two pictures, and print by how many MB the process has grown."""
    torch.set_num_threads(1)
    generator, ws = network(name)
    generator.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    make = painter2 if isinstance(generator, Generator2) else painter3
    with torch.inference_mode():
        paint = make(generator.synthesis, CPU, getattr(torch, kind))  # type: ignore[arg-type]
        before = most_memory()
        list(paint(torch.cat([ws, ws]), None, None))
    print(most_memory() - before)


def most_memory() -> float:
    """MB that this process has held at most; Linux tells it, and the one of getrusage begins with the parent's."""
    lines = Path("/proc/self/status").read_text("utf-8").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 1024


def main() -> int:
    """Print the table; 1 where a goal is missed."""
    torch.set_num_threads(1)
    met = True
    print("| | seconds | of the yardstick | literal / it | error | PSNR | memory added |")
    print("|---|---|---|---|---|---|---|")
    with torch.inference_mode():
        for name in CONFIGS:
            seconds, made = timed(ways(name), 1 if "3-T" in name else ROUNDS)
            wanted = made["literal"][0]
            for kind, taken in seconds.items():
                yards = taken / seconds["yardstick"] if "yardstick" in seconds else None
                faster = seconds["literal"] / taken
                cells = [
                    f"{name}, {kind}",
                    f"{taken:.2f}",
                    f"{yards:.2f}" if yards else "",
                    f"{faster:.2f}",
                    "",
                    "",
                    "",
                ]
                if kind in ("float32", "bfloat16"):
                    error = made[kind] - wanted
                    peak = wanted.max() - wanted.min()
                    cells[4] = f"{error.abs().max() / wanted.abs().max():.1e}"
                    cells[5] = f"{20 * torch.log10(peak / error.square().mean().sqrt()):.0f} dB"
                    cells[6] = f"{added_memory(name, kind):.0f} MB"
                print(f"| {' | '.join(cells)} |", flush=True)
                if kind == "float32" and yards:
                    met &= yards <= MOST_YARDSTICKS[name]
                met &= kind != "float32" or faster >= LEAST_FASTER.get(name, 0)
                met &= kind != "bfloat16" or faster >= LEAST_FASTER["bfloat16"]
    print(f"\nAMX: {'yes' if AMX else 'no'}; torch {torch.__version__}.")
    return 0 if met else 1


if __name__ == "__main__":
    sys.exit(main())
