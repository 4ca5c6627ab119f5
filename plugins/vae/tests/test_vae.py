"""The vae family: what comes out, what can be given, what is refused."""

from __future__ import annotations

import hashlib
import subprocess
import sys
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
import yaml
from small_pictures import eights, far, seeds, table

import genreg
import genreg_vae
from genreg.checkpoint import Weights, write_tensors
from genreg.data import Source
from genreg.draft import Inferring, Scoring
from genreg.errors import CheckpointError, DataError, UsageError
from genreg.images import encode, image_field, images
from genreg.samplers import interpolate, truncate
from genreg_torch.labeled import columns
from genreg_torch.pixels import pictures
from genreg_vae.config import Config
from genreg_vae.mixture import fit_mixture
from genreg_vae.model import ImageVae, network
from genreg_vae.networks import ConvDecoder
from genreg_vae.training import load, one_hot

FAMILY = next(family for family in genreg_vae.genreg_models() if family.name == "vae")
BUNDLED = Path(genreg_vae.__file__).parent / "vae-digits"
OPTIONS = genreg_vae.Options(device="cpu", importance=8)
SILENT = lambda done, total=None, /, **figures: None  # noqa: E731


def fitted(folder: Path, data: pa.Table, held: pa.Table | None = None, **config):
    validation = None if held is None else Source.of(held, "validation")
    return FAMILY.fit(
        Config(**config), OPTIONS, Source.of(data, "train"), validation, seed=0, folder=folder, report=SILENT
    )


def model_of(folder: Path, trained) -> ImageVae:
    path = folder / "model.safetensors"
    write_tensors(path, trained.tensors)
    return load(trained.config, OPTIONS, Weights.open(path))


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A model of the 8 x 8 digits after a second of training, and what fit returned."""
    folder = tmp_path_factory.mktemp("vae")
    x, y = eights()
    found = fitted(folder / "run", table(x[:1200], y[:1200]), table(x[1200:], y[1200:]), levels=17, steps=250, width=64)
    return found, model_of(folder, found)


@pytest.fixture
def model(trained) -> ImageVae:
    return trained[1]


def untrained(shape=(28, 28, 1), classes=0, **config) -> ImageVae:
    values = list(range(classes))
    label = {"label": "digit", "values": values, "counts": [1] * classes} if classes else {}
    own = Config(shape=list(shape), **label, **config).resolved()
    with torch.random.fork_rng():
        torch.manual_seed(0)
        vae = network(own).eval().requires_grad_(False)
    z = np.random.default_rng(0).normal(size=(100, own.latents))
    prior = fit_mixture(z, np.arange(100) % max(classes, 1), max(classes, 1), 2, seed=0)
    return ImageVae(own, vae, prior, samples=4)


def given(rows: int, **columns_) -> pa.RecordBatch:
    """Conditions of ``rows`` samples; a single value is that of each."""
    types = {"digit": pa.int32(), "like": pa.binary(), "scale": pa.float64(), "temperature": pa.float64()}
    every = {name: value if isinstance(value, list) else [value] * rows for name, value in columns_.items()}
    return pa.record_batch({name: pa.array(every.get(name, [None] * rows), kind) for name, kind in types.items()})


def sampled(model: ImageVae, seeds_: np.ndarray, **conditions) -> np.ndarray:
    return pictures(
        model.render(model.propose(seeds_, given(len(seeds_), **conditions))).column(0), model.config.shape
    )[0]


# ---- what comes out ----


@pytest.mark.parametrize("temperature", [0.0, 1.0])
@pytest.mark.parametrize("shape", [(8, 8, 1), (28, 28, 1), (20, 37, 3)])
def test_a_seed_is_a_sample_whatever_the_batch(shape, temperature):
    model = untrained(shape, classes=3)
    whole = sampled(model, seeds(40), temperature=temperature)
    alone = np.concatenate([sampled(model, seeds(1, seed), temperature=temperature) for seed in (0, 7, 39)])
    assert far(whole[[0, 7, 39]], alone) <= 1
    assert far(whole[0], whole[7]) > 1


@pytest.mark.parametrize("network", ["conv", "mlp"])
@pytest.mark.parametrize("shape", [(1, 1, 1), (5, 7, 1), (28, 28, 1), (33, 47, 3), (64, 16, 4)])
def test_pictures_of_any_size_and_channels_pass_through_both_networks(network, shape):
    model = untrained(shape, classes=2, network=network, width=8, latents=3)
    assert sampled(model, seeds(3)).shape == (3, *shape)
    x = torch.rand(4, shape[2], shape[0], shape[1])
    vae = model.vae.train().requires_grad_(True)
    y = one_hot(model.config, torch.tensor([0, 1, 0, 1]))
    mean, log_variance, parameters = vae(x, y, torch.randn(4, 3))
    assert (mean.shape, log_variance.shape) == ((4, 3), (4, 3))
    assert parameters.shape == (4, 2, shape[2], shape[0], shape[1])
    (parameters.sum() + mean.sum() + log_variance.sum()).backward()
    assert all(parameter.grad is not None for parameter in vae.parameters())


def test_a_class_asked_for_comes_back_and_others_come_as_often_as_in_training(model):
    batch = model.render(model.propose(seeds(5), given(5, digit=[3, None, 7, None, 0])))
    labels = batch.column(1).to_pylist()
    assert [labels[0], labels[2], labels[4]] == [3, 7, 0]
    one = replace(model, config=model.config.model_copy(update={"counts": [0] * 9 + [5]}))
    assert set(one.render(one.propose(seeds(20), given(20))).column(1).to_pylist()) == {9}
    assert batch.schema.equals(columns(model.config))


def test_pixels_take_the_levels_of_the_data_and_temperature_scales_their_noise(model):
    levels = set(np.rint(np.arange(17) * 255 / 16).astype(int))
    cold, warm, hot = (sampled(model, seeds(30), digit=3, temperature=t) for t in (0.0, 0.5, 1.0))
    assert {*np.unique(cold).tolist(), *np.unique(hot).tolist()} <= levels
    assert 0 < np.abs(warm.astype(int) - cold).mean() < np.abs(hot.astype(int) - cold).mean()
    np.testing.assert_array_equal(cold, sampled(model, seeds(30), digit=3))  # the default is 0


def test_a_given_picture_is_reconstructed_and_a_scale_gives_its_neighbors(model):
    x, y = eights()
    like = encode(x[5])
    same = sampled(model, seeds(3), digit=int(y[5]), like=like)
    np.testing.assert_array_equal(same[0], same[1])
    others = sampled(model, seeds(3), digit=int(y[5]))
    assert np.abs(same[0].astype(int) - x[5]).mean() < np.abs(others.astype(int) - x[5]).mean()
    near = sampled(model, seeds(50), digit=int(y[5]), like=like, scale=1.0)
    far_ = sampled(model, seeds(50), digit=int(y[5]), like=like, scale=4.0)
    away = [np.abs(made.astype(int) - same[0]).mean() for made in (near, far_)]
    assert 0 < away[0] < away[1]


def test_the_class_of_a_picture_is_found_where_it_is_not_given(model):
    x, y = eights()
    draft = model.propose(seeds(40), given(40, like=[encode(image) for image in x[:40]]))
    assert (draft.context["label"] == y[:40]).mean() > 0.8
    batch = model.infer(table(x[:40], None).to_batches()[0], seeds(40))
    np.testing.assert_array_equal(batch.column(0), draft.context["label"])


def test_interpolation_walks_between_real_pictures_of_one_class(model):
    x, y = eights()
    ends = x[np.flatnonzero(y == 3)[:2]]
    draft = model.propose(seeds(2), given(2, digit=3, like=[encode(image) for image in ends]))
    walk = interpolate(draft, steps=4)
    made = pictures(model.render(walk).column(0), model.config.shape)[0]
    assert len(made) == 5
    alone = [sampled(model, seeds(1), digit=3, like=encode(image))[0] for image in ends]
    assert far(made[[0, -1]], np.stack(alone)) <= 16  # one level of 17
    assert all(far(made[i], made[i + 1]) > 0 for i in range(4))


def test_truncation_pulls_to_the_mean_of_the_class(model):
    draft = model.propose(seeds(200), given(200, digit=3))
    np.testing.assert_allclose(truncate(draft, psi=0.0).values[0], model.prior.center(np.array([3]))[0], atol=1e-6)
    np.testing.assert_allclose(draft.values.mean(0), draft.center[0], atol=0.3)


def test_infer_gives_probabilities_and_the_latents_of_the_encoder(model):
    x, y = eights()
    batch = model.infer(table(x[:8], y[:8]).to_batches()[0], seeds(8))
    p = np.stack([batch.column(1 + k).to_numpy() for k in range(10)], 1)
    np.testing.assert_allclose(p.sum(1), 1)
    z = batch.column("z").flatten().to_numpy().reshape(8, -1)
    np.testing.assert_allclose(z, model.posterior(x[:8], y[:8].astype(np.int64))[0], atol=1e-5)
    assert (batch.column("z_deviation").flatten().to_numpy() > 0).all()
    assert isinstance(model, Scoring)
    assert isinstance(model, Inferring)


def test_log_probability_is_a_bound_that_grows_with_its_samples_and_sums_over_a_missing_label(model):
    x, y = eights()
    batch = table(x[:200], y[:200]).to_batches()[0]
    few, many = (replace(model, samples=k).log_prob(batch, seeds(200)) for k in (1, 64))
    assert few.mean() < many.mean()
    assert (np.abs(many - few) < 40).all()
    classes = [model.log_prob(table(x[:4], np.full(4, k)).to_batches()[0], seeds(4)) for k in range(10)]
    free = model.log_prob(table(x[:4], np.full(4, -1)).to_batches()[0], seeds(4))
    np.testing.assert_allclose(free, np.logaddexp.reduce(classes), rtol=1e-6)
    alone = model.log_prob(batch.slice(7, 1), seeds(1, 7))
    np.testing.assert_allclose(alone, model.log_prob(batch, seeds(200))[7], rtol=1e-5)
    odd = pa.record_batch([batch.column(0), pa.array([10] * 200, pa.int32())], schema=batch.schema)
    assert (model.log_prob(odd, seeds(200)) == -np.inf).all()


def test_the_decoder_has_a_direct_path_to_color():
    model = untrained((16, 20, 3), network="conv", width=4)
    assert isinstance(model.vae.decoder, ConvDecoder)
    assert model.vae.decoder.tint is not None
    before = sampled(model, seeds(2))
    with torch.no_grad():
        model.vae.decoder.tint.bias.copy_(torch.tensor([0.0, 0, 0, 1, 0, 0]))  # gains, then offsets of red, green, blue
    after = sampled(model, seeds(2))
    assert after[..., 0].mean() > before[..., 0].mean()
    np.testing.assert_array_equal(after[..., 1:], before[..., 1:])


# ---- training, saving, loading ----


def test_training_records_what_was_measured(trained):
    metrics = trained[0].metrics
    assert -130 < metrics["validation_elbo"] < -80
    assert metrics["active_latents"] >= 3
    assert {f"prior_log_density_{k}" for k in (1, 2, 4, 8)} <= set(metrics)
    assert trained[0].config.network == "mlp"
    assert trained[0].config.components in (1, 2, 4, 8)


@pytest.mark.parametrize("store", ["float32", "float16"])
def test_saving_and_loading_through_the_core_gives_the_same_pictures(tmp_path, store):
    x, y = eights()
    pq.write_table(pa.table({"image": images(x[:300]), "digit": y[:300]}), tmp_path / "d.parquet")
    settings = {"levels": 17, "steps": 20, "width": 16, "store": store}
    call = {"data": tmp_path / "d.parquet", "label": "digit", "settings": settings, "options": {"device": "cpu"}}
    genreg.train("vae", out=tmp_path / "a", **call)
    loaded = genreg.load(tmp_path / "a", options={"device": "cpu"})
    made = loaded.sample(4, seed=5, digit=3).table
    assert made.column("digit").to_pylist() == [3] * 4
    assert made.schema.field("image").type == image_field("image", [8, 8, 1]).type
    genreg.train("vae", out=tmp_path / "b", **call)
    digests = {hashlib.sha256((tmp_path / n / "model.safetensors").read_bytes()).hexdigest() for n in "ab"}
    assert len(digests) == 1
    half = (tmp_path / "a" / "model.safetensors").stat().st_size
    assert half < 60_000 if store == "float16" else half > 30_000


@pytest.mark.parametrize("likelihood", ["gaussian", "bernoulli"])
def test_other_likelihoods_train_too(tmp_path, likelihood):
    x, _ = eights()
    black = np.where(x > 127, 255, 0).astype(np.uint8)
    found = fitted(
        tmp_path, table(black[:600], None), likelihood=likelihood, levels=2, steps=150, width=32, prior="normal"
    )
    model = model_of(tmp_path, found)
    made = sampled(model, seeds(20), temperature=1.0)
    assert set(np.unique(made)) == {0, 255}
    assert found.metrics["train_elbo"] > -64 * np.log(2)
    assert made.mean() == pytest.approx(black.mean(), rel=0.4)


def test_a_convolutional_network_trains_in_bf16_and_keeps_what_it_saw(tmp_path):
    x, y = eights()
    config = {"network": "conv", "levels": 17, "steps": 60, "batch": 32, "width": 8, "precision": "bf16"}
    found = fitted(tmp_path, table(x[:400], y[:400]), **config)
    assert found.config.network == "conv"
    assert found.metrics["train_elbo"] > -190
    assert sampled(model_of(tmp_path, found), seeds(3)).shape == (3, 8, 8, 1)


def test_encoded_pictures_are_trained_on_as_well(tmp_path):
    x, _ = eights()
    cells = pa.array([encode(image) for image in x[:40]], pa.binary())
    found = fitted(tmp_path, pa.table({"image": cells}), levels=17, steps=3, width=8)
    assert found.config.shape == [8, 8, 1]
    assert found.config.label is None


@pytest.mark.slow
def test_eight_by_eight_digits_reach_the_floors_of_the_bound(tmp_path):
    from sklearn.model_selection import train_test_split

    x, y = eights()
    a, b, c, d = train_test_split(x, y, test_size=0.25, stratify=y, random_state=0)
    found = fitted(tmp_path, table(a, c), table(b, d), levels=17, beta_warmup=0.0, prior="normal")
    assert found.metrics["validation_elbo"] >= -83.5
    model = replace(model_of(tmp_path, found), samples=1000)
    log_p = model.log_prob(table(b, d).to_batches()[0], seeds(len(b)))
    assert log_p.mean() - np.log(0.1) >= -80.5  # given the class, each of which is a tenth


# ---- what is refused ----


def refused(folder: Path, data: pa.Table, message: str, **config) -> None:
    with pytest.raises((DataError, UsageError), match=message) as caught:
        fitted(folder, data, **config)
    assert "\n" not in str(caught.value)


def test_training_refuses_what_is_no_picture_and_a_label(tmp_path):
    x, y = eights()
    refused(tmp_path, pa.table({"a": [1.0, 2.0]}), "one column of pictures, and this data has no column of pictures")
    both = pa.table({"image": images(x[:4]), "other": images(x[:4])})
    refused(tmp_path, both, "one column of pictures, and this data has 2")
    extra = table(x[:4], y[:4]).append_column("height", pa.array([1, 2, 3, 4]))
    refused(tmp_path, extra, "not the column height: --drop height")


def test_training_refuses_pictures_of_several_sizes_and_forms(tmp_path):
    grey, wide = np.zeros((4, 4), np.uint8), np.zeros((4, 5), np.uint8)
    color = np.zeros((4, 4, 3), np.uint8)
    for other, told in ((wide, "4x4x1 and 4x5x1"), (color, "4x4x1 and 4x4x3")):
        cells = pa.array([encode(grey), encode(other)], pa.binary())
        refused(tmp_path, pa.table({"image": cells}), f"of one size and form are needed, and there are {told}")
    holes = pa.table({"image": pa.array([encode(grey), None], pa.binary())})
    refused(tmp_path, holes, "1 rows have no picture: leave them out with --preprocess dropna")
    broken = pa.table({"image": pa.array([encode(grey), b"no picture"], pa.binary())})
    refused(tmp_path, broken, "picture 1")


def test_training_refuses_missing_labels_and_a_single_picture(tmp_path):
    x, y = eights()
    some = y[:9].copy()
    some[:2] = -1
    refused(tmp_path, table(x[:9], some), "2 training rows have no digit: leave them out with --preprocess dropna")
    refused(tmp_path, table(x[:1], y[:1]), "there is 1 training picture: give more")


def test_a_class_with_one_picture_is_told_and_trained(tmp_path):
    x, y = eights()
    at = np.append(np.flatnonzero(y == 0)[:20], np.flatnonzero(y == 1)[:1])
    with pytest.warns(UserWarning, match="digit=1 has one training picture, so its samples will look like it"):
        found = fitted(tmp_path, table(x[at], y[at], classes=2), levels=17, steps=5, width=8)
    assert sampled(model_of(tmp_path, found), seeds(2), digit=1).shape == (2, 8, 8, 1)


def test_bernoulli_on_grey_is_warned_of(tmp_path):
    x, _ = eights()
    with pytest.warns(UserWarning, match="likelihood=bernoulli is for black and white, and .*% of the pixels are grey"):
        fitted(tmp_path, table(x[:20], None), likelihood="bernoulli", steps=2, width=8)


def test_controls_out_of_range_are_refused(model):
    for name, message in (("temperature", "temperature=-1"), ("scale", "scale=-1")):
        with pytest.raises(UsageError, match=message):
            model.propose(seeds(1), given(1, **{name: -1.0}, like=encode(eights()[0][0])))
    with pytest.raises(UsageError, match="a value that training did not see; there are: 0, 1"):
        model.propose(seeds(1), given(1, digit=10))
    with pytest.raises(UsageError, match="like"):
        model.propose(seeds(1), given(1, like=b"no picture"))


def test_weights_that_do_not_fit_the_config_are_refused(tmp_path, trained):
    found, _ = trained
    write_tensors(tmp_path / "w.safetensors", found.tensors)
    weights = Weights.open(tmp_path / "w.safetensors")
    for change, message in (
        ({"latents": 5}, "expected"),
        ({"width": 7}, "expected"),
        ({"network": "conv"}, "is missing"),
    ):
        with pytest.raises(CheckpointError, match=message):
            load(found.config.model_copy(update=change), OPTIONS, weights)
    with pytest.raises(CheckpointError, match="needs weights that were trained: genreg train vae"):
        load(Config(), OPTIONS, None)


def test_a_config_of_another_shape_or_kind_is_refused():
    for bad, message in (
        ({"shape": [0, 8, 1]}, "height, width and channels"),
        ({"latents": 0}, "greater"),
        ({"x": 1}, "Extra"),
    ):
        with pytest.raises(ValueError, match=message):
            Config(**bad)


def test_importing_the_plugin_does_not_import_what_computes():
    code = "import sys, genreg_vae; genreg_vae.genreg_models(); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


# ---- the bundled model ----


def test_the_bundled_model_is_what_the_registry_names_and_small():
    entry = yaml.safe_load((BUNDLED.parent / "registry.yaml").read_text("utf-8"))["models"]["vae-digits"]
    for name, facts in entry["files"].items():
        data = (BUNDLED / name).read_bytes()
        assert (hashlib.sha256(data).hexdigest(), len(data)) == (facts["sha256"], facts["size"])
    assert sum(file.stat().st_size for file in BUNDLED.iterdir()) <= 2_500_000
    card = (BUNDLED / "README.md").read_text("utf-8")
    assert "MNIST" in card
    assert "MIT licence" in card


def test_the_readme_s_grid_is_seeds_0_to_99_none_chosen(tmp_path):
    from PIL import Image

    path = Path(__file__).parents[1] / "digits.png"
    rows = pa.table({"label": pa.array(np.arange(100) // 10)})
    with warnings.catch_warnings():
        genreg.load("vae-digits", options={"device": "cpu"}).sample(1, seed=0, given=rows).save(tmp_path / "grid.png")
    made, kept = (np.asarray(Image.open(p).convert("L")).astype(int) for p in (tmp_path / "grid.png", path))
    assert made.shape == kept.shape
    assert np.abs(made - kept).max() <= 1
