"""What the family is told, and what it remembers of the data: readable without what computes."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, model_validator

from genreg.errors import DataError
from genreg.specs import FREE, Condition
from genreg_torch.labeled import Images, label_condition
from genreg_torch.settings import TrainSettings

LARGEST_MLP = 16  # pixels: up to this side an MLP is the better network
DCGAN_SIDES = (16, 32, 64, 128, 256)
OWN: dict[str, dict[str, Any]] = {  # defaults where a network or an objective has others
    "mlp": {"width": 128, "steps": 1600, "batch": 256, "lr": 2e-3, "penalty_every": 1},
    "dcgan": {
        "width": 64, "latents": 100, "batch": 128, "lr": 2e-4, "lr_end": 1.0, "warmup": 0,
        "objective": "nonsaturating", "gamma": 0.0,
    },
    "hinge": {"gamma": 0.0},
    "wgan-gp": {"gamma": 10.0, "gamma_end": 1.0, "generator_every": 3, "penalty_every": 1},
}  # fmt: skip


class Config(Images, TrainSettings, frozen=True):
    """The settings of a GAN. Defaults are those of convolutions and the relativistic objective; others have their own.

    Raises ValueError for a penalty that the network or the objective cannot have.
    """

    network: Literal["auto", "conv", "mlp", "dcgan"] = Field(
        default="auto", description="auto: an MLP up to 16 x 16; dcgan: batch-normalized, as published in 2015"
    )
    objective: Literal["relativistic", "nonsaturating", "wgan-gp", "hinge"] = Field(
        default="relativistic",
        description="relativistic with R1 and R2, nonsaturating with R1; wgan-gp and hinge (spectral norm) are weaker",
    )
    width: int = Field(
        default=16, ge=1, le=4096, description="channels at full size, or units of the MLP (128); dcgan: 64"
    )
    hidden: int = Field(default=256, ge=1, le=8192, description="units of the dense layers beside the convolutions")
    latents: int = Field(default=32, ge=1, le=4096, description="random numbers that a picture is made of (dcgan: 100)")
    levels: int = Field(
        default=256, ge=2, le=256, description="evenly spaced levels that pixels take between 0 and 255"
    )
    gamma: float = Field(
        default=1.0, ge=0, le=10_000, description="weight of the gradient penalties at first; wgan-gp: lambda (10)"
    )
    gamma_end: float = Field(default=0.1, ge=0, le=1, description="share of gamma that its cosine leaves at the end")
    penalty_every: int = Field(
        default=4, ge=1, le=64, description="steps from one penalty to the next, which weighs as much more (MLP: 1)"
    )
    generator_every: int = Field(
        default=1, ge=1, le=64, description="steps of the discriminator to one of the generator (wgan-gp: 3)"
    )
    augment: list[Literal["color", "translation", "cutout"]] = Field(
        default=[],
        description="differentiable changes that the discriminator sees all pictures through: for small data",
    )
    store: Literal["float32", "float16"] = Field(default="float32", description="numbers of the weights file")
    store_discriminator: bool = Field(
        default=False,
        description="keep the discriminator in the weights file too, so that other runs can start from it",
    )
    start: str | None = Field(
        default=None, description="a checkpoint with its discriminator, whose weights training starts from"
    )
    steps: int = Field(default=9000, ge=1, description="updates of the weights (MLP: 1600)")
    batch: int = Field(
        default=64, ge=1, description="pictures of one update, over all processes (MLP: 256, dcgan: 128)"
    )
    lr: float = Field(
        default=1e-3,
        gt=0,
        description="learning rate after the warm-up (MLP: 0.002, dcgan: 0.0002)",
        json_schema_extra=FREE,
    )
    lr_end: float = Field(default=0.1, ge=0, le=1, description="share of lr that the cosine leaves at the end")
    warmup: int = Field(default=50, ge=0, description="steps over which the learning rate rises")
    ema: float = Field(
        default=0.998, ge=0, lt=1, description="decay of the generator's averaged weights, which are kept"
    )

    @model_validator(mode="after")
    def _possible(self) -> Config:
        if self.objective == "hinge" and self.gamma and "gamma" in self.model_fields_set:
            raise ValueError(
                "gamma: the discriminator of objective=hinge is bounded by spectral norm, and has no penalty"
            )
        named = self.model_fields_set
        if self.network == "dcgan" and (
            ("gamma" in named and self.gamma) or ("objective" in named and self.objective != "nonsaturating")
        ):
            raise ValueError(
                "network=dcgan normalizes over the batch, so that a row has no slope of its own for a penalty: leave "
                "objective and gamma as they are (nonsaturating, 0), or take network=conv"
            )
        return self

    def refuse_impossible_size(self) -> None:
        """Raise DataError for pictures that the network cannot make."""
        height, width = self.shape[:2]
        if self.network == "dcgan" and (height != width or height not in DCGAN_SIDES):
            raise DataError(
                f"network=dcgan makes squares with sides of {', '.join(map(str, DCGAN_SIDES))}, and these pictures are "
                f"{height} x {width}: bring them to one with --loader images:size=…, or take network=conv"
            )

    @property
    def kind(self) -> str:
        """conv, mlp or dcgan."""
        small = not self.shape or max(self.shape[:2]) <= LARGEST_MLP
        return self.network if self.network != "auto" else "mlp" if small else "conv"

    def resolved(self) -> Config:
        """The same, with nothing left to follow from the pictures' size, the network or the objective."""
        defaults = {**OWN.get(self.kind, {}), **OWN.get(self.objective, {})}
        own = {name: value for name, value in defaults.items() if name not in self.model_fields_set}
        return self.model_copy(update={**own, "network": self.kind})


def conditions(config: Config) -> list[Condition]:
    """The class, where the model has classes."""
    return label_condition(config)
