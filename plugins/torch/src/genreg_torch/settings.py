"""What people set: how a torch family computes, and how it is trained. No torch is imported here."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from genreg.specs import FREE, Settings
from genreg_torch.schedules import cosine, warmed


class TorchOptions(Settings, frozen=True):
    """The options of every torch family."""

    device: str = Field(default="auto", description="cpu, cuda, cuda:1, mps, or auto: the fastest that is there")
    dtype: Literal["float32", "bfloat16", "float16"] = Field(
        default="float32", description="of the weights in memory; what is drawn does not depend on it"
    )


class TrainSettings(Settings, frozen=True):
    """The settings of training that torch families share; a family's config is a subclass with its own defaults.

    Those that are FREE may change when a run is resumed.
    """

    steps: int = Field(default=2000, ge=1, description="updates of the weights")
    batch: int = Field(default=256, ge=1, description="rows of one update, over all processes")
    lr: float = Field(default=1e-3, gt=0, description="learning rate after the warm-up", json_schema_extra=FREE)
    lr_end: float = Field(default=0.01, ge=0, le=1, description="share of lr that the cosine leaves at the end")
    warmup: int = Field(default=100, ge=0, description="steps over which the learning rate rises")
    ema: float = Field(default=0.995, ge=0, lt=1, description="decay of the averaged weights, which are kept; 0: none")
    clip: float | None = Field(
        default=None, gt=0, description="largest norm of an update's gradient; none: as it is", json_schema_extra=FREE
    )
    precision: Literal["float32", "bf16"] = Field(
        default="float32", description="of the networks while training; losses are float32 always"
    )
    accumulate: int = Field(
        default=1, ge=1, description="pieces a batch is cut into, to save memory", json_schema_extra=FREE
    )
    save_minutes: float = Field(
        default=5.0, ge=0, description="minutes between checkpoints of the run", json_schema_extra=FREE
    )
    tensorboard: str | None = Field(
        default=None, description="a folder for TensorBoard, beside metrics.jsonl", json_schema_extra=FREE
    )

    def rate(self, step: int) -> float:
        """The learning rate of a step: a linear rise, then half a cosine down to ``lr_end`` of it."""
        return self.lr * warmed(step, self.warmup) * cosine(step / self.steps, 1.0, self.lr_end)
