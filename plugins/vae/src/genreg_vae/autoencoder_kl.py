"""The autoencoder of latent diffusion (Rombach et al., 2022), in the form of diffusers' AutoencoderKL folders.

Modules bear the names of the files' tensors, so that a file loads as it is, strictly. Nothing here is diffusers' code.
x is [n, c, h, w] in [-1, 1]; the latent is [n, z, h / f, w / f], f = 2^(stages - 1). The diffusion model's scaling
factor is its own affair: neither encode nor decode applies it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - torch's own convention

from genreg.errors import CheckpointError
from genreg_vae.klconfig import KlConfig

LOG_VARIANCE = (-30.0, 20.0)
OLD_NAMES = {"query": "to_q", "key": "to_k", "value": "to_v", "proj_attn": "to_out.0"}


def _norm(channels: int, groups: int) -> nn.GroupNorm:
    return nn.GroupNorm(groups, channels, eps=1e-6)


class Resnet(nn.Module):
    """shortcut(x) + conv2(silu(norm2(conv1(silu(norm1 x)))))."""

    def __init__(self, before: int, after: int, groups: int) -> None:
        super().__init__()
        self.norm1, self.conv1 = _norm(before, groups), nn.Conv2d(before, after, 3, 1, 1)
        self.norm2, self.conv2 = _norm(after, groups), nn.Conv2d(after, after, 3, 1, 1)
        self.conv_shortcut = nn.Conv2d(before, after, 1) if before != after else None

    def forward(self, x: Tensor) -> Tensor:
        """[n, before, h, w] to [n, after, h, w]."""
        h: Tensor = self.conv2(F.silu(self.norm2(self.conv1(F.silu(self.norm1(x))))))
        return h + (x if self.conv_shortcut is None else self.conv_shortcut(x))


class Attention(nn.Module):
    """One head over all positions, residual."""

    def __init__(self, channels: int, groups: int) -> None:
        super().__init__()
        self.group_norm = _norm(channels, groups)
        self.to_q, self.to_k, self.to_v = (nn.Linear(channels, channels) for _ in range(3))
        self.to_out = nn.ModuleList([nn.Linear(channels, channels)])

    def forward(self, x: Tensor) -> Tensor:
        """[n, c, h, w] to the same."""
        h = self.group_norm(x).flatten(2).transpose(1, 2)  # [n, h w, c]
        mixed = F.scaled_dot_product_attention(self.to_q(h), self.to_k(h), self.to_v(h))
        out: Tensor = self.to_out[0](mixed).transpose(1, 2).reshape(x.shape)
        return x + out


class Middle(nn.Module):
    """A resnet, attention, a resnet."""

    def __init__(self, channels: int, groups: int, attends: bool) -> None:
        super().__init__()
        self.attentions = nn.ModuleList([Attention(channels, groups)] if attends else [])
        self.resnets = nn.ModuleList(Resnet(channels, channels, groups) for _ in range(2))

    def forward(self, x: Tensor) -> Tensor:
        """[n, c, h, w] to the same."""
        x = self.resnets[0](x)
        for attention in self.attentions:
            x = attention(x)
        out: Tensor = self.resnets[1](x)
        return out


class Resample(nn.Module):
    """A convolution that halves (zeros at the right and bottom alone) or follows doubling to the nearest."""

    def __init__(self, channels: int, *, up: bool) -> None:
        super().__init__()
        self.up = up
        self.conv = nn.Conv2d(channels, channels, 3, 1 if up else 2, 1 if up else 0)

    def forward(self, x: Tensor) -> Tensor:
        """[n, c, h, w] to half or double."""
        x = F.interpolate(x, scale_factor=2.0, mode="nearest") if self.up else F.pad(x, (0, 1, 0, 1))
        out: Tensor = self.conv(x)
        return out


class Block(nn.Module):
    """Resnets, then a change of resolution but in the last stage."""

    def __init__(self, before: int, after: int, layers: int, groups: int, *, up: bool, last: bool) -> None:
        super().__init__()
        self.resnets = nn.ModuleList(Resnet(before if i == 0 else after, after, groups) for i in range(layers))
        changes = nn.ModuleList([] if last else [Resample(after, up=up)])
        self.upsamplers, self.downsamplers = (changes, nn.ModuleList()) if up else (nn.ModuleList(), changes)

    def forward(self, x: Tensor) -> Tensor:
        """[n, before, h, w] to [n, after, …]."""
        for layer in (*self.resnets, *self.upsamplers, *self.downsamplers):
            x = layer(x)
        return x


class Encoder(nn.Module):
    """Pixels to the moments of the latent."""

    def __init__(self, config: KlConfig) -> None:
        super().__init__()
        widths, groups = config.block_out_channels, config.norm_num_groups
        self.conv_in = nn.Conv2d(config.in_channels, widths[0], 3, 1, 1)
        pairs = list(zip([widths[0], *widths], widths, strict=False))
        self.down_blocks = nn.ModuleList(
            Block(a, b, config.layers_per_block, groups, up=False, last=i == len(pairs) - 1)
            for i, (a, b) in enumerate(pairs)
        )
        self.mid_block = Middle(widths[-1], groups, config.mid_block_add_attention)
        self.conv_norm_out = _norm(widths[-1], groups)
        self.conv_out = nn.Conv2d(widths[-1], 2 * config.latent_channels, 3, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        """[n, c, h, w] to [n, 2 z, h / f, w / f]."""
        h = self.conv_in(x)
        for block in self.down_blocks:
            h = block(h)
        out: Tensor = self.conv_out(F.silu(self.conv_norm_out(self.mid_block(h))))
        return out


class Decoder(nn.Module):
    """Latent to pixels; each stage has one resnet more than the encoder's."""

    def __init__(self, config: KlConfig) -> None:
        super().__init__()
        widths, groups = config.block_out_channels[::-1], config.norm_num_groups
        self.conv_in = nn.Conv2d(config.latent_channels, widths[0], 3, 1, 1)
        self.mid_block = Middle(widths[0], groups, config.mid_block_add_attention)
        pairs = list(zip([widths[0], *widths], widths, strict=False))
        self.up_blocks = nn.ModuleList(
            Block(a, b, config.layers_per_block + 1, groups, up=True, last=i == len(pairs) - 1)
            for i, (a, b) in enumerate(pairs)
        )
        self.conv_norm_out = _norm(widths[-1], groups)
        self.conv_out = nn.Conv2d(widths[-1], config.out_channels, 3, 1, 1)

    def forward(self, z: Tensor) -> Tensor:
        """[n, z, h / f, w / f] to [n, c, h, w]."""
        h = self.mid_block(self.conv_in(z))
        for block in self.up_blocks:
            h = block(h)
        out: Tensor = self.conv_out(F.silu(self.conv_norm_out(h)))
        return out


class AutoencoderKl(nn.Module):
    """Encoder, decoder, and the 1 x 1 convolutions between them."""

    def __init__(self, config: KlConfig) -> None:
        super().__init__()
        self.encoder, self.decoder = Encoder(config), Decoder(config)
        z = config.latent_channels
        self.quant_conv = nn.Conv2d(2 * z, 2 * z, 1) if config.use_quant_conv else None
        self.post_quant_conv = nn.Conv2d(z, z, 1) if config.use_post_quant_conv else None

    def encode(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """The posterior's mean and log variance: [n, z, h / f, w / f] each."""
        h = self.encoder(x)
        mean, log_variance = (h if self.quant_conv is None else self.quant_conv(h)).chunk(2, 1)
        return mean, log_variance.clamp(*LOG_VARIANCE)

    def decode(self, z: Tensor) -> Tensor:
        """Pixels, about [-1, 1]: [n, c, h, w]."""
        out: Tensor = self.decoder(z if self.post_quant_conv is None else self.post_quant_conv(z))
        return out


def current_name(name: str) -> str:
    """A tensor's name as files of today have it.

    >>> current_name("encoder.mid_block.attentions.0.query.weight")
    'encoder.mid_block.attentions.0.to_q.weight'
    """
    return re.sub(r"(attentions\.\d+)\.(\w+)\.", lambda m: f"{m[1]}.{OLD_NAMES.get(m[2], m[2])}.", name)


def current_tensors(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors of an old file under today's names, 1 x 1 convolutions of attention as matrices."""
    out = {}
    for old, tensor in tensors.items():
        name = current_name(old)
        squeezed = ".attentions." in name and name.endswith(".weight") and tensor.dim() == 4
        out[name] = tensor[:, :, 0, 0] if squeezed else tensor
    return out


def build(config: KlConfig, tensors: Mapping[str, Tensor]) -> AutoencoderKl:
    """The network with a file's tensors, assigned and not copied; raises CheckpointError with all differences."""
    with torch.device("meta"):
        network = AutoencoderKl(config)
    own, found = network.state_dict(), current_tensors(tensors)
    wrong = [f"{name} is missing" for name in own if name not in found]
    wrong += [f"{name} is not expected" for name in found if name not in own]
    wrong += [
        f"{name} is {list(found[name].shape)}, expected {list(own[name].shape)}"
        for name in own
        if name in found and found[name].shape != own[name].shape
    ]
    if wrong:
        more = f"; and {len(wrong) - 8} more" if len(wrong) > 8 else ""
        raise CheckpointError(f"the tensors do not fit config.json: {'; '.join(wrong[:8])}{more}")
    network.load_state_dict(found, strict=True, assign=True)
    return network.eval().requires_grad_(False)
