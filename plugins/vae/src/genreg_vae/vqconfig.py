"""What VQ-VAE is told: readable without what computes."""

from __future__ import annotations

from typing import Literal

import pyarrow as pa
from pydantic import Field

from genreg.specs import FREE, Condition
from genreg_torch.labeled import Images, label_condition
from genreg_torch.settings import TrainSettings


class VqConfig(Images, TrainSettings, frozen=True):
    """The settings of a VQ-VAE and of its prior, which is trained after it."""

    codes: int = Field(default=128, ge=2, le=65_536, description="entries of the codebook")
    code_width: int = Field(default=32, ge=1, le=1024, description="numbers of a codebook entry")
    most_tokens: int = Field(
        default=64, ge=1, le=1024, description="the grid is halved until it has no more codes than this"
    )
    width: int = Field(default=32, ge=1, le=1024, description="channels of the first convolution")
    commitment: float = Field(default=0.25, ge=0, le=100, description="weight that keeps the encoder near its codes")
    likelihood: Literal["logistic", "gaussian", "bernoulli"] = Field(default="logistic", description="of pixels")
    levels: int = Field(
        default=256, ge=2, le=256, description="evenly spaced levels that pixels take between 0 and 255"
    )
    prior_steps: int = Field(
        default=3000, ge=1, description="updates of the prior's weights; the best of them on held-out rows are kept"
    )
    prior_layers: int = Field(default=2, ge=1, le=24, description="of the transformer over the codes")
    prior_width: int = Field(default=96, ge=32, le=2048, multiple_of=32, description="of the transformer")
    prior_dropout: float = Field(default=0.2, ge=0, lt=1, description="of the transformer")
    steps: int = Field(default=3000, ge=1, description="updates of encoder, codebook and decoder")
    batch: int = Field(default=64, ge=1, description="pictures of one update, over all processes")
    lr: float = Field(default=1e-3, gt=0, description="learning rate after the warm-up", json_schema_extra=FREE)
    ema: float = Field(
        default=0.995, ge=0, lt=1, description="decay of the prior's averaged weights, which are kept; 0: none"
    )


def conditions(config: VqConfig) -> list[Condition]:
    """The class, a picture to code and decode, and how daring the codes are."""
    return [
        *label_condition(config),
        Condition("like", pa.binary(), "a picture to start from: its codes, decoded"),
        Condition(
            "temperature", pa.float64(), "of the codes: 1 is the prior, 0 the likeliest code each time", default=1.0
        ),
    ]
