"""Differentiable augmentation for small data (Zhao et al., "DiffAugment", 2020).

Real and generated pictures pass through the same random changes on their way to the discriminator, which then cannot
learn the training pictures by heart; gradients reach the generator through them. All chance is handed in, so that a
step can be repeated: ``augmented(x, at.uniform(DRAWS), ("translation", "cutout"))``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 - torch's own convention

DRAWS = 7  # uniform numbers per picture: three of color, two of translation, two of cutout
SHIFTED, CUT = 0.125, 0.5  # of each side: the furthest translation, and the side of what is cut out


def augmented(x: Tensor, chance: Tensor, kinds: Sequence[str]) -> Tensor:
    """x [n, c, h, w] in about [-1, 1], each row changed by its own chance [n, DRAWS], uniform on [0, 1).

    ``kinds`` are some of "color", "translation", "cutout"; they act in this order. Raises KeyError for another.
    """
    unknown = set(kinds) - set(KINDS)
    if unknown:
        raise KeyError(f"no augmentation {', '.join(sorted(unknown))}; there are: {', '.join(KINDS)}")
    first = 0
    for kind, (draws, change) in KINDS.items():
        if kind in kinds:
            x = change(x, chance[:, first : first + draws])
        first += draws
    return x


def color(x: Tensor, chance: Tensor) -> Tensor:
    """Brightness moved by up to .5, saturation scaled by 0 to 2, contrast by .5 to 1.5: [n, 3] numbers."""
    brightness, saturation, contrast = chance.view(-1, 3, 1, 1, 1).unbind(1)
    x = x + (brightness - 0.5)
    grey = x.mean(1, keepdim=True)
    x = (x - grey) * (2 * saturation) + grey
    mean = x.mean((1, 2, 3), keepdim=True)
    return (x - mean) * (contrast + 0.5) + mean


def translated(x: Tensor, chance: Tensor) -> Tensor:
    """Moved by whole pixels, up to an eighth of each side; what comes in is 0, mid-grey: [n, 2] numbers."""
    n, _, h, w = x.shape
    moves = []
    for number, side in enumerate((h, w)):
        most = int(side * SHIFTED + 0.5)
        by = (chance[:, number] * (2 * most + 1)).floor().long() - most  # -most … most
        source = torch.arange(side, device=x.device) + by[:, None]
        moves.append(source.clamp(-1, side) + 1)  # in the padded picture, whose rim is 0
    rows = torch.arange(n, device=x.device)[:, None, None]
    padded = F.pad(x, (1, 1, 1, 1)).permute(0, 2, 3, 1)
    return padded[rows, moves[0][:, :, None], moves[1][:, None, :]].permute(0, 3, 1, 2)


def cut_out(x: Tensor, chance: Tensor) -> Tensor:
    """A rectangle of half of each side is 0, mid-grey; its center may lie anywhere: [n, 2] numbers."""
    inside = []
    for number, side in enumerate(x.shape[2:]):
        size = int(side * CUT + 0.5)
        center = (chance[:, number] * (side + (1 - size % 2))).floor()
        away = torch.arange(side, device=x.device) - (center[:, None] - size // 2)
        inside.append((away >= 0) & (away < size))
    hole = inside[0][:, :, None] & inside[1][:, None, :]
    return x * (~hole)[:, None].to(x.dtype)


KINDS: dict[str, tuple[int, Callable[[Tensor, Tensor], Tensor]]] = {
    "color": (3, color),
    "translation": (2, translated),
    "cutout": (2, cut_out),
}
