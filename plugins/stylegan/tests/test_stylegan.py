"""The families as a user meets them: drafts, seeds, conditions, options, and what is refused."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import genreg
from genreg.checkpoint import Checkpoint, Weights, save, write_tensors
from genreg.errors import CheckpointError, Unsupported, UsageError
from genreg_stylegan import model as models
from genreg_stylegan.config import Stylegan2Config, Stylegan2Options, Stylegan3Config, StyleganOptions, columns
from genreg_stylegan.discriminator import Critic
from genreg_stylegan.model import bytes_needed, generator_of, load2, load_discriminator, refuse_too_large
from genreg_torch.memory import spelled
from genreg_torch.weights import tensors_of

SMALL: dict = {"z_dim": 8, "w_dim": 8, "mapping_layers": 2, "resolution": 32, "channel_base": 128, "channel_max": 8}
CONFIGS = {
    "plain": Stylegan2Config(**SMALL),
    "by class": Stylegan2Config(**SMALL, c_dim=3, classes=["cat", "dog", "猫"]),
    "by number": Stylegan2Config(**SMALL, c_dim=4, image_channels=1),
    "third": Stylegan3Config(**SMALL, num_layers=5, margin_size=4),
}
FAMILIES = {Stylegan2Config: "stylegan2", Stylegan3Config: "stylegan3"}


@pytest.fixture(scope="session")
def folders(tmp_path_factory) -> dict[str, Path]:
    """A checkpoint of each config, with random weights that leave nothing at rest."""
    made = {}
    for name, config in CONFIGS.items():
        torch.manual_seed(len(name))
        generator = generator_of(config)
        with torch.no_grad():
            for key, tensor in generator.state_dict().items():
                if key.endswith(("noise_strength", "w_avg")):
                    tensor.copy_(0.5 * torch.randn_like(tensor))
        made[name] = tmp_path_factory.mktemp("stylegan") / name.replace(" ", "-")
        saved = Checkpoint(made[name], FAMILIES[type(config)], config.model_dump(mode="json"), columns(config))
        save(made[name], saved, tensors_of(generator), f"# {name}\n")
    return made


@pytest.fixture
def loaded(folders):
    """A model of a name, with options."""
    return lambda name, **options: genreg.load(folders[name], options={"device": "cpu", **options})


def pixels(samples) -> np.ndarray:
    return np.stack([np.asarray(image) for image in samples.images()]).astype(int)


# ---- drafts ----


def test_a_draft_is_w_plus_around_the_mean_style(loaded):
    model = loaded("plain")
    draft = model.model.propose(np.arange(3, dtype=np.uint64), model.given(None, {}).batch)
    assert (draft.axes, draft.values.shape, draft.center.shape) == (("layer", "channel"), (3, 8, 8), (8, 8))
    own = generator_of(CONFIGS["plain"])
    own.load_state_dict({k: torch.from_numpy(v) for k, v in model.checkpoint.weights.under("").items()})
    assert np.array_equal(draft.center[0], own.mapping.w_avg.numpy())
    z = torch.from_numpy(model.model._latents(draft.seeds))
    assert draft.values == pytest.approx(own.styles(z).detach().numpy(), abs=1e-5)


@pytest.mark.parametrize("name", CONFIGS)
def test_one_seed_is_one_sample(loaded, name):
    model = loaded(name)
    together = pixels(model.sample(6, seed=10))
    assert np.abs(pixels(model.sample(1, seed=13)) - together[3:4]).max() <= 1
    assert np.abs(pixels(model.sample(6, seed=10, batch=2)) - together).max() <= 1
    assert np.abs(together[0] - together[1]).max() > 10


def test_psi_0_is_the_mean_and_a_cutoff_leaves_fine_layers_alone(loaded):
    model = loaded("plain")
    mean = pixels(model.sample(3, seed=1, samplers=["truncate:psi=0"]))
    assert np.abs(mean - mean[:1]).max() == 0
    free, cut = (pixels(model.sample(3, seed=1, samplers=[f"truncate:psi=0,cutoff={k}"])) for k in (0, 4))
    assert np.array_equal(free, pixels(model.sample(3, seed=1)))
    assert np.abs(cut - cut[:1]).max() > 0
    with pytest.raises(UsageError) as raised:
        model.sample(1, seed=1, samplers=["truncate:psi=[1,1,1,1,1,1,1,1,0.5]"])
    assert str(raised.value) == "truncate: psi has 9 values, and this draft has 8 layers"


def test_a_table_of_mixes_is_one_picture_with_its_parents_on_the_margins(loaded, tmp_path):
    model = loaded("plain")
    made = model.sample(6, seed=20, samplers=["mix:layers=4-7,table=true"])
    cells = pixels(made).reshape(4, 4, 32, 32, 3)
    alone = pixels(model.sample(6, seed=20))
    assert np.abs(cells[0, 1:] - alone[3:]).max() <= 1
    assert np.abs(cells[1:, 0] - alone[:3]).max() <= 1
    pair = pixels(model.sample(6, seed=20, samplers=["mix:layers=4-7"]))
    assert np.abs(np.stack([cells[k, k] for k in (1, 2, 3)]) - pair).max() <= 1
    made.save(tmp_path / "table.png")
    with Image.open(tmp_path / "table.png") as sheet:
        assert sheet.size == (4 * 66 - 2,) * 2  # 4 x 4 cells of 64 pixels, 2 between


def test_a_loop_has_steady_noise_and_can_be_played(loaded, tmp_path):
    model = loaded("plain")
    film = model.sample(3, seed=5, samplers=["interpolate:steps=4,loop=true,smooth=true"])
    assert len(film) == 12
    assert np.abs(pixels(film)[::4] - pixels(model.sample(3, seed=5))).max() <= 1
    for suffix in ("gif", "webp", "apng"):
        film.save(tmp_path / f"film.{suffix}")
        with Image.open(tmp_path / f"film.{suffix}") as played:
            assert (played.n_frames, played.size) == (12, (64, 64))
    drawn = loaded("plain", noise_mode="random").sample(2, seed=5, samplers=["truncate:psi=0", "interpolate:steps=4"])
    assert np.abs(pixels(drawn)[:4] - pixels(drawn)[:1]).max() == 0  # a walk keeps its first sample's noise


def test_noise_is_const_drawn_by_seed_or_none(loaded):
    const, none, drawn = (loaded("plain", noise_mode=mode) for mode in ("const", "none", "random"))
    mean = ["truncate:psi=0"]
    made = [pixels(model.sample(2, seed=3, samplers=mean)) for model in (const, none, drawn)]
    assert np.array_equal(made[0][0], made[0][1])
    assert np.array_equal(made[1][0], made[1][1])
    assert np.abs(made[2][0] - made[2][1]).max() > 5
    assert np.abs(made[0][0] - made[1][0]).max() > 5
    assert np.abs(pixels(drawn.sample(1, seed=4, samplers=mean)) - made[2][1]).max() <= 1


def test_published_seeds_mean_numpys(loaded):
    model = loaded("plain", seeding="randomstate")
    z = model.model._latents(np.array([0, 42], np.uint64))
    assert np.array_equal(z[1:], np.random.RandomState(42).randn(1, 8).astype(np.float32))
    assert np.abs(pixels(model.sample(1, seed=42)) - pixels(loaded("plain").sample(1, seed=42))).max() > 10
    with pytest.raises(UsageError) as raised:
        model.sample(1, seed=2**32)
    assert str(raised.value) == "seed 4294967296: seeding=randomstate takes seeds below 4,294,967,296"


# ---- conditions ----


def test_a_class_is_given_or_drawn(loaded):
    model = loaded("by class")
    dogs = pixels(model.sample(2, seed=1, label="dog"))
    assert not np.array_equal(dogs, pixels(model.sample(2, seed=1, label="猫")))
    free = pixels(model.sample(40, seed=1))
    of_each = np.stack([pixels(model.sample(40, seed=1, label=name)) for name in ("cat", "dog", "猫")])
    same = (np.abs(of_each - free[None]).max((2, 3, 4)) <= 1).T
    assert same.sum(1).tolist() == [1] * 40
    assert same.sum(0).min() > 5  # each is drawn
    with pytest.raises(UsageError) as raised:
        model.sample(1, label="cow")
    assert str(raised.value) == "label=cow: there is no such class; there are: cat, dog, 猫"
    with pytest.raises(UsageError) as raised:
        loaded("by number").sample(1, label=4)
    assert str(raised.value) == "label=4: there is no such class; there are: 0-3"
    assert pixels(loaded("by number").sample(1, label=3)).shape == (1, 32, 32)


def test_classes_may_be_walked_between_for_they_are_part_of_the_style(loaded):
    import pyarrow as pa

    made = loaded("by class").sample(
        1, seed=3, given=pa.table({"label": ["cat", "dog"]}), samplers=["interpolate:steps=3"]
    )
    assert len(made) == 4


def test_stylegan3_is_moved_and_turned(loaded):
    model = loaded("third")
    still = pixels(model.sample(1, seed=2))
    assert np.array_equal(still, pixels(model.sample(1, seed=2, translation=[0, 0], rotation=0)))
    moved = pixels(model.sample(1, seed=2, translation=[0.25, 0]))
    turned = pixels(model.sample(1, seed=2, rotation=90))
    assert np.abs(moved - still).mean() > 2 < np.abs(turned - still).mean()
    away = pixels(model.sample(1, seed=2, translation=[1.0, 0], rotation=360))
    assert not np.array_equal(away, still)
    with pytest.raises(UsageError) as raised:
        model.sample(1, seed=2, translation=[0.25])
    assert str(raised.value) == "translation=[0.25]: two numbers are needed, right and down, such as [0.1, 0]"


def test_samples_at_different_places_are_not_blended(loaded):
    import pyarrow as pa

    given = pa.table({"rotation": [0.0, 30.0]})
    with pytest.raises(Unsupported) as raised:
        loaded("third").sample(1, seed=0, given=given, samplers=["interpolate:steps=2"])
    assert "alike in rotation" in str(raised.value)


# ---- what is told ----


def test_the_model_says_which_layers_paint_what_and_what_a_run_takes(loaded):
    model = loaded("plain").model
    assert model.describe().split("\n") == [
        "W+: 8 layers of 8",
        "  layers 0: 4 x 4",
        "  layers 1-2: 8 x 8",
        "  layers 3-4: 16 x 16",
        "  layers 5-6: 32 x 32",
        "  layers 7: colors at the end",
    ]
    third = loaded("third").model.describe().split("\n")
    assert third[1] == "  layers 0: where the picture lies"
    assert len(third) == 1 + CONFIGS["third"].num_ws
    plan = model.plan(iter(()))
    assert plan["parameters"] == f"{model.parameters:,}"
    assert plan["memory"].endswith("for weights and one picture")


def test_memory_is_bounded_and_refused_before_it_is_taken(monkeypatch):
    large, count, cpu = Stylegan2Config(resolution=1024), 30_000_000, torch.device("cpu")
    whole, half = (bytes_needed(large, dtype, count) for dtype in ("float32", "bfloat16"))
    assert half < whole < 600e6
    assert models.memory_of(cpu) > 1e6
    monkeypatch.setattr(models, "memory_of", lambda _: whole)
    refuse_too_large(large, "float32", count, cpu)
    asked = "a picture of 1024 x 1024 takes"
    monkeypatch.setattr(models, "memory_of", lambda _: half + 1)
    message = refusal(refuse_too_large, large, "float32", count, cpu)
    have = f"with the weights, and cpu has {spelled(half + 1)}"
    assert message == f"{asked} {spelled(whole)} {have}: --option dtype=bfloat16 takes {spelled(half)}"
    monkeypatch.setattr(models, "memory_of", lambda _: 1000)
    for dtype, needed in (("float32", whole), ("bfloat16", half)):
        message = refusal(refuse_too_large, large, dtype, count, cpu)
        way = "end other programs, or take a device that has more"
        assert message == f"{asked} {spelled(needed)} with the weights, and cpu has 1.0 kB: {way}"


# ---- what is refused ----


def weights_of(tmp_path, tensors) -> Weights:
    write_tensors(tmp_path / "model.safetensors", tensors)
    return Weights.open(tmp_path / "model.safetensors")


def refusal(call, *arguments) -> str:
    with pytest.raises((CheckpointError, UsageError)) as raised:
        call(*arguments)
    message = str(raised.value)
    assert "\n" not in message
    return message


def test_a_stylegan3_file_is_no_stylegan2(tmp_path):
    weights = weights_of(tmp_path, tensors_of(generator_of(CONFIGS["third"])))
    options = Stylegan2Options(device="cpu")
    said = "holds the tensors of stylegan3, and its config.json says stylegan2"
    assert refusal(load2, CONFIGS["plain"], options, weights) == f"{weights.path} {said}"
    weights = weights_of(tmp_path, tensors_of(generator_of(CONFIGS["plain"])))
    said = "holds the tensors of stylegan2, and its config.json says stylegan3"
    assert refusal(models.load3, CONFIGS["third"], StyleganOptions(device="cpu"), weights) == f"{weights.path} {said}"


def test_missing_and_surplus_tensors_are_named(tmp_path):
    tensors = tensors_of(generator_of(CONFIGS["plain"]))
    tensors["synthesis.b8.more"] = tensors.pop("synthesis.b8.conv0.bias")
    tensors["mapping.fc1.bias"] = np.zeros(5, np.float32)
    message = refusal(load2, CONFIGS["plain"], Stylegan2Options(device="cpu"), weights_of(tmp_path, tensors))
    assert "synthesis.b8.conv0.bias is missing" in message
    assert "synthesis.b8.more is not expected" in message
    assert "mapping.fc1.bias is F32 [5], expected F32 [8]" in message


def test_without_weights_and_in_float16_there_is_no_model(tmp_path):
    options = Stylegan2Options(device="cpu")
    assert refusal(load2, CONFIGS["plain"], options, None) == "stylegan2 needs its weights: model.safetensors"
    weights = weights_of(tmp_path, tensors_of(generator_of(CONFIGS["plain"])))
    half = options.model_copy(update={"dtype": "float16"})
    said = "dtype=float16 overflows in a StyleGAN: take float32 or bfloat16"
    assert refusal(load2, CONFIGS["plain"], half, weights) == said


def test_styles_of_another_width_are_refused(loaded):
    model = loaded("plain")
    draft = model.model.propose(np.arange(1, dtype=np.uint64), model.given(None, {}).batch)
    wrong = replace(draft, values=np.zeros((1, 8, 9), np.float32))
    assert refusal(model.model.render, wrong) == "w+ is [8, 8] in this model, and these are [8, 9]"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"resolution": 48}, "48 is no power of two, such as 32 or 64"),
        ({"z_dim": 0}, "z_dim and c_dim are both 0: there is nothing to make a picture from"),
        ({"c_dim": 2, "classes": ["one"]}, "classes: 1 names for c_dim=2"),
        ({"activation": "relu"}, "Input should be 'lrelu'"),
    ],
)
def test_a_config_that_is_no_networks_is_refused(change, said):
    with pytest.raises(ValueError, match=said):
        Stylegan2Config(**SMALL | change)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"num_critical": 5, "num_layers": 5}, "num_critical=5 of num_layers=5: fewer are needed"),
        ({"first_cutoff": 20}, "first_cutoff=20 is above half the resolution 32"),
    ],
)
def test_a_config_of_stylegan3_that_is_no_networks_is_refused(change, said):
    with pytest.raises(ValueError, match=said):
        Stylegan3Config(**SMALL | change)


def test_pictures_have_1_3_or_4_channels():
    config = Stylegan2Config(**SMALL, image_channels=2)
    assert refusal(columns, config) == "image_channels=2: pictures have 1, 3 or 4 channels"


def test_a_discriminator_is_loaded_where_there_is_one(folders, tmp_path):
    said = f"{folders['plain']} has no discriminator: only some StyleGAN checkpoints have discriminator.safetensors"
    assert refusal(load_discriminator, folders["plain"]) == said
    torch.manual_seed(0)
    critic = Critic(CONFIGS["by class"], 32)
    path = folders["by class"] / "discriminator.safetensors"
    write_tensors(path, tensors_of(critic))
    x, c = torch.randn(2, 3, 32, 32), torch.eye(3)[:2]
    found = load_discriminator(folders["by class"])(x, c)
    assert found.shape == (2, 1)
    assert torch.allclose(found, critic(x, c), atol=1e-5)
