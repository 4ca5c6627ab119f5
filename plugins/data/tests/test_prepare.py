"""Preparing data: the order of steps, the parts, the report, the manifest, and what is refused."""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas
import pyarrow as pa
import pytest
from PIL import Image
from sklearn.preprocessing import StandardScaler

from genreg.cli import main
from genreg.data import Source, conform
from genreg.errors import DataError, NotFound, UsageError
from genreg.loading import open_source
from genreg.plugins import load_plugins
from genreg_data import pipeline
from genreg_data.parts import split
from genreg_data.store import Order, prepare, read_manifest, read_maps, reproduce

LOADERS = load_plugins().loaders


def silent(*_: Any, **__: Any) -> None: ...


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def rows(count: int = 400) -> pandas.DataFrame:
    """Rows with duplicates, missing cells, noise, a group, a time and a label."""
    draw = np.random.default_rng(0)
    frame = pandas.DataFrame(
        {
            "text": [f"第{at}条，消息！" for at in range(count)],
            "label": draw.choice(["天气", "财经", "体育"], count, p=[0.5, 0.3, 0.2]),
            "x": np.where(draw.random(count) < 0.1, np.nan, draw.normal(3, 2, count).round(3)),
            "n": draw.integers(0, 1000, count),
            "user": draw.integers(0, 40, count),
            "day": pandas.date_range("2020-01-01", periods=count).date,
        }
    )
    return pandas.concat([frame, frame.iloc[:37]], ignore_index=True)


def table(path: Path) -> pa.Table:
    source = open_source(path, LOADERS)
    return pa.Table.from_batches(list(source.batches(size=1000)), source.schema)


STEPS = (
    "dedupe",
    "scrub:cleaners=[punctuation]",
    "label:column=label",
    "split:shares=70/15/15,seed=3",
    "fillna:columns=x",
    "standardize:columns=[x,n]",
)


def test_the_outcome_is_that_of_pandas_and_scikit_learn(here):
    rows().to_csv("rows.csv", index=False)
    made = prepare(Order("rows.csv", STEPS, formats=["csv", "jsonl", "parquet"]), Path("out"), silent)
    assert made["rows"] == {"train": 280, "validation": 60, "test": 60}
    expected = rows().drop_duplicates()
    expected["text"] = expected["text"].str.replace(r"[^\w\s]", "", regex=True)
    found = {part: pandas.read_csv(f"out/{part}.csv") for part in made["rows"]}
    known = {part: expected[expected["text"].isin(frame["text"])] for part, frame in found.items()}
    assert sum(map(len, known.values())) == len(expected) == 400
    mean = known["train"]["x"].mean()
    scaler = StandardScaler().fit(known["train"][["x", "n"]].fillna({"x": mean}))
    for part, frame in found.items():
        wanted = scaler.transform(known[part][["x", "n"]].fillna({"x": mean}))
        np.testing.assert_allclose(frame[["x", "n"]], wanted, rtol=1e-12, atol=1e-12)
        assert frame["text"].tolist() == known[part]["text"].tolist()  # in the order of the source
        lines = [json.loads(line) for line in Path(f"out/{part}.jsonl").read_text("utf-8").splitlines()]
        assert [[row[name] for name in frame] for row in lines] == frame.values.tolist()
        assert table(Path(f"out/{part}.csv")).equals(table(Path(f"out/{part}.parquet")))
    shares = {part: frame["label"].value_counts(normalize=True)["财经"] for part, frame in found.items()}
    assert max(shares.values()) - min(shares.values()) < 0.02


def test_maps_travel_with_the_folder_and_bring_rows_back(here):
    rows().to_csv("rows.csv", index=False)
    steps = (*STEPS[:-1], "robust:columns=n", "quantile:columns=x", "onehot:columns=label")
    prepare(Order("rows.csv", steps), Path("out"), silent)
    prepare(Order("rows.csv", steps[:5]), Path("plain"), silent)
    chain, mapped, plain = read_maps(Path("out")), table(Path("out/test.parquet")), table(Path("plain/test.parquet"))
    (batch,) = mapped.combine_chunks().to_batches()
    back = pa.Table.from_batches([conform(chain.undo(batch), plain.schema)])
    assert back.drop_columns("x").equals(plain.drop_columns("x"))
    assert back["x"].to_pylist() == plain["x"].to_numpy().round(3).tolist()  # the decimals that x was written with


def test_the_report_says_what_each_step_took_and_changed_with_examples(here):
    Path("rows.csv").write_text("a,b\n1,x！\n1,x！\n2,y\n3,\n1,x！\n", "utf-8")
    made = prepare(Order("rows.csv", ["dedupe", "scrub:cleaners=[punctuation]", "dropna"]), Path("out"), silent)
    assert [one["rows"]["train"] for one in made["report"]] == [
        {"before": 5, "after": 3}, {"before": 3, "after": 3}, {"before": 3, "after": 2},
    ]  # fmt: skip
    dedupe, scrub, dropna = made["report"]
    assert dedupe["taken"] == [{"row": 2, "a": 1, "b": "x！"}, {"row": 5, "a": 1, "b": "x！"}]
    assert scrub["changed"] == {"b": 1}
    assert scrub["changes"] == [{"row": 1, "column": "b", "from": "x！", "to": "x"}]
    assert dropna["taken"] == [{"row": 3, "a": 3, "b": None}]


def test_nan_that_stays_is_no_change_and_a_filled_cell_is_one():
    source = Source.of(pa.table({"x": [float("nan"), 1.0, None]}))
    done = pipeline.run_steps(source, ["fillna:value=2"], load_plugins(), Path(), silent)
    assert done.accounts[0].changed == {"x": 1}
    assert done.accounts[0].changes == [{"row": 3, "column": "x", "from": None, "to": 2.0}]


def test_nan_that_stays_is_no_change():
    table = pa.table({"text": ["A", "b"], "x": [np.nan, 1.0]})
    (batch,) = table.append_column(pipeline.ROW, pa.array([0, 1])).to_batches()
    after = batch.set_column(0, "text", pa.array(["a", "b"]))
    account = pipeline.Account("scrub")
    pipeline.note_changes(account, batch, after, 0, {})
    assert account.changed == {"text": 1}


def test_batches_and_spooling_change_nothing(here, monkeypatch):
    rows().to_csv("rows.csv", index=False)
    order = Order("rows.csv", STEPS)
    once = prepare(order, Path("one"), silent)
    monkeypatch.setattr(pipeline, "HELD", 0)  # all rows lie in files
    monkeypatch.setattr(Source, "scan", lambda self: self.batches(size=7))
    again = prepare(order, Path("two"), silent)
    for name in ("rows", "labels", "report"):
        assert once[name] == again[name]
    for part in once["rows"]:
        one, two = table(Path(f"one/{part}.parquet")), table(Path(f"two/{part}.parquet"))
        assert one.drop_columns("x").drop_columns("n").equals(two.drop_columns("x").drop_columns("n"))
        np.testing.assert_allclose(one["x"].to_numpy(), two["x"].to_numpy(), rtol=1e-12, atol=1e-14)
    assert sorted(path.name for path in here.iterdir()) == ["one", "rows.csv", "two"]


def test_what_comes_after_the_split_is_fitted_on_train_alone(here):
    Path("rows.csv").write_text("part,x\ntrain,1\ntrain,3\ntrain,\ntest,100\nval,\n", "utf-8")
    prepare(Order("rows.csv", ["split:part=part", "fillna:columns=x", "minmax"]), Path("out"), silent)
    found = {part: table(Path(f"out/{part}.parquet"))["x"].to_pylist() for part in ("train", "validation", "test")}
    assert found == {"train": [0.0, 1.0, 0.5], "validation": [0.5], "test": [49.5]}


def test_images_are_prepared_with_broken_ones_named_or_refused(here):
    for name, seed in (("a/0.png", 0), ("a/1.png", 1), ("b/0.png", 2), ("b/copy.png", 0), ("b/near.jpg", 1)):
        noise = np.random.default_rng(seed).integers(0, 256, (6, 8, 3), dtype=np.uint8)
        Path("photos", name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(noise).resize((40, 30)).save(Path("photos", name))
    Path("photos/a/broken.png").write_bytes(b"\x89PNG and no more")
    steps = ["dedupe:columns=image", "nearimage:distance=6", "channels"]
    made = prepare(Order("photos", steps), Path("out"), silent)
    assert [one["rows"]["train"]["after"] for one in made["report"]] == [4, 3]
    assert (made["labels"], [*made["skipped"]]) == ({"train": {"a": 2, "b": 1}}, ["photos/a/broken.png"])
    (mapped,) = open_source("out/train.parquet", LOADERS).batches(size=9)
    whole = open_source("photos", LOADERS, "images:broken=skip")
    pixels = np.concatenate([batch.column("image").to_numpy_ndarray() for batch in whole.batches(size=9)])
    found = read_maps("out").undo(mapped).column("image").to_numpy_ndarray()
    np.testing.assert_array_equal(found, pixels[:3])
    with pytest.raises(DataError, match=r"^photos/a/broken.png: a damaged image "):
        prepare(Order("photos", steps, strict=True), Path("strict"), silent)


# ---- the manifest ----


def content(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_a_manifest_makes_its_files_again_byte_for_byte(here):
    rows().to_csv("rows.csv", index=False)
    prepare(Order("rows.csv", STEPS, formats=["csv", "jsonl", "parquet"], seed=8), Path("out"), silent)
    before = content(Path("out"))
    Path("out/train.csv").unlink()
    reproduce(Path("out/manifest.json"), None, silent)
    assert content(Path("out")) == before
    reproduce(Path("out"), None, silent)
    assert content(Path("out")) == before
    reproduce(Path("out"), Path("elsewhere"), silent)
    assert content(Path("elsewhere")) == before


def test_a_manifest_that_does_not_fit_its_files_is_refused(here):
    rows().to_csv("rows.csv", index=False)
    Path("names.csv").write_text("label,name\n天气,w\n财经,f\n体育,s\n", "utf-8")
    steps = ["labels:file=names.csv,key=label,column=name", "dedupe"]
    prepare(Order("rows.csv", steps, formats=["csv"]), Path("out"), silent)
    before = content(Path("out"))

    def refused(message: str) -> None:
        with pytest.raises(DataError, match=rf"^manifest.json does not fit its files: {message}"):
            reproduce(Path("out/manifest.json"), None, silent)

    Path("out/train.csv").write_text("changed", "utf-8")
    refused("train.csv was changed: --force makes it anew$")
    reproduce(Path("out/manifest.json"), None, silent, force=True)
    assert content(Path("out")) == before
    Path("names.csv").write_text("label,name\n天气,W\n财经,f\n体育,s\n", "utf-8")
    refused(r"names.csv is another file than the manifest's \(sha256 \w{12}…\)$")
    Path("names.csv").unlink()
    refused("names.csv is not there ")
    Path("names.csv").write_text("label,name\n天气,w\n财经,f\n体育,s\n", "utf-8")
    manifest = json.loads(Path("out/manifest.json").read_text("utf-8"))
    manifest["steps"] = manifest["steps"][:1]
    Path("out/manifest.json").write_text(json.dumps(manifest), "utf-8")
    refused(r"train.csv comes out otherwise: the manifest was changed$")
    manifest["versions"]["numpy"] = "1.0"
    Path("out/manifest.json").write_text(json.dumps(manifest), "utf-8")
    refused(r"train.csv comes out otherwise: other versions made it \(numpy 1.0 then, .* now\)$")
    assert content(Path("out"))["train.csv"] == before["train.csv"]


def test_a_file_that_joined_a_folder_does_not_fit(here):
    Path("parts").mkdir()
    Path("parts/1.csv").write_text("a\n1\n", "utf-8")
    prepare(Order("parts/*.csv", []), Path("out"), silent)
    Path("parts/2.csv").write_text("a\n2\n", "utf-8")
    with pytest.raises(DataError, match=r"does not fit its files: parts/2.csv was not there when it was made$"):
        reproduce(Path("out"), None, silent)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "is no manifest: JSONDecodeError"),
        ("[]", "is no manifest: TypeError"),
        ('{"genreg_manifest": 2}', "is of format 2, and this genreg reads format 1$"),
        ('{"genreg_manifest": 1, "source": 3}', "is no manifest: TypeError: source must be a str$"),
        (
            '{"genreg_manifest": 1, "source": "a", "steps": [3], "formats": [], "seed": 0, "inputs": {}, "files": {}}',
            "is no manifest: TypeError: steps must hold texts$",
        ),
        (
            '{"genreg_manifest": 1, "source": "a", "steps": [], "formats": [], "seed": 0, "files": {}, '
            '"inputs": {"a": 1}}',
            "is no manifest: TypeError: inputs must hold texts$",
        ),
        ('{"genreg_manifest": 1}', "is no manifest: KeyError: 'source'$"),
    ],
)
def test_what_is_no_manifest_is_refused(here, text, message):
    Path("manifest.json").write_text(text, "utf-8")
    with pytest.raises(DataError, match=message):
        read_manifest(Path("manifest.json"))
    with pytest.raises(DataError, match=r"none.json cannot be read: no such file or directory$"):
        read_manifest(Path("none.json"))


# ---- the split ----


def parts_of(columns: dict[str, Any], **knobs: Any) -> list[int]:
    return split(Source.of(pa.table(columns)), **knobs).tolist()


def test_a_split_by_time_puts_the_earliest_first_and_keeps_one_time_together():
    days = [5, 1, 2, 2, 3, 4, 4, 4, 9, 8]
    found = parts_of({"t": days}, time="t", shares="50/30/20")
    assert found == [1, 0, 0, 0, 0, 1, 1, 1, 2, 2]
    by_part = [[day for day, part in zip(days, found, strict=True) if part == at] for at in range(3)]
    assert max(by_part[0]) < min(by_part[1]) <= max(by_part[1]) < min(by_part[2])
    dates = pa.array(days, pa.int32()).cast(pa.date32())
    assert parts_of({"t": dates}, time="t", shares="50/30/20") == found


def test_a_group_stays_whole_and_one_that_straddles_is_refused():
    draw = np.random.default_rng(0)
    users = draw.integers(0, 30, 500).tolist()
    found = parts_of({"user": users, "x": draw.normal(size=500)}, group="user")
    assert len(set(zip(users, found, strict=True))) == len(set(users))
    columns = {"t": [1, 2, 3, 4], "user": ["a", "b", "a", None], "part": ["train", "val", "test", "test"]}
    for knobs in ({"time": "t", "shares": "50/50"}, {"part": "part"}):
        other = "validation" if "time" in knobs else "test"
        message = rf"^--steps split: user=a has rows in train and {other}, and a group lies in one part: group=user wi"
        with pytest.raises(DataError, match=message):
            parts_of(columns, group="user", **knobs)
    assert parts_of(columns, part="part") == [0, 1, 2, 2]


@pytest.mark.parametrize(
    ("knobs", "message"),
    [
        ({"time": "s"}, "time=s: the column holds string, and times are dates, times, numbers$"),
        ({"time": "t"}, "time=t: 1 rows have none: drop them with dropna:columns=t$"),
        ({"part": "s"}, "part=s: a is none of train, validation, test$"),
        ({"part": "s", "time": "t"}, "time=t and part=s: one of them decides$"),
        ({"group": "g"}, "split: g: the data has no column g; there are: s, t$"),
        ({"shares": "a"}, "--split a: write the shares of train, validation and test"),
    ],
)
def test_a_split_that_cannot_be_is_refused(knobs, message):
    with pytest.raises((DataError, UsageError), match=message):
        parts_of({"s": ["a", "b"], "t": [1, None]}, **knobs)


# ---- what is asked wrong ----


@pytest.mark.parametrize(
    ("steps", "message"),
    [
        (["standardize", "dropna"], "^--steps dropna: it cleans, and standardize before it maps: maps come last$"),
        (["split", "split"], "^--steps split: rows are split once, and before any map"),
        (["minmax", "split"], "^--steps split: rows are split once, and before any map"),
        (["split:seeds=1"], r"^--steps split: seeds=1: there is no seeds; did you mean seed\?$"),
        (["within:column=a,low=5"], "^--steps within:column=a,low=5: it left no row$"),
        (["split:part=p"], "^--steps split: none of the 2 rows falls into train: give it a larger share$"),
        (["dedup"], r"^there is no preprocessor dedup; did you mean dedupe\?$"),
    ],
)
def test_steps_that_cannot_be_are_refused_and_leave_nothing(here, steps, message):
    Path("rows.csv").write_text("a,p\n1,test\n2,test\n", "utf-8")
    with pytest.raises((UsageError, DataError, NotFound), match=message):
        prepare(Order("rows.csv", steps), Path("out"), silent)
    assert [path.name for path in here.iterdir()] == ["rows.csv"]


def test_an_output_is_replaced_only_where_that_is_asked_and_it_is_one(here):
    Path("rows.csv").write_text("a\n1\n", "utf-8")
    order = Order("rows.csv", [])
    prepare(order, Path("out"), silent)
    with pytest.raises(UsageError, match=r"^out is there already: choose another name, or --force to replace it$"):
        prepare(order, Path("out"), silent)
    prepare(order, Path("out"), silent, force=True)
    Path("out/mine.txt").write_text("x")
    with pytest.raises(UsageError, match=r"^out holds mine.txt, which the manifest does not know: move it"):
        prepare(order, Path("out"), silent, force=True)
    Path("other").mkdir()
    with pytest.raises(UsageError, match=r"^other is no folder of prepared data, so --force does not replace it"):
        prepare(order, Path("other"), silent, force=True)
    with pytest.raises(UsageError, match=r"^part.xls: the suffix .xls has no writer"):
        prepare(Order("rows.csv", [], formats=["xls"]), Path("new"), silent)
    with pytest.raises(UsageError, match=r"^--format /../../x.csv: write the suffix of a format, such as csv$"):
        prepare(Order("rows.csv", [], formats=["/../../x.csv"]), Path("new"), silent)
    Path("empty.csv").write_text("a\n", "utf-8")
    with pytest.raises(DataError, match=r"^the source has no rows$"):
        prepare(Order("empty.csv", []), Path("new"), silent)


# ---- the command line ----


def genreg(*words: str) -> int:
    try:
        return main(list(words)) or 0
    except SystemExit as ended:
        return int(ended.code or 0)


def test_steps_from_a_file_are_those_of_the_command_line_and_of_train(here, capsys):
    rows(60).to_csv("rows.csv", index=False)
    Path("steps.yaml").write_text(
        "- dedupe\n- scrub: {cleaners: [punctuation]}\n- fillna: {columns: [x]}\n- standardize: {columns: [x]}\n",
        "utf-8",
    )
    assert genreg("data", "prepare", "rows.csv", "--steps", "steps.yaml", "-o", "one", "--json") == 0
    made = json.loads(capsys.readouterr().out)
    words = [word for call in made["steps"] for word in ("--steps", call)]
    assert genreg("data", "prepare", "rows.csv", *words, "-o", "two") == 0
    out = capsys.readouterr()
    assert out.out.startswith("dedupe: took 37 of 97 rows\n  - row 61: text 第0条，消息！")
    assert out.err == "genreg: wrote two (rows: 60 train)\n"
    assert content(Path("one")) == content(Path("two"))
    flags = ["--data", "rows.csv", "--label", "label", "--drop", "text", "--drop", "day", "-o", "model"]
    assert genreg("train", "nb", *flags, "--preprocess", "steps.yaml") == 0
    config = json.loads(Path("model/config.json").read_text("utf-8"))["genreg"]
    assert config["training"]["preprocess"][:4] == made["steps"]
    assert config["chain"][0]["step"] == "standardize"
    assert genreg("train", "nb", *flags, "--force", "--preprocess", "split") == 2
    assert "--preprocess split: training splits by itself: give --split" in capsys.readouterr().err


def test_training_learns_the_columns_that_a_clean_step_adds(here, capsys):
    Path("rows.csv").write_text("id,x\n" + "".join(f"{at},{at * 7 % 50}\n" for at in range(60)), "utf-8")
    Path("kinds.csv").write_text("id,kind\n" + "".join(f"{at},{'天地'[at % 2]}\n" for at in range(60)), "utf-8")
    steps = ["--preprocess", "labels:file=kinds.csv,key=id,column=kind", "--preprocess", "quantile:columns=x"]
    assert genreg("train", "nb", "--data", "rows.csv", *steps, "-o", "model") == 0
    assert genreg("run", "./model", "天", "-n", "2", "--seed", "0", "-o", "samples.csv") == 0
    found = pandas.read_csv("samples.csv")
    assert ([*found.columns], found["kind"].tolist()) == (["id", "x", "kind"], ["天", "天"])
    assert found["x"].dtype == np.int64


def test_the_command_says_what_it_needs(here, capsys):
    for words, message in [
        (["rows.csv"], "name the source and the folder"),
        (["rows.csv", "--manifest", "m"], "--manifest says what is read and done: leave out the source, steps"),
        (["--manifest", "none"], "none cannot be read: no such file or directory"),
        (["none.csv", "-o", "out"], "none.csv: there is no such file"),
    ]:
        assert genreg("data", "prepare", *words) == 2
        assert message in capsys.readouterr().err


def test_ctrl_c_leaves_nothing_half_done(here):
    rows(30_000).to_csv("rows.csv", index=False)
    words = ["data", "prepare", "rows.csv", "--steps", "neartext:column=text", "-o", "out"]
    process = subprocess.Popen([sys.executable, "-m", "genreg", *words], stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 60
    while not any(path.name.endswith(".tmp") for path in here.iterdir()) and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert [path.name for path in here.iterdir()] == ["rows.csv"]
