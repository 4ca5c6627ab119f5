"""What the family is told, and what it remembers of the data: readable without what computes."""

from __future__ import annotations

from typing import Literal

import pyarrow as pa
from pydantic import Field

from genreg.specs import FREE, Condition
from genreg_torch.labeled import Images, label_condition
from genreg_torch.settings import TrainSettings

LARGEST_MLP = 16  # pixels: up to this side an MLP is the better network


class Config(Images, TrainSettings, frozen=True):
    """The settings of a VAE. Defaults are those of convolutions; an MLP has its own where none is given."""

    network: Literal["auto", "conv", "mlp"] = Field(default="auto", description="auto: an MLP up to 16 x 16")
    width: int = Field(
        default=24, ge=1, le=4096, description="channels of the first convolution, or units of the MLP (128)"
    )
    hidden: int = Field(default=256, ge=1, le=8192, description="units between convolutions and latents")
    latents: int = Field(default=16, ge=1, le=4096, description="numbers that describe a picture")
    likelihood: Literal["logistic", "gaussian", "bernoulli"] = Field(
        default="logistic",
        description="of pixels: logistic in the bins of their levels, Gaussian, or Bernoulli for black and white",
    )
    levels: int = Field(
        default=256, ge=2, le=256, description="evenly spaced levels that pixels take between 0 and 255"
    )
    beta: float = Field(default=1.0, gt=0, le=1000, description="weight of the divergence from the prior")
    beta_warmup: float = Field(default=0.25, ge=0, le=1, description="share of the steps over which beta grows from 0")
    free_bits: float = Field(
        default=0.0, ge=0, le=10, description="nats per latent below which the divergence is not pushed"
    )
    dropout: float = Field(default=0.1, ge=0, lt=1, description="in the encoder; half of it in the decoder")
    prior: Literal["mixture", "normal"] = Field(
        default="mixture", description="latents are drawn from a mixture of Gaussians fitted per class, or from N(0, I)"
    )
    components: int | None = Field(
        default=None, ge=1, le=64, description="of the mixture; none: those with the best held-out density"
    )
    spread: float = Field(
        default=1.0,
        gt=0,
        le=2,
        description="scales the deviations of the mixture's Gaussians: less is safer, more is varied",
    )
    store: Literal["float32", "float16"] = Field(default="float32", description="numbers of the weights file")
    steps: int = Field(default=9000, ge=1, description="updates of the weights (MLP: 2000)")
    batch: int = Field(default=64, ge=1, description="pictures of one update, over all processes (MLP: 256)")
    lr: float = Field(default=2e-3, gt=0, description="learning rate after the warm-up", json_schema_extra=FREE)
    weight_decay: float = Field(default=0.02, ge=0, le=1, description="of AdamW")
    ema: float = Field(default=0.998, ge=0, lt=1, description="decay of the averaged weights, which are kept; 0: none")

    @property
    def convolutional(self) -> bool:
        """Whether the networks are convolutional."""
        return self.network == "conv" or (self.network == "auto" and max(self.shape[:2]) > LARGEST_MLP)

    def resolved(self) -> Config:
        """The same, with nothing left to follow from the pictures' size."""
        if self.convolutional:
            return self.model_copy(update={"network": "conv"})
        small = {"width": 128, "steps": 2000, "batch": 256, "ema": 0.995}
        own = {name: value for name, value in small.items() if name not in self.model_fields_set}
        return self.model_copy(update={**own, "network": "mlp"})


def conditions(config: Config) -> list[Condition]:
    """The class, a picture to start from, how far from it, and how much of the pixels' noise."""
    return [
        *label_condition(config),
        Condition("like", pa.binary(), "a picture to start from: its reconstruction, or its neighbors with a scale"),
        Condition("scale", pa.float64(), "how far from like, in deviations of its posterior", default=0.0),
        Condition(
            "temperature", pa.float64(), "scales the pixels' noise: 0 is their mean, 1 the whole model", default=0.0
        ),
    ]
