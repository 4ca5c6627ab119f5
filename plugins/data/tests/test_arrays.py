"""NumPy arrays: pixels where there is one way to read them, else the knob that settles it."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.datasets import load_digits

from genreg import textfiles
from genreg.data import Source, notes
from genreg.errors import DataError
from genreg.images import pixels
from genreg.loading import open_source
from genreg.plugins import load_plugins
from genreg_data import arrays

NOISE = np.random.default_rng(0)
BYTES = NOISE.integers(0, 256, (6, 5, 7, 3), dtype=np.uint8)


def rows(source: Source, size: int = 1000) -> Any:
    return np.concatenate([pixels(batch.column("image")) for batch in source.batches(size=size)])


def column(source: Source, name: str) -> list[Any]:
    return [cell for batch in source.batches(size=2) for cell in batch.column(name).to_pylist()]


@pytest.fixture
def npy(tmp_path):
    """Write an .npy: npy(array)."""

    def write(array: Any, name: str = "x.npy", **more: Any) -> Path:
        np.save(tmp_path / name, array, **more)
        return tmp_path / name

    return write


@pytest.fixture
def npz(tmp_path):
    """Write an .npz: npz(x=…, y=…)."""

    def write(*, packed: bool = False, **named: Any) -> Path:
        (np.savez_compressed if packed else np.savez)(tmp_path / "x.npz", **named)
        return tmp_path / "x.npz"

    return write


def refusal(path: Path, **knobs: Any) -> str:
    with pytest.raises(DataError) as caught:
        rows(arrays(path, **knobs))
    message = str(caught.value)
    assert "\n" not in message
    return message


# ---- axes ----


@pytest.mark.parametrize(
    ("array", "wanted"),
    [
        (BYTES, BYTES),
        (BYTES.transpose(0, 3, 1, 2), BYTES),
        (BYTES[..., 0], BYTES[..., :1]),
        (BYTES[..., :1].transpose(0, 3, 1, 2), BYTES[..., :1]),
        (np.asfortranarray(BYTES), BYTES),
    ],
    ids=["nhwc", "nchw", "nhw", "n1hw", "fortran"],
)
def test_axes_are_recognized_and_every_batch_size_gives_the_same_rows(npy, array, wanted):
    path = npy(array)
    for size in (1, 4, 100):
        source = arrays(path)
        assert np.array_equal(rows(source, size), wanted)
        assert source.rows == 6
        assert max(batch.num_rows for batch in source.batches(size=size)) <= size


def test_axes_that_may_be_two_things_are_refused(npy):
    path = npy(np.zeros((9, 3, 16, 4), np.uint8))
    assert refusal(path) == ("x.npy is [9, 3, 16, 4], which may be channels last or first: say axes=nhwc or axes=nchw")
    assert rows(arrays(path, axes="nchw", range="0..255")).shape == (9, 16, 4, 3)
    assert rows(arrays(path, axes="nhwc", range="0..255")).shape == (9, 3, 16, 4)
    path = npy(np.zeros((480, 640, 3), np.uint8))
    assert refusal(path) == "x.npy is [480, 640, 3], which may be one image: say axes=nhw if it is 480 grey ones"
    assert rows(arrays(path, axes="nhw", range="0..255")).shape == (480, 640, 3, 1)


def test_axes_that_do_not_fit_are_refused(npy):
    path = npy(np.zeros((9, 8, 8), np.uint8))
    assert refusal(path, axes="nhwc") == "axes=nhwc: x.npy has 3 axes, [9, 8, 8]"
    path = npy(np.zeros((9, 8, 8, 7), np.uint8))
    assert refusal(path) == "x.npy is [9, 8, 8, 7], and images have 1, 3 or 4 channels: say axes=nhw, nhwc or nchw"
    assert refusal(npy(np.zeros((5, 3)))) == (
        "x.npy has no images [n, h, w], [n, h, w, c], [n, c, h, w], but [5, 3]; flat ones need shape=[h,w]"
    )


def test_flat_rows_are_given_their_shape(npy):
    path = npy(BYTES.reshape(6, 105))
    assert np.array_equal(rows(arrays(path, shape=[5, 7, 3])), BYTES)
    assert refusal(path, shape=[8, 8]) == "shape=[8, 8]: x.npy is [6, 105]"


# ---- range ----


@pytest.mark.parametrize(
    ("array", "wanted"),
    [
        (np.array([0.0, 0.5, 1.0], np.float32), [0, 128, 255]),
        (np.array([-1.0, 0.0, 1.0]), [0, 128, 255]),
        (np.array([0.0, 128.0, 255.0]), [0, 128, 255]),
        (np.array([0, 128, 255], np.int64), [0, 128, 255]),
        (np.array([False, True, True]), [0, 255, 255]),
        (np.array([0, 7, 16], np.uint8), [0, 7, 16]),
        (np.array([0, 0.25, 1], np.float16), [0, 64, 255]),
    ],
    ids=lambda value: str(getattr(value, "dtype", "")),
)
def test_ranges_are_recognized(npy, array, wanted):
    path = npy(array.reshape(1, 1, 3).repeat(2, 1))
    assert rows(arrays(path, axes="nhw"))[0, 0, :, 0].tolist() == wanted


@pytest.mark.parametrize(
    ("array", "low", "high"),
    [
        (np.array([0.0, 16.0]), 0, 16),
        (np.array([0, 16], np.int64), 0, 16),
        (np.array([0, 1], np.uint8), 0, 1),
        (np.array([-3.5, 2.5]), -3.5, 2.5),
        (np.array([0.5, 254.5]), 0.5, 254.5),
        (np.array([0, 65535], np.uint16), 0, 65535),
        (np.array([-7, 200], np.int16), -7, 200),
    ],
)
def test_ranges_that_may_be_two_things_are_refused_until_they_are_said(npy, array, low, high):
    path = npy(array.reshape(1, 1, 2))
    assert refusal(path) == (
        f"x.npy ({array.dtype}) holds numbers from {low:g} to {high:g}: say which are black and white, range=0..255"
    )
    assert rows(arrays(path, range=f"{low}..{high}")).ravel().tolist() == [0, 255]


def test_numbers_outside_of_the_range_said_are_refused(npy):
    path = npy(np.array([[[0.0, 16.0]]]))
    assert refusal(path, range="0..1") == "range=0..1: x.npy holds numbers from 0 to 16, outside of it"
    for wrong in ("0-1", "1..0", "0..inf", "a..b", "0..1..2"):
        assert (
            refusal(path, range=wrong)
            == f"range={wrong}: write the numbers for black and white, such as 0..255 or -1..1"
        )


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_nan_and_infinity_are_no_pixels(npy, bad):
    assert refusal(npy(np.array([[[0.0, bad, 1.0, 0.5, 0.5]]]))) == "x.npy has NaN or infinity: no pixel is that"


def test_complex_numbers_and_dates_are_no_pixels(npy):
    assert refusal(npy(np.zeros((2, 5, 5), complex))) == "x.npy holds complex128, and pixels are numbers"
    assert refusal(npy(np.zeros((2, 5, 5), "M8[s]"))) == "x.npy holds datetime64[s], and pixels are numbers"


@given(st.integers(0, 2**32 - 1), st.sampled_from(["0..1", "-1..1", "0..255"]))
@settings(max_examples=60, deadline=None)
def test_pixels_survive_every_range(tmp_path_factory, seed, range_):
    low, high = (float(part) for part in range_.split(".."))
    array = np.random.default_rng(seed).integers(0, 256, (3, 5, 6), dtype=np.uint8)
    path = tmp_path_factory.mktemp("a") / "x.npy"
    np.save(path, (array / 255 * (high - low) + low).astype(np.float32))
    assert np.array_equal(rows(arrays(path, range=range_, axes="nhw"))[..., 0], array)


def test_no_rows_are_no_rows(npy):
    source = arrays(npy(np.zeros((0, 8, 8), np.uint8)))
    assert source.rows == 0
    assert list(source.batches(size=10)) == []


# ---- members ----


def test_labels_lie_beside_with_their_role_and_other_columns_stay(npz):
    path = npz(
        images=BYTES[..., 0], y=np.arange(6, dtype=np.int8), weight=np.linspace(0, 1, 6), name=np.array(list("abcdef"))
    )
    source = arrays(path)
    assert source.schema.names == ["image", "label", "weight", "name"]
    assert str(source.schema.field("label").type) == "int64"
    assert notes(source.schema.field("label")) == {"role": "label"}
    assert column(source, "label") == [0, 1, 2, 3, 4, 5]
    assert column(source, "name") == list("abcdef")
    named = arrays(path, label="name")
    assert named.schema.names == ["image", "y", "weight", "label"]
    assert notes(named.schema.field("y")) == {}


def test_keras_mnist_needs_to_be_told_which_part(npz):
    path = npz(packed=True, x_train=BYTES[..., 0], y_train=np.arange(6), x_test=BYTES[:2, ..., 0], y_test=np.arange(2))
    assert refusal(path) == (
        "x.npz has several arrays of images (x_train [6, 5, 7], y_train [6], x_test [2, 5, 7], y_test [2]): "
        "--loader arrays:image=x_train"
    )
    source = arrays(path, image="x_train")
    assert np.array_equal(rows(source)[..., 0], BYTES[..., 0])
    assert column(source, "label") == [0, 1, 2, 3, 4, 5]
    assert column(arrays(path, image="x_test"), "label") == [0, 1]


def test_cifars_labels_in_a_column_of_one_are_labels(npz):
    source = arrays(npz(x=BYTES[..., :1].repeat(3, 3), y=np.arange(6)[:, None]))
    assert column(source, "label") == [0, 1, 2, 3, 4, 5]


def test_arrays_that_do_not_fit_are_refused_by_name(npz):
    path = npz(x=np.zeros((6, 8, 8), np.uint8) + 9, y=np.arange(5))
    assert refusal(path) == ("x.npz: y is [5], and x has 6 rows: --loader arrays:image=x reads what fits it alone")
    assert arrays(path, image="x").schema.names == ["image"]
    path = npz(x=np.zeros((6, 8, 8), np.uint8) + 9, y=np.arange(6))
    assert refusal(path, image="z") == "image=z: x.npz has no array z; there are: x, y"
    assert refusal(path, label="z") == "label=z: x.npz has no array z with one value for each of 6 rows; there are: y"


def test_python_objects_are_refused_unread(npz, npy):
    way = "holds Python objects, which are code to run: save numbers or text instead"
    assert refusal(npy(np.array([{}]), allow_pickle=True)) == f"x.npy {way}"
    assert refusal(npz(x=np.zeros((2, 8, 8)), y=np.array([{}, None]))) == f"x.npz: y {way}"


def test_scikit_learns_digits_are_read_with_two_knobs(npz):
    digits = load_digits()
    source = arrays(npz(data=digits.data, target=digits.target), shape=[8, 8], range="0..16")
    assert source.rows == 1797
    assert np.array_equal(rows(source)[..., 0], np.rint(digits.images * 255 / 16))
    assert column(source, "label") == digits.target.tolist()


# ---- damage ----


def test_a_file_that_is_cut_off_or_something_else_is_refused(npy, npz, tmp_path):
    path = npy(np.zeros((6, 8, 8), np.uint8) + 9)
    path.write_bytes(path.read_bytes()[:-10])
    assert refusal(path) == "x.npy is damaged, or no NumPy file: it ends 10 bytes too early"
    path.write_bytes(b"label,image\n")
    assert refusal(path).startswith("x.npy is damaged, or no NumPy file: ")
    path.write_bytes(b"")
    assert refusal(path).startswith("x.npy is damaged, or no NumPy file: ")
    packed = npz(packed=True, x=NOISE.integers(0, 256, (600, 8, 8), dtype=np.uint8))
    data = bytearray(packed.read_bytes())
    data[len(data) // 2] ^= 255
    packed.write_bytes(bytes(data))
    assert refusal(packed).startswith("x.npz is damaged, or no NumPy file: ")
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("readme.txt", "hello")
    assert refusal(packed) == "x.npz holds no array"


def test_a_header_that_lies_about_its_size_costs_no_memory(tmp_path):
    file = io.BytesIO()
    np.lib.format.write_array_header_1_0(file, {"descr": "|u1", "fortran_order": False, "shape": (10**9, 1000, 1000)})
    (tmp_path / "x.npy").write_bytes(file.getvalue() + bytes(5_000_000))
    assert refusal(tmp_path / "x.npy", range="0..255").startswith("x.npy is damaged, or no NumPy file: it ends ")


def test_the_command_line_reads_arrays_by_their_suffix(npz):
    path = npz(x=BYTES, y=np.arange(6))
    loaders = load_plugins().loaders
    source = open_source(path, loaders, "arrays:axes=nhwc,range=0..255")
    assert np.array_equal(rows(source), BYTES)
    assert open_source(npz(x=np.zeros((4, 8, 8)), y=np.arange(4)), loaders).rows == 4


def test_a_bomb_of_zeros_is_refused_by_what_its_archive_says(npz, tmp_path, monkeypatch):
    monkeypatch.setattr(textfiles, "UNPACKED_FREELY", 1 << 16)
    path = tmp_path / "bomb.npz"
    np.savez_compressed(path, x=np.zeros((2000, 8, 8), np.uint8))
    told = "bomb.npz: x unpacks to more than 200 times its size, as a bomb does: unpack it yourself"
    assert refusal(path) == told
