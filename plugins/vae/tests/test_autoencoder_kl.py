"""AutoencoderKL folders, against values that diffusers computed (scripts/reference_kl.py) and against itself."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch
from safetensors.torch import save_file

from genreg.data import empty_batch
from genreg.errors import CheckpointError, UsageError
from genreg.images import decode, encode
from genreg.samplers import interpolate
from genreg_vae import genreg_models
from genreg_vae.autoencoder_kl import AutoencoderKl, build, current_name
from genreg_vae.klconfig import KlConfig, recognizes
from genreg_vae.klmodel import FILE, EncodedImages, read

REFERENCE = Path(__file__).parent / "fixtures" / "autoencoder_kl.npz"
BASE = {"_class_name": "AutoencoderKL", "norm_num_groups": 4, "sample_size": 16}
NO_QUANT = {"use_quant_conv": False, "use_post_quant_conv": False}
GREY = {"in_channels": 1, "out_channels": 1, "mid_block_add_attention": False}
CONFIGS = {
    "plain": {"block_out_channels": [8], "norm_num_groups": 4},
    "two": {"block_out_channels": [8, 16], "norm_num_groups": 4, "latent_channels": 3},
    "deep": {"block_out_channels": [8, 8, 12], "norm_num_groups": 4, "layers_per_block": 2},
    "flux": {"block_out_channels": [8, 16], "norm_num_groups": 4, **NO_QUANT},
    "grey": {"block_out_channels": [4, 8], "norm_num_groups": 2, **GREY},
}


def filled(shapes: dict[str, tuple[int, ...]]) -> dict[str, torch.Tensor]:
    """Random weights that follow from names and shapes alone, so that nobody has to store them."""
    draw, out = np.random.default_rng(0), {}
    for name in sorted(shapes):
        values = draw.normal(size=shapes[name])
        if values.ndim > 1:
            values *= 1.4 / np.sqrt(np.prod(values.shape[1:]))
        else:
            values = ("norm" in name and name.endswith("weight")) + 0.1 * values
        out[name] = torch.from_numpy(values.astype(np.float32))
    return out


def picture(channels: int) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(1).uniform(-1, 1, (2, channels, 12, 16)).astype(np.float32))


def ours(name: str) -> AutoencoderKl:
    config = KlConfig(**CONFIGS[name])
    with torch.device("meta"):
        shapes = {key: tuple(tensor.shape) for key, tensor in AutoencoderKl(config).state_dict().items()}
    return build(config, filled(shapes))


def close(found, wanted) -> bool:
    found, wanted = np.asarray(found), np.asarray(wanted)
    return bool(np.abs(found - wanted).max() <= 1e-5 * np.ptp(wanted))


def folder(path: Path, name: str = "two", change=lambda tensors: tensors, **config) -> Path:
    path.mkdir(parents=True, exist_ok=True)
    save_file(change({key: value.clone() for key, value in ours(name).state_dict().items()}), str(path / FILE))
    (path / "config.json").write_text(json.dumps({**BASE, **CONFIGS[name], "scaling_factor": 0.18215, **config}))
    return path


@pytest.mark.parametrize("name", CONFIGS)
def test_encoding_and_decoding_are_those_of_diffusers(name):
    reference = np.load(REFERENCE)
    network = ours(name)
    mean, log_variance = network.encode(picture(CONFIGS[name].get("in_channels", 3)))
    assert close(mean, reference[f"{name}.mean"])
    assert close(log_variance, reference[f"{name}.log_variance"])
    assert close(network.decode(torch.from_numpy(reference[f"{name}.mean"])), reference[f"{name}.decoded"])


@pytest.mark.slow
@pytest.mark.parametrize("name", CONFIGS)
def test_the_real_library_agrees_where_it_is_installed(name):
    diffusers = pytest.importorskip("diffusers")
    theirs = diffusers.AutoencoderKL(**_theirs(name)).eval()
    theirs.load_state_dict(filled({key: tuple(t.shape) for key, t in theirs.state_dict().items()}))
    network, x = ours(name), picture(CONFIGS[name].get("in_channels", 3))
    with torch.no_grad():
        posterior = theirs.encode(x).latent_dist
        assert close(network.encode(x)[0], posterior.mean)
        assert close(network.decode(posterior.mean), theirs.decode(posterior.mean).sample)


def _theirs(name: str) -> dict:
    stages = len(CONFIGS[name]["block_out_channels"])
    return {
        "down_block_types": ["DownEncoderBlock2D"] * stages,
        "up_block_types": ["UpDecoderBlock2D"] * stages,
        **CONFIGS[name],
    }


def test_a_folder_is_read_with_its_old_names_too(tmp_path):
    old = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}

    def renamed(tensors):
        out = {}
        for name, tensor in tensors.items():
            for new, before in old.items():
                if f".{new}." in name:
                    name = name.replace(f".{new}.", f".{before}.")
                    tensor = tensor[:, :, None, None].contiguous() if tensor.dim() == 2 else tensor
            out[name] = tensor
        return out

    image = (np.random.default_rng(0).uniform(size=(1, 13, 10, 3)) * 255).astype(np.uint8)
    new, before = read(folder(tmp_path / "new")), read(folder(tmp_path / "old", change=renamed))
    np.testing.assert_array_equal(new.encode(image)[0], before.encode(image)[0])
    assert (
        current_name("decoder.mid_block.attentions.0.proj_attn.bias") == "decoder.mid_block.attentions.0.to_out.0.bias"
    )


def given(model: EncodedImages, *images: np.ndarray | None, scale: float | None = None) -> pa.RecordBatch:
    like = pa.array([None if image is None else encode(image) for image in images], pa.binary())
    return pa.record_batch({"like": like, "scale": pa.array([scale] * len(images), pa.float64())})


def test_pictures_of_any_size_are_padded_and_cropped_back(tmp_path):
    model = read(folder(tmp_path / "m"))
    image = (np.random.default_rng(0).uniform(size=(13, 10, 3)) * 255).astype(np.uint8)
    seeds = np.arange(2, dtype=np.uint64)
    draft = model.propose(seeds, given(model, image, image))
    assert draft.values.shape == (2, 3, 7, 5)
    made = model.render(interpolate(draft, steps=2)).column(0)
    assert [decode(cell.as_py()).shape for cell in made] == [(13, 10, 3)] * 3
    padded = np.pad(image, ((0, 1), (0, 0), (0, 0)), mode="edge")
    np.testing.assert_allclose(draft.values[0], model.encode(padded[None])[0][0], atol=1e-6)


def test_a_scale_moves_the_latent_by_deviations_of_its_posterior(tmp_path):
    model = read(folder(tmp_path / "m"))
    image = np.full((8, 8, 3), 100, np.uint8)
    seeds = np.arange(400, dtype=np.uint64)
    mean, log_variance = model.encode(image[None])
    z = model.propose(seeds, given(model, *[image] * 400, scale=2.0)).values
    away = (z - mean) / np.exp(0.5 * log_variance)
    assert abs(away.std() - 2) < 0.05


def test_without_a_picture_the_latent_is_noise_of_the_config_s_size(tmp_path):
    model = read(folder(tmp_path / "m"))
    draft = model.propose(np.arange(3, dtype=np.uint64), empty_batch(pa.schema([]), 3))
    assert draft.values.shape == (3, 3, 8, 8)
    assert model.render(draft).num_rows == 3


def test_only_an_autoencoder_kl_is_recognized():
    names = ["encoder.conv_in.weight", "decoder.conv_in.weight"]
    family = next(family for family in genreg_models() if family.recognizes)
    assert family.recognizes({"_class_name": "AutoencoderKL"}, names)
    assert not recognizes({"_class_name": "VQModel"}, names)
    assert not recognizes({"_class_name": "AutoencoderKL"}, ["unet.conv_in.weight"])


@pytest.mark.parametrize(
    ("change", "config", "message"),
    [
        (lambda t: {k: v for k, v in t.items() if k != "encoder.conv_in.bias"}, {}, "encoder.conv_in.bias is missing"),
        (lambda t: {**t, "unet.x": torch.zeros(1)}, {}, "unet.x is not expected"),
        (lambda t: t, {"latent_channels": 5}, r"quant_conv.bias is \[6\], expected \[10\]"),
        (lambda t: t, {"down_block_types": ["AttnDownEncoderBlock2D"]}, "AttnDownEncoderBlock2D are not supported"),
        (lambda t: t, {"block_out_channels": [8, 18]}, "18 does not divide into 4 groups"),
        (lambda t: t, {"_class_name": "VQModel"}, "config.json is of a VQModel, not an AutoencoderKL"),
    ],
)
def test_what_does_not_fit_is_refused(tmp_path, change, config, message):
    with pytest.raises(CheckpointError, match=message) as caught:
        read(folder(tmp_path / "m", change=change, **config))
    assert "\n" not in str(caught.value)


def test_a_pickle_is_refused(tmp_path):
    path = folder(tmp_path / "m")
    (path / FILE).rename(path / "diffusion_pytorch_model.bin")
    with pytest.raises(CheckpointError, match="is a pickle, which can run code: convert it to safetensors"):
        read(path)


def test_half_precision_and_pictures_of_several_sizes_are_refused(tmp_path):
    family = next(family for family in genreg_models() if family.recognizes)
    path = folder(tmp_path / "m")
    with pytest.raises(UsageError, match="dtype=float16 overflows"):
        read(path, family.options(device="cpu", dtype="float16"))
    sizes = [np.zeros((8, 8, 3), np.uint8), np.zeros((8, 6, 3), np.uint8)]
    model = read(path)
    with pytest.raises(UsageError, match="pictures of one run are of one size, and these are 8x6 and 8x8"):
        model.propose(np.arange(2, dtype=np.uint64), given(model, *sizes))


def test_a_diffusers_folder_runs_by_its_path(tmp_path):
    from PIL import Image

    import genreg

    photo = tmp_path / "photo.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (32, 32, 3), np.uint8)).save(photo)
    model = genreg.load(folder(tmp_path / "kl"), options={"device": "cpu"})
    assert model.family.name == "autoencoder-kl"
    (image,) = model.sample(1, seed=0, given={"like": str(photo)}).images()
    assert image.size == (32, 32)


def test_the_autoencoder_of_a_strangers_pipeline_runs_from_the_hub(genreg_hub, tmp_path):
    """A repository in diffusers' layout: the one folder that is named is fetched alone, and runs as it lies."""
    from PIL import Image

    import genreg

    photo, local = tmp_path / "photo.png", folder(tmp_path / "kl")
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (32, 32, 3), np.uint8)).save(photo)
    files = {f"vae/{path.name}": path for path in local.iterdir()}
    others = {"model_index.json": b"{}", "unet/config.json": b"{}", "unet/diffusion_pytorch_model.bin": b"\x80\x04."}
    genreg_hub.add_repo("stranger/pipeline", files | others)

    def sampled(reference: str, **how: bool) -> tuple[str, bytes]:
        model = genreg.load(reference, options={"device": "cpu"}, **how)
        (image,) = model.sample(1, seed=7, given={"like": str(photo)}).images()
        assert model.family.name == "autoencoder-kl"
        return model.name, image.tobytes()

    commit = genreg_hub.repos["models", "stranger/pipeline"].find("main").oid
    pinned, image = sampled("hf://stranger/pipeline@main/vae")
    assert pinned == f"hf://stranger/pipeline@{commit}/vae"
    assert image == sampled(str(local))[1]
    asked = {request["path"].partition("/resolve/")[2] for request in genreg_hub.requests(path="/resolve/")}
    assert {path.partition("/")[2] for path in asked} == {"vae/config.json", f"vae/{FILE}"}
    genreg_hub.forget()
    assert sampled(pinned, offline=True) == (pinned, image)
    assert genreg_hub.requests() == []
