"""What config.json of a diffusers AutoencoderKL says, and what can be given: readable without what computes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Literal

import pyarrow as pa
from pydantic import Field, model_validator

from genreg.errors import UsageError
from genreg.images import image_field
from genreg.specs import Condition, Settings


class KlConfig(Settings, frozen=True, extra="ignore"):
    """What config.json of an AutoencoderKL says of the network; its other keys are the diffusion model's affair."""

    block_out_channels: list[int] = Field(default=[64], min_length=1, max_length=8)
    layers_per_block: int = Field(default=1, ge=1, le=16)
    in_channels: int = Field(default=3, ge=1, le=64)
    out_channels: int = Field(default=3, ge=1, le=64)
    latent_channels: int = Field(default=4, ge=1, le=256)
    norm_num_groups: int = Field(default=32, ge=1)
    act_fn: Literal["silu", "swish"] = "silu"
    use_quant_conv: bool = True  # files that are older than the key have the layer
    use_post_quant_conv: bool = True
    mid_block_add_attention: bool = True
    down_block_types: list[str] = Field(default=["DownEncoderBlock2D"])
    up_block_types: list[str] = Field(default=["UpDecoderBlock2D"])
    sample_size: int = Field(default=32, ge=1, le=8192)

    @model_validator(mode="after")
    def _known(self) -> KlConfig:
        blocks = {*self.down_block_types, *self.up_block_types} - {"DownEncoderBlock2D", "UpDecoderBlock2D"}
        if blocks:
            raise ValueError(f"blocks of the kind {min(blocks)} are not supported")
        wrong = [width for width in self.block_out_channels if width < 1 or width % self.norm_num_groups]
        if wrong:
            raise ValueError(f"block_out_channels: {wrong[0]} does not divide into {self.norm_num_groups} groups")
        return self

    @property
    def factor(self) -> int:
        """Pixels per latent position and side."""
        return int(2 ** (len(self.block_out_channels) - 1))

    @property
    def pixels(self) -> int:
        """The channels of pictures; raises UsageError where these are no pictures."""
        if self.in_channels != self.out_channels or self.in_channels not in (1, 3, 4):
            raise UsageError(
                f"this autoencoder takes {self.in_channels} channels and makes {self.out_channels}: no pictures"
            )
        return self.in_channels


def recognizes(config: Mapping[str, Any], names: Iterable[str]) -> bool:
    """Whether a folder's config.json is an AutoencoderKL's, and its tensors are those of one."""
    wanted = {"encoder.conv_in.weight", "decoder.conv_in.weight"}
    return config.get("_class_name") == "AutoencoderKL" and wanted <= set(names)


def columns(config: KlConfig) -> pa.Schema:  # noqa: ARG001 - pictures of any size, whatever the network
    """Encoded pictures."""
    return pa.schema([image_field("image")])


def conditions(config: KlConfig) -> list[Condition]:  # noqa: ARG001
    """A picture to start from, and how far from it."""
    return [
        Condition("like", pa.binary(), "a picture to encode and decode; without one the latent is noise"),
        Condition("scale", pa.float64(), "how far from like, in deviations of its posterior", default=0.0),
    ]
