"""Generators and discriminators: any size, rows apart, what they begin as, and spectral norm."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from genreg_gan.config import Config
from genreg_gan.dcgan import DcganDiscriminator, DcganGenerator, FromPoint, ToPoint
from genreg_gan.model import discriminator, generator
from genreg_gan.networks import Residual, bounded
from genreg_torch.convolutions import coordinates


def pair(shape, classes=3, seed=0, **settings):
    """Both networks of a config."""
    labels = {"label": "y", "values": list(range(classes)), "counts": [1] * classes} if classes else {}
    config = Config(shape=list(shape), **labels, **settings).resolved()
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return config, generator(config), discriminator(config)


@pytest.mark.parametrize("classes", [0, 3])
@pytest.mark.parametrize("network", ["conv", "mlp"])
@pytest.mark.parametrize("shape", [(1, 1, 1), (5, 7, 2), (28, 28, 1), (33, 47, 3), (128, 32, 4)])
def test_pictures_of_any_size_and_channels_pass_through_both_networks(network, shape, classes):
    config, g, d = pair(shape, classes, network=network, width=4, hidden=16)
    z, y = torch.randn(3, config.latents), torch.tensor([0, 2, 1]) if classes else torch.zeros(3, dtype=torch.long)
    f = g(z, y)
    assert f.shape == (3, shape[2], *shape[:2])
    score = d(f, y)
    assert score.shape == (3,)
    score.sum().backward()
    assert all(parameter.grad is not None for net in (g, d) for parameter in net.parameters())


@pytest.mark.parametrize("side", [16, 32, 64, 128])
def test_dcgan_has_the_networks_of_pytorch_s_example(side):
    config, g, d = pair((side, side, 3), classes=0, network="dcgan", width=8)
    f = g(torch.randn(2, config.latents), torch.zeros(2, dtype=torch.long))
    assert f.shape == (2, 3, side, side)
    assert f.abs().max() < 1
    assert d(f, torch.zeros(2, dtype=torch.long)).shape == (2,)
    if side == 64:  # ngf = ndf = 64 there: 3,576,704 and 2,765,568 parameters, counted from its layers
        _, whole_g, whole_d = pair((64, 64, 3), classes=0, network="dcgan")
        assert sum(p.numel() for p in whole_g.parameters()) == 3_576_704
        assert sum(p.numel() for p in whole_d.parameters()) == 2_765_568


def test_matrix_products_stand_for_the_convolutions_from_and_to_a_point():
    z, x = torch.randn(3, 5, 1, 1), torch.randn(3, 6, 4, 4).contiguous(memory_format=torch.channels_last)
    enter, leave = FromPoint(5, 6, 4, 1, 0, bias=False), ToPoint(6, 1, 4, 1, 0, bias=False)
    torch.testing.assert_close(enter(z), nn.functional.conv_transpose2d(z, enter.weight))
    torch.testing.assert_close(leave(x), nn.functional.conv2d(x, leave.weight))
    assert enter(z).is_contiguous(memory_format=torch.channels_last)


def test_dcgan_normalizes_by_what_it_saw_when_it_generates():
    config, g, _ = pair((16, 16, 1), network="dcgan", width=4)
    assert isinstance(g, DcganGenerator)
    z, y = torch.randn(6, config.latents), torch.arange(6) % 3
    moved = g(z, y)[0] - g(z[:2], y[:2])[0]
    assert moved.abs().max() > 1e-3  # in training a row depends on its neighbors
    g.eval()
    torch.testing.assert_close(g(z, y)[0], g(z[:2], y[:2])[0], atol=1e-5, rtol=0)


@pytest.mark.parametrize("network", ["conv", "mlp"])
def test_a_row_does_not_depend_on_its_neighbors_while_it_trains(network):
    config, g, d = pair((20, 24, 3), network=network, width=8)
    g, d = g.double(), d.double()
    z, y = torch.randn(6, config.latents).double(), torch.arange(6) % 3
    order = torch.tensor([4, 0, 5, 2, 1, 3])
    f = g(z, y)
    torch.testing.assert_close(g(z[order], y[order]), f[order])
    torch.testing.assert_close(g(z[3:4], y[3:4]), f[3:4])
    torch.testing.assert_close(d(f[order], y[order]), d(f, y)[order])
    torch.testing.assert_close(d(f[3:4], y[3:4]), d(f, y)[3:4])


def test_residual_blocks_begin_as_the_identity_and_convolutions_keep_the_variance():
    block = Residual(lambda: nn.Linear(5, 5))
    x = torch.randn(4, 5)
    torch.testing.assert_close(block(x), x)
    _, g, d = pair((64, 64, 3))
    for net in (g, d):
        for layer in net.convolutions[:-1]:
            taps = 4 if isinstance(layer, nn.ConvTranspose2d) else 16
            expected = (2 / (taps * layer.in_channels)) ** 0.5
            assert layer.weight.std().item() == pytest.approx(expected, rel=0.15)


def test_the_class_enters_both_networks_and_color_has_its_own_path():
    config, g, d = pair((20, 20, 3))
    z, a, b = torch.randn(4, config.latents), torch.zeros(4, dtype=torch.long), torch.ones(4, dtype=torch.long)
    assert (g(z, a) - g(z, b)).abs().max() > 1e-3
    x = torch.randn(4, 3, 20, 20)
    assert (d(x, a) - d(x, b)).abs().min() > 1e-5
    before = g(z, a)
    with torch.no_grad():
        g.tint.bias.copy_(torch.tensor([0.5, 0, 0, 1, 0, 0]))  # gains, then offsets
    torch.testing.assert_close(g(z, a)[:, 0], 1.5 * before[:, 0] + 1)
    torch.testing.assert_close(g(z, a)[:, 1:], before[:, 1:])


def test_coordinates_run_from_minus_one_to_one():
    seen = coordinates(torch.zeros(2, 5, 3, 4))
    assert seen.shape == (2, 2, 3, 4)
    np.testing.assert_allclose(seen[0, 0, :, 0], [-1, 0, 1])
    np.testing.assert_allclose(seen[1, 1, 2], [-1, -1 / 3, 1 / 3, 1], atol=1e-6)


@pytest.mark.parametrize("network", ["conv", "mlp"])
def test_with_hinge_every_layer_s_largest_singular_value_becomes_one(network):
    _, _, d = pair((16, 16, 1), network=network, width=8, objective="hinge")
    x, y = torch.randn(4, 1, 16, 16), torch.arange(4) % 3
    with torch.no_grad():
        for _ in range(200):
            d(x, y)
    d.eval()
    layers = [m for m in d.modules() if isinstance(m, nn.Linear | nn.Conv2d | nn.Embedding)]
    assert len(layers) == {"conv": 6, "mlp": 8}[network]
    for layer in layers:
        largest = torch.linalg.matrix_norm(layer.weight.flatten(1), 2)
        assert largest.item() == pytest.approx(1, abs=0.02)
        assert hasattr(layer, "parametrizations")


def test_a_bounded_discriminator_rises_no_faster_than_its_layers_allow():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = bounded(nn.Sequential(nn.Linear(6, 20), nn.ReLU(), nn.Linear(20, 1)))
    for _ in range(100):
        net(torch.randn(2, 6))
    net.eval()
    a, b = torch.randn(500, 6), torch.randn(500, 6)
    steep = (net(a) - net(b)).norm(dim=1) / (a - b).norm(dim=1)
    assert steep.max() <= 1.01


def test_dcgan_discriminators_see_the_class():
    _, _, d = pair((16, 16, 1), network="dcgan", width=4)
    assert isinstance(d, DcganDiscriminator)
    x = torch.randn(4, 1, 16, 16)
    d.eval()
    assert (d(x, torch.zeros(4, dtype=torch.long)) - d(x, torch.ones(4, dtype=torch.long))).abs().max() > 1e-6
