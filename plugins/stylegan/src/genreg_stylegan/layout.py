"""How StyleGAN3 lays out its layers: rates, cutoffs, sizes, channels, filters. Numbers alone, no torch.

Karras et al., "Alias-Free Generative Adversarial Networks" (2021), section 3 and appendix C. The cutoff f_c and the
stopband f_t grow geometrically up to the critical layers; a filter passes what is below f_c, and stops it above f_t.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from genreg.draft import Array
from genreg_stylegan.config import Stylegan3Config


@dataclass(frozen=True)
class Signal:
    """A stage between layers: its sampling rate and size in pixels, and where its content ends."""

    cutoff: float  # f_c, cycles per picture
    half_width: float  # f_h, of the transition band
    rate: int  # s, pixels per picture
    size: int  # pixels of a side, with the margin
    channels: int


@dataclass(frozen=True)
class Layer:
    """One layer: the signals before and after it, and what lies between them."""

    number: int
    before: Signal
    after: Signal
    kernel: int
    critical: bool
    to_rgb: bool
    filter_size: int
    lrelu_upsampling: int
    radial: bool  # its down filter, where it has one

    @property
    def name(self) -> str:
        """As published files have it."""
        return f"L{self.number}_{self.after.size}_{self.after.channels}"

    @cached_property
    def rate(self) -> int:
        """The rate between the two filters, at which the activation works."""
        return max(self.before.rate, self.after.rate) * (1 if self.to_rgb else self.lrelu_upsampling)

    @property
    def up(self) -> int:
        """By how much the size grows before the activation."""
        return self.rate // self.before.rate

    @property
    def down(self) -> int:
        """By how much it shrinks after it."""
        return self.rate // self.after.rate

    @property
    def up_taps(self) -> int:
        """Of the filter before the activation."""
        return self._taps(self.up)

    @property
    def down_taps(self) -> int:
        """Of the filter after it."""
        return self._taps(self.down)

    @property
    def padding(self) -> tuple[int, int]:
        """Zeros before and after each axis, at the rate between the filters; negative: what is cut off."""
        grown = (self.before.size + self.kernel - 1) * self.up
        total = (self.after.size - 1) * self.down + 1 - grown + self.up_taps + self.down_taps - 2
        low = (total + self.up) // 2
        return low, total - low

    def up_filter(self) -> Array | None:
        """[up_taps], None where there is nothing to filter."""
        return lowpass(self.up_taps, self.before.cutoff, self.before.half_width, self.rate)

    def down_filter(self) -> Array | None:
        """[down_taps], or [down_taps, down_taps] where it is radial; None where there is nothing to filter."""
        make = radial_lowpass if self.radial else lowpass
        return make(self.down_taps, self.after.cutoff, self.after.half_width, self.rate)

    def _taps(self, factor: int) -> int:
        return self.filter_size * factor if factor > 1 and not self.to_rgb else 1


def signals(config: Stylegan3Config) -> list[Signal]:
    """The signals after the input and after each layer; the last is the picture."""
    count, critical = config.num_layers, config.num_critical
    last_cutoff = config.resolution / 2
    last_stopband = last_cutoff * config.last_stopband_rel
    made = []
    for index in range(count + 1):
        share = min(index / (count - critical), 1)
        cutoff = config.first_cutoff * (last_cutoff / config.first_cutoff) ** share
        stopband = config.first_stopband * (last_stopband / config.first_stopband) ** share
        rate = int(2 ** math.ceil(math.log2(min(stopband * 2, config.resolution))))
        half_width = max(stopband, rate / 2) - cutoff
        size = config.resolution if index >= count - 1 else rate + 2 * config.margin_size
        channels = round(min(config.channel_base / 2 / cutoff, config.channel_max))
        made.append(Signal(cutoff, half_width, rate, size, config.image_channels if index == count else channels))
    return made


def layers(config: Stylegan3Config) -> list[Layer]:
    """The layers in order; the last is ToRGB. The first and the input share the signal 0."""
    stages = signals(config)
    made = []
    for number in range(config.num_layers + 1):
        to_rgb = number == config.num_layers
        critical = number >= config.num_layers - config.num_critical
        made.append(
            Layer(
                number,
                before=stages[max(number - 1, 0)],
                after=stages[number],
                kernel=1 if to_rgb else config.conv_kernel,
                critical=critical,
                to_rgb=to_rgb,
                filter_size=config.filter_size,
                lrelu_upsampling=config.lrelu_upsampling,
                radial=config.use_radial_filters and not critical,
            )
        )
    return made


# ---- filters ----


def lowpass(taps: int, cutoff: float, half_width: float, rate: float) -> Array | None:
    """A sinc within a Kaiser window, of sum one: float64 [taps]; None for one tap (Kaiser 1974)."""
    if taps == 1:
        return None
    at = np.arange(taps) - (taps - 1) / 2
    made = np.sinc(2 * cutoff / rate * at) * np.kaiser(taps, kaiser_beta(taps, half_width, rate))
    return np.asarray(made / made.sum())


def radial_lowpass(taps: int, cutoff: float, half_width: float, rate: float) -> Array | None:
    """A jinc, which passes a disk of frequencies, within the window: float64 [taps, taps], of sum one."""
    if taps == 1:
        return None
    at = (np.arange(taps) - (taps - 1) / 2) / rate
    radius = np.hypot(at[:, None], at[None, :])
    window = np.kaiser(taps, kaiser_beta(taps, half_width, rate))
    made = jinc(2 * np.pi * cutoff * radius) * np.outer(window, window)
    return np.asarray(made / made.sum())


def kaiser_beta(taps: int, half_width: float, rate: float) -> float:
    """The window's shape for a transition 2 f_h wide: Kaiser's empirical formulas."""
    attenuation = 2.285 * (taps - 1) * np.pi * (2 * half_width / (rate / 2)) + 7.95
    if attenuation > 50:
        return float(0.1102 * (attenuation - 8.7))
    if attenuation > 21:
        return float(0.5842 * (attenuation - 21) ** 0.4 + 0.07886 * (attenuation - 21))
    return 0.0


def jinc(x: Array, points: int = 512) -> Array:
    """2 J_1(x) / x, by Bessel's integral: the mean of cos(t) sin(x cos t) over a period, which converges at once."""
    t = (np.arange(points) + 0.5) * (2 * np.pi / points)
    safe = np.where(x == 0, 1.0, x)
    bessel = (np.cos(t) * np.sin(safe[..., None] * np.cos(t))).mean(-1)
    return np.where(x == 0, 1.0, 2 * bessel / safe)
