"""The objectives' mathematics: values by hand, slopes against brute force, gradients of gradients."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import nn

from genreg_gan.augment import DRAWS, KINDS, augmented, color, cut_out, translated
from genreg_gan.objectives import ADVERSARIAL, made_seen, real_seen, slope_from_one, soft_clip, squared_slope


def network(seed: int = 0, pixels: int = 12) -> nn.Module:
    """A smooth score of pictures [n, 3, 2, 2], in float64."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        layers = nn.Sequential(nn.Flatten(), nn.Linear(pixels, 9), nn.Tanh(), nn.Linear(9, 1), nn.Flatten(0))
    return layers.double()


def numbers(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(seed).normal(size=shape))


def by_differences(discriminate, x: torch.Tensor, h: float = 1e-6) -> torch.Tensor:
    """|grad D(x)|^2 of each row, one pixel after the other."""
    total = torch.zeros(len(x), dtype=x.dtype)
    for pixel in range(x[0].numel()):
        step = torch.zeros_like(x).flatten(1)
        step[:, pixel] = h
        step = step.view_as(x)
        total += ((discriminate(x + step) - discriminate(x - step)) / (2 * h)).square()
    return total


def test_the_losses_have_their_papers_values():
    r, k = torch.tensor([2.0, -1.0], dtype=torch.float64), torch.tensor([0.5, 3.0], dtype=torch.float64)

    def s(*values):
        return sum(math.log1p(math.exp(value)) for value in values) / 2

    expected = {
        "relativistic": (s(-1.5, 4.0), s(1.5, -4.0)),
        "nonsaturating": (s(-2.0, 1.0) + s(0.5, 3.0), s(-0.5, -3.0)),
        "hinge": ((0 + 2.0) / 2 + (1.5 + 4.0) / 2, -1.75),
        "wgan-gp": (1.75 - 0.5, -1.75),
    }
    assert set(ADVERSARIAL) == set(expected)
    for name, (discriminator, generator) in expected.items():
        assert ADVERSARIAL[name].discriminator(r, k).item() == pytest.approx(discriminator, abs=1e-12), name
        assert ADVERSARIAL[name].generator(r, k).item() == pytest.approx(generator, abs=1e-12), name


@pytest.mark.parametrize("name", ADVERSARIAL)
def test_the_two_players_pull_the_scores_of_generated_pictures_apart(name):
    r, k = numbers(6) * 0.5, (numbers(6, seed=1) * 0.5).requires_grad_()
    down = torch.autograd.grad(ADVERSARIAL[name].discriminator(r, k), k)[0]
    up = torch.autograd.grad(ADVERSARIAL[name].generator(r, k), k)[0]
    assert (down > 0).all()
    assert (up < 0).all()


def test_the_relativistic_loss_is_that_of_pairs_and_ignores_a_common_shift():
    r, k = numbers(5), numbers(5, seed=1)
    one = ADVERSARIAL["relativistic"]
    assert one.paired
    torch.testing.assert_close(one.discriminator(r + 7, k + 7), one.discriminator(r, k))
    assert not torch.isclose(one.discriminator(r, k.flip(0)), one.discriminator(r, k))


def test_the_squared_slope_is_that_of_finite_differences():
    d, x = network(), numbers(4, 3, 2, 2).requires_grad_()
    torch.testing.assert_close(squared_slope(d(x), x), by_differences(d, x.detach()), rtol=1e-7, atol=1e-9)


def test_the_slope_of_a_row_does_not_depend_on_its_neighbors():
    d, x = network(), numbers(4, 3, 2, 2)
    whole = squared_slope(d(own := x.clone().requires_grad_()), own)
    alone = [squared_slope(d(row := x[i : i + 1].clone().requires_grad_()), row) for i in range(4)]
    torch.testing.assert_close(whole, torch.cat(alone))


def test_the_penalty_s_gradient_is_right_in_the_weights():
    x = numbers(3, 2)

    def penalty(weight, bias):
        own = x.clone().requires_grad_()
        return squared_slope(torch.tanh(own @ weight + bias).sum(1), own)

    assert torch.autograd.gradcheck(penalty, (numbers(2, 3).requires_grad_(), numbers(3).requires_grad_()))


def test_the_slope_before_an_augmentation_counts_what_it_scales():
    d, x = network(), numbers(4, 3, 2, 2).requires_grad_()
    torch.testing.assert_close(squared_slope(d(3 * x), x), 9 * by_differences(d, 3 * x.detach()), rtol=1e-6, atol=1e-8)


def test_wgan_s_penalty_is_taken_between_the_pictures_and_vanishes_at_slope_one():
    d, x, f = network(), numbers(4, 3, 2, 2), numbers(4, 3, 2, 2, seed=1)
    a = torch.tensor([0.0, 0.25, 0.5, 1.0], dtype=torch.float64)
    between = a.view(-1, 1, 1, 1) * x + (1 - a.view(-1, 1, 1, 1)) * f
    expected = (by_differences(d, between).sqrt() - 1).square()
    torch.testing.assert_close(slope_from_one(d, x, f, a), expected, rtol=1e-6, atol=1e-8)
    unit = nn.functional.normalize(numbers(12), dim=0)
    assert slope_from_one(lambda v: v.flatten(1) @ unit, x, f, a).abs().max() < 1e-10


def test_wgan_s_penalty_has_a_finite_gradient_where_the_slope_is_zero():
    weight = torch.zeros(12, dtype=torch.float64, requires_grad=True)
    x, f = numbers(4, 3, 2, 2), numbers(4, 3, 2, 2, seed=1)
    slope_from_one(lambda v: v.flatten(1) @ weight, x, f, torch.rand(4).double()).mean().backward()
    assert weight.grad.isfinite().all()


def test_the_clip_stays_in_range_and_passes_a_gradient_on():
    v = torch.linspace(-0.5, 1.5, 401, dtype=torch.float64, requires_grad=True)
    clipped = soft_clip(v)
    assert clipped.min() >= -1e-6
    assert clipped.max() <= 1
    torch.testing.assert_close(clipped, v.detach().clamp(0, 1), rtol=0, atol=math.log(2) / 40 + 1e-9)
    inside = (v > 0.2) & (v < 0.8)
    torch.testing.assert_close(clipped[inside], v[inside], rtol=0, atol=1e-4)
    (slope,) = torch.autograd.grad(clipped.sum(), v)
    assert (slope > 0).all()
    torch.testing.assert_close(clipped, 1 - soft_clip(1 - v), rtol=0, atol=1e-3)  # the mirror


def test_real_and_generated_pictures_reach_the_discriminator_with_the_same_noise():
    levels = 17
    x = torch.arange(levels, dtype=torch.float64).repeat_interleave(1000) / (levels - 1)
    chance = torch.linspace(0, 1, 1001, dtype=torch.float64)[:-1].repeat(levels)
    seen = (real_seen(x, chance, levels) + 1) / 2
    edges = torch.linspace(-0.5, levels - 0.5, 8 * levels + 1, dtype=torch.float64) / (levels - 1)
    counts = torch.histogram(seen + 1e-12, edges).hist
    torch.testing.assert_close(counts, torch.full_like(counts, 125.0))  # uniform: no trace of the rounding
    f = numbers(50) * 3
    noise = torch.rand(50).double()
    torch.testing.assert_close(made_seen(f, noise, levels), real_seen(soft_clip((f + 1) / 2), noise, levels))


# ---- augmentation ----


@pytest.mark.parametrize("kind", KINDS)
def test_augmentations_are_differentiable_twice_and_keep_rows_apart(kind):
    x, chance = numbers(3, 3, 6, 5), torch.from_numpy(np.random.default_rng(2).random((3, DRAWS)))

    def change(values):
        return augmented(values, chance, [kind])

    assert torch.autograd.gradcheck(change, x.clone().requires_grad_())
    assert torch.autograd.gradgradcheck(lambda v: change(v).pow(3), x.clone().requires_grad_())
    alone = torch.cat([augmented(x[i : i + 1], chance[i : i + 1], [kind]) for i in range(3)])
    torch.testing.assert_close(change(x), alone)
    order = torch.tensor([2, 0, 1])
    torch.testing.assert_close(augmented(x[order], chance[order], [kind]), change(x)[order])


def test_a_translation_moves_whole_pixels_and_brings_in_mid_grey():
    x = torch.arange(1.0, 257.0).view(1, 1, 16, 16)
    for down, right, dy, dx in ((0.0, 0.5, -2, 0), (0.999, 0.999, 2, 2), (0.5, 0.0, 0, -2)):
        moved = translated(x, torch.tensor([[down, right]]))[0, 0]
        expected = torch.zeros(16, 16)
        for i in range(16):
            for j in range(16):
                if 0 <= i + dy < 16 and 0 <= j + dx < 16:
                    expected[i, j] = x[0, 0, i + dy, j + dx]
        torch.testing.assert_close(moved, expected)


@pytest.mark.parametrize("side", [7, 8, 32])
def test_a_cutout_is_half_of_each_side_where_it_lies_inside(side):
    x = torch.ones(500, 1, side, side)
    chance = torch.from_numpy(np.random.default_rng(0).random((500, 2))).float()
    holes = (cut_out(x, chance) == 0).flatten(1).sum(1)
    size = int(side / 2 + 0.5)
    assert holes.max() == size * size
    assert holes.float().mean() > 0.4 * size * size
    assert (cut_out(x, chance) == 0).any(0).all()  # every pixel may be cut


def test_color_moves_brightness_saturation_and_contrast():
    x = numbers(2, 3, 4, 4)
    still = torch.tensor([[0.5, 0.5, 0.5]] * 2, dtype=torch.float64)
    torch.testing.assert_close(color(x, still), x)
    brighter = color(x, torch.tensor([[0.9, 0.5, 0.5]] * 2, dtype=torch.float64))
    torch.testing.assert_close(brighter, x + 0.4)
    grey = color(x, torch.tensor([[0.5, 0.0, 0.5]] * 2, dtype=torch.float64))
    torch.testing.assert_close(grey, x.mean(1, keepdim=True).expand_as(x))
    strong = color(x, torch.tensor([[0.5, 0.5, 1.0]] * 2, dtype=torch.float64))
    assert strong.std() == pytest.approx(
        float((1.5 * (x - x.mean((1, 2, 3), keepdim=True)) + x.mean((1, 2, 3), keepdim=True)).std())
    )


def test_augmentations_act_with_their_own_numbers_and_an_unknown_one_is_refused():
    x, chance = numbers(3, 3, 8, 8), torch.from_numpy(np.random.default_rng(2).random((3, DRAWS)))
    both = augmented(x, chance, ["cutout", "color"])
    torch.testing.assert_close(both, cut_out(color(x, chance[:, :3]), chance[:, 5:]))
    torch.testing.assert_close(augmented(x, chance, []), x)
    with pytest.raises(KeyError, match="no augmentation blur; there are: color, translation, cutout"):
        augmented(x, chance, ["blur"])
