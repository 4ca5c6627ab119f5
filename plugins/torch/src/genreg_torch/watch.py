"""What people see while a model trains: figures, curves, samples, all in the run's folder."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from genreg.draft import Array
from genreg.errors import UsageError
from genreg.specs import Report
from genreg_torch.pictures import curves, grid, png
from genreg_torch.processes import Processes
from genreg_torch.settings import TrainSettings
from genreg_torch.state import states, writing

METRICS, CURVES, SAMPLES = "metrics.jsonl", "curves.png", "samples.png"


@dataclass(eq=False)
class Watch:
    """Figures gathered on the device, read every few steps and told; the first process alone writes."""

    folder: Path
    group: Processes
    settings: TrainSettings
    report: Report | None = None
    seconds: float = 0.0  # spent in the sessions before this one …
    started: int = 0  # … and the steps taken in them
    began: float = field(default_factory=time.monotonic)
    history: list[dict[str, float]] = field(default_factory=list)
    _gathered: dict[str, list[Tensor]] = field(default_factory=dict)
    _last: tuple[int, float] = (0, 0.0)
    _board: Any = None

    def begin(self, step: int, seconds: float) -> None:
        """Take up the history of a run that goes on, without the lines of steps that will be taken again."""
        self.seconds, self.started, self.began, self._last = seconds, step, time.monotonic(), (step, seconds)
        path = self.folder / METRICS
        if step and path.is_file():
            lines = [_read(line) for line in path.read_text("utf-8").splitlines()]
            self.history = [line for line in lines if line and line["step"] <= step]
        if self.group.rank == 0:
            with writing(self.folder, METRICS):
                path.write_text("".join(json.dumps(line) + "\n" for line in self.history), "utf-8")
            self._board = _board(self.settings.tensorboard)

    def elapsed(self) -> float:
        """Seconds of training, those of earlier sessions too."""
        return self.seconds + time.monotonic() - self.began

    def add(self, figures: Mapping[str, Tensor]) -> None:
        """Gather a step's figures without waiting for the device."""
        for name, value in figures.items():
            self._gathered.setdefault(name, []).append(value.detach())

    def read(self, step: int, rate: float, **further: float) -> None:
        """Average the figures since the last reading, over the processes too; write and show them."""
        means = [torch.stack(values).float().mean() for values in self._gathered.values()]
        self.group.average_(means)
        told = dict(zip(self._gathered, torch.stack(means).tolist() if means else [], strict=True))
        self._gathered.clear()
        now = self.elapsed()
        speed = (step - self._last[0]) * self.settings.batch / max(now - self._last[1], 1e-9)
        self._last = (step, now)
        line = {"step": step, "seconds": round(now, 3), "lr": rate, "rows_per_second": round(speed, 1)} | told | further
        self.history.append(line)
        if self.group.rank == 0:
            with writing(self.folder, METRICS), (self.folder / METRICS).open("a", encoding="utf-8") as file:
                file.write(json.dumps(line) + "\n")
            for name, value in {**told, **further, "lr": rate}.items() if self._board else ():
                self._board.add_scalar(name, value, step)
            if self.report:
                self.report(step, self.settings.steps, **told, **further, **{"rows/s": speed})

    def draw(self, step: int, images: Array | None) -> None:
        """The curves so far and, as uint8 [n, h, w, c], the samples of a step."""
        if self.group.rank:
            return
        with writing(self.folder, CURVES):
            (self.folder / CURVES).write_bytes(png(curves(self.history, self.settings.steps)))
            if images is not None:
                sheet = grid(images)
                (self.folder / f"samples-{step:08d}.png").write_bytes(png(sheet))
                (self.folder / SAMPLES).write_bytes(png(sheet))
                if self._board:
                    self._board.add_image("samples", sheet, step, dataformats="HWC")

    def discard(self) -> None:
        """Remove what was written of a run that failed before its first state: there is nothing to go on from."""
        if self.group.rank == 0 and not states(self.folder):
            for path in (self.folder / METRICS, self.folder / CURVES, *self.folder.glob("samples*.png")):
                path.unlink(missing_ok=True)

    def close(self) -> dict[str, bytes]:
        """What goes beside the weights when training is over: the curves and the last samples."""
        if self._board:
            self._board.close()
        names = [name for name in (CURVES, SAMPLES) if (self.folder / name).is_file()]
        return {name: (self.folder / name).read_bytes() for name in names}


def _board(folder: str | None) -> Any:
    if folder is None:
        return None
    try:
        from torch.utils.tensorboard.writer import SummaryWriter
    except ImportError:
        raise UsageError(f"tensorboard={folder}: pip install 'genreg-torch[tensorboard]' first") from None
    return SummaryWriter(folder)


def _read(line: str) -> dict[str, float]:
    try:
        found = json.loads(line)
    except ValueError:
        return {}  # the last line of a run that was killed while it was written
    return found if isinstance(found, dict) and "step" in found else {}
