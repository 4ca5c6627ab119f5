"""What config.json of a StyleGAN says: all of the architecture that the shapes of its tensors do not tell, and more.

Readable without what computes. The names in brackets are those of the constructors that published files hold.
A checkpoint's ``model.safetensors`` is the averaged generator (G_ema), under the keys that everybody uses; beside it
may lie the discriminator and the generator as training left it.
"""

from __future__ import annotations

from typing import Annotated, Literal

import pyarrow as pa
from pydantic import AfterValidator, Field, model_validator

from genreg.errors import UsageError
from genreg.images import image_field
from genreg.specs import Condition, Settings
from genreg_torch.settings import TorchOptions

DISCRIMINATOR = "discriminator.safetensors"  # D, its config in ``discriminator``
TRAINED = "generator.safetensors"  # G, not averaged: to train on
LARGEST = 4096  # pixels of a side


def _power_of_two(resolution: int) -> int:
    if resolution & (resolution - 1):
        low = 1 << resolution.bit_length() - 1
        raise ValueError(f"{resolution} is no power of two, such as {low} or {2 * low}")
    return resolution


Resolution = Annotated[int, Field(ge=4, le=LARGEST), AfterValidator(_power_of_two)]
Architecture = Literal["skip", "resnet", "orig"]
Clamp = Annotated[float, Field(gt=0)] | None
Width = Annotated[int, Field(ge=1, le=1 << 16)]


class Discriminator(Settings, frozen=True):
    """The discriminator of both generations; resolution, channels and classes are the generator's."""

    architecture: Architecture = Field(default="resnet", description="how its blocks are joined")
    channel_base: Width = Field(default=32768, description="channels times pixels of a side")
    channel_max: Width = Field(default=512, description="most channels")
    conv_clamp: Clamp = Field(default=None, description="bound of what convolutions make")
    cmap_dim: Width | None = Field(default=None, description="width of the class's code; none: channels at 4 x 4")
    mapping_layers: int = Field(default=8, ge=1, le=64, description="of its mapping [num_layers]")
    mapping_width: Width | None = Field(default=None, description="of its mapping [layer_features]; none: cmap_dim")
    embed_width: Width | None = Field(default=None, description="of the class [embed_features]; none: cmap_dim")
    lr_multiplier: float = Field(default=0.01, gt=0, description="of its mapping")
    mbstd_group: int | None = Field(
        default=4, ge=1, description="pictures compared with each other [mbstd_group_size]; none: all"
    )
    mbstd_channels: int = Field(
        default=1, ge=0, le=64, description="numbers that tell how they differ [mbstd_num_channels]"
    )
    activation: Literal["lrelu"] = Field(default="lrelu", description="leaky ReLU is what there is")

    def channels(self, resolution: int) -> int:
        """Channels at that resolution."""
        return min(self.channel_base // resolution, self.channel_max)


class Generator(Settings, frozen=True):
    """What both generations of generators are told."""

    z_dim: int = Field(default=512, ge=0, le=1 << 16, description="numbers that are drawn")
    c_dim: int = Field(default=0, ge=0, le=1 << 16, description="classes; 0: none")
    w_dim: Width = Field(default=512, description="numbers of a style")
    image_channels: int = Field(default=3, ge=1, le=64, description="of the picture [img_channels]")
    classes: list[str] = Field(default=[], description="names of the classes, in order; may be empty")
    mapping_width: Width | None = Field(default=None, description="of the mapping [layer_features]; none: w_dim")
    embed_width: Width | None = Field(default=None, description="of the class [embed_features]; none: w_dim")
    lr_multiplier: float = Field(default=0.01, gt=0, description="of the mapping")
    channel_max: Width = Field(default=512, description="most channels")
    discriminator: Discriminator | None = Field(
        default=None, description="of discriminator.safetensors, where the file is there"
    )
    activation: Literal["lrelu"] = Field(default="lrelu", description="leaky ReLU is what there is")

    @model_validator(mode="after")
    def _consistent(self) -> Generator:
        if not self.z_dim and not self.c_dim:
            raise ValueError("z_dim and c_dim are both 0: there is nothing to make a picture from")
        if self.classes and len(self.classes) != self.c_dim:
            raise ValueError(f"classes: {len(self.classes)} names for c_dim={self.c_dim}")
        return self


class Stylegan2Config(Generator, frozen=True):
    """A StyleGAN2 generator, as in the adaptive-augmentation edition of 2020."""

    resolution: Resolution = Field(default=256, description="pixels of a side, a power of two [img_resolution]")
    mapping_layers: int = Field(default=8, ge=1, le=64, description="of the mapping [num_layers]")
    w_avg_beta: float = Field(default=0.995, ge=0, le=1, description="how slowly training moves w_avg")
    architecture: Architecture = Field(default="skip", description="how its blocks are joined")
    channel_base: Width = Field(
        default=32768, description="channels times pixels of a side: 32768 is config-f, 16384 config-e"
    )
    conv_clamp: Clamp = Field(default=None, description="bound of what convolutions make; published files say 256")
    use_noise: bool = Field(default=True, description="whether layers add noise")

    @property
    def resolutions(self) -> list[int]:
        """4, 8, … resolution."""
        return [1 << k for k in range(2, self.resolution.bit_length())]

    @property
    def num_ws(self) -> int:
        """Layers of W+, 2 log2 R - 2 for every architecture."""
        return 2 * self.resolution.bit_length() - 4

    def channels(self, resolution: int) -> int:
        """Channels at that resolution."""
        return min(self.channel_base // resolution, self.channel_max)


class Stylegan3Config(Generator, frozen=True):
    """A StyleGAN3 generator. The defaults are those of T; R has conv_kernel 1 and radial filters."""

    resolution: int = Field(default=256, ge=4, le=LARGEST, description="pixels of a side [img_resolution]")
    mapping_layers: int = Field(default=2, ge=1, le=64, description="of the mapping [num_layers]")
    w_avg_beta: float = Field(default=0.998, ge=0, le=1, description="how slowly training moves w_avg")
    channel_base: Width = Field(default=32768, description="channels times pixels of a side")
    num_layers: int = Field(default=14, ge=1, le=64, description="without the last, ToRGB")
    num_critical: int = Field(default=2, ge=0, le=64, description="layers at the end at full bandwidth")
    first_cutoff: float = Field(default=2, gt=0, description="cycles per picture that the first layer passes")
    first_stopband: float = Field(default=2**2.1, gt=0, description="… and stops")
    last_stopband_rel: float = Field(default=2**0.3, gt=0, description="stopband over cutoff of the last layers")
    margin_size: int = Field(default=10, ge=0, le=1024, description="pixels around the picture")
    output_scale: float = Field(default=0.25, gt=0, description="of the picture")
    conv_kernel: int = Field(default=3, ge=1, le=15, description="3 in T, 1 in R")
    filter_size: int = Field(default=6, ge=1, le=64, description="taps of a filter per unit of its factor")
    lrelu_upsampling: int = Field(default=2, ge=1, le=16, description="rate of the activation over the layer's")
    use_radial_filters: bool = Field(default=False, description="as in R: filters that no direction is special to")
    conv_clamp: Clamp = Field(default=256.0, description="bound of what convolutions make")
    magnitude_ema_beta: float = Field(
        default=0.999, ge=0, le=1, description="how slowly training moves the layers' magnitudes"
    )

    @model_validator(mode="after")
    def _layers(self) -> Stylegan3Config:
        if self.num_critical >= self.num_layers:
            raise ValueError(f"num_critical={self.num_critical} of num_layers={self.num_layers}: fewer are needed")
        if self.first_cutoff > self.resolution / 2:
            raise ValueError(f"first_cutoff={self.first_cutoff:g} is above half the resolution {self.resolution}")
        return self

    @property
    def num_ws(self) -> int:
        """Layers of W+: the input, every layer, ToRGB."""
        return self.num_layers + 2


class StyleganOptions(TorchOptions, frozen=True):
    """How a StyleGAN is loaded."""

    seeding: Literal["philox", "randomstate"] = Field(
        default="philox",
        description="z of a seed: genreg's own draw, or numpy.random.RandomState's, which published seeds mean",
    )


class Stylegan2Options(StyleganOptions, frozen=True):
    """How a StyleGAN2 is loaded."""

    noise_mode: Literal["const", "random", "none"] = Field(
        default="const", description="noise of every layer: the file's, drawn anew for each seed, or none"
    )


def columns(config: Stylegan2Config | Stylegan3Config) -> pa.Schema:
    """A picture; raises UsageError for channels that no picture has."""
    if config.image_channels not in (1, 3, 4):
        raise UsageError(f"image_channels={config.image_channels}: pictures have 1, 3 or 4 channels")
    return pa.schema([image_field("image", [config.resolution, config.resolution, config.image_channels])])


def label_condition(config: Generator) -> list[Condition]:
    """The class, where the model has classes."""
    if not config.c_dim:
        return []
    if config.classes:
        there = ", ".join(config.classes[:10]) + (" …" if config.c_dim > 10 else "")
        return [Condition("label", pa.string(), f"the class: {there}; each is as likely where not given")]
    return [Condition("label", pa.int32(), f"the class, 0-{config.c_dim - 1}; each is as likely where not given")]


def conditions3(config: Stylegan3Config) -> list[Condition]:
    """The class, and where the picture is moved: StyleGAN3 moves and turns what it paints, not its pixels."""
    point = pa.list_(pa.float64())
    return [
        *label_condition(config),
        Condition("translation", point, "how far to move the picture right and down, in parts of its side"),
        Condition("rotation", pa.float64(), "how far to turn the picture counterclockwise, in degrees"),
    ]
