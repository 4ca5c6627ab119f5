"""MNIST's files: images with their labels, gzipped or not, or what is wrong with them."""

from __future__ import annotations

import gzip
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pictures_read import refusal, rows

from genreg import textfiles
from genreg.data import notes
from genreg.loading import open_source
from genreg.plugins import load_plugins
from genreg_data import idx

DIGITS = np.random.default_rng(0).integers(0, 256, (7, 28, 28), dtype=np.uint8)
LABELS = np.array([5, 0, 4, 1, 9, 2, 1], np.uint8)
IMAGES = "train-images-idx3-ubyte"


def idx_bytes(array: Any, code: int = 8) -> bytes:
    return struct.pack(f">4B{array.ndim}I", 0, 0, code, array.ndim, *array.shape) + array.tobytes()


@pytest.fixture
def put(tmp_path):
    """Write an IDX file: put(name, array or bytes), gzipped for .gz."""

    def write(name: str, content: Any) -> Path:
        data = content if isinstance(content, bytes) else idx_bytes(content)
        (tmp_path / name).write_bytes(gzip.compress(data) if name.endswith(".gz") else data)
        return tmp_path / name

    return write


@pytest.mark.parametrize("size", [1, 3, 100])
@pytest.mark.parametrize(("end", "label_end"), [("", ""), (".gz", ".gz"), (".gz", ""), ("", ".gz")])
def test_images_come_with_the_labels_of_the_file_beside_them(put, size, end, label_end):
    put(f"train-labels-idx1-ubyte{label_end}", LABELS)
    source = idx(put(IMAGES + end, DIGITS))
    found, labels = rows(source, size)
    assert source.rows == 7
    assert np.array_equal(found[..., 0], DIGITS)
    assert labels == LABELS.tolist()
    assert notes(source.schema.field("label")) == {"role": "label"}


def test_names_with_a_point_and_labels_of_another_name_are_found(put):
    put("t10k-labels.idx1-ubyte", LABELS)
    assert rows(idx(put("t10k-images.idx3-ubyte", DIGITS)))[1] == LABELS.tolist()
    put("answers", LABELS[::-1])
    assert rows(idx(put("digits.idx", DIGITS), labels="answers"))[1] == LABELS[::-1].tolist()


def test_images_alone_have_no_label(put):
    assert idx(put(IMAGES, DIGITS)).schema.names == ["image"]
    assert idx(put("digits.idx", DIGITS)).schema.names == ["image"]


def test_images_with_colors_are_read_too(put):
    colors = DIGITS[..., None].repeat(3, 3)
    assert np.array_equal(rows(idx(put("c.idx", colors)))[0], colors)


def test_files_that_do_not_fit_together_are_refused(put):
    put("train-labels-idx1-ubyte", LABELS[:5])
    path = put(IMAGES, DIGITS)
    assert refusal(idx, path) == f"train-labels-idx1-ubyte is [5], and {IMAGES} has 7 images"
    assert refusal(idx, path, labels="none") == f"labels=none: there is no file {path.parent / 'none'}"
    told = "train-labels-idx1-ubyte is [5], and images are [n, h, w]: name the file of the images"
    assert refusal(idx, path.parent / "train-labels-idx1-ubyte") == told


def test_a_file_that_is_cut_off_too_long_or_something_else_is_refused(put):
    whole = idx_bytes(DIGITS)
    assert refusal(idx, put("a.idx", whole[:-800])) == "a.idx is cut off: it ends in row 5 of 7"
    assert refusal(idx, put("a.idx", whole + b"x")) == "a.idx is damaged: it has more bytes than its 7 rows"
    assert refusal(idx, put("a.idx", whole[:10])) == "a.idx is cut off in its header"
    assert refusal(idx, put("a.idx", b"")) == "a.idx is no IDX file: it does not begin as one"
    assert refusal(idx, put("a.idx", b"\x89PNG....")) == "a.idx is no IDX file: it does not begin as one"
    assert refusal(idx, put("a.idx", idx_bytes(DIGITS.astype(">f4"), 0x0D))) == (
        "a.idx holds float32, and pixels and labels are bytes (uint8)"
    )
    path = put("a.idx.gz", whole)
    path.write_bytes(path.read_bytes()[:-100])
    assert refusal(idx, path).startswith("a.idx.gz is damaged, or cut off: it does not unpack (")
    assert refusal(idx, path.parent / "none.idx") == "none.idx cannot be read: No such file or directory"


def test_a_header_that_lies_about_its_size_costs_no_memory(put):
    data = struct.pack(">4B3I", 0, 0, 8, 3, 2**32 - 1, 28, 28) + bytes(28 * 28 * 2)
    assert refusal(idx, put("a.idx", data)) == "a.idx is cut off: it ends in row 2 of 4,294,967,295"


@pytest.mark.parametrize("name", ["train-images-idx3-ubyte", "train-images-idx3-ubyte.gz", "t.idx3-ubyte", "T.IDX"])
def test_the_command_line_knows_them_by_their_names(put, name):
    assert open_source(put(name, DIGITS), load_plugins().loaders).rows == 7


def test_a_bomb_of_labels_is_refused_before_it_fills_memory(put, monkeypatch):
    monkeypatch.setattr(textfiles, "UNPACKED_FREELY", 1 << 16)
    path = put("a.idx.gz", np.zeros((1000, 28, 28), np.uint8))
    assert refusal(idx, path) == "a.idx.gz unpacks to more than 200 times its size, as a bomb does: unpack it yourself"
