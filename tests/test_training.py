"""From a file to a checkpoint to samples like the file's: what is recorded, refused, continued and read back."""

import base64
import contextlib
import datetime
import importlib
import json
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tests import toys

import genreg
from genreg import checkpoint as checkpoints
from genreg.checkpoint import CARD, CONFIG, WEIGHTS, Weights, write_tensors
from genreg.data import notes
from genreg.delimited import csv
from genreg.errors import CheckpointError, DataError, NotFound, PluginError, Unsupported, UsageError
from genreg.plugins import load_plugins
from genreg.resume import RUN

KINDS, SKIES = ["b", "a"], ["clear", "雲, and rain"]


def flowers(rows: int = 120, **changes: Any) -> pa.Table:
    """Columns of every kind that a CSV file has; heights depend on the kind."""
    draw = np.random.default_rng(3)
    kind = draw.integers(0, 2, rows)
    columns: dict[str, Any] = {
        "id": [f"flower {at}" for at in range(rows)],
        "height (cm)": [
            round(10 + 5 * k + x, 1) for k, x in zip(kind.tolist(), draw.normal(size=rows).tolist(), strict=True)
        ],
        "petals": (5 + 3 * kind + draw.integers(0, 2, rows)).tolist(),
        "code": draw.choice(["007", "042"], rows).tolist(),
        "sky": [None if at % 10 == 0 else SKIES[at % 2] for at in range(rows)],
        "day": [datetime.date(2020, 1, 1 + at % 28) for at in range(rows)],
        "wild": (kind == 1).tolist(),
        "bed": (np.arange(rows) // 6).tolist(),
        "kind": [KINDS[k] for k in kind.tolist()],
    }
    return pa.table({name: value for name, value in {**columns, **changes}.items() if value is not None})


@pytest.fixture
def write(tmp_path):
    """A table as a CSV file; text as it is."""
    from genreg.delimited import write_csv

    def write(data: pa.Table | str, name: str = "flowers.csv") -> Path:
        path = tmp_path / name
        if isinstance(data, str):
            path.write_text(data, "utf-8")
        else:
            path.unlink(missing_ok=True)
            write_csv(data.to_batches(), data.schema, path)
        return path

    return write


@pytest.fixture
def with_toys(distribution):
    """The toys as an installed plugin."""
    return distribution("genreg-toys", "from tests.toys import genreg_models\n")


def numbers(rows: int = 90) -> pa.Table:
    """b = 2 a + 1 and a little; c is whole."""
    draw = np.random.default_rng(5)
    a = draw.normal(50, 10, rows)
    return pa.table(
        {
            "a": np.round(a, 1),
            "b": np.round(2 * a + 1 + draw.normal(size=rows), 2),
            "c": np.round(a / 5).astype(int),
        }
    )


# ---- what comes out is like what went in ----


def trained(write, tmp_path, name: str = "model", **how: Any) -> Path:
    genreg.train("nb", write(flowers()), out=tmp_path / name, **{"label": "kind", "key": "id", "group": "bed", **how})
    return tmp_path / name


def test_samples_have_the_columns_types_categories_and_rounding_of_the_training_file(write, tmp_path):
    samples = genreg.load(trained(write, tmp_path)).sample(300, seed=0)
    original = csv(tmp_path / "flowers.csv").schema
    kept = [name for name in original.names if name not in ("id", "bed")]
    assert samples.table.schema.names == kept
    assert samples.table.schema.types == [original.field(name).type for name in kept]
    made = samples.table.to_pydict()
    assert all(value == round(value, 1) for value in made["height (cm)"])
    assert set(made["code"]) == {"007", "042"}
    assert set(made["sky"]) <= {*SKIES, None}
    assert set(made["kind"]) == set(KINDS)
    assert {type(value) for value in made["wild"]} == {bool}
    assert {type(value) for value in made["day"]} == {datetime.date}
    samples.save(tmp_path / "made.csv")
    again = csv(tmp_path / "made.csv").schema
    assert (again.names, again.types) == (kept, samples.table.schema.types)


def test_samples_follow_the_training_rows(write, tmp_path):
    made = genreg.load(trained(write, tmp_path)).sample(2000, seed=0).table.to_pandas()
    means = made.groupby("kind")["height (cm)"].mean()
    assert abs(means["b"] - 10) < 0.4
    assert abs(means["a"] - 15) < 0.4
    assert made.loc[made.kind == "a", "wild"].mean() > 0.95


def test_conditions_are_columns_of_the_file_in_its_units(write, tmp_path):
    model = genreg.load(trained(write, tmp_path))
    assert set(model.sample(30, seed=0, label="a").table["kind"].to_pylist()) == {"a"}
    tall = model.sample(200, seed=0, given={"height (cm)": 16.25}).table
    assert set(tall["height (cm)"].to_pylist()) == {16.25}
    assert tall["kind"].to_pylist().count("a") > 195


def test_a_dictionary_column_keeps_its_categories_in_their_order(tmp_path):
    size = pa.DictionaryArray.from_arrays(pa.array([0, 2, 0] * 20, pa.int8()), ["small", "middle", "large"])
    pq.write_table(pa.table({"size": size, "x": np.arange(60.0)}), tmp_path / "sizes.parquet")
    genreg.train("nb", tmp_path / "sizes.parquet", out=tmp_path / "model", label="size")
    saved = checkpoints.read(tmp_path / "model")
    assert notes(saved.schema.field("size"))["values"] == ["small", "middle", "large"]
    assert set(genreg.load(tmp_path / "model").sample(50, seed=0).table["size"].to_pylist()) == {"small", "large"}


# ---- what is recorded ----


def test_the_checkpoint_records_schema_roles_split_and_training(write, tmp_path):
    record = genreg.train(
        "nb", write(flowers()), out=tmp_path / "model", label="kind", key="id", seed=7, split="60/20/20"
    )
    saved = checkpoints.read(tmp_path / "model")
    assert saved.family == "nb"
    assert saved.training == record == {**record, "data": "flowers.csv", "seed": 7, "preprocess": ["categories"]}
    assert saved.split == {"shares": {"train": 0.6, "validation": 0.2, "test": 0.2}, "by": "id"}
    assert record["rows"] == {"train": 72, "validation": 24, "test": 24}
    assert set(record["versions"]) == {"genreg-core", "genreg-nb", "numpy", "pyarrow"}
    assert all(np.isfinite(value) for value in record["metrics"].values())
    assert [name for name in saved.schema.names if notes(saved.schema.field(name)).get("role") == "label"] == ["kind"]
    assert notes(saved.schema.field("height (cm)")) == {"decimals": 1}
    assert [(step["step"], step["plugin"]) for step in saved.chain] == [("categories", "genreg-core")]
    assert sorted(path.name for path in (tmp_path / "model").iterdir()) == [CARD, CONFIG, WEIGHTS]
    block = json.loads((tmp_path / "model" / CONFIG).read_text("utf-8"))
    assert (block["architectures"], block["model_type"]) == (["nb"], "nb")
    assert block["genreg"]["columns"][0] == {"name": "height (cm)", "type": "double", "decimals": 1}
    card = (tmp_path / "model" / CARD).read_text("utf-8")
    assert "# model" in card
    assert "Data: `flowers.csv`; rows: 72 train, 24 validation, 24 test; seed 7." in card


def test_the_same_training_is_the_same_to_the_last_byte(write, tmp_path):
    one, two = (trained(write, tmp_path, f"{at}/model") for at in (1, 2))
    for name in (CONFIG, WEIGHTS, CARD):
        assert (one / name).read_bytes() == (two / name).read_bytes()
    assert checkpoints.read(one).digest() == checkpoints.read(two).digest()


def test_maps_and_model_are_fitted_on_the_training_part_alone(write, tmp_path, with_toys):
    """Rows of the other parts move nothing: with their values changed, the weights stay."""
    table = pa.table({"key": [f"k{at}" for at in range(90)], **{name: numbers()[name] for name in "abc"}})
    first = genreg.train("slope", write(table), out=tmp_path / "one", key="key")
    from genreg.data import PARTS, Source, assign_parts

    parts = assign_parts(Source.of(table), {"train": 0.7, "validation": 0.15, "test": 0.15}, seed=0, key="key")
    elsewhere = parts != PARTS.index("train")
    changed = table.set_column(1, "a", pa.array(np.where(elsewhere, 999.9, table["a"].to_numpy())))
    assert genreg.train("slope", write(changed), out=tmp_path / "two", key="key")["rows"] == first["rows"]
    assert (tmp_path / "one" / WEIGHTS).read_bytes() == (tmp_path / "two" / WEIGHTS).read_bytes()


def test_roles_leave_columns_out(write, tmp_path):
    genreg.train("nb", write(flowers()), out=tmp_path / "m", label="kind", key="id", group="bed", drop=["day", "sky"])
    assert checkpoints.read(tmp_path / "m").schema.names == ["height (cm)", "petals", "code", "wild", "kind"]
    assert checkpoints.read(tmp_path / "m").split["by"] == "bed"


def test_without_a_label_there_is_one_class(write, tmp_path):
    genreg.train("nb", write(flowers()), out=tmp_path / "m", key="id", split="1")
    assert genreg.load(tmp_path / "m").sample(5, seed=0).table.num_rows == 5
    assert checkpoints.read(tmp_path / "m").training["rows"] == {"train": 120}


def test_a_label_of_one_class_and_a_constant_column_are_learned(write, tmp_path):
    one = flowers(kind=["only"] * 120, petals=[3] * 120)
    genreg.train("nb", write(one), out=tmp_path / "m", label="kind", key="id")
    made = genreg.load(tmp_path / "m").sample(20, seed=0).table
    assert set(made["kind"].to_pylist()) == {"only"}
    assert set(made["petals"].to_pylist()) == {3}


# ---- what is refused ----

TEXT = pa.array([f"note {at}" for at in range(120)])
MESSAGES: dict[str, tuple[Any, dict[str, Any], type[Exception], str]] = {
    "header only": ("a,b\n", {}, DataError, "flowers.csv has no rows to train on"),
    "empty": ("", {}, DataError, "flowers.csv is empty"),
    "no such file": (None, {}, DataError, "missing.csv: there is no such file"),
    "an all-missing column": (
        flowers(sky=pa.nulls(120, pa.float64())),
        {},
        DataError,
        "column sky has no value in the training rows: leave it out with --drop sky",
    ),
    "identifying text": (
        flowers(sky=TEXT),
        {},
        DataError,
        "column sky is text with 84 different values in 84 rows, so it identifies them: "
        "--key sky keeps it out of the model, --drop sky leaves it out",
    ),
    "infinity": (
        flowers(petals=[1.5] * 119 + [np.inf]),
        {"split": "1"},
        DataError,
        "column petals has NaN or infinity, which are not missing values: "
        "clip them with --preprocess clip:columns=petals, or --drop petals",
    ),
    "no such label": (
        flowers(),
        {"label": "knd"},
        DataError,
        "--label knd: the data has no column knd; did you mean kind?",
    ),
    "no such drop": (
        flowers(),
        {"drop": ["dya"]},
        DataError,
        "--drop dya: the data has no column dya; did you mean day?",
    ),
    "no such group": (
        flowers(),
        {"group": "bde"},
        DataError,
        "--group bde: the data has no column bde; did you mean bed?",
    ),
    "a label that is dropped": (
        flowers(),
        {"drop": ["kind"]},
        UsageError,
        "--label kind is left out by another option: a label must stay",
    ),
    "all dropped": (
        pa.table({"x": [1.0, 2.0], "id": ["a", "b"]}),
        {"label": None, "drop": ["x"]},
        DataError,
        "no column is left to train on",
    ),
    "no row left": (
        flowers(day=[None] * 119 + [datetime.date(2020, 1, 1)], petals=[1] + [None] * 119),
        {"preprocess": ["dropna"]},
        DataError,
        "the clean steps left no row to train on",
    ),
    "no such family": (flowers(), {"family": "nbb"}, NotFound, "there is no family nbb; did you mean nb?"),
    "no such setting": (
        flowers(),
        {"settings": {"alhpa": "1"}},
        UsageError,
        "--set alhpa=1: there is no alhpa; did you mean alpha?",
    ),
    "a setting out of range": (
        flowers(),
        {"settings": {"alpha": "-1"}},
        UsageError,
        "--set alpha=-1: input should be greater than 0",
    ),
    "no such step": (
        flowers(),
        {"preprocess": ["drpna"]},
        NotFound,
        "there is no preprocessor drpna; did you mean dropna?",
    ),
    "a wrong split": (
        flowers(),
        {"split": "0/100"},
        UsageError,
        "--split 0/100: write the shares of train, validation and test, such as 70/15/15",
    ),
}


@pytest.mark.parametrize(("data", "how", "kind", "message"), MESSAGES.values(), ids=MESSAGES)
def test_what_cannot_be_trained_on_is_told_in_one_line_and_leaves_nothing(data, how, kind, message, write, tmp_path):
    path = tmp_path / "missing.csv" if data is None else write(data)
    before = set(tmp_path.iterdir())
    how = {"label": "kind", "key": "id", **how}
    with pytest.raises(kind) as raised:
        genreg.train(how.pop("family", "nb"), path, out=tmp_path / "model", **how)
    assert str(raised.value).replace(f"{tmp_path}/", "").startswith(message)
    assert "\n" not in str(raised.value)
    assert set(tmp_path.iterdir()) == before


def test_identifying_text_has_two_ways_out_and_needs_fifty_rows(write, tmp_path):
    for at, how in enumerate([{"key": "id"}, {"drop": ["id"]}]):
        genreg.train("nb", write(flowers(60)), out=tmp_path / str(at), label="kind", **how)
        assert "id" not in checkpoints.read(tmp_path / str(at)).schema.names
    genreg.train("nb", write(flowers(49)), out=tmp_path / "few", label="kind", split="1")
    assert "id" in checkpoints.read(tmp_path / "few").schema.names


@pytest.mark.parametrize("kind", [pa.string(), pa.large_string()])
def test_text_is_text_also_where_it_is_held_as_large_text(kind, tmp_path):
    pq.write_table(pa.table({"note": TEXT.cast(kind), "x": np.arange(120.0)}), tmp_path / "notes.parquet")
    with pytest.raises(DataError, match=r"^column note is text with 84 different values in 84 rows"):
        genreg.train("nb", tmp_path / "notes.parquet", out=tmp_path / "model")


def test_nan_can_be_clipped_and_missing_cells_filled(write, tmp_path):
    x = [float(at) for at in range(118)] + [float("nan"), float("inf")]
    calls = ["clip", "fillna:columns=[petals,sky]", "dropna"]
    genreg.train(
        "nb", write(flowers(petals=x)), out=tmp_path / "m", label="kind", key="id", split="1", preprocess=calls
    )
    saved = checkpoints.read(tmp_path / "m")
    assert saved.training["rows"] == {"train": 120}
    assert saved.training["preprocess"] == [*calls, "categories"]
    assert [step["step"] for step in saved.chain] == ["categories"]


def test_a_family_that_cannot_take_nulls_refuses_by_name(write, tmp_path, with_toys):
    table = numbers().set_column(1, "b", pa.array([None, *numbers()["b"].to_pylist()[1:]]))
    with pytest.raises(DataError, match=r"^column b has missing cells, which slope cannot take: --preprocess dropna$"):
        genreg.train("slope", write(table), out=tmp_path / "m", split="1")
    genreg.train("slope", write(table), out=tmp_path / "m", split="1", preprocess=["dropna"])
    assert checkpoints.read(tmp_path / "m").training["rows"] == {"train": 89}


def test_a_family_without_fit_is_not_trained(write, tmp_path, with_toys):
    with pytest.raises(Unsupported, match=r"^weather cannot be trained here$"):
        genreg.train("weather", write(flowers()), out=tmp_path / "m")


# ---- the tensor-trained one: continued from its folder ----


class Stopped(Exception):
    """Somebody pressed Ctrl-C."""


def stop_at(step: int) -> Any:
    def report(done: int, total: int | None = None, /, **figures: float) -> None:
        if done == step:
            raise Stopped

    return report


def slope(write, out: Path, **how: Any) -> Path:
    genreg.train("slope", write(numbers()), out=out, **{"settings": {"epochs": "40"}, "seed": 3, **how})
    return out


def test_the_slope_is_learned_and_given_in_the_datas_units(write, tmp_path, with_toys):
    model = genreg.load(slope(write, tmp_path / "m", settings={"epochs": "60", "rate": "0.3"}))
    made = model.sample(400, seed=0, given={"a": 60.0}).table
    assert abs(np.mean(made["b"].to_numpy()) - 121) < 1.0
    assert set(made["a"].to_pylist()) == {60.0}
    assert made.schema.types == [pa.float64(), pa.float64(), pa.int64()]
    assert all(value == round(value, 2) for value in made["b"].to_pylist())
    assert model.sample(3, seed=9).table.equals(model.sample(10, seed=2).table.slice(7))


@pytest.mark.parametrize("stops", [[1], [4], [5, 9, 10, 121]])
def test_a_training_that_is_interrupted_goes_on_to_the_same_bits(stops, write, tmp_path, with_toys):
    whole, own = slope(write, tmp_path / "whole"), tmp_path / "own"
    for step in stops:
        with pytest.raises(Stopped):
            slope(write, own, report=stop_at(step), resume=True)
        assert not own.exists()
        assert (tmp_path / "own.part" / toys.STATE).is_file()
    seen: list[int] = []
    slope(write, own, report=lambda done, total=None, /, **figures: seen.append(done), resume=True)
    assert seen == list(range(stops[-1] + 1, 161))  # 63 rows in batches of 16, 40 times
    assert not (tmp_path / "own.part").exists()
    assert (own / WEIGHTS).read_bytes() == (whole / WEIGHTS).read_bytes()
    assert (own / CONFIG).read_bytes() == (whole / CONFIG).read_bytes()


@pytest.mark.parametrize(
    "change",
    [{"seed": 4}, {"settings": {"epochs": "41"}}, {"split": "80/20"}, {"drop": ["c"]}, {"preprocess": ["dropna"]}],
)
def test_only_the_same_training_is_continued(change, write, tmp_path, with_toys):
    with pytest.raises(Stopped):
        slope(write, tmp_path / "m", report=stop_at(5))
    with pytest.raises(
        UsageError, match=r"m\.part holds an unfinished run: --resume continues it, --force starts over"
    ):
        slope(write, tmp_path / "m")
    with pytest.raises(
        UsageError, match=r"m\.part holds a run with .*: give the same to continue it, or --force starts"
    ):
        slope(write, tmp_path / "m", resume=True, **change)
    assert (tmp_path / "m.part" / toys.STATE).is_file()
    slope(write, tmp_path / "m", resume=True)


def test_other_data_does_not_continue_a_training(write, tmp_path, with_toys):
    with pytest.raises(Stopped):
        slope(write, tmp_path / "m", report=stop_at(5))
    other = write(numbers().set_column(2, "c", pa.array(numbers()["c"].to_numpy()[::-1])))
    with pytest.raises(UsageError, match="holds a run with other data: give the same"):
        genreg.train("slope", other, out=tmp_path / "m", settings={"epochs": "40"}, seed=3, resume=True)


def test_a_folder_in_the_way_is_never_taken_for_an_interrupted_training(write, tmp_path):
    mine = tmp_path / "m.part"
    mine.mkdir()
    (mine / "thesis.tex").write_text("years of work")
    with pytest.raises(UsageError, match=r"m\.part is in the way, and is no unfinished run: move it, or choose"):
        genreg.train("nb", write(flowers()), out=tmp_path / "m", label="kind", key="id")
    assert (mine / "thesis.tex").read_text() == "years of work"


def test_an_interrupted_training_leaves_no_half_checkpoint(write, tmp_path, monkeypatch):
    path = write(flowers())
    for place in ("write_tensors", "refuse_existing_folder"):
        with monkeypatch.context() as patch:
            calls = []

            def interrupt(*_, calls=calls, place=place, **__):
                calls.append(place)
                if place == "write_tensors" or len(calls) == 2:
                    raise KeyboardInterrupt

            patch.setattr(checkpoints, place, interrupt)
            with pytest.raises(KeyboardInterrupt):
                genreg.train("nb", path, out=tmp_path / "m", label="kind", key="id")
        assert [found.name for found in tmp_path.iterdir() if "site" not in found.name] == ["flowers.csv"]


def test_a_family_that_breaks_leaves_no_folder(write, tmp_path, with_toys):
    with pytest.raises(DataError, match=r"^column code holds string, not numbers"):
        genreg.train("slope", write(flowers()), out=tmp_path / "m", drop=["id", "sky", "day", "wild", "kind"])
    assert not (tmp_path / "m.part").exists()


# ---- --force ----


def test_a_checkpoint_is_replaced_only_when_forced_and_only_by_a_whole_one(write, tmp_path):
    model = trained(write, tmp_path)
    before = (model / WEIGHTS).read_bytes()
    with pytest.raises(CheckpointError, match=r"model is there already: choose another name, or --force to re"):
        trained(write, tmp_path, seed=1)
    with pytest.raises(DataError):
        trained(write, tmp_path, seed=1, force=True, label="knd")
    assert (model / WEIGHTS).read_bytes() == before
    trained(write, tmp_path, seed=1, force=True)
    assert (model / WEIGHTS).read_bytes() != before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["flowers.csv", "model"]


@pytest.mark.parametrize("what", ["folder", "file"])
def test_what_is_no_checkpoint_is_never_replaced(what, write, tmp_path):
    mine = tmp_path / "model"
    if what == "folder":
        mine.mkdir()
        (mine / "thesis.tex").write_text("years of work")
    else:
        mine.write_text("years of work")
    with pytest.raises(CheckpointError, match=r"model is no checkpoint, so --force does not replace it: choose"):
        trained(write, tmp_path, force=True)
    assert (mine / "thesis.tex" if what == "folder" else mine).read_text() == "years of work"


# ---- checkpoints are read strictly ----


@pytest.fixture
def model(write, tmp_path) -> Path:
    return trained(write, tmp_path)


def edit(model: Path, change: Any) -> None:
    config = json.loads((model / CONFIG).read_text("utf-8"))
    change(config)
    (model / CONFIG).write_text(json.dumps(config), "utf-8")


def block(**changes: Any) -> Any:
    return lambda config: config["genreg"].update(changes)


CONFIGS: dict[str, tuple[Any, str]] = {
    "too new": (block(format=2), "model has checkpoint format 2, and this genreg reads up to 1: upgrade genreg-core"),
    "format 0": (block(format=0), "genreg.format must be a whole number from 1 on"),
    "format as text": (block(format="1"), "genreg.format must be a whole number from 1 on"),
    "format as truth": (block(format=True), "genreg.format must be a whole number from 1 on"),
    "no block": (
        lambda config: config.pop("genreg"),
        "is no checkpoint that genreg wrote, and no family recognizes it (config.json names nb; ",
    ),
    "block no mapping": (lambda config: config.update(genreg=[]), "has no genreg block"),
    "no family": (block(family=None), "genreg.family must be a str"),
    "config no mapping": (block(config=[]), "genreg.config must be a dict"),
    "chain no list": (block(chain={}), "genreg.chain must be a list"),
    "schema no text": (block(schema=3), "genreg.schema must be a str"),
    "schema no base64": (block(schema="?!"), "genreg.schema is damaged"),
    "schema no schema": (block(schema="AAAA"), "genreg.schema is damaged"),
    "split no mapping": (block(split=3), "genreg.split must be a dict"),
    "training no mapping": (block(training=[]), "genreg.training must be a dict"),
    "strange config": (block(config={"alpha": "much"}), "config alpha: "),
    "unknown setting": (block(config={"beta": 1}), "config beta: "),
    "another family": (block(family="quantum"), "there is no family quantum"),
    "damaged chain": (block(chain=[{}]), "step 0 of the checkpoint's chain is damaged: KeyError('step')"),
}


@pytest.mark.parametrize(("change", "message"), CONFIGS.values(), ids=CONFIGS)
def test_a_config_that_is_not_right_is_told(change, message, model):
    edit(model, change)
    with pytest.raises(UsageError) as raised:
        genreg.load(model)
    assert message in str(raised.value)
    assert "\n" not in str(raised.value)


FILES: dict[str, tuple[bytes, str]] = {
    "not JSON": (b"{not json", "config.json is not readable JSON: "),
    "not UTF-8": (b'{"a": "\xff"}', "config.json is not readable JSON: "),
    "nested without end": (b"[" * 100_000, "config.json is not readable JSON: "),
    "a list": (b"[]", "config.json has no genreg block"),
    "nothing": (b"", "config.json is not readable JSON: "),
}


@pytest.mark.parametrize(("content", "message"), FILES.values(), ids=FILES)
def test_a_config_file_that_is_not_right_is_told(content, message, model):
    (model / CONFIG).write_bytes(content)
    with pytest.raises(CheckpointError) as raised:
        genreg.load(model)
    assert message in str(raised.value)


def test_a_config_with_a_byte_order_mark_is_read_and_a_huge_one_is_not(model, monkeypatch):
    (model / CONFIG).write_bytes(b"\xef\xbb\xbf" + (model / CONFIG).read_bytes())
    assert genreg.load(model).sample(2, seed=0).table.num_rows == 2
    with (model / CONFIG).open("ab") as file:
        file.truncate((64 << 20) + 1)
    with pytest.raises(CheckpointError, match=r"config\.json is 67,108,865 bytes: no config is that large$"):
        genreg.load(model)


def test_a_damaged_schema_never_ends_in_anything_but_a_message(model):
    config = json.loads((model / CONFIG).read_text("utf-8"))
    whole, draw = bytearray(base64.b64decode(config["genreg"]["schema"])), np.random.default_rng(0)
    for _ in range(300):
        damaged = whole.copy()
        for at in draw.integers(0, len(whole), 3):
            damaged[at] = draw.integers(256)
        edit(model, block(schema=base64.b64encode(damaged[: draw.integers(1, len(whole) + 1)]).decode()))
        with contextlib.suppress(CheckpointError):
            checkpoints.read(model)


def test_a_folder_that_is_no_checkpoint_is_told(tmp_path):
    with pytest.raises(CheckpointError, match=r"nothing: there is no such checkpoint folder$"):
        checkpoints.read(tmp_path / "nothing")
    with pytest.raises(CheckpointError, match=r"is no checkpoint: it has no config\.json$"):
        genreg.load(tmp_path)


def rewrite(model: Path, change: Any) -> None:
    weights = Weights.open(model / WEIGHTS)
    tensors = {name: weights.numpy(name) for name in weights.header}
    change(tensors)
    (model / WEIGHTS).unlink()
    write_tensors(model / WEIGHTS, tensors)


TENSORS: dict[str, tuple[Any, str]] = {
    "missing": (lambda t: t.pop("class.n"), "class.n is missing"),
    "unexpected": (lambda t: t.update(extra=np.zeros(1)), "extra is not expected"),
    "another shape": (lambda t: t.update({"class.n": np.zeros(3)}), "class.n is F64 [3], expected F64 [2]"),
    "another dtype": (
        lambda t: t.update({"class.n": np.zeros(2, np.float32)}),
        "class.n is F32 [2], expected F64 [2]",
    ),
    "all of them": (
        lambda t: (t.pop("class.n"), t.update(extra=np.zeros(1))),
        "does not fit its config: class.n is missing; extra is not expected",
    ),
}


@pytest.mark.parametrize(("change", "message"), TENSORS.values(), ids=TENSORS)
def test_tensors_that_do_not_fit_are_named(change, message, model):
    rewrite(model, change)
    with pytest.raises(CheckpointError) as raised:
        genreg.load(model)
    assert message in str(raised.value)


def test_of_many_differences_eight_are_named():
    weights = Weights(Path("w"), {f"t{at}": ((1,), "F32") for at in range(11)})
    with pytest.raises(CheckpointError, match=r"t7 is not expected; and 3 more$"):
        weights.expect({})


def header(text: bytes, length: int | None = None) -> bytes:
    return struct.pack("<Q", len(text) if length is None else length) + text


HUGE = json.dumps({"x": {"dtype": "F64", "shape": [1_250_000_000], "data_offsets": [0, 10_000_000_000]}}).encode()
WEIGHTS_FILES: dict[str, bytes] = {
    "empty": b"",
    "a header of 10 GB": header(b"{}", 10_000_000_000),
    "a tensor of 10 GB": header(HUGE),
    "no JSON": header(b"not json at all "),
    "offsets that overlap": header(
        json.dumps({name: {"dtype": "F64", "shape": [1], "data_offsets": [0, 8]} for name in "ab"}).encode()
    )
    + bytes(8),
    "pickle": b"\x80\x04\x95" + bytes(100),
}


@pytest.mark.parametrize("content", WEIGHTS_FILES.values(), ids=WEIGHTS_FILES)
def test_a_weights_file_that_is_not_right_is_told_before_it_is_believed(content, model):
    (model / WEIGHTS).write_bytes(content)
    with pytest.raises(CheckpointError, match=r"model\.safetensors is not a readable safetensors file: "):
        genreg.load(model)


def test_a_truncated_weights_file_is_told(model):
    whole = (model / WEIGHTS).read_bytes()
    for kept in (7, 50, len(whole) - 1):
        (model / WEIGHTS).write_bytes(whole[:kept])
        with pytest.raises(CheckpointError, match="is not a readable safetensors file"):
            genreg.load(model)


def test_weights_that_are_not_there_are_told(model):
    (model / WEIGHTS).unlink()
    with pytest.raises(CheckpointError):
        genreg.load(model)


# ---- checkpoints are written whole ----


def test_tensors_are_written_in_one_order_and_any_layout(tmp_path):
    one = {"b": np.arange(6.0).reshape(2, 3), "a": np.zeros(0), "花": np.ones((2, 2), np.float16)}
    two = {"花": np.ones((2, 2), np.float16), "a": np.zeros(0), "b": np.asfortranarray(np.arange(6.0).reshape(2, 3))}
    write_tensors(tmp_path / "one", one)
    write_tensors(tmp_path / "two", two)
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()
    for name, array in one.items():
        np.testing.assert_array_equal(Weights.open(tmp_path / "two").numpy(name), array)
    with pytest.raises(CheckpointError, match=r"has no tensor c$"):
        Weights.open(tmp_path / "one").numpy("c")


def test_a_failed_replacement_leaves_the_old_checkpoint(model, monkeypatch):
    saved, before = checkpoints.read(model), (model / WEIGHTS).read_bytes()

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(checkpoints, "write_tensors", full)
    with pytest.raises(UsageError, match=r"cannot be written: No space left on device"):
        checkpoints.save(model, saved, {}, "card", force=True)
    assert (model / WEIGHTS).read_bytes() == before
    assert {path.name for path in model.parent.iterdir()} == {"flowers.csv", "model"}


def test_the_toys_are_a_healthy_plugin(with_toys):
    components = load_plugins()
    (status,) = [status for status in components.statuses if status.point.dist == "genreg-toys"]
    assert status.cause == ""
    assert set(status.provides["families"]) == set(toys.FAMILIES)
    assert issubclass(PluginError, UsageError)
    assert RUN == "run.json"


# ---- weights ----

WEIGHTED = """
from dataclasses import replace
from tests.toys import FAMILIES, fit_slope
from genreg import hookimpl
from genreg.data import named_with_role, notes

SEEN = {}

def fit(config, options, train, validation, **how):
    name = named_with_role(train.schema, "weight")
    SEEN[name] = [cell for batch in train.batches(size=99) for cell in batch.column(name).to_pylist()]
    return fit_slope(config, options, train.map(lambda batch: batch.drop_columns([name])), None, **how)

@hookimpl
def genreg_models():
    return [replace(FAMILIES["slope"], name="weighted", takes_weights=True, fit=fit), FAMILIES["slope"]]
"""
COUNTED = "a,b,n\n" + "".join(f"{at},{at % 3},{at % 4}\n" for at in range(12))


@pytest.fixture
def weighted(distribution):
    return importlib.import_module(distribution("genreg-weighted", WEIGHTED).package)


def test_a_weight_is_noted_and_left_as_it_is_and_not_sampled(write, tmp_path, weighted):
    record = genreg.train("weighted", write(COUNTED), out=tmp_path / "m", weight="n", split="100")
    (seen,) = weighted.SEEN.items()
    assert seen == ("n", [at % 4 for at in range(12)])
    assert record["weight"] == "n"
    assert genreg.load(tmp_path / "m").sample(2, seed=0).table.schema.names == ["a", "b"]


@pytest.mark.parametrize(
    ("text", "roles", "message"),
    [
        (COUNTED, {"weight": "m"}, "--weight m: the data has no column m"),
        (COUNTED, {"weight": "n", "label": "n"}, "--weight n is the label: name another column"),
        (COUNTED, {"weight": "n", "drop": ["n"]}, "--weight n is left out by another option: a weight must stay"),
        (COUNTED, {"weight": "n", "drop": ["a", "b"]}, "no column is left to train on"),
        ("a,n\n1,x\n2,y\n", {"weight": "n"}, "--weight n: the column holds string, and weights are numbers"),
        (
            "a,n\n1,\n2,1\n",
            {"weight": "n"},
            "--weight n: some rows have none: fill them with --preprocess fillna:columns=n,value=1",
        ),
        ("a,n\n1,-1\n2,1\n", {"weight": "n"}, "--weight n: some are negative, and a row counts 0 times or more"),
    ],
)
def test_a_wrong_weight_is_refused_by_name(text, roles, message, write, tmp_path, weighted):
    with pytest.raises(UsageError) as raised:
        genreg.train("weighted", write(text), out=tmp_path / "m", split="100", **roles)
    assert str(raised.value).startswith(message)


def test_a_family_that_takes_no_weights_says_so(write, tmp_path, weighted, process):
    with pytest.raises(Unsupported, match=r"^--weight n: slope counts every row alike: leave it out with --drop$"):
        genreg.train("slope", write(COUNTED), out=tmp_path / "m", weight="n")
    line = process("train", "nb", "--data", write(COUNTED), "--weight", "m", "-o", tmp_path / "m", "--dry-run").line
    assert line.startswith("--weight m: ")


def test_a_row_of_weight_two_counts_as_two_rows(write, tmp_path):
    genreg.train(
        "nb", write("k,x,n\na,1,2\na,2.5,1\nb,3,1\nb,5,0\n"), out=tmp_path / "w", weight="n", label="k", split="1"
    )
    genreg.train("nb", write("k,x\na,1\na,1\na,2.5\nb,3\n"), out=tmp_path / "r", label="k", split="1")
    one, two = (Weights.open(tmp_path / name / WEIGHTS) for name in "wr")
    assert one.header == two.header
    for name in one.header:
        np.testing.assert_allclose(one.numpy(name), two.numpy(name), rtol=1e-12, err_msg=name)
    assert genreg.load(tmp_path / "w").sample(1, seed=0).table.schema.names == ["k", "x"]
