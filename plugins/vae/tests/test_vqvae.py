"""VQ-VAE: codes, their prior against enumeration, training on small digits."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch
from small_pictures import eights, seeds, table

import genreg_vae
from genreg.checkpoint import Weights, write_tensors
from genreg.data import Source
from genreg.errors import CheckpointError, UsageError
from genreg.images import encode, images
from genreg.samplers import clamp
from genreg_torch.pixels import pictures
from genreg_torch.settings import TorchOptions
from genreg_vae.codes import CodePrior
from genreg_vae.quantize import VqShape
from genreg_vae.vqconfig import VqConfig, conditions
from genreg_vae.vqvae import CodedImages, fit, load

OPTIONS = TorchOptions(device="cpu")
SILENT = lambda done, total=None, /, **figures: None  # noqa: E731


def small_prior(codes=3, tokens=4, classes=2) -> CodePrior:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        prior = CodePrior(codes, tokens, classes, width=32, layers=2, dropout=0.0).double().eval()
        torch.nn.init.normal_(prior.leave.weight, 0, 0.5)
        torch.nn.init.normal_(prior.codes.weight)
    return prior.requires_grad_(False)


def test_the_prior_is_a_distribution_over_all_grids_of_each_class():
    prior = small_prior()
    grids = torch.tensor(list(itertools.product(range(3), repeat=4)))
    for y in range(2):
        p = prior.log_prob(grids, torch.full((len(grids),), y)).double().exp()
        assert float(p.sum()) == pytest.approx(1, abs=1e-5)


def test_draws_are_as_frequent_as_enumeration_says_and_do_not_depend_on_the_batch():
    prior, n = small_prior(), 20_000
    grids = torch.tensor(list(itertools.product(range(3), repeat=4)))
    drawn = prior.draw(seeds(n), np.ones(n, np.int64), np.ones(n))
    found = np.bincount(drawn @ 3 ** np.arange(3, -1, -1), minlength=81) / n
    p = prior.log_prob(grids, torch.ones(81, dtype=torch.int64)).double().exp().numpy()
    assert (np.abs(found - p) <= 5 * np.sqrt(p * (1 - p) / n) + 1e-4).all()
    np.testing.assert_array_equal(prior.draw(seeds(1, 77), np.ones(1, np.int64), np.ones(1))[0], drawn[77])


def test_steps_with_memory_are_the_whole_pass():
    prior = small_prior(tokens=6)
    codes, y = torch.randint(3, (5, 6), generator=torch.Generator().manual_seed(0)), torch.tensor([0, 1, 0, 1, 1])
    whole, memory, last = prior(codes, y), [], y
    for at in range(6):
        logits, memory = prior.step(at, last, memory)
        torch.testing.assert_close(logits, whole[:, at])
        last = codes[:, at]


def test_a_code_sees_only_those_before_it():
    prior = small_prior(tokens=6)
    codes = torch.zeros((1, 6), dtype=torch.int64)
    before = prior(codes, torch.zeros(1, dtype=torch.int64))
    codes[0, 3] = 2
    after = prior(codes, torch.zeros(1, dtype=torch.int64))
    torch.testing.assert_close(before[:, :4], after[:, :4])
    assert not torch.allclose(before[:, 4:], after[:, 4:])


@pytest.mark.parametrize(
    ("size", "grid"), [((28, 28), (7, 7)), ((8, 8), (8, 8)), ((64, 64), (8, 8)), ((100, 30), (13, 4))]
)
def test_the_grid_has_no_more_codes_than_allowed(size, grid):
    assert VqShape(*size, 1, 2, 8, 16, 4, 64).grid == grid


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder, (x, y) = tmp_path_factory.mktemp("vq"), eights()
    sizes = {"codes": 32, "code_width": 8, "most_tokens": 16, "width": 16, "prior_layers": 1, "prior_width": 32}
    config = VqConfig(levels=17, steps=200, prior_steps=150, **sizes)
    parts = Source.of(table(x[:1400], y[:1400]), "train"), Source.of(table(x[1400:], y[1400:]), "validation")
    found = fit(config, OPTIONS, *parts, seed=0, folder=Path(folder) / "run", report=SILENT)
    write_tensors(folder / "m.safetensors", found.tensors)
    return found, load(found.config, OPTIONS, Weights.open(folder / "m.safetensors")), x


def given(rows: int, **columns_) -> pa.RecordBatch:
    types = {"digit": pa.int32(), "like": pa.binary(), "temperature": pa.float64()}
    return pa.record_batch({name: pa.array([columns_.get(name)] * rows, kind) for name, kind in types.items()})


def test_training_uses_many_codes_and_keeps_the_best_prior(trained):
    metrics = trained[0].metrics
    assert metrics["codes_in_use"] > 12
    assert -60 < metrics["validation_log_prob_codes"] < -10


def test_a_seed_is_a_grid_of_codes_and_a_picture_whatever_the_batch(trained):
    model: CodedImages = trained[1]
    draft = model.propose(seeds(30), given(30, digit=3))
    alone = model.propose(seeds(1, 7), given(1, digit=3))
    np.testing.assert_array_equal(draft.values[7:8], alone.values)
    assert (draft.axes, draft.levels, draft.values.shape) == (("code",), 32, (30, 16))
    made = model.render(draft)
    assert made.column(1).to_pylist() == [3] * 30
    apart = (
        pictures(made.column(0), [8, 8, 1])[0][7].astype(int) - pictures(model.render(alone).column(0), [8, 8, 1])[0][0]
    )
    assert np.abs(apart).max() <= 16  # one of 17 levels


def test_a_given_picture_is_coded_and_decoded(trained):
    _, model, x = trained
    like = pa.record_batch({"like": pa.array([encode(image) for image in x[:60]], pa.binary())})
    draft = model.propose(seeds(60), like)
    made = pictures(model.render(draft).column(0), [8, 8, 1])[0].astype(int)
    away = np.abs(made[:, None] - x[None, :60]).mean((2, 3, 4))
    assert np.median(np.diag(away)) < 0.9 * np.median(away)
    column = images(np.ascontiguousarray(x[:1]))
    assert 0 <= draft.context["label"][0] < 10
    codes = model.infer(pa.record_batch([column], names=["image"]), seeds(1)).column(0)
    np.testing.assert_array_equal(codes.flatten(), draft.values[0])


def test_codes_can_be_clamped(trained):
    model = trained[1]
    draft = clamp(model.propose(seeds(4), given(4, digit=1)), at=0, value=5)
    assert (draft.values[:, 0] == 5).all()
    assert model.render(draft).num_rows == 4
    with pytest.raises(UsageError, match="not one of this draft's levels 0-31"):
        clamp(draft, at=0, value=32)


def test_log_probability_sums_over_a_missing_label(trained):
    _, model, x = trained
    column = images(np.ascontiguousarray(x[:3]))

    def of(y):
        rows = pa.record_batch([column, pa.array([y] * 3, pa.int32())], names=["image", "digit"])
        return model.log_prob(rows, seeds(3))

    each = np.stack([of(y) for y in range(10)])
    np.testing.assert_allclose(of(None), np.logaddexp.reduce(each), rtol=1e-9)
    assert (each < -60).all()


def test_at_temperature_zero_the_likeliest_code_is_taken_each_time(trained):
    draft = trained[1].propose(seeds(5), given(5, digit=2, temperature=0.0))
    assert (draft.values == draft.values[0]).all()


def test_controls_and_weights_that_do_not_fit_are_refused(trained, tmp_path):
    found, model, _ = trained
    with pytest.raises(UsageError, match="temperature=-1"):
        model.propose(seeds(1), given(1, temperature=-1.0))
    write_tensors(tmp_path / "m.safetensors", found.tensors)
    with pytest.raises(CheckpointError, match="expected"):
        load(found.config.model_copy(update={"codes": 33}), OPTIONS, Weights.open(tmp_path / "m.safetensors"))
    with pytest.raises(CheckpointError, match="needs weights"):
        load(VqConfig(), OPTIONS, None)


def test_the_family_declares_what_can_be_given(trained):
    family = next(family for family in genreg_vae.genreg_models() if family.name == "vqvae")
    assert [condition.name for condition in conditions(trained[0].config)] == ["label", "like", "temperature"]
    assert family.columns(trained[0].config).names == ["image", "digit"]
