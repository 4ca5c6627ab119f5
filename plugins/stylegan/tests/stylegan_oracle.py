"""The networks once more, literally: float64, NumPy, weights written out for each row, zeros inserted and convolved.

Nothing here is shared with the package but configs and the layout of StyleGAN3, which have tests of their own.
"""

from __future__ import annotations

import numpy as np

from genreg_stylegan.config import Stylegan2Config, Stylegan3Config
from genreg_stylegan.layout import layers, signals


def correlate(x, w, padding=0, stride=1):
    """x [i, h, w] with w [o, i, k, k]: each output is a sum over taps."""
    x = np.pad(x, ((0, 0), (padding, padding), (padding, padding)))
    k = w.shape[2]
    height, width = (x.shape[1] - k) // stride + 1, (x.shape[2] - k) // stride + 1
    out = np.zeros((w.shape[0], height, width))
    for u in range(k):
        for v in range(k):
            part = x[:, u : u + stride * (height - 1) + 1 : stride, v : v + stride * (width - 1) + 1 : stride]
            out += np.einsum("oi,ihw->ohw", w[:, :, u, v], part)
    return out


def upfirdn(x, fir, up=1, down=1, padding=(0, 0), gain=1.0):
    """Zeros inserted after every pixel, padded or cut, convolved (the filter is flipped), every down-th pixel kept."""
    channels, height, width = x.shape
    grown = np.zeros((channels, height * up, width * up))
    grown[:, ::up, ::up] = x
    low, high = padding
    grown = np.pad(grown, ((0, 0), *[(max(low, 0), max(high, 0))] * 2))
    cut = slice(max(-low, 0), grown.shape[1] - max(-high, 0))
    grown = grown[:, cut, cut]
    fir = np.outer(fir, fir) if fir.ndim == 1 else fir
    k = len(fir)
    out = np.zeros((channels, grown.shape[1] - k + 1, grown.shape[2] - k + 1))
    for u in range(k):
        for v in range(k):
            out += gain * fir[k - 1 - u, k - 1 - v] * grown[:, u : u + out.shape[1], v : v + out.shape[2]]
    return out[:, ::down, ::down]


SQRT2 = 2**0.5


def leaky(x, gain=SQRT2, clamp=None):
    x = np.where(x < 0, 0.2 * x, x) * gain
    return x if clamp is None else np.clip(x, -clamp * gain / np.sqrt(2), clamp * gain / np.sqrt(2))


def dense(state, name, x, multiplier=1.0):
    weight, bias = state[f"{name}.weight"], state[f"{name}.bias"]
    return weight @ x * multiplier / np.sqrt(weight.shape[1]) + bias * multiplier


def unit(x):
    return x / np.sqrt(np.mean(x**2) + 1e-8)


def mapping(state, z, c, count, multiplier=0.01, prefix="mapping"):
    parts = ([unit(z)] if z is not None else []) + ([unit(dense(state, f"{prefix}.embed", c))] if c is not None else [])
    x = np.concatenate(parts)
    for i in range(count):
        x = leaky(dense(state, f"{prefix}.fc{i}", x, multiplier))
    return x


# ---- StyleGAN2 ----


def styled(state, config, name, x, w, *, up, noise, gain=1.0):
    weight, style = state[f"{name}.weight"], dense(state, f"{name}.affine", w)
    own = weight * style[None, :, None, None]
    own = own / np.sqrt((own**2).sum((1, 2, 3), keepdims=True) + 1e-8)
    if up:  # a transposed convolution is a convolution (kernel flipped) of what has zeros between
        grown = np.zeros((x.shape[0], 2 * x.shape[1] - 1, 2 * x.shape[2] - 1))
        grown[:, ::2, ::2] = x
        y = correlate(grown, own[:, :, ::-1, ::-1], padding=2)
        y = upfirdn(y, state[f"{name}.resample_filter"], padding=(1, 1), gain=4)
    else:
        y = correlate(x, own, padding=1)
    if config.use_noise and noise is not None:
        y = y + state[f"{name}.noise_strength"] * noise
    return leaky(y + state[f"{name}.bias"][:, None, None], np.sqrt(2) * gain, config.conv_clamp)


def to_rgb(state, config, name, x, w):
    weight = state[f"{name}.weight"]
    style = dense(state, f"{name}.affine", w) / np.sqrt(weight.shape[1])
    y = np.einsum("oi,ihw->ohw", weight[:, :, 0, 0] * style, x) + state[f"{name}.bias"][:, None, None]
    return y if config.conv_clamp is None else np.clip(y, -config.conv_clamp, config.conv_clamp)


def stylegan2(state, config: Stylegan2Config, ws, noise=None):
    """ws [num_ws, w_dim] to a picture [c, R, R]; ``noise(name)`` is a plane, without it the file's."""
    noise = noise or (lambda name: state.get(f"{name}.noise_const"))
    x, image, layer = None, None, 0
    for side in config.resolutions:
        block = f"synthesis.b{side}"
        if side == 4:
            x = styled(
                state, config, f"{block}.conv1", state[f"{block}.const"], ws[0], up=False, noise=noise(f"{block}.conv1")
            )
            layer = 1
        else:
            y = styled(state, config, f"{block}.conv0", x, ws[layer], up=True, noise=noise(f"{block}.conv0"))
            residual = config.architecture == "resnet"
            gain = np.sqrt(0.5) if residual else 1.0
            y = styled(
                state, config, f"{block}.conv1", y, ws[layer + 1], up=False, noise=noise(f"{block}.conv1"), gain=gain
            )
            if residual:
                weight = state[f"{block}.skip.weight"]
                beside = np.einsum("oi,ihw->ohw", weight[:, :, 0, 0] / np.sqrt(weight.shape[1]), x)
                fir = state[f"{block}.skip.resample_filter"]
                y = y + upfirdn(beside, fir, up=2, padding=(2, 1), gain=4) * np.sqrt(0.5)
            x, layer = y, layer + 2
        if image is not None:
            image = upfirdn(image, state[f"{block}.resample_filter"], up=2, padding=(2, 1), gain=4)
        if f"{block}.torgb.weight" in state:
            painted = to_rgb(state, config, f"{block}.torgb", x, ws[layer])
            image = painted if image is None else image + painted
    return image


# ---- StyleGAN3 ----


def stylegan3(state, config: Stylegan3Config, ws, transform=None):
    """ws [num_ws, w_dim] to a picture [c, R, R]."""
    x = fourier(state, signals(config)[0], ws[0], transform)
    for layer, w in zip(layers(config), ws[1:], strict=True):
        x = alias_free(state, config, layer, f"synthesis.{layer.name}", x, w)
    return x * config.output_scale


def fourier(state, signal, w, transform):
    name = "synthesis.input"
    t = dense(state, f"{name}.affine", w)
    t = t / np.hypot(t[0], t[1])
    turn = np.array([[t[0], -t[1], 0], [t[1], t[0], 0], [0, 0, 1]])
    move = np.array([[1, 0, -t[2]], [0, 1, -t[3]], [0, 0, 1]])
    m = turn @ move @ (state[f"{name}.transform"] if transform is None else transform)
    freqs = state[f"{name}.freqs"]
    phases = state[f"{name}.phases"] + freqs @ m[:2, 2]
    freqs = freqs @ m[:2, :2]
    amplitude = np.clip(1 - (np.hypot(*freqs.T) - signal.cutoff) / (signal.rate / 2 - signal.cutoff), 0, 1)
    places = (np.arange(signal.size) + 0.5 - signal.size / 2) / signal.rate
    waves = np.empty((signal.channels, signal.size, signal.size))
    for row, y in enumerate(places):
        for column, x in enumerate(places):
            waves[:, row, column] = np.sin(2 * np.pi * (freqs @ [x, y] + phases)) * amplitude
    weight = state[f"{name}.weight"]
    return np.einsum("oi,ihw->ohw", weight / np.sqrt(len(weight)), waves)


def alias_free(state, config, layer, name, x, w):
    weight, style = state[f"{name}.weight"], dense(state, f"{name}.affine", w)
    bias = state[f"{name}.bias"][:, None, None]
    scale = 1 / np.sqrt(state[f"{name}.magnitude_ema"])
    if layer.to_rgb:
        y = correlate(x, weight * style[None, :, None, None] / np.sqrt(weight[0].size)) * scale + bias
        return y if config.conv_clamp is None else np.clip(y, -config.conv_clamp, config.conv_clamp)
    weight = weight / np.sqrt((weight**2).mean((1, 2, 3), keepdims=True))
    own = weight * (style / np.sqrt((style**2).mean()))[None, :, None, None]
    own = own / np.sqrt((own**2).sum((1, 2, 3), keepdims=True) + 1e-8)
    y = correlate(x, own, padding=layer.kernel - 1) * scale + bias
    one = np.ones(1)
    up, down = (state.get(f"{name}.{kind}_filter", one) for kind in ("up", "down"))
    y = upfirdn(y, up, up=layer.up, padding=layer.padding, gain=layer.up**2)
    return upfirdn(leaky(y, clamp=config.conv_clamp), down, down=layer.down)


# ---- the discriminator ----


def discriminator(state, config, images, c=None):
    """images [n, c, R, R] to logits [n]."""
    states = [(None, image) for image in images]
    side = images.shape[2]
    while side > 4:
        states = [critic_block(state, config, f"b{side}", *pair) for pair in states]
        side //= 2
    features = [x for x, _ in states]
    if config.architecture == "skip":
        seen = [convolved(state, "b4.fromrgb", image, None) for _, image in states]
        features = [x + y for x, y in zip(features, seen, strict=True)]
    n, size = len(features), min(config.mbstd_group or len(features), len(features))
    scores = []
    for row, x in enumerate(features):
        group = np.stack([features[other] for other in range(n) if other % (n // size) == row % (n // size)])
        deviation = np.sqrt(group.var(0) + 1e-8)
        parts = np.split(deviation, config.mbstd_channels)
        extra = [np.full((1, 4, 4), part.mean()) for part in parts]
        y = convolved(state, "b4.conv", np.concatenate([x, *extra]), config.conv_clamp)
        y = leaky(dense(state, "b4.fc", y.ravel()))
        y = dense(state, "b4.out", y)
        if c is not None:
            kind = mapping(state, None, c[row], config.mapping_layers)
            y = (y * kind).sum() / np.sqrt(len(kind))
        scores.append(float(np.squeeze(y)))
    return np.array(scores)


def convolved(state, name, x, clamp, *, down=False, gain=1.0, linear=False):
    weight = state[f"{name}.weight"]
    weight, k = weight / np.sqrt(weight[0].size), weight.shape[2]
    if down:
        fir = state[f"{name}.resample_filter"]
        x = upfirdn(x, fir, padding=(2, 2)) if k == 3 else upfirdn(x, fir, down=2, padding=(1, 1))
        y = correlate(x, weight, stride=2 if k == 3 else 1)
    else:
        y = correlate(x, weight, padding=k // 2)
    return y * gain if linear else leaky(y + state[f"{name}.bias"][:, None, None], np.sqrt(2) * gain, clamp)


def critic_block(state, config, name, x, image):
    if f"{name}.fromrgb.weight" in state:
        seen = convolved(state, f"{name}.fromrgb", image, config.conv_clamp)
        x = seen if x is None else x + seen
    if config.architecture == "skip":
        image = upfirdn(image, state[f"{name}.resample_filter"], down=2, padding=(1, 1))
    residual = config.architecture == "resnet"
    gain = np.sqrt(0.5) if residual else 1.0
    y = convolved(state, f"{name}.conv0", x, config.conv_clamp)
    y = convolved(state, f"{name}.conv1", y, config.conv_clamp, down=True, gain=gain)
    if residual:
        y = y + convolved(state, f"{name}.skip", x, None, down=True, gain=gain, linear=True)
    return y, image
