"""Bad input through the command line: one clear line each, the right exit code, nothing lost."""

# ruff: noqa: E501 - a row of a table is one line

from __future__ import annotations

import json
import re
import shutil
import signal
import struct
import time
from pathlib import Path

import pytest

from genreg.entrypoints import package_folder

IRIS = Path(package_folder("genreg_nb") or "", "nb-iris")
GOOD = "x,kind\n" + "".join(f"{i / 7:.3f},{'ab'[i % 2]}\n" for i in range(40))


def column(cells: str, where: slice = slice(0, 40)) -> str:
    """The good table with one more column, ``y``, that holds ``cells`` in some rows and 0.5 in the others."""
    lines = GOOD.splitlines()
    rows = [line + "," + (cells if i in range(*where.indices(40)) else "0.5") for i, line in enumerate(lines[1:])]
    return "\n".join([lines[0] + ",y", *rows]) + "\n"


FILES: dict[str, tuple[bytes | str, str]] = {  # name -> content, and what train says of it
    "empty.csv": ("", "empty.csv is empty"),
    "blank.csv": ("\n\n", "blank.csv is empty"),
    "header.csv": ("x,kind\n", "header.csv has no rows to train on"),
    "ragged.csv": (GOOD + "1,a,2\n", "ragged.csv: row 41 (line 42) has 3 columns, and the header has 2"),
    "short.csv": ("x,kind\n1,a\n2\n3,b\n", "short.csv: row 2 (line 3) has 1 columns, and the header has 2"),
    "quote.csv": (GOOD + '"1,a\n', "quote.csv: "),
    "gbk.csv": (GOOD.replace("kind", "种类").encode("gb18030"), "gbk.csv is not UTF-8 (line 1); it looks like GB18030: --loader csv:encoding=gb18030"),
    "latin.csv": (("x,kind\n1,caf\xe9\n" * 3).encode("cp1252"), "latin.csv is not UTF-8 (line 2); it looks like CP1252: --loader csv:encoding=cp1252"),
    "utf16.csv": (GOOD.encode("utf-16"), "utf16.csv is not UTF-8; it looks like UTF-16: --loader csv:encoding=utf-16"),
    "twice.csv": ("x,kind,x\n1,a,2\n", "twice.csv has more than one column named x: rename them"),
    "missing.csv": (column(""), "column y has no value in the training rows: leave it out with --drop y"),
    "nan.csv": (column("nan", slice(0, 3)), "column y has NaN or infinity, which are not missing values: clip them with --preprocess clip:columns=y, or --drop y"),
    "inf.csv": (column("-inf", slice(0, 3)), "column y has NaN or infinity, which are not missing values: "),
    "names.csv": (GOOD.replace("x,kind", "x,kind,name").replace(",a\n", ",a,n\n"), "has 2 columns, and the header has 3"),
    "lines.jsonl": ('{"x": 1, "kind": "a"}\n{"x": \n', "lines.jsonl line 2 is not JSON: "),
    "list.jsonl": ("[1, 2]\n", "list.jsonl line 1 is not an object"),
    "mixed.jsonl": ('{"x": 1, "kind": "a"}\n{"x": "b", "kind": "a"}\n', "mixed.jsonl line 2: column x holds numbers and text"),
    "bad.parquet": (GOOD, "bad.parquet is damaged, or not Parquet: "),
    "bad.arrow": (GOOD, "bad.arrow is damaged, or not Arrow IPC: "),
    "data.xlsx": ("PK", "the suffix .xlsx has no loader; there are: .arrow, "),
    "data": (GOOD, "a name without suffix has no loader; there are: .arrow, "),
}  # fmt: skip


@pytest.mark.parametrize("name", FILES)
def test_a_file_that_cannot_be_trained_on_is_one_line(genreg, tmp_path, name):
    content, message = FILES[name]
    path = tmp_path / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    done = genreg("train", "nb", "--data", path, "--label", "kind", "-o", tmp_path / "model")
    assert done.code == 2
    assert message in done.line
    assert [entry.name for entry in tmp_path.iterdir()] == [name]


def test_a_missing_file_and_a_folder_are_not_data(genreg, tmp_path):
    train = ("train", "nb", "-o", tmp_path / "model", "--label", "kind", "--data")
    assert genreg(*train, tmp_path / "none.csv").line == f"{tmp_path / 'none.csv'}: there is no such file"
    for name in ("folder", "dir.csv"):  # genreg-data reads folders of images, where it is installed
        (tmp_path / name).mkdir()
        told = genreg(*train, tmp_path / name).line
        assert re.match(r".* has no images|.*: a folder has no loader; genreg-data reads it: pip install ", told)
    assert genreg(*train, tmp_path / "dir.csv", "--loader", "csv").line.endswith(
        "dir.csv cannot be read: is a directory"
    )
    assert genreg(*train, "data://none").line.startswith("data://: there is no loader for data")
    assert not (tmp_path / "model").exists()


def test_what_bad_input_advises_works(genreg, tmp_path):
    for name, advice in {
        "nan.csv": ("--preprocess", "clip:columns=y"), "inf.csv": ("--drop", "y"), "missing.csv": ("--drop", "y"),
        "utf16.csv": ("--loader", "csv:encoding=utf-16"),
    }.items():  # fmt: skip
        content = FILES[name][0]
        path = tmp_path / name
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        out = tmp_path / f"model-{name}"
        assert genreg("train", "nb", "--data", path, "--label", "kind", *advice, "-o", out).code == 0
        assert genreg("run", out, "-n", "2", "--seed", "0").code == 0


def test_one_class_and_no_variance_are_learned_as_they_are(genreg, tmp_path):
    path, model = tmp_path / "flat.csv", tmp_path / "model"
    path.write_text("x,z,kind\n" + "2.5,7,only\n" * 30)
    done = genreg("train", "nb", "--data", path, "--label", "kind", "-o", model)
    assert (done.code, done.out) == (0, "")
    done = genreg("run", model, "-n", "3", "--seed", "0")
    assert (done.code, done.out) == (0, "x,z,kind\n" + "2.5,7,only\n" * 3)


def test_wrong_conditions_name_the_condition(genreg, tmp_path):
    path, model = tmp_path / "good.csv", tmp_path / "model"
    path.write_text(GOOD)
    assert genreg("train", "nb", "--data", path, "--label", "kind", "-o", model).code == 0
    out = tmp_path / "out.csv"
    for given, message in {
        "kind=c": "kind=c was not seen in training; there are: a, b",
        "kid=a": "--given kid=a: there is no condition kid; did you mean kind?",
        "x=red": "--given x=red: x takes double",
        "x=nan": "--given x: NaN and infinity cannot be given: leave out what is not known",
    }.items():
        done = genreg("run", model, "--given", given, "-o", out)
        assert (done.code, done.line) == (2, message)
    assert not out.exists()


def test_names_never_leave_their_folder(genreg, tmp_path):
    registry = tmp_path / "r.yaml"
    entry = {"family": "nb", "summary": "x", "makes": "table"}
    for facts, message in [
        ({"weights": "pkg://genreg-nb/../../secret"}, "pkg://genreg-nb/../../secret: '..' is no plain file name"),
        ({"weights": str(IRIS), "files": {"../nb-iris/config.json": {"size": 1}}}, f"{IRIS}: the file '../nb-iris/config.json' is no plain file name"),
    ]:  # fmt: skip
        registry.write_text(json.dumps({"version": 1, "models": {"trap": {**entry, **facts}}}))
        done = genreg("run", "trap", "--registry", registry)
        assert (done.code, done.line) == (2, message)
    registry.write_text(json.dumps({"version": 1, "models": {"../trap": entry}}))
    assert (
        "models.../trap: a name is letters, digits, and . _ + - after the first"
        in genreg("list", "--registry", registry).line
    )


# ---- checkpoints ----


@pytest.fixture
def model(tmp_path) -> Path:
    return Path(shutil.copytree(IRIS, tmp_path / "model"))


def header(size: int, text: bytes) -> bytes:
    return struct.pack("<Q", size) + text


CLAIM = b'{"class.n":{"dtype":"F64","shape":[1250000000],"data_offsets":[0,10000000000]}}'
WEIGHTS = {
    "a 10 GB header": header(10_000_000_000, b"{}"),
    "a 10 GB tensor": header(len(CLAIM), CLAIM),
    "a negative offset": header(70, b'{"class.n":{"dtype":"F64","shape":[3],"data_offsets":[-8,16]}}        '),
    "nothing": b"",
    "text": b"not a safetensors file at all",
}


@pytest.mark.parametrize("what", WEIGHTS)
def test_weights_that_are_not_what_they_claim_are_refused_at_once(genreg, model, what):
    (model / "model.safetensors").write_bytes(WEIGHTS[what])
    began = time.monotonic()
    done = genreg("run", model)
    assert time.monotonic() - began < 2
    assert done.code == 2
    assert done.line.startswith(f"{model / 'model.safetensors'} is not a readable safetensors file: ")


CONFIGS = {
    "{": "is not readable JSON: ",
    "[]": "has no genreg block: this is not a checkpoint that genreg wrote",
    '{"genreg": {}}': "genreg.format must be a whole number from 1 on",
    '{"genreg": {"format": 99}}': "has checkpoint format 99, and this genreg reads up to 1: upgrade genreg-core",
    '{"genreg": {"format": 1}}': "genreg.family must be a str",
}


@pytest.mark.parametrize("text", CONFIGS)
def test_a_damaged_config_is_told(genreg, model, text):
    (model / "config.json").write_text(text)
    done = genreg("run", model)
    assert done.code == 2
    assert CONFIGS[text] in done.line


def test_a_damaged_schema_is_told(genreg, model):
    config = json.loads((model / "config.json").read_text())
    for schema in ("!", "AAAA", config["genreg"]["schema"][:40]):
        config["genreg"]["schema"] = schema
        (model / "config.json").write_text(json.dumps(config))
        done = genreg("run", model)
        assert done.code == 2
        assert done.line.startswith(f"{model / 'config.json'}: genreg.schema is damaged: ")


def test_a_checkpoint_that_lacks_its_parts_is_told(genreg, model):
    (model / "model.safetensors").unlink()
    done = genreg("run", model)
    assert (done.code, done.line) == (2, "nb has no model without weights: train one with genreg train nb")
    (model / "config.json").unlink()
    assert genreg("run", model).line == f"{model} is no checkpoint: it has no config.json"
    assert genreg("run", model / "none").line == f"{model / 'none'}: there is no such checkpoint folder"


def test_a_file_is_no_model_and_the_verb_that_converts_it_is_named(genreg, tmp_path):
    known = "version: 1\nplugins: {genreg-far: {summary: Far away, converts: {thaw: [.cold, .bin]}}}\n"
    (tmp_path / "far.yaml").write_text(known)
    for name in ("a b.cold", "net.bin", "net.ckpt", "net.zip"):
        (tmp_path / name).write_bytes(b"x")
    far = ("--registry", tmp_path / "far.yaml")
    thaw = (
        f"genreg thaw {tmp_path}/net.bin -o FOLDER makes a checkpoint of it, once genreg-far is installed: pip install "
    )
    done = genreg("run", tmp_path / "net.bin", *far)
    assert done.code == 2
    assert done.line.startswith(f"{tmp_path}/net.bin is a pickle, which can run code when it is opened: {thaw}")
    assert (
        f"a b.cold is a file: genreg thaw '{tmp_path}/a b.cold' -o" in genreg("run", tmp_path / "a b.cold", *far).line
    )
    whole = "a model is a name, or the folder of a checkpoint"
    opened = f"{tmp_path}/net.ckpt is a pickle, which can run code when it is opened: {whole}"
    assert genreg("run", tmp_path / "net.ckpt").line == opened
    assert genreg("run", tmp_path / "net.zip").line == f"{tmp_path}/net.zip is a file: {whole}"


# ---- folders and signals ----


def test_an_output_where_nothing_can_be_written_is_told_before_the_work(genreg, tmp_path):
    (tmp_path / "file").write_text("kept")
    for out in (tmp_path / "file" / "x.csv", Path("/proc/x.csv"), Path("/dev/null/x.csv")):
        done = genreg("run", "nb-iris", "-n", "2", "-o", out)
        assert done.code == 2
        assert str(out) in done.line
    data = tmp_path / "d.csv"
    data.write_text(GOOD)
    done = genreg("train", "nb", "--data", data, "--label", "kind", "-o", tmp_path / "file" / "model")
    assert (done.code, done.line) == (2, f"{tmp_path / 'file' / 'model'} cannot be written: Not a directory")
    assert (tmp_path / "file").read_text() == "kept"


def test_a_folder_that_may_not_be_written_is_told(genreg, tmp_path, monkeypatch):
    monkeypatch.setattr("os.access", lambda path, mode: False)  # root may write everywhere
    done = genreg("run", "nb-iris", "-o", tmp_path / "x.csv")
    assert (done.code, done.line) == (2, f"{tmp_path / 'x.csv'}: the folder {tmp_path} cannot be written")


def test_a_training_that_fails_keeps_the_checkpoint_that_was_there(genreg, model, tmp_path):
    before = {path.name: path.read_bytes() for path in model.iterdir()}
    data = tmp_path / "bad.csv"
    data.write_text(str(FILES["nan.csv"][0]))
    done = genreg("train", "nb", "--data", data, "--label", "kind", "-o", model, "--force")
    assert done.code == 2
    assert {path.name: path.read_bytes() for path in model.iterdir()} == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bad.csv", "model"]


def test_control_c_in_the_middle_of_training_loses_nothing(start, model, tmp_path):
    before = {path.name: path.read_bytes() for path in model.iterdir()}
    data = tmp_path / "large.csv"
    data.write_text("x,kind\n" + GOOD.partition("\n")[2] * 40_000)
    child = start("train", "nb", "--data", data, "--label", "kind", "-o", model, "--force")
    while not (tmp_path / "model.part").exists():
        assert child.poll() is None
        time.sleep(0.01)
    time.sleep(0.1)
    child.send_signal(signal.SIGINT)
    out, err = child.communicate(timeout=300)
    assert (child.returncode, out) == (130, b"")
    assert err.decode().lstrip() == "genreg: interrupted; what was finished is kept, and nothing is left half written\n"
    assert {path.name: path.read_bytes() for path in model.iterdir()} == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["large.csv", "model"]
