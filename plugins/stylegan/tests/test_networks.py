"""The networks against a literal float64 version of themselves, against what others computed, and against theory."""

from __future__ import annotations

from copy import deepcopy
from functools import cache

import numpy as np
import pytest
import stylegan_oracle as oracle
import torch
from scipy.signal import firwin
from scipy.special import j1

from genreg_stylegan import painting, painting3
from genreg_stylegan.config import Discriminator, Stylegan2Config, Stylegan3Config
from genreg_stylegan.discriminator import Critic, minibatch_deviation
from genreg_stylegan.layers import binomial, downsampled, upsampled
from genreg_stylegan.layout import jinc, layers, lowpass, signals
from genreg_stylegan.model import generator_of, inverse_place
from genreg_stylegan.stylegan2 import demodulation, energy, modulated, no_noise
from genreg_stylegan.stylegan3 import resampled_down, resampled_up

SMALL: dict = {"z_dim": 8, "w_dim": 8, "mapping_layers": 2, "resolution": 32, "channel_base": 128, "channel_max": 8}
GENERATORS = {
    "skip": Stylegan2Config(**SMALL),
    "resnet": Stylegan2Config(**SMALL, architecture="resnet", conv_clamp=1.5),
    "orig": Stylegan2Config(**SMALL, architecture="orig", c_dim=3, image_channels=4),
    "skip, clamped, conditional": Stylegan2Config(**SMALL, conv_clamp=0.8, c_dim=2, embed_width=5, mapping_width=6),
    "skip without noise": Stylegan2Config(**SMALL, use_noise=False),
    "stylegan3-t": Stylegan3Config(**SMALL | {"channel_base": 64}, num_layers=6, margin_size=4),
    "stylegan3-r, conditional": Stylegan3Config(
        **SMALL | {"channel_base": 64}, num_layers=5, margin_size=4, conv_kernel=1, use_radial_filters=True, c_dim=3
    ),
}


@cache
def filled(name: str):
    """A generator in which nothing is zero, one or symmetric, and its state as float64 arrays."""
    torch.manual_seed(len(name))
    generator = generator_of(GENERATORS[name])
    with torch.no_grad():
        for key, tensor in generator.state_dict().items():
            if key.endswith("resample_filter"):
                rough = torch.rand(4, 4) + binomial()
                tensor.copy_(rough / rough.sum())
            elif "bias" in key or "strength" in key or key.endswith("w_avg"):
                tensor.add_(0.3 * torch.randn_like(tensor))
            elif key.endswith("magnitude_ema"):
                tensor.copy_(torch.rand([]) + 0.5)
            elif key.endswith("input.affine.weight"):
                tensor.copy_(0.1 * torch.randn_like(tensor))
    state = {key: tensor.double().numpy() for key, tensor in generator.state_dict().items()}
    return generator.eval().requires_grad_(False), state


def some_ws(config, n: int = 2) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(5).normal(size=(n, config.num_ws, config.w_dim)))


def literal(name: str, ws: np.ndarray, **more) -> np.ndarray:
    config, (_, state) = GENERATORS[name], filled(name)
    paint = oracle.stylegan2 if isinstance(config, Stylegan2Config) else oracle.stylegan3
    return np.stack([paint(state, config, own, **more) for own in ws])


@cache
def painted(name: str) -> np.ndarray:
    """What the literal version makes of three of ``some_ws``, once for all tests: it takes its time."""
    return literal(name, some_ws(GENERATORS[name], 3).numpy())


PLACES = np.stack([inverse_place(np.array([0.1, -0.2]), 30.0), inverse_place(np.array([-0.3, 0.05]), -70.0)])


@cache
def painted_in_places(name: str) -> np.ndarray:
    """The same of two, each in its place."""
    ws = some_ws(GENERATORS[name]).numpy()
    return np.concatenate([literal(name, ws[i : i + 1], transform=PLACES[i]) for i in range(2)])


def far(found, wanted) -> float:
    """The largest difference over the largest value."""
    found, wanted = (np.asarray(x.detach() if isinstance(x, torch.Tensor) else x, np.float64) for x in (found, wanted))
    assert found.shape == wanted.shape
    return float(np.abs(found - wanted).max() / np.abs(wanted).max())


# ---- against the literal version ----


@pytest.mark.parametrize("name", GENERATORS)
def test_a_generator_is_its_literal_version(name):
    config, (generator, _) = GENERATORS[name], filled(name)
    ws, wanted = some_ws(config), painted(name)[:2]
    assert far(deepcopy(generator).double().synthesis(ws), wanted) < 1e-12
    assert far(generator.synthesis(ws.float()), wanted) < 2e-6


@pytest.mark.parametrize("name", GENERATORS)
def test_mapping_is_its_literal_version(name):
    config, (generator, state) = GENERATORS[name], filled(name)
    z = np.random.default_rng(1).normal(size=(3, config.z_dim))
    c = np.eye(config.c_dim)[:3] if config.c_dim else None
    c = None if c is None else np.concatenate([c, c])[:3]
    wanted = [oracle.mapping(state, z[i], None if c is None else c[i], config.mapping_layers) for i in range(3)]
    given = None if c is None else torch.from_numpy(c)
    found = deepcopy(generator).double().styles(torch.from_numpy(z), given)
    assert found.shape == (3, config.num_ws, config.w_dim)
    assert far(found[:, 0], np.stack(wanted)) < 1e-12
    assert torch.equal(found[:, 0], found[:, -1])


def test_noise_is_the_files_drawn_or_none():
    name = "skip, clamped, conditional"
    config, (generator, _) = GENERATORS[name], filled(name)
    ws = some_ws(config)
    numbers = {f"synthesis.b{side}.conv{k}": (side, k) for side in config.resolutions for k in (0, 1) if side + k > 4}

    def plane(layer_name: str) -> np.ndarray:
        side, k = numbers[layer_name]
        return np.random.default_rng([side, k]).normal(size=(side, side))

    def drawn(layer: int, side: int) -> torch.Tensor:
        return torch.from_numpy(plane(f"synthesis.b{side}.conv{(layer + 1) % 2}"))[None, None]

    double = deepcopy(generator).double()
    assert far(double.synthesis(ws, drawn), literal(name, ws.numpy(), noise=plane)) < 1e-12
    assert far(double.synthesis(ws, no_noise), literal(name, ws.numpy(), noise=lambda _: 0.0)) < 1e-12


@pytest.mark.parametrize("name", [name for name in GENERATORS if "3" in name])
def test_stylegan3_takes_a_transform_for_each_row(name):
    config, (generator, _) = GENERATORS[name], filled(name)
    found = deepcopy(generator).double().synthesis(some_ws(config), torch.from_numpy(PLACES))
    assert far(found, painted_in_places(name)) < 1e-12


CRITICS = {
    "resnet": Discriminator(channel_base=128, channel_max=8, conv_clamp=0.7),
    "skip": Discriminator(architecture="skip", channel_base=128, channel_max=8, mbstd_group=2, mbstd_channels=2),
    "orig": Discriminator(architecture="orig", channel_base=128, channel_max=8, mbstd_group=None, mapping_layers=3),
}


@pytest.mark.parametrize("conditional", [False, True])
@pytest.mark.parametrize("name", CRITICS)
def test_a_discriminator_is_its_literal_version(name, conditional):
    torch.manual_seed(3)
    config = Stylegan2Config(**SMALL | {"c_dim": 3 if conditional else 0}, discriminator=CRITICS[name])
    critic = Critic(config, 16).double().requires_grad_(False)
    for key, tensor in critic.state_dict().items():
        if key.endswith("resample_filter"):
            tensor.copy_(torch.rand(4, 4) / 8)
        elif key.endswith("bias"):
            tensor.normal_()
    state = {key: tensor.numpy() for key, tensor in critic.state_dict().items()}
    rng = np.random.default_rng(0)
    images, c = rng.normal(size=(4, 3, 16, 16)), np.eye(3)[[0, 2, 1, 0]] if conditional else None
    found = critic(torch.from_numpy(images), None if c is None else torch.from_numpy(c))
    assert far(found[:, 0], oracle.discriminator(state, CRITICS[name], images, c)) < 1e-12


def test_groups_of_a_discriminator_must_divide_the_batch():
    with pytest.raises(ValueError, match="6 pictures cannot be compared in groups of 4: give a multiple, or fewer"):
        minibatch_deviation(torch.zeros(6, 2, 4, 4), 4, 1)


# ---- painted in strips ----


@pytest.mark.parametrize("strip", [1, 2000, 1 << 20])
@pytest.mark.parametrize("name", [name for name in GENERATORS if "3" not in name])
def test_strips_make_the_same_picture(name, strip, monkeypatch):
    monkeypatch.setattr(painting, "STRIPS", 8)
    monkeypatch.setattr(painting, "STRIP_BYTES", strip)
    config, (generator, _) = GENERATORS[name], filled(name)
    ws = some_ws(config, 3).float()
    painter = painting.painter2(deepcopy(generator).synthesis, torch.device("cpu"), torch.float32)
    made = torch.stack(list(painter(ws, None, None)))
    assert far(made, painted(name)) < 2e-6
    alone = next(painter(ws[1:2], None, None))
    assert far(made[1], alone) < 1e-6


@pytest.mark.parametrize("strip", [1, 60_000, 1 << 23])
@pytest.mark.parametrize("name", [name for name in GENERATORS if "3" in name])
def test_strips_of_stylegan3_make_the_same_picture_in_each_place(name, strip, monkeypatch):
    monkeypatch.setattr(painting3, "STRIP_BYTES", strip)
    config, (generator, _) = GENERATORS[name], filled(name)
    ws = some_ws(config).float()
    painter = painting3.painter3(deepcopy(generator).synthesis, torch.device("cpu"), torch.float32)
    made = torch.stack(list(painter(ws, None, torch.from_numpy(PLACES).float())))
    assert far(made, painted_in_places(name)) < 1e-5
    assert far(next(painter(ws, None, None)), painted(name)[0]) < 1e-5


def test_strips_take_noise_row_by_row(monkeypatch):
    monkeypatch.setattr(painting, "STRIPS", 8)
    config, (generator, _) = GENERATORS["skip"], filled("skip")
    ws = some_ws(config, 3).float()

    def drawn(layer: int, side: int) -> torch.Tensor:
        return torch.from_numpy(np.random.default_rng(layer).normal(size=(3, 1, side, side))).float()

    painter = painting.painter2(deepcopy(generator).synthesis, torch.device("cpu"), torch.float32)
    assert far(torch.stack(list(painter(ws, drawn, None))), generator.synthesis(ws, drawn)) < 2e-6


def test_bfloat16_is_near(monkeypatch):
    monkeypatch.setattr(painting, "STRIPS", 16)
    config, (generator, _) = GENERATORS["skip"], filled("skip")
    ws = some_ws(config, 2).float()
    painter = painting.painter2(deepcopy(generator).synthesis, torch.device("cpu"), torch.bfloat16)
    made, wanted = torch.stack(list(painter(ws, None, None))), generator.synthesis(ws)
    error = (made - wanted).square().mean().sqrt() / wanted.std()
    assert 1e-5 < error < 0.01


def test_bfloat16_of_stylegan3_is_near():
    config, (generator, _) = GENERATORS["stylegan3-t"], filled("stylegan3-t")
    ws = some_ws(config, 1).float()
    painter = painting3.painter3(deepcopy(generator).synthesis, torch.device("cpu"), torch.bfloat16)
    made, wanted = next(painter(ws, None, None)), generator.synthesis(ws)[0]
    assert 1e-5 < (made - wanted).square().mean().sqrt() / wanted.std() < 0.02


# ---- theory ----


def test_what_is_demodulated_has_the_variance_of_what_goes_in():
    torch.manual_seed(0)
    x, weight = torch.randn(2, 64, 64, 64), torch.randn(32, 64, 3, 3) * 5
    style = torch.rand(2, 64) * 3 + 0.1
    y = modulated(x, weight, style, demodulation(energy(weight), style))
    assert y[:, :, 1:-1, 1:-1].var((0, 2, 3)).mean() == pytest.approx(1, abs=0.02)


def test_scaled_activations_are_modulated_weights():
    torch.manual_seed(1)
    x, weight, style = torch.randn(1, 5, 9, 9).double(), torch.randn(4, 5, 3, 3).double(), torch.randn(1, 5).double()
    own = weight * style[0][:, None, None]
    own = own / (own.square().sum((1, 2, 3), keepdim=True) + 1e-8).sqrt()
    wanted = torch.nn.functional.conv2d(x, own, padding=1)
    assert far(modulated(x, weight, style, demodulation(energy(weight), style)), wanted) < 1e-12


@pytest.mark.parametrize("size", [4, 8, 14])
def test_what_is_constant_stays_so_up_and_down(size):
    x = torch.full((1, 2, size, size), 3.0)
    up = upsampled(x, binomial())
    assert up.shape == (1, 2, 2 * size, 2 * size)
    assert torch.allclose(up[..., 2:-2, 2:-2], torch.tensor(3.0))
    assert torch.allclose(downsampled(up, binomial())[..., 2:-2, 2:-2], torch.tensor(3.0))


@pytest.mark.parametrize("factor", [2, 4])
def test_a_low_frequency_passes_up_and_down_and_a_high_one_does_not(factor):
    rate, size, taps = 32, 64, 6 * factor
    fir = torch.from_numpy(lowpass(taps, 8.0, 6.0, rate * factor))
    at = torch.arange(size).double() / rate
    low = torch.sin(2 * torch.pi * 2 * at)[None, None, :, None].expand(1, 1, -1, size)
    high = torch.where(torch.arange(size) % 2 == 0, 1.0, -1.0).double()[None, None, :, None].expand(1, 1, -1, size)
    total = 2 * taps - 1 - factor  # so that what comes out is as large as what went in
    for x, wanted in ((low, low), (high, 0 * high)):
        up = resampled_up(x, fir, factor, ((total + factor) // 2, total - (total + factor) // 2))
        back = resampled_down(up, fir, factor)
        assert back.shape == x.shape
        assert (back - wanted)[0, 0, 8:-8, 8:-8].abs().max() < 0.08


def test_filters_are_scipys_and_jinc_is_bessels():
    for taps, cutoff, half_width, rate in ((12, 2.0, 6.0, 32), (24, 3.36, 4.6, 64), (12, 16.0, 3.7, 64)):
        wanted = firwin(taps, cutoff, width=2 * half_width, fs=rate)
        assert np.abs(lowpass(taps, cutoff, half_width, rate) - wanted).max() < 1e-9
    x = np.linspace(0, 60, 400)
    wanted = np.where(x == 0, 1, 2 * j1(np.maximum(x, 1e-9)) / np.maximum(x, 1e-9))
    assert np.abs(jinc(x) - wanted).max() < 1e-12


PUBLISHED = {
    (1024, 32768, 512, 3): "L0_36_512 L1_36_512 L2_52_512 L3_52_512 L4_84_512 L5_148_512 L6_148_512 L7_276_323 "
    "L8_276_203 L9_532_128 L10_1044_81 L11_1044_51 L12_1044_32 L13_1024_32 L14_1024_3",
    (256, 32768, 512, 3): "L0_36_512 L1_36_512 L2_36_512 L3_52_512 L4_52_512 L5_84_512 L6_84_512 L7_148_512 L8_148_512 "
    "L9_148_362 L10_276_256 L11_276_181 L12_276_128 L13_256_128 L14_256_3",
}


@pytest.mark.parametrize("sizes", PUBLISHED)
def test_layers_have_the_published_names(sizes):
    resolution, base, most, kernel = sizes
    config = Stylegan3Config(resolution=resolution, channel_base=base, channel_max=most, conv_kernel=kernel)
    assert " ".join(layer.name for layer in layers(config)) == PUBLISHED[sizes]
    assert config.num_ws == 16
    assert [layer.critical for layer in layers(config)].count(True) == 3


def test_each_layer_makes_the_size_that_the_next_one_takes():
    for resolution in (32, 96, 256):
        config = Stylegan3Config(resolution=resolution, channel_base=64, channel_max=2, margin_size=10)
        for layer in layers(config):
            grown = (layer.before.size + layer.kernel - 1) * layer.up + sum(layer.padding) - layer.up_taps + 1
            assert (grown - layer.down_taps) // layer.down + 1 == layer.after.size
        assert signals(config)[-1].size == resolution


def tiny(**more) -> Stylegan3Config:
    return Stylegan3Config(
        z_dim=8, w_dim=8, resolution=64, channel_base=1024, channel_max=24, num_layers=8, margin_size=10, **more
    )


@pytest.mark.parametrize(
    ("config", "place", "worst"),
    [
        (tiny(), ((0.25, 0.125), 0.0), 0.01),
        (tiny(conv_kernel=1, use_radial_filters=True), ((0.0, 0.0), 90.0), 1e-4),
    ],
)
def test_a_picture_of_stylegan3_moves_and_turns_as_one(config, place, worst):
    """Equivariance: what is moved before the network is what is moved after it, but for the rim."""
    torch.manual_seed(0)
    generator = generator_of(config).double().eval().requires_grad_(False)
    ws = some_ws(config, 1)
    transform = torch.from_numpy(inverse_place(np.array(place[0]), place[1]))
    still, moved = generator.synthesis(ws)[0], generator.synthesis(ws, transform)[0]
    if place[1]:
        wanted, found = torch.rot90(still, 1, (1, 2)), moved  # counterclockwise
    else:
        right, down = int(64 * place[0][0]), int(64 * place[0][1])
        wanted, found = still[:, : 64 - down, : 64 - right], moved[:, down:, right:]
    inner = (..., slice(8, -8), slice(8, -8))
    error = (found[inner] - wanted[inner]).square().mean().sqrt() / wanted.std()
    apart = (moved - still).square().mean().sqrt() / still.std()
    assert error < worst < 0.5 < apart


def test_gradients_and_their_gradients_are_right():
    torch.manual_seed(0)
    x = torch.randn(1, 2, 4, 4, dtype=torch.double, requires_grad=True)
    weight = torch.randn(3, 2, 3, 3, dtype=torch.double, requires_grad=True)
    style = torch.randn(1, 2, dtype=torch.double, requires_grad=True)

    def styled(x, weight, style):
        return modulated(x, weight, style, demodulation(energy(weight), style))

    assert torch.autograd.gradcheck(styled, (x, weight, style))
    assert torch.autograd.gradgradcheck(styled, (x, weight, style))
    fir = torch.from_numpy(lowpass(4, 2.0, 6.0, 32))
    assert torch.autograd.gradgradcheck(lambda x: resampled_up(x, fir, 2, (-1, 3)).square(), (x,))
    assert torch.autograd.gradgradcheck(lambda x: resampled_down(upsampled(x, binomial()), fir, 2).square(), (x,))
    assert torch.autograd.gradgradcheck(lambda x: downsampled(x, binomial()).square(), (x,))


def test_training_moves_the_mean_style_and_the_magnitudes_and_sampling_does_not():
    config, (generator, _) = GENERATORS["stylegan3-t"], filled("stylegan3-t")
    own = deepcopy(generator)
    before = {key: tensor.clone() for key, tensor in own.state_dict().items()}
    z = torch.randn(4, config.z_dim)
    own(z)
    assert all(torch.equal(before[key], tensor) for key, tensor in own.state_dict().items())
    w = own.styles(z)
    own.mapping.average_(w[:, 0], 0.9)
    assert torch.allclose(own.mapping.w_avg, 0.9 * before["mapping.w_avg"] + 0.1 * w[:, 0].mean(0), atol=1e-6)
    own.synthesis(w, track=True)
    first = own.synthesis.convs[0].layer.name
    x = own.synthesis.input(w[:, 0])
    wanted = 0.999 * before[f"synthesis.{first}.magnitude_ema"] + 0.001 * x.square().mean()
    assert torch.allclose(own.synthesis.convs[0].magnitude_ema, wanted, atol=1e-6)
