"""The gan family: what comes out, what can be given, how it is trained, what is refused."""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
import yaml
from small_pictures import eights, far, seeds, table

import genreg
import genreg_gan
from genreg.checkpoint import Weights, write_tensors
from genreg.data import Source
from genreg.errors import CheckpointError, DataError, UsageError
from genreg.facts import facts_of
from genreg.images import encode, image_field, images
from genreg.samplers import interpolate, truncate
from genreg_gan.config import Config
from genreg_gan.model import ImageGan, generator, load
from genreg_gan.signs import Signs, coverage
from genreg_torch.labeled import columns
from genreg_torch.pixels import pictures
from genreg_torch.settings import TorchOptions

(FAMILY,) = genreg_gan.genreg_models()
PACKAGE = Path(genreg_gan.__file__).parent
OPTIONS = TorchOptions(device="cpu")
SILENT = lambda done, total=None, /, **figures: None  # noqa: E731
QUICK = {"steps": 6, "batch": 16, "width": 8, "hidden": 16, "penalty_every": 1}


def enlarged(x: np.ndarray, side: int) -> np.ndarray:
    return x.repeat(side // 8, 1).repeat(side // 8, 2)


def fitted(folder: Path, data: pa.Table, report=SILENT, seed=0, **config):
    return FAMILY.fit(
        Config(**config), OPTIONS, Source.of(data, "train"), None, seed=seed, folder=folder, report=report
    )


def model_of(folder: Path, trained) -> ImageGan:
    path = folder / "model.safetensors"
    write_tensors(path, trained.tensors)
    return load(trained.config, OPTIONS, Weights.open(path))


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A model of the 8 x 8 digits after a few seconds of training, and what fit returned."""
    folder = tmp_path_factory.mktemp("gan")
    x, y = eights()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = fitted(folder / "run", table(x, y), levels=17, steps=400, width=64, store_discriminator=True)
    return found, model_of(folder, found), folder


@pytest.fixture
def model(trained) -> ImageGan:
    return trained[1]


def untrained(shape=(28, 28, 1), classes=0, **config) -> ImageGan:
    label = {"label": "digit", "values": list(range(classes)), "counts": [1] * classes} if classes else {}
    own = Config(shape=list(shape), **label, **config).resolved()
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return ImageGan(own, generator(own).eval().requires_grad_(False))


def given(rows: int, digit=None) -> pa.RecordBatch:
    values = digit if isinstance(digit, list) else [digit] * rows
    return pa.record_batch({"digit": pa.array(values, pa.int32())})


def sampled(model: ImageGan, seeds_: np.ndarray, digit=None) -> np.ndarray:
    batch = model.render(model.propose(seeds_, given(len(seeds_), digit)))
    return pictures(batch.column(0), model.config.shape)[0]


# ---- what comes out ----


@pytest.mark.parametrize(
    ("shape", "config"), [((8, 8, 1), {}), ((28, 28, 1), {}), ((20, 37, 3), {}), ((16, 16, 3), {"network": "dcgan"})]
)
def test_a_seed_is_a_sample_whatever_the_batch(shape, config):
    model = untrained(shape, classes=3, **config)
    whole = sampled(model, seeds(40))
    alone = np.concatenate([sampled(model, seeds(1, seed)) for seed in (0, 7, 39)])
    assert far(whole[[0, 7, 39]], alone) <= 1
    assert far(whole[0], whole[7]) > 1


def test_a_class_asked_for_comes_back_and_others_come_as_often_as_in_training(model):
    batch = model.render(model.propose(seeds(5), given(5, [3, None, 7, None, 0])))
    labels = batch.column(1).to_pylist()
    assert [labels[0], labels[2], labels[4]] == [3, 7, 0]
    assert batch.schema.equals(columns(model.config))
    rare = untrained(classes=2)
    rare = ImageGan(rare.config.model_copy(update={"counts": [9, 1]}), rare.generator)
    drawn = rare.propose(seeds(2000), given(2000)).context["label"]
    assert drawn.mean() == pytest.approx(0.1, abs=0.02)


def test_samples_look_like_their_class(model):
    from sklearn.svm import SVC

    x, y = eights()
    judge = SVC(C=10).fit(x.reshape(len(x), -1) / 255, y)
    asked = np.arange(200) % 10
    made = sampled(model, seeds(200), asked.tolist())
    assert judge.score(made.reshape(200, -1) / 255, asked) > 0.75
    assert set(np.unique(made)) <= set(np.rint(np.arange(17) * 255 / 16).astype(int))


def test_truncation_pulls_to_the_mean_and_interpolation_follows_the_arc(model):
    draft = model.propose(seeds(60), given(60, 3))
    assert draft.axes == ("latent",)
    np.testing.assert_allclose(truncate(draft, psi=0.0).values, 0)
    half = truncate(draft, psi=0.5)
    np.testing.assert_allclose(half.values, draft.values / 2)
    spread = [pictures(model.render(d).column(0), (8, 8, 1))[0].astype(float).std(0).mean() for d in (half, draft)]
    assert spread[0] < spread[1]  # nearer to the typical is less varied
    walk = interpolate(model.propose(seeds(2), given(2, 3)), steps=8, arc=True)
    norms = np.linalg.norm(walk.values, axis=1)
    assert (np.diff(norms) > 0).all() or (np.diff(norms) < 0).all()  # from one length to the other, not through 0
    made = pictures(model.render(walk).column(0), (8, 8, 1))[0]
    assert far(made[[0, -1]], sampled(model, seeds(2), 3)) == 0


def test_rows_of_different_classes_are_not_blended(model):
    with pytest.raises(UsageError, match="label"):
        interpolate(model.propose(seeds(2), given(2, [1, 2])), steps=3)


# ---- training ----


def test_training_records_what_was_measured(trained):
    metrics = trained[0].metrics
    assert {"discriminator", "generator", "real", "fake", "r1", "r2", "coverage", "told_apart"} <= set(metrics)
    assert metrics["coverage"] > 0.5
    assert trained[0].config.network == "mlp"
    assert set(trained[0].pictures) == {"curves.png", "samples.png"}


@pytest.mark.parametrize(
    "config",
    [
        {"objective": "nonsaturating"},
        {"objective": "wgan-gp"},
        {"objective": "hinge"},
        {"gamma": 0},
        {"network": "conv", "precision": "bf16", "augment": ["color", "translation", "cutout"]},
        {"network": "conv", "accumulate": 2},
    ],
)
def test_every_objective_trains(tmp_path, config):
    x, y = eights()
    found = fitted(tmp_path / "run", table(x[:100], y[:100]), **QUICK, **config)
    model = model_of(tmp_path, found)
    assert sampled(model, seeds(3)).shape == (3, 8, 8, 1)
    assert found.config.resolved() == found.config
    objective = found.config.objective
    assert ("slope" in found.metrics) == (objective == "wgan-gp")
    assert ("r2" in found.metrics) == (objective == "relativistic" and config.get("gamma") != 0)
    every = 3 if objective == "wgan-gp" else 1
    assert found.config.generator_every == every


def test_dcgan_trains_and_keeps_the_statistics_it_saw(tmp_path):
    x, y = eights()
    found = fitted(tmp_path / "run", table(enlarged(x[:64], 16), y[:64]), **{**QUICK, "network": "dcgan"})
    assert (found.config.objective, found.config.gamma, found.config.latents) == ("nonsaturating", 0.0, 100)
    seen = [name for name in found.tensors if name.endswith("running_mean")]
    assert seen
    assert all(np.abs(found.tensors[name]).max() > 0 for name in seen)
    assert sampled(model_of(tmp_path, found), seeds(2), 3).shape == (2, 16, 16, 1)


@pytest.mark.parametrize("store", ["float32", "float16"])
def test_saving_and_loading_through_the_core_gives_the_same_pictures(tmp_path, store):
    x, y = eights()
    pq.write_table(pa.table({"image": images(x[:300]), "digit": y[:300]}), tmp_path / "d.parquet")
    settings = {**QUICK, "levels": 17, "store": store}
    call = {"data": tmp_path / "d.parquet", "label": "digit", "settings": settings, "options": {"device": "cpu"}}
    genreg.train("gan", out=tmp_path / "a", **call)
    loaded = genreg.load(tmp_path / "a", options={"device": "cpu"})
    made = loaded.sample(4, seed=5, digit=3).table
    assert made.column("digit").to_pylist() == [3] * 4
    assert made.schema.field("image").type == image_field("image", [8, 8, 1]).type
    genreg.train("gan", out=tmp_path / "b", **call)
    digests = {hashlib.sha256((tmp_path / n / "model.safetensors").read_bytes()).hexdigest() for n in "ab"}
    assert len(digests) == 1
    assert not any(name.startswith("discriminator") for name in Weights.open(tmp_path / "a/model.safetensors").header)


@pytest.mark.parametrize(
    "config", [{}, {"network": "conv", "augment": ["translation"], "precision": "bf16"}, {"objective": "hinge"}]
)
def test_a_resumed_run_is_bit_equal_to_an_unbroken_one(tmp_path, config):
    x, y = eights()
    data = table(x[:100], y[:100])
    settings = {**QUICK, "steps": 12, "store_discriminator": True, **config}

    def stop(done, total=None, /, **figures):
        if done == 5:
            os.kill(os.getpid(), signal.SIGINT)

    whole = fitted(tmp_path / "whole", data, **settings)
    with pytest.raises(KeyboardInterrupt):
        fitted(tmp_path / "cut", data, report=stop, **settings)
    resumed = fitted(tmp_path / "cut", data, **settings)
    assert whole.tensors.keys() == resumed.tensors.keys()
    for name in whole.tensors:
        np.testing.assert_array_equal(whole.tensors[name], resumed.tensors[name], err_msg=name)


def test_pictures_and_curves_lie_in_the_run_s_folder_while_it_trains(tmp_path):
    x, y = eights()
    seen = []

    def report(done, total=None, /, **figures):
        seen.append((done, figures))

    fitted(tmp_path / "run", table(x[:100], y[:100]), report=report, **QUICK)
    assert seen[-1][0] == 6
    assert {"discriminator", "generator", "coverage"} <= set(seen[-1][1])
    names = {path.name for path in (tmp_path / "run").iterdir()}
    assert {"metrics.jsonl", "curves.png", "samples.png", "samples-00000006.png"} <= names


def test_training_starts_from_a_checkpoint_that_kept_its_discriminator(tmp_path):
    x, y = eights()
    pq.write_table(pa.table({"image": images(x[:300]), "digit": y[:300]}), tmp_path / "d.parquet")
    call = {"data": tmp_path / "d.parquet", "label": "digit", "options": {"device": "cpu"}}
    settings = {**QUICK, "levels": 17}
    genreg.train("gan", out=tmp_path / "a", settings={**settings, "store_discriminator": True}, **call)
    genreg.train("gan", out=tmp_path / "without", settings=settings, **call)
    further = {**settings, "steps": 1, "lr": 1e-9, "ema": 0.0, "warmup": 0}
    genreg.train("gan", out=tmp_path / "b", settings={**further, "start": str(tmp_path / "a")}, **call)
    first, then = (Weights.open(tmp_path / name / "model.safetensors") for name in "ab")
    for name in then.header:
        np.testing.assert_allclose(then.numpy(name), first.numpy(name), atol=1e-6)
    assert genreg.load(tmp_path / "b", options={"device": "cpu"}).config.start is None
    with pytest.raises(CheckpointError, match="without has no discriminator, without which training cannot go on"):
        genreg.train("gan", out=tmp_path / "c", settings={**further, "start": str(tmp_path / "without")}, **call)
    other = {**further, "width": 5, "start": str(tmp_path / "a")}
    with pytest.raises(CheckpointError, match="expected"):
        genreg.train("gan", out=tmp_path / "c", settings=other, **call)


def test_a_dry_run_tells_parameters_and_memory(tmp_path):
    x, y = eights()
    source = Source.of(table(x[:50], y[:50]), "train")
    found = FAMILY.estimate(Config(), OPTIONS, source)
    assert found["parameters"].endswith(")")
    assert "generator" in found["parameters"]
    assert "discriminator" in found["parameters"]
    assert "for a batch" in found["memory"]


# ---- signs of collapse ----


def test_coverage_is_the_share_of_surroundings_that_hold_a_sample():
    real = np.arange(10.0)[:, None]
    assert coverage(real, real, 1) == 1.0
    assert coverage(real, real[:1], 1) == 0.2  # itself, and its neighbor at a distance of one
    assert coverage(real, real + 100, 1) == 0.0


def looking(told: list[tuple[float, float]]) -> list[str]:
    """What is said of coverage and told_apart as they come."""
    signs = Signs(Config(shape=[8, 8, 1]), torch.zeros(1, 1, 8, 8), torch.zeros(1))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for covered, apart in told:
            signs.warn(covered, apart)
    return [str(one.message) for one in caught]


def test_a_fall_of_the_coverage_is_said_once_in_plain_words():
    (said,) = looking([(0.1, 0.6), (0.8, 0.6), (0.5, 0.6), (0.3, 0.6), (0.2, 0.6)])
    assert said.startswith("samples grow alike (mode collapse): they come near 30% of the training pictures, and came")
    assert "near 80% before; try a larger --set gamma=3, or more pictures" in said
    assert looking([(0.0, 0.6), (0.1, 0.6), (0.0, 0.6)]) == []  # nothing learned yet is no collapse
    assert looking([(0.3, 0.6), (0.6, 0.7), (0.55, 0.8)]) == []


def test_a_discriminator_without_doubt_is_said_when_it_stays_so():
    (said,) = looking([(0.5, 1.0)] * 9)
    assert said.startswith("the discriminator tells 100% of generated pictures from real ones")
    assert looking([(0.5, 1.0), (0.5, 0.9)] * 5) == []


def test_a_generator_that_always_makes_the_same_is_found_out(tmp_path):
    x, y = eights()
    signs = Signs.of(Config(shape=[8, 8, 1], label="digit", values=list(range(10)), counts=[1] * 10).resolved(),
                     Source.of(table(x[:300], y[:300]), "train"))  # fmt: skip

    class Same(torch.nn.Module):
        def __init__(self, spread):
            super().__init__()
            self.spread = torch.nn.Parameter(torch.tensor(spread))
            self.x = 2 * signs.x - 1

        def forward(self, z, y):
            return self.x[torch.arange(len(z)) * int(self.spread > 0)]

    class Blind(torch.nn.Module):
        def forward(self, x, y):
            return x.mean((1, 2, 3))

    assert signs.look({"generator": Same(1.0), "discriminator": Blind()})["coverage"] == 1
    with pytest.warns(UserWarning, match="mode collapse"):
        assert signs.look({"generator": Same(0.0), "discriminator": Blind()})["coverage"] < 0.2


# ---- what is refused ----


def refused(folder: Path, data: pa.Table, message: str, **config) -> None:
    with pytest.raises((DataError, UsageError), match=message) as caught:
        fitted(folder, data, **config)
    assert "\n" not in str(caught.value)


def test_training_refuses_what_is_no_picture_and_a_label(tmp_path):
    x, y = eights()
    refused(
        tmp_path, pa.table({"a": [1.0, 2.0]}), "gan is trained on one column of pictures, and this data has no column"
    )
    extra = table(x[:4], y[:4]).append_column("height", pa.array([1, 2, 3, 4]))
    refused(tmp_path, extra, "gan models pictures and a label, and not the column height: --drop height")
    some = y[:9].copy()
    some[:2] = -1
    refused(tmp_path, table(x[:9], some), "2 training rows have no digit: leave them out with --preprocess dropna")
    refused(tmp_path, table(x[:1], y[:1]), "gan learns what pictures have in common, and there is 1 training picture")
    cells = pa.array([encode(np.zeros((4, 4), np.uint8)), encode(np.zeros((4, 5), np.uint8))], pa.binary())
    refused(tmp_path, pa.table({"image": cells}), "of one size and form are needed, and there are 4x4x1 and 4x5x1")


def test_a_size_that_dcgan_cannot_make_is_refused(tmp_path):
    x, y = eights()
    message = "network=dcgan makes squares with sides of 16, 32, 64, 128, 256, and these pictures are 8 x 8: bring them"
    refused(tmp_path, table(x[:20], y[:20]), message, network="dcgan")


def test_penalties_where_rows_are_not_their_own_are_refused():
    for settings, message in (
        ({"network": "dcgan", "gamma": 1.0}, "network=dcgan normalizes over the batch, so that a row has no slope"),
        ({"network": "dcgan", "objective": "wgan-gp"}, "or take network=conv"),
        ({"objective": "hinge", "gamma": 1.0}, "bounded by spectral norm, and has no penalty"),
        ({"shape": [0, 8, 1]}, "height, width and channels"),
        ({"latents": 0}, "greater"),
        ({"augment": ["blur"]}, "'color', 'translation' or 'cutout'"),
        ({"x": 1}, "Extra"),
    ):
        with pytest.raises(ValueError, match=message):
            Config(**settings)


def test_a_class_out_of_range_is_refused(model):
    with pytest.raises(UsageError, match="a value that training did not see; there are: 0, 1"):
        model.propose(seeds(1), given(1, 10))


def test_weights_that_do_not_fit_the_config_are_refused(tmp_path, trained):
    found, _, _ = trained
    write_tensors(tmp_path / "w.safetensors", found.tensors)
    weights = Weights.open(tmp_path / "w.safetensors")
    for change, message in (({"latents": 5}, "expected"), ({"network": "conv"}, "is missing")):
        with pytest.raises(CheckpointError, match=message):
            load(found.config.model_copy(update=change), OPTIONS, weights)
    with pytest.raises(CheckpointError, match="needs weights that were trained: genreg train gan"):
        load(Config(), OPTIONS, None)


def test_importing_the_plugin_does_not_import_what_computes():
    code = "import sys, genreg_gan; genreg_gan.genreg_models(); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


# ---- the bundled models ----


@pytest.mark.parametrize(
    ("name", "limit", "origin"),
    [("gan-digits", 1_000_000, "MIT licence"), ("gan-shapes", 1_500_000, "benchmarks/shapes.py")],
)
def test_the_bundled_models_are_what_the_registry_names_and_small(name, limit, origin):
    entry = yaml.safe_load((PACKAGE / "registry.yaml").read_text("utf-8"))["models"][name]
    for file, facts in entry["files"].items():
        data = (PACKAGE / name / file).read_bytes()
        assert (hashlib.sha256(data).hexdigest(), len(data)) == (facts["sha256"], facts["size"])
    assert sum(file.stat().st_size for file in (PACKAGE / name).iterdir()) <= limit
    assert origin in (PACKAGE / name / "README.md").read_text("utf-8")


def test_show_names_the_samplers_for_samples_of_one_class_though_classes_are_drawn():
    assert facts_of("gan-digits")["samplers"] == ["clamp", "interpolate", "truncate"]


@pytest.mark.parametrize("name", ["digits", "shapes"])
def test_the_readme_s_grids_are_seeds_0_to_99_none_chosen(tmp_path, name):
    from PIL import Image

    kinds = ["disc", "square", "triangle", "ring"]
    rows = {"digits": {"label": np.arange(100) // 10}, "shapes": {"shape": [k for k in kinds for _ in range(25)]}}[name]
    loaded = genreg.load(f"gan-{name}", options={"device": "cpu"})
    loaded.sample(1, seed=0, given=pa.table(rows)).save(tmp_path / "grid.png")
    kept = Path(__file__).parents[1] / f"{name}.png"
    a, b = (np.asarray(Image.open(path).convert("RGB")).astype(int) for path in (tmp_path / "grid.png", kept))
    assert a.shape == b.shape
    assert np.abs(a - b).max() <= 1
