"""One turn: an objective takes a batch, in pieces if need be, and its optimizer takes a step."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import count
from typing import TYPE_CHECKING, Any, TypeAlias

import torch
from torch import Tensor, nn

from genreg_torch.moment import Moment, mixed, reseed
from genreg_torch.processes import Processes
from genreg_torch.rows import Rows
from genreg_torch.settings import TrainSettings

if TYPE_CHECKING:
    from genreg_torch.loop import Training

Loss: TypeAlias = Callable[[Rows, Moment], tuple[Tensor, Mapping[str, Tensor]]]  # a mean over rows, and figures
Taken: TypeAlias = tuple[Tensor | None, Mapping[str, Tensor]]  # a loss (None: it rested) and its figures
_TURN = 1 << 24  # keys that each objective has in a step: …
_GLOBAL = 1 << 20  # … those of at.normal from 0 on, those of torch's own generator (dropout) from here on


@dataclass(frozen=True, eq=False)
class Objective:
    """A loss, the optimizer that minimizes it, and what of the optimizer's groups changes with the step.

    Without a ``schedule`` the learning rate is ``settings.rate(step)``. ``every``: it rests in the steps between.
    """

    loss: Loss
    optimizer: torch.optim.Optimizer
    schedule: Callable[[Moment], Mapping[str, Any]] | None = None
    every: int = 1


@dataclass(frozen=True, eq=False)
class Turn:
    """An objective with what it needs to take its turn in a step."""

    name: str
    number: int
    objective: Objective
    settings: TrainSettings
    group: Processes
    own: Sequence[nn.Parameter]  # of its optimizer …
    others: Sequence[nn.Parameter]  # … and those that are closed meanwhile

    @classmethod
    def of(cls, name: str, number: int, training: Training, settings: TrainSettings, group: Processes) -> Turn:
        """The turn of one of the training's objectives."""
        objective = training.objectives[name]
        own = [parameter for part in objective.optimizer.param_groups for parameter in part["params"]]
        known = {id(parameter) for parameter in own}
        every = [parameter for network in training.networks.values() for parameter in network.parameters()]
        return cls(name, number, objective, settings, group, own, [p for p in every if id(p) not in known])

    def take(self, step: int, key: int, batches: Iterator[Rows]) -> Taken:
        """Minimize the loss on the next batch; what comes back are means over the pieces."""
        rows = next(batches)
        if step % self.objective.every:
            return None, {}
        whole = self._moment(step, mixed(key, self.number * _TURN))
        values = self.objective.schedule(whole) if self.objective.schedule else {"lr": self.settings.rate(step)}
        for part in self.objective.optimizer.param_groups:
            part.update(values)
        for parameter in self.own:
            parameter.grad = None
            if not parameter.requires_grad:
                parameter.requires_grad = True
        for parameter in self.others:
            parameter.requires_grad = False
        total, figures = self._descend(whole, rows)
        self._update()
        return total, figures

    def _descend(self, whole: Moment, rows: Rows) -> tuple[Tensor, Mapping[str, Tensor]]:
        """Gather the gradient piece by piece."""
        pieces = self.settings.accumulate
        size = self.settings.batch // (pieces * self.group.count)
        first = whole.rows.start
        made = []
        for piece in range(pieces):
            at = replace(whole, rows=slice(first + piece * size, first + (piece + 1) * size), calls=count())
            reseed(mixed(whole.key, _GLOBAL + self.group.rank * pieces + piece), whole.device)
            mine = rows if pieces == 1 else {n: column[piece * size : (piece + 1) * size] for n, column in rows.items()}
            loss, figures = self.objective.loss(mine, at)
            (loss / pieces if pieces > 1 else loss).backward()  # type: ignore[no-untyped-call]
            made.append({"": loss.detach(), **{name: value.detach() for name, value in figures.items()}})
        means = made[0] if pieces == 1 else {n: torch.stack([one[n].float() for one in made]).mean(0) for n in made[0]}
        return means.pop(""), means

    def _update(self) -> None:
        """Average the gradient over the processes, clip it, take the step."""
        for parameter in self.own:
            if parameter.grad is None:  # a loss that does not reach it, such as a penalty alone
                parameter.grad = torch.zeros_like(parameter)
        if self.group.count > 1:
            self.group.average_([parameter.grad for parameter in self.own if parameter.grad is not None])
        if self.settings.clip is not None:
            nn.utils.clip_grad_norm_(self.own, self.settings.clip)
        self.objective.optimizer.step()

    def _moment(self, step: int, key: int) -> Moment:
        own = self.settings.batch // self.group.count
        return Moment(
            step, self.settings.steps, self.group.device, key, self.settings.batch,
            slice(self.group.rank * own, (self.group.rank + 1) * own), self.settings.precision == "bf16",
        )  # fmt: skip
