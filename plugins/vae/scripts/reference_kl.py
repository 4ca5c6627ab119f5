"""Compute the reference values of tests/fixtures/autoencoder_kl.npz with diffusers 0.42.1 itself.

pip install diffusers==0.42.1 && python plugins/vae/scripts/reference_kl.py
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import torch

TESTS = Path(__file__).parents[1] / "tests"


@torch.no_grad()
def main() -> None:
    """The moments of two small pictures, and the decoded mean, of each configuration."""
    sys.path.insert(0, str(TESTS))
    from diffusers import AutoencoderKL
    from test_autoencoder_kl import CONFIGS, REFERENCE, _theirs, filled, picture

    values = {}
    for name, config in CONFIGS.items():
        model = AutoencoderKL(**_theirs(name)).eval()
        model.load_state_dict(filled({key: tuple(tensor.shape) for key, tensor in model.state_dict().items()}))
        posterior = model.encode(picture(config.get("in_channels", 3))).latent_dist
        values[f"{name}.mean"], values[f"{name}.log_variance"] = posterior.mean.numpy(), posterior.logvar.numpy()
        values[f"{name}.decoded"] = model.decode(posterior.mean).sample.numpy()
    np.savez_compressed(REFERENCE, **values)


if __name__ == "__main__":
    main()
