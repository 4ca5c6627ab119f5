"""The loop: it knows nothing of the family, and loses nothing.

A family says what is learned in one record. Each objective is a loss and the optimizer that minimizes it; in a step
every objective in turn takes a batch of its own, and only its optimizer's parameters are open. So a VAE is one
objective, and a GAN two, each free to take gradients of gradients.

>>> import tempfile, pyarrow as pa
>>> from genreg.data import Source
>>> from genreg_torch.settings import TrainSettings
>>> data = Source.of(pa.table({"x": [0.0, 1.0, 2.0, 3.0], "y": [1.0, 3.0, 5.0, 7.0]}), "train")
>>> line = initialized(0, lambda: torch.nn.Linear(1, 1))
>>> def decode(batch):
...     return {name: torch.tensor(batch.column(name).to_numpy()).float()[:, None] for name in ("x", "y")}
>>> def loss(rows, at):
...     noisy = rows["x"] + 0.01 * at.normal(1)             # chance follows from the seed and the step
...     error = (at.run(line, noisy) - rows["y"]).square()  # at.run: in bf16 where the settings say so, float32 out
...     return error.mean(), {"worst": error.max()}         # what to minimize, and what to show
>>> line_fit = Training({"line": line}, {"loss": Objective(loss, adam(line))}, decode)
>>> with tempfile.TemporaryDirectory() as folder:
...     settings = TrainSettings(steps=300, batch=4, lr=0.3)
...     done = train(line_fit, data, settings, seed=0, folder=Path(folder), device="cpu")
>>> round(done.networks["line"](torch.tensor([10.0])).item())
21
>>> sorted(done.pictures), done.summary  # doctest: +ELLIPSIS
(['curves.png'], '300 steps in ... s on cpu; 2 parameters; loss ..., worst ...')
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias, TypeVar

import torch
from torch import Tensor, nn

from genreg.data import Source
from genreg.draft import Array
from genreg.errors import UsageError
from genreg.resume import refuse_difference
from genreg.specs import Report, fixed
from genreg_torch.devices import CPU
from genreg_torch.interrupts import deferred
from genreg_torch.memory import is_out_of_memory, out_of_memory, parameters
from genreg_torch.moment import key_of, mixed, reseed
from genreg_torch.processes import Processes, join
from genreg_torch.rows import Decode, Rows, open_data
from genreg_torch.settings import TrainSettings
from genreg_torch.state import State, last_good, persistent, read_record, restore, save, states, sweep
from genreg_torch.turn import Objective, Taken, Turn
from genreg_torch.watch import Watch

M = TypeVar("M", bound=nn.Module)
Networks: TypeAlias = Mapping[str, nn.Module]
_COUNTED = ("steps", "parameters")
_PICTURES, _APART = 20, 2.0  # at most so many in a run, seconds apart


@dataclass(frozen=True, eq=False)
class Training:
    """What a family hands to the loop.

    ``averaged`` names the networks whose exponential mean is kept; what is handed back, sampled and validated has them
    in their places. ``samples`` makes uint8 [n, h, w, c] from fixed seeds; ``validate`` makes figures.
    """

    networks: Networks
    objectives: Mapping[str, Objective]
    decode: Decode
    averaged: tuple[str, ...] = ()
    samples: Callable[[Networks], Array] | None = None
    validate: Callable[[Networks], Mapping[str, float]] | None = None


@dataclass(frozen=True, eq=False)
class Finished:
    """What the loop hands back: networks in evaluation mode, figures, and pictures for the model card."""

    networks: Networks  # the average of each that is averaged, else the network itself
    metrics: Mapping[str, float]  # parameters, steps and the last figures: the same for the same run
    seconds: float = 0.0  # of training, over all sessions
    pictures: Mapping[str, bytes] = field(default_factory=dict)  # file name -> PNG
    device: torch.device = CPU

    @property
    def summary(self) -> str:
        """What was done, in one line."""
        figures = ", ".join(f"{name} {value:.4g}" for name, value in self.metrics.items() if name not in _COUNTED)
        steps, count = (int(self.metrics[name]) for name in ("steps", "parameters"))
        return f"{steps:,} steps in {self.seconds:.0f} s on {self.device}; {count:,} parameters; {figures}"


def initialized(seed: int, build: Callable[[], M]) -> M:
    """The module that ``build`` makes on the CPU, its weights following from the seed alone."""
    with torch.random.fork_rng(devices=[]):
        reseed(mixed(key_of(seed, 1 << 40), 0), CPU)
        return build()


def adam(*modules: nn.Module, betas: tuple[float, float] = (0.9, 0.999), decay: float = 0.0) -> torch.optim.AdamW:
    """Adam with decoupled weight decay over all parameters of the modules, in one fused kernel.

    The learning rate is the loop's affair: it follows the settings, or the objective's ``schedule``.
    """
    own = [parameter for module in modules for parameter in module.parameters()]
    return torch.optim.AdamW(own, betas=betas, weight_decay=decay, fused=True)


def train(
    training: Training,
    source: Source,
    settings: TrainSettings,
    *,
    seed: int,
    folder: Path,
    device: str = "auto",
    report: Report | None = None,
    hold: bool | None = None,
) -> Finished:
    """Run all steps, or those that are left of the run in ``folder``, and hand back what was learned.

    Raises UsageError, in one line that says how to go on, for settings that are not those of the run, a loss that is
    no number, too little memory or disk; KeyboardInterrupt after saving, when Ctrl-C or SIGTERM came.
    """
    group = join(device)
    share = settings.accumulate * group.count
    if settings.batch % share:
        raise UsageError(f"batch={settings.batch} cannot be cut into {share} equal pieces (accumulate times processes)")
    folder.mkdir(parents=True, exist_ok=True)
    state = _placed(training, group)
    identity = {"settings": fixed(settings), "seed": seed, "rows": source.rows}
    with torch.random.fork_rng(devices=[group.device] if group.device.type == "cuda" else []), deferred() as stopped:
        watch = Watch(folder, group, settings, report)
        begin = _resumed(state, watch, identity)
        data = open_data(source, training.decode, seed, group.device, hold=hold)
        run = _Run(training, settings, seed, group, state, watch, identity, stopped)
        own = settings.batch // group.count
        part = slice(group.rank * own, (group.rank + 1) * own)
        try:
            run.go(begin, data.batches(settings.batch, begin * len(training.objectives) * settings.batch, part))
        except BaseException:
            watch.discard()
            raise
    group.wait()
    return _finished(training, state, watch)


def _finished(training: Training, state: State, watch: Watch) -> Finished:
    networks = {name: net.eval().requires_grad_(False) for name, net in {**training.networks, **state.averages}.items()}
    last = dict(watch.history[-1]) if watch.history else {}
    seconds = last.get("seconds", 0.0)
    own = {name: value for name, value in last.items() if name not in ("step", "seconds", "lr", "rows_per_second")}
    counts = {"parameters": float(parameters(training.networks.values())), "steps": float(watch.settings.steps)}
    return Finished(networks, counts | own, seconds, watch.close(), watch.group.device)


def _placed(training: Training, group: Processes) -> State:
    """The networks on their device, the same in every process; convolutions keep channels last, which is faster."""
    for network in training.networks.values():
        network.to(group.device).train()
        if any(isinstance(module, (nn.Conv2d, nn.ConvTranspose2d)) for module in network.modules()):
            network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        group.same_(list(persistent(network).values()))
    optimizers = {name: objective.optimizer for name, objective in training.objectives.items()}
    return State.of(training.networks, optimizers, training.averaged)


def _resumed(state: State, watch: Watch, identity: Mapping[str, Any]) -> int:
    """The steps that the run in the folder has taken, 0 for a new one; raises UsageError for a run of another kind."""
    folder = watch.folder
    if watch.group.rank == 0:
        sweep(folder)
    kept = states(folder)
    if not kept:
        watch.begin(0, 0.0)
        return 0
    record = read_record(kept[-1])
    refuse_difference(folder, record["identity"], identity)
    restore(kept[-1], state, record)
    watch.begin(record["step"], record["seconds"])
    return int(record["step"])


@dataclass(eq=False)
class _Run:
    """A run under way: steps, readings, pictures, checkpoints."""

    training: Training
    settings: TrainSettings
    seed: int
    group: Processes
    state: State
    watch: Watch
    identity: Mapping[str, Any]
    stopped: Callable[[], bool]  # whether Ctrl-C or SIGTERM came
    drawn: float = -math.inf
    looked: int = 0  # the step of the last reading
    saved: float = field(default_factory=time.monotonic)
    asked: int = 0  # the step at which the processes next agree on saving and stopping

    def go(self, begin: int, batches: Iterator[Rows]) -> None:
        """Take the steps that are left; what is saved is always the end of a whole step."""
        steps, group = self.settings.steps, self.group
        names = enumerate(self.training.objectives)
        turns = [Turn.of(name, i, self.training, self.settings, group) for i, name in names]
        losses: list[tuple[int, Tensor]] = []  # not yet looked at: that would wait for the device
        buffers = self.state.moving_buffers() if group.count > 1 else []
        reading = min(max(steps // 200, 1), 50)
        self.looked = begin
        for step in range(begin, steps):
            key, done, last = key_of(self.seed, step), step + 1, step + 1 == steps
            for turn in turns:
                total, figures = self._guarded(turn, step, key, batches)
                if total is not None:
                    self.watch.add({turn.name: total, **figures})
                    losses.append((done, total))
            self.state.average_(self.settings.ema, step)
            group.average_(buffers)
            if done % reading == 0 or last:
                self._refuse_bad(losses)
                self._show(done, last)
            stop, due = self._agreed(done, last)
            if stop or due or last:
                self._refuse_bad(losses)
                self._save(done)
            if stop:
                raise KeyboardInterrupt

    def _guarded(self, turn: Turn, step: int, key: int, batches: Iterator[Rows]) -> Taken:
        try:
            return turn.take(step, key, batches)
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            where = f"step {step + 1:,} ({last_good(self.watch.folder)})"
            raise out_of_memory(self.settings.batch, self.settings.accumulate, self.group.count, where) from error

    def _agreed(self, done: int, last: bool) -> tuple[bool, bool]:
        """Whether to stop and whether to save, the same in every process; several ask each other every few seconds."""
        late = time.monotonic() - self.saved >= 60 * self.settings.save_minutes
        if self.group.count == 1:
            return self.stopped(), late
        if done < self.asked and not last:
            return False, False
        pace = (self.watch.elapsed() - self.watch.seconds) / max(done - self.watch.started, 1)
        first = self.group.rank == 0
        stop, due, ahead = self.group.largest(self.stopped(), first and late, first and min(max(2 / pace, 1), 50))
        self.asked = done + int(ahead)
        return bool(stop), bool(due)

    def _show(self, done: int, last: bool) -> None:
        """Tell the figures; now and then, and at the end, draw the curves and what the model makes by now."""
        due = done * _PICTURES // self.settings.steps > self.looked * _PICTURES // self.settings.steps
        self.looked = done
        pictures = self.group.rank == 0 and (last or (due and time.monotonic() - self.drawn > _APART))
        further: Mapping[str, float] = {}
        images = None
        if pictures:
            networks = {**self.state.networks, **self.state.averages}
            for network in networks.values():
                network.eval()
            with torch.no_grad():
                further = self.training.validate(networks) if self.training.validate else {}
                images = self.training.samples(networks) if self.training.samples else None
            for network in self.state.networks.values():
                network.train()
        self.watch.read(done, self._rate(), **further)
        if pictures:
            self.watch.draw(done, images)
            self.drawn = time.monotonic()

    def _save(self, done: int) -> None:
        floats = [tensor for tensor in self.state.weights().values() if tensor.is_floating_point()]
        if not torch.stack([tensor.sum().float() for tensor in floats]).isfinite().all():  # no copy, unlike isfinite
            raise self._no_number(done)
        if self.group.rank == 0:
            save(self.watch.folder, self.state, done, {"identity": self.identity, "seconds": self.watch.elapsed()})
        self.saved = time.monotonic()

    def _refuse_bad(self, losses: list[tuple[int, Tensor]]) -> None:
        finite = torch.stack([loss for _, loss in losses]).isfinite().tolist() if losses else []
        first = min((step for (step, _), fine in zip(losses, finite, strict=True) if not fine), default=math.inf)
        (found,) = self.group.largest(-first)
        if math.isfinite(found):
            raise self._no_number(int(-found))
        losses.clear()

    def _no_number(self, step: int) -> UsageError:
        good = last_good(self.watch.folder)
        return UsageError(
            f"the loss is no number at step {step:,} (learning rate {self._rate():.3g}); {good}: "
            f"try a smaller --set lr={self.settings.lr / 3:.2g}, or --set clip=1"
        )

    def _rate(self) -> float:
        """The learning rate of the first objective, as it is now."""
        optimizer = next(iter(self.state.optimizers.values()))
        return float(optimizer.param_groups[0]["lr"])
