"""Pictures in and out: every pixel comes back, every bad file gets one clear line, every output can be made again."""

from __future__ import annotations

import io
import json
import struct
import subprocess
import sys
import tracemalloc
import zlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, PngImagePlugin

from genreg.api import Samples
from genreg.builtin import LOADERS
from genreg.data import HELD, Source, conform, row_hashes, rows_within, single_batch
from genreg.errors import DataError, UsageError
from genreg.form import Form
from genreg.given import given_scalar, read_given
from genreg.images import (
    MOST_PIXELS,
    contact_sheet,
    decode,
    each_image,
    embedded_recipe,
    encode,
    encoded,
    image_columns,
    image_field,
    images,
    media_of,
    pixels,
)
from genreg.loading import by_suffix, open_source, writer_of
from genreg.outputs import as_html, as_text, refuse_output, write
from genreg.recipe import Recipe, read_recipe
from genreg.specs import Condition

LOADED = {loader.name: loader for loader in LOADERS}
NOISE = np.random.default_rng(0)


def noise(*shape: int) -> Any:
    return NOISE.integers(0, 256, shape, dtype=np.uint8)


def saved(image: Image.Image, kind: str = "PNG", **more: Any) -> bytes:
    out = io.BytesIO()
    image.save(out, kind, **more)
    return out.getvalue()


def table(rows: int = 3, *shape: int) -> pa.Table:
    """Labelled images of random pixels."""
    array = noise(rows, *(shape or (4, 5, 1)))
    labels = pa.array([f"c{row}" for row in range(rows)])
    schema = pa.schema([pa.field("label", pa.string()), image_field("image", array.shape[1:])])
    return pa.Table.from_arrays([labels, images(array)], schema=schema)


def written(data: pa.Table, path: Path | str, **about: Any) -> Path:
    write(data.to_batches(max_chunksize=2), data.schema, path, LOADED, **about)
    return Path(path)


def line(error: Any) -> str:
    message = str(error.value)
    assert "\n" not in message
    return message


# ---- columns ----


def test_pixels_become_a_column_and_come_back_without_a_copy():
    array = noise(5, 4, 6, 3)
    column = images(array)
    assert column.type == pa.fixed_shape_tensor(pa.uint8(), [4, 6, 3])
    again = pixels(column)
    assert np.array_equal(again, array)
    assert np.shares_memory(again, array)
    assert pixels(pa.chunked_array([column, column])).shape == (10, 4, 6, 3)
    assert np.array_equal(pixels(column.slice(2, 2)), array[2:4])


def test_grey_images_need_no_axis_of_channels():
    assert images(noise(2, 4, 4)).type.shape == [4, 4, 1]
    assert pixels(images(np.empty((0, 4, 4, 1), np.uint8))).shape == (0, 4, 4, 1)


@pytest.mark.parametrize(
    "array", [np.zeros((2, 4, 4), float), np.zeros((2, 4, 4, 2), np.uint8), np.zeros((4, 4), np.uint8)]
)
def test_an_array_that_is_no_images_is_refused(array):
    with pytest.raises(UsageError) as caught:
        images(array)
    shown = f"{array.dtype} {list(array.shape)}"
    assert line(caught) == f"images takes uint8 [n, h, w, c] with 1, 3 or 4 channels, not {shown}"


def test_an_image_column_is_known_by_its_type_or_its_media_type():
    fields = [
        image_field("a", (2, 2, 1)),
        image_field("b"),
        image_field("c", media="image/webp"),
        pa.field("bytes", pa.binary()),
        pa.field("tensor", pa.fixed_shape_tensor(pa.float32(), [2, 2, 1])),
        pa.field("volume", pa.fixed_shape_tensor(pa.uint8(), [2, 2, 7])),
        pa.field("text", pa.string()),
    ]
    assert image_columns(pa.schema(fields)) == ["a", "b", "c"]


def test_encoded_images_become_pixels_where_they_are_alike_or_brought_there():
    small, large = noise(4, 4, 3), noise(8, 6, 3)
    column = pa.array([encode(small), encode(large)])
    assert pixels(column, size=5, channels=1).shape == (2, 5, 5, 1)
    assert np.array_equal(pixels(column.slice(0, 1))[0], small)
    with pytest.raises(DataError) as caught:
        pixels(column)
    assert line(caught) == "the images have the shapes [4, 4, 3] and [8, 6, 3]: give one size and channels"
    with pytest.raises(DataError) as caught:
        pixels(pa.array([encode(small), None]))
    assert line(caught) == "1 of 2 images are missing"


def test_pixels_at_hand_can_be_had_in_another_size_and_color():
    array = noise(3, 8, 8, 1)
    assert pixels(images(array), size=4, channels=3).shape == (3, 4, 4, 3)
    assert np.array_equal(pixels(images(array), channels=3)[..., :1], array)


def test_each_image_is_none_where_a_cell_is_null():
    column = images(noise(2, 3, 3, 1)).take(pa.array([1, None, 0]))
    assert [image is None for image in each_image(column)] == [False, True, False]
    assert [image is None for image in each_image(pa.array([None, encode(noise(2, 2))]))] == [True, False]


# ---- encoded images ----

shapes = st.tuples(st.integers(1, 9), st.integers(1, 9), st.sampled_from([1, 3, 4]))


@given(shapes, st.integers(0, 2**32 - 1), st.sampled_from(["PNG", "WEBP", "BMP"]))
@settings(max_examples=150, deadline=None)
def test_what_is_encoded_without_loss_is_decoded_to_the_same_pixels(shape, seed, kind):
    array = np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)
    if kind != "PNG" and shape[2] != 3:
        array = np.broadcast_to(array[..., :1], (*shape[:2], 3)).copy()  # WebP hides what is fully transparent
    assert np.array_equal(decode(encode(array, kind=kind)), array)


def test_a_jpeg_is_close():
    photo = np.broadcast_to(np.arange(64, dtype=np.uint8)[:, None, None], (64, 64, 3))
    again = decode(encode(np.ascontiguousarray(photo), kind="JPEG"))
    assert abs(again.astype(int) - photo).max() <= 3


@pytest.mark.parametrize(
    ("picture", "form"),
    [
        (Image.new("1", (3, 2), 1), 1),
        (Image.new("L", (3, 2), 255), 1),
        (Image.new("RGB", (3, 2), "white"), 3),
        (Image.new("RGBA", (3, 2), "white"), 4),
        (Image.new("LA", (3, 2), (255, 255)), 4),
        (Image.new("RGB", (3, 2), "white").quantize(4), 3),
        (Image.fromarray(np.full((2, 3), 65535, np.uint16)), 1),
    ],
    ids=lambda value: getattr(value, "mode", str(value)),
)
def test_every_kind_of_png_is_brought_to_8_bits_of_grey_color_or_transparency(picture, form):
    data = saved(picture)
    own = decode(data)
    assert own.shape == (2, 3, form)
    for channels in (1, 3, 4):
        assert np.array_equal(decode(data, channels=channels), np.full((2, 3, channels), 255))


def test_16_bits_of_grey_keep_the_upper_8():
    values = np.array([[0, 255, 256, 32768, 65535]], np.uint16)
    assert decode(saved(Image.fromarray(values))).ravel().tolist() == [0, 0, 1, 128, 255]


def test_transparency_lies_over_white():
    clear = np.zeros((1, 2, 4), np.uint8)
    clear[0, 1] = [0, 0, 0, 255]
    assert decode(encode(clear), channels=3)[0].tolist() == [[255] * 3, [0] * 3]
    assert decode(encode(clear), channels=1).ravel().tolist() == [255, 0]
    assert decode(encode(clear), channels=4).tolist() == clear.tolist()


def test_a_palette_with_a_transparent_color_lies_over_white_too():
    palette = Image.new("P", (2, 1))
    palette.putpalette([10, 20, 30, 40, 50, 60])
    palette.putpixel((1, 0), 1)
    data = saved(palette, transparency=0)
    assert decode(data, channels=3)[0].tolist() == [[255, 255, 255], [40, 50, 60]]
    assert decode(data).shape == (1, 2, 4)


def test_cmyk_is_read_as_colors():
    assert decode(saved(Image.new("CMYK", (4, 4), (0, 0, 0, 0)), "JPEG")).shape == (4, 4, 3)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_photo_is_turned_upright(orientation):
    """The pixel shown at the upper left is the marked one, whatever way the camera was held."""
    upright = np.full((16, 24, 3), 255, np.uint8)
    upright[:8, :8] = 0
    back = {
        1: upright, 2: upright[:, ::-1], 3: upright[::-1, ::-1], 4: upright[::-1],
        5: upright.transpose(1, 0, 2), 6: np.rot90(upright), 7: upright[::-1, ::-1].transpose(1, 0, 2),
        8: np.rot90(upright, -1),
    }[orientation]  # fmt: skip
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = saved(Image.fromarray(np.ascontiguousarray(back)), "JPEG", exif=exif, quality=100)
    again = decode(data)
    assert again.shape == upright.shape
    assert abs(again.astype(int) - upright).max() < 30


@pytest.mark.filterwarnings("ignore:Corrupt EXIF")
def test_exif_that_cannot_be_read_does_no_harm():
    data = saved(Image.new("RGB", (3, 2)), "JPEG", exif=b"Exif\0\0MM\0*\xff\xff\xff\xff")
    assert decode(data).shape == (2, 3, 3)


def test_an_image_is_cropped_padded_stretched_or_refused_on_purpose():
    wide = np.zeros((4, 8, 3), np.uint8)
    wide[:, 2:6] = 200
    data = encode(wide)
    assert decode(data, size=4).min() == 200  # the middle, cut to a square
    padded = decode(data, size=8, fit="pad")
    assert padded[:2].max() == padded[-2:].max() == 0
    assert padded[2:6].max() == 200
    assert decode(data, size=(4, 4), fit="resize").shape == (4, 4, 3)
    assert np.array_equal(decode(data, size=(4, 8), fit="refuse"), wide)
    with pytest.raises(DataError) as caught:
        decode(data, size=4, fit="refuse", name="cat.png")
    assert line(caught) == "cat.png: 8 x 4 pixels, not 4 x 4; fit=crop, pad or resize"


def png_of_size(width: int, height: int) -> bytes:
    """The header of a PNG that claims so many pixels, and next to no data."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    body = chunk(b"IHDR", struct.pack(">2I5B", width, height, 8, 0, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + body + chunk(b"IDAT", zlib.compress(b"\0" * 100)) + chunk(b"IEND", b"")


def test_a_bomb_is_refused_before_it_is_unpacked_and_without_a_warning():
    tracemalloc.start()
    with pytest.raises(DataError) as caught:  # and warnings are errors here
        decode(png_of_size(60_000, 60_000), name="bomb.png")
    assert tracemalloc.get_traced_memory()[1] < 1 << 20
    tracemalloc.stop()
    assert line(caught) == "bomb.png: 60000 x 60000 are more than 67,108,864 pixels: make it smaller first"


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "no bytes (PNG, JPEG, WebP, BMP, GIF)"),
        (b"label,image\n", "no image that genreg reads (PNG, JPEG, WebP, BMP, GIF)"),
        (saved(Image.new("RGB", (3, 2)), "TIFF"), "no image that genreg reads (PNG, JPEG, WebP, BMP, GIF)"),
        (encode(noise(40, 40, 3))[:-2000], "a damaged image (image file is truncated"),
        (encode(noise(40, 40, 3), kind="JPEG")[:-500], "a damaged image (image file is truncated"),
        (encode(noise(40, 40, 3), kind="WEBP")[:100], "a damaged image ("),
        (encode(noise(40, 40, 3), kind="BMP")[:-100], "a damaged image ("),
        (b"\x89PNG\r\n\x1a\n", "a damaged image ("),
        (b"BM", "a damaged image ("),
        (b"RIFF1234WAVE", "a damaged image ("),
        (b"\xff\xd8\xff\xe0", "a damaged image ("),
        (png_of_size(0, 0), "a damaged image ("),
    ],
)
def test_bytes_that_are_no_whole_image_are_refused_in_one_line(data, reason):
    with pytest.raises(DataError) as caught:
        decode(data, name="x.png")
    assert line(caught).startswith(f"x.png: {reason}")


@given(st.integers(0, 2**32 - 1), st.sampled_from(["PNG", "JPEG", "WEBP", "BMP"]))
@settings(max_examples=200, deadline=None)
def test_damage_anywhere_gives_pixels_or_one_clear_error(seed, kind):
    chance = np.random.default_rng(seed)
    data = bytearray(encode(np.full((9, 7, 3), 90, np.uint8), kind=kind))
    for _ in range(chance.integers(1, 6)):
        data[chance.integers(4, len(data))] = chance.integers(0, 256)
    try:
        told = str(decode(bytes(data)).dtype)
    except DataError as error:
        told = str(error)
    assert told == "uint8" or (told.startswith("the image: ") and "\n" not in told)


@pytest.mark.parametrize(
    "array", [np.zeros((2, 2)), np.zeros((2, 2, 2), np.uint8), np.zeros((0, 2), np.uint8), np.zeros(3, np.uint8)]
)
def test_an_array_that_is_no_image_is_not_encoded(array):
    with pytest.raises(UsageError) as caught:
        encode(array)
    assert line(caught) == f"an image is uint8 [h, w, c] with 1, 3 or 4 channels, not {array.dtype} {list(array.shape)}"


# ---- sheets ----


def test_a_sheet_holds_every_image_in_its_place_with_white_between():
    array = noise(5, 70, 80, 3)
    sheet = contact_sheet(list(array), columns=3)
    assert sheet.shape == (2 * 70 + 2, 3 * 80 + 4, 3)
    for at, image in enumerate(array):
        y, x = at // 3 * 72, at % 3 * 82
        assert np.array_equal(sheet[y : y + 70, x : x + 80], image)
    assert (sheet[70:72] == 255).all()
    assert (sheet[:, 80:82] == 255).all()
    assert (sheet[72:, 164:] == 255).all()


def test_a_tiny_image_is_enlarged_by_a_whole_factor():
    digit = noise(28, 28, 1)
    sheet = contact_sheet([digit])
    assert sheet.shape == (84, 84, 1)
    assert np.array_equal(sheet[1::3, 1::3], digit)
    assert contact_sheet([noise(8, 8, 1)] * 4).shape == (2 * 64 + 2, 2 * 64 + 2, 1)


def test_a_sheet_takes_images_of_several_sizes_and_colors_and_gaps():
    sheet = contact_sheet([noise(70, 90, 1), None, noise(64, 64, 4)], columns=3)
    assert sheet.shape == (70, 3 * 90 + 4, 4)
    assert (sheet[:70, :90, 3] == 255).all()
    assert (sheet[:, 92:182] == 255).all()


def test_a_sheet_of_nothing_or_of_too_much_is_refused():
    with pytest.raises(DataError) as caught:
        contact_sheet([None])
    assert line(caught) == "there is no image to show"
    with pytest.raises(DataError) as caught:
        contact_sheet([np.zeros((1024, 1024, 1), np.uint8)] * 100)
    assert line(caught) == "100 images of 1024 x 1024 are too many for one sheet: write a folder, such as OUT/"


# ---- writers ----


def test_one_image_is_written_as_it_is_and_several_as_a_sheet(tmp_path):
    data = table(3)
    one = written(data.slice(0, 1), tmp_path / "one.png")
    assert np.array_equal(decode(one.read_bytes()), pixels(data["image"])[0])
    several = written(data, tmp_path / "several.png")
    assert np.array_equal(decode(several.read_bytes()), contact_sheet(list(pixels(data["image"]))))


@pytest.mark.parametrize("suffix", [".jpg", ".jpeg", ".webp", ".bmp"])
def test_other_suffixes_write_other_formats(tmp_path, suffix):
    path = written(table(1, 30, 40, 4), tmp_path / f"a{suffix}", recipe=Recipe("m", "1"))
    assert decode(path.read_bytes()).shape[:2] == (30, 40)


@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize("suffix", [".gif", ".apng", ".webp"])
def test_several_images_are_played_one_after_another_for_ever(tmp_path, suffix, channels):
    pictures = np.repeat(np.arange(5, dtype=np.uint8), 40 * 32 * channels).reshape(5, 40, 32, channels) * 50
    pictures[..., 3:] = 255
    column = images(pictures)
    data = pa.table({"image": column}, schema=pa.schema([image_field("image", pictures.shape[1:])]))
    with Image.open(written(data, tmp_path / f"a{suffix}")) as film:
        assert (film.n_frames, film.size, film.info["loop"]) == (5, (64, 80), 0)
        for frame in range(5):
            film.seek(frame)
            film.load()
            assert (film.info["duration"], np.unique(film.convert("L")).tolist()) == (40, [50 * frame])
    one = written(data.slice(3, 1), tmp_path / f"one{suffix}")
    with Image.open(one) as picture:
        assert (picture.size, getattr(picture, "n_frames", 1)) == ((32, 40), 1)
        assert np.unique(picture.convert("L")).tolist() == [150]


def test_a_film_of_nothing_or_of_too_much_is_refused(tmp_path, monkeypatch):
    with pytest.raises(DataError) as caught:
        written(table(0), tmp_path / "a.gif")
    assert line(caught) == "there is no image to show"
    monkeypatch.setattr("genreg.images.MOST_PIXELS", 10)
    with pytest.raises(DataError) as caught:
        written(table(3), tmp_path / "a.gif")
    assert line(caught) == "3 images and more are too many for one file: write a folder, such as OUT/"
    assert not list(tmp_path.iterdir())


def test_a_png_holds_its_recipe_in_any_script(tmp_path):
    recipe = Recipe("vae-digits", "7", given={"values": {"prompt": '今天天气不错 \\ " é'}}, samplers=[])
    path = written(table(1), tmp_path / "a.png", recipe=recipe)
    assert json.loads(str(embedded_recipe(path)))["given"] == recipe.given
    assert read_recipe(path) == recipe
    assert embedded_recipe(written(table(1), tmp_path / "b.png")) is None
    with pytest.raises(UsageError) as caught:
        read_recipe(tmp_path / "b.png")
    assert line(caught) == f"{tmp_path / 'b.png'} has no recipe beside it (b.png.recipe.json)"


def test_a_recipe_inside_that_is_no_recipe_is_named(tmp_path):
    path = tmp_path / "a.png"
    for text in ("not json", '{"recipe": 1, "wrong": 2}', '{"recipe": 9}'):
        path.write_bytes(encode(noise(2, 2), recipe=text))
        with pytest.raises(UsageError, match=f"{path}"):
            read_recipe(path)


def test_a_recipe_of_other_programs_chunks_is_not_taken(tmp_path):
    texts = PngImagePlugin.PngInfo()
    texts.add_text("parameters", "Steps: 20")
    (tmp_path / "a.png").write_bytes(saved(Image.new("L", (2, 2)), pnginfo=texts))
    (tmp_path / "b.png").write_bytes(b"\x89PNG damaged")
    assert embedded_recipe(tmp_path / "a.png") is None
    assert embedded_recipe(tmp_path / "b.png") is None
    assert embedded_recipe(tmp_path / "not there") is None


def test_a_folder_has_a_png_per_seed_with_its_own_recipe_and_the_rest_in_labels_csv(tmp_path):
    data, seeds = table(3), np.array([9, 10, 100], np.uint64)
    folder = written(data, f"{tmp_path}/out/", seeds=seeds, recipe=Recipe("m", "9-10,100", n=3))
    assert sorted(file.name for file in folder.iterdir()) == ["10.png", "100.png", "9.png", "labels.csv"]
    assert (folder / "labels.csv").read_text() == "file,label\n9.png,c0\n10.png,c1\n100.png,c2\n"
    assert np.array_equal(decode((folder / "100.png").read_bytes()), pixels(data["image"])[2])
    assert read_recipe(folder / "10.png") == Recipe("m", "10", n=1, samplers=[])


def test_rows_without_seeds_of_their_own_are_numbered(tmp_path):
    folder = written(table(3), f"{tmp_path}/walk/", seeds=None, recipe=Recipe("m", "1-2"))
    assert sorted(file.name for file in folder.iterdir()) == ["000000.png", "000001.png", "000002.png", "labels.csv"]
    assert read_recipe(folder / "000001.png") == Recipe("m", "1-2", samplers=[])
    twice = written(table(2), f"{tmp_path}/twice/", seeds=np.array([5, 5], np.uint64))
    assert sorted(file.name for file in twice.iterdir()) == ["000000.png", "000001.png", "labels.csv"]


def test_a_missing_image_has_no_file_and_keeps_its_row(tmp_path):
    data = table(3).take(pa.array([0, 1, 2]))
    holes = data.set_column(1, data.schema.field(1), [data["image"].combine_chunks().take(pa.array([0, None, 2]))])
    folder = written(holes, f"{tmp_path}/out/", seeds=np.arange(3, dtype=np.uint64))
    assert (folder / "labels.csv").read_text() == "file,label\n0.png,c0\n,c1\n2.png,c2\n"
    assert not (folder / "1.png").exists()
    written(holes, tmp_path / "sheet.png")
    with pytest.raises(DataError) as caught:
        written(holes, tmp_path / "a.npz")
    assert line(caught) == "column image has 1 missing cells, which .npz cannot hold: write .parquet"


def test_a_folder_that_is_there_is_kept_unless_it_is_ours_and_forced(tmp_path):
    path = f"{tmp_path}/out/"
    written(table(3), path)
    with pytest.raises(UsageError) as caught:
        written(table(1), path)
    assert line(caught) == f"{path} is there already: choose another name, or --force to replace it"
    written(table(1), path, force=True)
    assert sorted(file.name for file in Path(path).iterdir()) == ["000000.png", "labels.csv"]
    (Path(path) / "thesis.tex").write_text("years of work")
    with pytest.raises(UsageError) as caught:
        refuse_output(path, force=True)
    assert line(caught) == f"{path} is no folder of images alone, so --force does not replace it: choose another name"
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="is no folder of images alone"):
        refuse_output(f"{tmp_path}/file/", force=True)


def test_a_folder_that_fails_halfway_leaves_nothing(tmp_path):
    data = table(2)

    def batches() -> Any:
        yield from data.to_batches()
        raise DataError("the model gave up")

    with pytest.raises(DataError, match="the model gave up"):
        write(batches(), data.schema, f"{tmp_path}/out/", LOADED)
    assert list(tmp_path.iterdir()) == []


def test_npz_holds_every_column_as_an_array(tmp_path):
    data = table(5, 4, 5, 3)
    data = data.append_column("number", pa.array([1, 2, 3, 4, 5], pa.int64()))
    data = data.append_column("maybe", pa.array([1.5, None, 3, 4, 5]))
    data = data.append_column("day", pa.array([0, 1, 2, 3, 4], pa.date32()))
    data = data.append_column("yes", pa.array([True, False, True, True, False]))
    with np.load(written(data, tmp_path / "a.npz"), allow_pickle=False) as arrays:
        assert list(arrays) == ["label", "image", "number", "maybe", "day", "yes"]
        assert np.array_equal(arrays["image"], pixels(data["image"]))
        assert arrays["label"].tolist() == ["c0", "c1", "c2", "c3", "c4"]
        assert arrays["number"].dtype == np.int64
        assert np.isnan(arrays["maybe"][1])
        assert str(arrays["day"][1]) == "1970-01-02"
        assert arrays["yes"].dtype == bool


def test_npz_is_the_same_bytes_each_time_and_holds_encoded_images_that_are_alike(tmp_path):
    data = table(3)
    assert written(data, tmp_path / "a.npz").read_bytes() == written(data, tmp_path / "b.npz").read_bytes()
    array = noise(2, 4, 4, 3)
    coded = pa.table([pa.array([encode(image) for image in array])], schema=pa.schema([image_field("image")]))
    with np.load(written(coded, tmp_path / "c.npz")) as arrays:
        assert np.array_equal(arrays["image"], array)
    mixed = pa.table([pa.array([encode(noise(4, 4)), encode(noise(5, 5))])], schema=pa.schema([image_field("image")]))
    with pytest.raises(DataError, match="the images have the shapes"):
        written(mixed, tmp_path / "d.npz")
    lists = pa.table({"x": [[1], [1, 2]]})
    with pytest.raises(DataError) as caught:
        written(lists, tmp_path / "e.npz")
    assert line(caught) == "column x holds list<item: int64>, which .npz cannot hold: write .parquet or .jsonl"


def test_a_picture_takes_one_column_of_images(tmp_path):
    with pytest.raises(DataError) as caught:
        written(pa.table({"x": [1]}), tmp_path / "a.png")
    assert line(caught) == ".png takes one column of images, and here are x (int64): write .csv or .parquet"
    both = table(2)
    both = both.append_column(image_field("mask", (4, 5, 1)), both["image"])
    with pytest.raises(DataError) as caught:
        written(both, f"{tmp_path}/out/")
    assert line(caught) == "a folder takes one column of images, and here are image, mask: write .npz or .parquet"
    with pytest.raises(DataError) as caught:
        written(table(2).slice(0, 0), tmp_path / "a.png")
    assert line(caught) == "there is no image to show"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("suffix", [".csv", ".jsonl"])
def test_text_formats_refuse_images_by_name_with_the_way_out(tmp_path, suffix):
    kind = {".csv": "CSV", ".jsonl": "JSON"}[suffix]
    with pytest.raises(DataError) as caught:
        written(table(2), tmp_path / f"a{suffix}")
    assert line(caught) == (
        f"column image holds images, which {kind} cannot hold: write .png, a folder (OUT/), .npz or .parquet"
    )


@pytest.mark.parametrize("suffix", [".parquet", ".arrow"])
def test_tables_keep_pixels_and_their_type(tmp_path, suffix):
    data = table(7, 4, 5, 3)
    source = open_source(written(data, tmp_path / f"a{suffix}"), LOADED)
    again = pa.Table.from_batches(list(source.scan()), source.schema)
    assert again.schema.field("image").type == data.schema.field("image").type
    assert np.array_equal(pixels(again["image"]), pixels(data["image"]))


def test_a_folder_or_suffix_that_nothing_reads_or_writes_is_refused(tmp_path):
    with pytest.raises(UsageError) as caught:
        by_suffix(tmp_path, LOADED)
    assert line(caught).startswith(f"{tmp_path}: a folder has no loader; genreg-data reads it: pip install ")
    with pytest.raises(UsageError) as caught:
        writer_of("a.tiff", LOADED)
    assert line(caught) == (
        "a.tiff: the suffix .tiff has no writer; there are: .apng, .arrow, .bmp, .csv, .feather, .gif, .html, .jpeg, "
        ".jpg, .jsonl, .ndjson, .npz, .parquet, .png, .tsv, .txt, .webp, /"
    )


def test_the_longest_suffix_decides():
    assert by_suffix(Path("a.CSV"), LOADED).name == "csv"
    assert by_suffix(Path("b.parquet.csv"), LOADED).name == "csv"


# ---- conditions ----

LIKE = Condition("like", pa.binary(), "a picture to start from")
FORM = Form(pa.schema([image_field("image", (4, 4, 1))]), pa.schema([image_field("image", (4, 4, 1))]), [LIKE])


def like(value: Any, table: Any = None) -> list[Any]:
    values = {} if value is None else {"like": value}
    found: list[Any] = read_given(FORM, table, values, LOADED).batch.column("like").to_pylist()
    return found


def test_an_image_condition_is_a_path_bytes_a_pillow_image_or_an_array(tmp_path):
    array = noise(5, 6, 3)
    path = tmp_path / "photo.png"
    path.write_bytes(encode(array))
    assert like(str(path)) == like(f"@{path}") == like(path) == like(path.read_bytes()) == [path.read_bytes()]
    for value in (Image.fromarray(array), array):
        assert np.array_equal(decode(like(value)[0]), array)
    assert decode(like(Image.new("P", (2, 3)))[0]).shape == (3, 2, 3)


def test_a_table_of_conditions_holds_paths_bytes_or_pixels(tmp_path):
    array = noise(2, 4, 4, 1)
    paths = []
    for number, image in enumerate(array):
        paths.append(str(tmp_path / f"{number}.png"))
        Path(paths[-1]).write_bytes(encode(image))
    coded = [Path(path).read_bytes() for path in paths]
    assert like(None, pa.table({"like": [*paths, None]})) == [*coded, None]
    assert like(None, pa.table({"like": coded})) == coded
    assert [decode(cell).tolist() for cell in like(None, pa.table({"like": images(array)}))] == array.tolist()
    (tmp_path / "given.csv").write_text("like\n" + "\n".join(paths) + "\n")
    assert like(None, tmp_path / "given.csv") == coded


def test_a_condition_that_is_no_image_is_refused(tmp_path):
    (tmp_path / "a.txt").write_text("hello")
    with pytest.raises(UsageError) as caught:
        like(str(tmp_path / "none.png"))
    path = tmp_path / "none.png"
    assert line(caught) == f"--given like={path}: {path} cannot be read: no such file or directory"
    with pytest.raises(UsageError) as caught:
        like(str(tmp_path / "a.txt"))
    assert line(caught) == f"--given like={tmp_path / 'a.txt'}: no image that genreg reads (PNG, JPEG, WebP, BMP, GIF)"
    with pytest.raises(UsageError) as caught:
        like(b"\x89PNG")
    assert line(caught).startswith("--given like: a damaged image (")
    with pytest.raises(UsageError) as caught:
        like(7)
    assert line(caught) == "--given like=7: an image is a path, bytes, a Pillow image or a uint8 array, not int"
    with pytest.raises(UsageError) as caught:
        encoded(np.zeros((2, 2)))
    assert line(caught) == "an image is uint8 [h, w, c] with 1, 3 or 4 channels, not float64 [2, 2]"


def test_one_picture_for_more_samples_than_memory_holds_is_refused():
    found = replace(
        read_given(FORM, None, {"like": noise(600, 600, 3)}, LOADED), seeds=np.arange(9000, dtype=np.uint64)
    )
    with pytest.raises(UsageError) as caught:
        found.window(0, 4096)
    assert "4,096 samples cannot carry 1,0" in line(caught)
    assert line(caught).endswith("bytes of conditions each: ask for fewer at a time, or give smaller images")
    assert found.window(8990, 4096).batch.num_rows == 10


def test_given_pixels_come_back_bit_for_bit_over_what_was_made():
    pinned = Condition("image", pa.fixed_shape_tensor(pa.uint8(), [4, 4, 1]), "pixels", column="image")
    form = Form(FORM.schema, FORM.columns, [pinned])
    made, seen = images(noise(3, 4, 4, 1)), images(noise(2, 4, 4, 1))
    given_batch = pa.RecordBatch.from_arrays([seen.take(pa.array([0, None, 1]))], schema=form.given)
    rendered = pa.RecordBatch.from_arrays([made], schema=form.columns)
    out = form.out_of_model(rendered, given_batch, np.array([0, 1, 2]))
    assert out.column(0).to_pylist() == [seen[0].as_py(), made[1].as_py(), seen[1].as_py()]


# ---- through the data ----


def test_conform_leaves_pixels_as_they_are():
    data = single_batch(table(3))
    assert conform(data, data.schema).column(1).to_numpy_ndarray().tolist() == pixels(data.column(1)).tolist()
    missing = conform(data.select(["label"]), data.schema)
    assert missing.column(1).null_count == 3


def test_pixels_are_shuffled_every_row_once_and_the_same_from_any_start():
    array = np.arange(5000, dtype=np.uint32).view(np.uint8).reshape(5000, 2, 2, 1)
    source = Source.of(pa.table({"image": images(array)}))
    whole = np.concatenate([pixels(batch.column(0)) for batch in source.batches(size=512, shuffle=3)])
    assert sorted(whole.reshape(5000, 4).view(np.uint32).ravel().tolist()) == list(range(5000))
    rest = np.concatenate([pixels(batch.column(0)) for batch in source.batches(size=512, shuffle=3, start=1024)])
    assert np.array_equal(rest, whole[1024:])


def test_the_order_of_a_shuffle_is_known_without_its_rows_however_large_they_are(monkeypatch):
    monkeypatch.setattr("genreg.data.HELD", 1 << 14)
    array = np.arange(3000, dtype=np.uint32).view(np.uint8).reshape(3000, 1, 1, 4).repeat(4, 1)
    source = Source.of(pa.table({"image": images(array)}))
    assert rows_within(source.table, 1 << 10, 4096) == 64
    drawn = np.concatenate([pixels(batch.column(0))[:, 0, 0] for batch in source.batches(size=100, shuffle=5)])
    assert np.array_equal(drawn.copy().view(np.uint32).ravel(), source.order(5))
    assert sorted(source.order(5).tolist()) == list(range(3000))
    assert len(Source.of(source.table.slice(0, 0)).order(5)) == 0


def test_what_is_held_at_a_time_is_bounded_in_bytes():
    column = pa.ExtensionArray.from_storage(
        pa.fixed_shape_tensor(pa.uint8(), [256, 256, 3]),
        pa.FixedSizeListArray.from_arrays(pa.array(np.zeros(40 * 256 * 256 * 3, np.uint8)), 256 * 256 * 3),
    )
    large = pa.table({"image": column})
    assert rows_within(large, HELD, 65_536) == 1024
    assert rows_within(pa.table({"image": images(np.zeros((50, 32, 32, 3), np.uint8))}), HELD, 65_536) == 65_536
    assert rows_within(pa.table({"x": [1.0] * 9}), HELD, 65_536) == 65_536
    asked = []
    for schema in (large.schema, pa.schema([("image", pa.binary())]), pa.schema([("x", pa.float64())])):
        list(Source(schema, lambda size: iter(asked.append(size) or ())).scan())
    assert asked == [256, 256, 65_536]


def test_equal_images_have_equal_hashes_and_fall_into_one_part():
    array = noise(3, 4, 4, 1)
    batch = pa.RecordBatch.from_arrays([images(np.concatenate([array, array]))], names=["image"])
    hashes = row_hashes(batch, ["image"], seed=0)
    assert len(set(hashes.tolist())) == 3
    assert hashes[:3].tolist() == hashes[3:].tolist()
    part = row_hashes(batch.slice(1, 2), ["image"], seed=0)
    assert part.tolist() == hashes[1:3].tolist()
    holes = pa.RecordBatch.from_arrays([batch.column(0).take(pa.array([1, None, 2]))], names=["image"])
    assert row_hashes(holes, ["image"], seed=0)[[0, 2]].tolist() == hashes[1:3].tolist()


# ---- Python and notebooks ----


def test_samples_show_their_images():
    data = table(3)
    samples = Samples(data, np.arange(3, dtype=np.uint64))
    assert [picture.size for picture in samples.images()] == [(5, 4)] * 3
    assert samples.images()[0].mode == "L"
    png = samples._repr_png_()
    assert png is not None
    assert np.array_equal(decode(png), contact_sheet(list(pixels(data["image"]))))
    page = samples._repr_html_()
    assert page.count('<img style="width:80px;image-rendering:pixelated" src="data:image/png;base64,') == 3
    assert "<td>c0</td>" in page
    assert "<image 5 x 4>" in repr(samples)
    plain = Samples(pa.table({"x": [1]}), np.arange(1, dtype=np.uint64))
    assert plain._repr_png_() is None
    with pytest.raises(UsageError) as caught:
        plain.images()
    assert line(caught) == "these samples have no image column; there are: x"


def test_a_missing_image_is_shown_as_missing():
    data = pa.table(
        [images(noise(1, 4, 4, 1)).take(pa.array([0, None]))], schema=pa.schema([image_field("image", (4, 4, 1))])
    )
    assert "<td>-</td>" in as_html(data)
    assert as_text(data).splitlines()[-1] == "-"
    assert Samples(data, np.arange(2, dtype=np.uint64)).images()[1] is None


def test_samples_save_by_seed(tmp_path):
    Samples(table(2), np.array([4, 7], np.uint64)).save(f"{tmp_path}/out/")
    assert sorted(file.name for file in (tmp_path / "out").iterdir()) == ["4.png", "7.png", "labels.csv"]


# ---- the command line ----

DISCS = """
import numpy as np, pyarrow as pa
from genreg import Condition, Draft, ModelFamily, Settings, hookimpl
from genreg.images import decode, image_field, images
from genreg.random import Stream, normal


class Nothing(Settings, frozen=True):
    pass


class Discs:
    def propose(self, seeds, given, /):
        z = normal(seeds, (2,), stream=Stream.PRIOR)
        for row, data in enumerate(given.column("like").to_pylist()):
            if data is not None:
                z[row] = decode(data, size=(1, 2), channels=1).ravel() / 64 - 2
        tone = np.array([200 if tone is None else tone for tone in given.column("tone").to_pylist()])
        return Draft(z, seeds, axes=("latent",), center=np.zeros(2), context={"tone": tone})

    def render(self, draft, /):
        y, x = np.mgrid[:28, :28] / 14 - 1
        z = np.clip(draft.values / 3, -0.6, 0.6)[:, :, None, None]
        inside = (x - z[:, 0]) ** 2 + (y - z[:, 1]) ** 2 < 0.15
        grey = (inside * draft.context["tone"][:, None, None]).astype(np.uint8)
        return pa.RecordBatch.from_arrays([pa.array(draft.context["tone"]), images(grey)], names=["tone", "image"])


@hookimpl
def genreg_models():
    columns = pa.schema([("tone", pa.int64()), image_field("image", (28, 28, 1))])
    given = [Condition("tone", pa.int64(), "how bright", column="tone"), Condition("like", pa.binary(), "an image")]
    return [ModelFamily("discs", "Discs", "image", "z [2], normal", Nothing, Nothing, lambda _: columns,
                        lambda config, options, weights: Discs(), lambda _: given)]
"""


@pytest.fixture
def run(genreg, distribution, tmp_path, monkeypatch):
    """The command line with a plugin of images, in a folder of its own: code, stdout, stderr."""
    registry = "version: 1\nmodels:\n  discs: {family: discs, makes: image, summary: Discs}\n"
    made = distribution("genreg-discs", DISCS, registry=registry)
    monkeypatch.setenv("PYTHONPATH", str(made.site))  # of child processes
    folder = tmp_path / "desk"
    folder.mkdir()
    monkeypatch.chdir(folder)

    def call(*arguments: str) -> tuple[int, str, str]:
        done = genreg(*arguments)
        return done.code, done.out, done.err

    return call


def test_without_a_name_a_picture_goes_to_name_and_seed_and_its_path_is_printed(run):
    assert run("run", "discs", "--seed", "7") == (0, "discs-7.png\n", "")
    assert run("run", "discs", "--seed", "7", "-n", "4") == (0, "discs-7-2.png\n", "")
    assert decode(Path("discs-7.png").read_bytes()).shape == (28, 28, 1)
    assert decode(Path("discs-7-2.png").read_bytes()).shape == (170, 170, 1)
    code, out, err = run("run", "discs", "--json")
    told = json.loads(out)
    assert (code, told["output"], told["rows"]) == (0, f"discs-{told['seeds']}.png", 1)
    assert err == f"genreg: seed {told['seeds']}\n"


def test_a_picture_alone_is_enough_to_show_and_make_it_again(run):
    run("run", "discs", "250", "--seed", "7")
    Path("discs-7.png.recipe.json").unlink()
    code, out, _ = run("show", "discs-7.png")
    assert code == 0
    assert "model: discs\nseeds: 7\nn: 1\ngiven:\n  values:\n    tone: 250\n" in out
    code, _, err = run("run", "--recipe", "discs-7.png", "-o", "again.png")
    assert (code, err) == (0, "genreg: wrote again.png (1 rows) and again.png.recipe.json\n")
    assert Path("again.png").read_bytes() == Path("discs-7.png").read_bytes()


def test_a_sample_of_a_folder_can_be_made_again_alone(run):
    assert run("run", "discs", "-n", "3", "--seed", "100", "-o", "out/")[0] == 0
    assert Path("out.recipe.json").is_file()
    assert Path("out", "labels.csv").read_text() == "file,tone\n100.png,200\n101.png,200\n102.png,200\n"
    assert run("run", "--recipe", "out/101.png", "-o", "one.png")[0] == 0
    assert Path("one.png").read_bytes() == Path("out", "101.png").read_bytes()
    assert run("run", "--recipe", "out/", "-o", "again/")[0] == 0
    for name in ("100.png", "101.png", "102.png", "labels.csv"):
        assert Path("again", name).read_bytes() == Path("out", name).read_bytes()
    code, _, err = run("run", "discs", "-o", "out/")
    assert (code, err) == (2, "genreg: out/ is there already: choose another name, or --force to replace it\n")


def test_frames_that_a_sampler_makes_are_numbered(run):
    assert run("run", "discs", "-n", "2", "--seed", "1", "--sampler", "interpolate:steps=3", "-o", "walk/")[0] == 0
    names = sorted(file.name for file in Path("walk").iterdir())
    assert names == [*(f"{frame:06d}.png" for frame in range(4)), "labels.csv"]


def test_the_bytes_of_a_picture_go_into_a_pipe_where_asked(run, start):
    child = start("run", "discs", "--seed", "7", "-o", "-")
    out, err = child.communicate(timeout=60)
    assert (child.returncode, err) == (0, b"")
    assert decode(out).shape == (28, 28, 1)


def test_a_picture_as_condition_is_a_path_and_a_changed_one_is_noticed(run):
    Path("photo.png").write_bytes(encode(np.array([[0, 255]], np.uint8)))
    assert run("run", "discs", "--given", "like=photo.png", "--seed", "1", "-o", "a.png")[0] == 0
    assert run("run", "--recipe", "a.png", "-o", "b.png")[0] == 0
    assert Path("a.png").read_bytes() == Path("b.png").read_bytes()
    Path("photo.png").write_bytes(encode(np.array([[255, 0]], np.uint8)))
    code, _, err = run("run", "--recipe", "a.png", "-o", "c.png")
    assert (code, err) == (2, "genreg: an image among the conditions has changed since the recipe was written\n")
    code, _, err = run("run", "discs", "--given", "like=none.png")
    assert (code, err) == (2, "genreg: --given like=none.png: none.png cannot be read: no such file or directory\n")


def test_images_as_csv_are_refused_with_the_way_out(run):
    code, _, err = run("run", "discs", "--seed", "1", "-o", "a.csv")
    assert code == 2
    assert err.endswith(
        "column image holds images, which CSV cannot hold: write .png, a folder (OUT/), .npz or .parquet\n"
    )
    assert list(Path().iterdir()) == []


def test_importing_the_helpers_imports_no_pillow():
    code = "import sys, genreg.images, genreg.outputs; sys.exit('PIL' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_the_largest_image_that_is_read_is_8192_pixels_square():
    assert MOST_PIXELS == 8192**2


# ---- encoded images are written as they came ----


def encoded_rows() -> tuple[pa.Table, list[bytes]]:
    """Three rows of encoded images, of which one is missing, with their prompts."""
    data = [encode(np.full((4, 5, 3), shade, np.uint8), kind=kind) for shade, kind in ((9, "PNG"), (99, "JPEG"))]
    schema = pa.schema([image_field("image", media="image/*"), pa.field("prompt", pa.string())])
    return pa.table({"image": [data[0], None, data[1]], "prompt": ["猫", "<b>", None]}, schema=schema), data


def test_one_encoded_image_keeps_its_bytes_where_the_suffix_fits(tmp_path):
    table, (png, jpeg) = encoded_rows()
    for path, row, data in (("a.png", 0, png), ("b.jpg", 2, jpeg)):
        Samples(table.slice(row, 1), np.arange(1, dtype=np.uint64)).save(tmp_path / path)
        assert (tmp_path / path).read_bytes() == data
    Samples(table.slice(2, 1), np.arange(1, dtype=np.uint64)).save(tmp_path / "c.png")  # another format is asked for
    copy = (tmp_path / "c.png").read_bytes()
    assert media_of(copy) == "image/png"
    assert (decode(copy) == decode(jpeg)).all()


def test_a_folder_of_encoded_images_keeps_their_bytes_and_can_be_replaced(tmp_path):
    table, (png, jpeg) = encoded_rows()
    samples = Samples(table, np.array([5, 6, 7], np.uint64))
    for force in (False, True):
        samples.save(f"{tmp_path}/out/", force=force)
        assert {path.name for path in (tmp_path / "out").iterdir()} == {"5.png", "7.jpg", "labels.csv"}
    assert ((tmp_path / "out/5.png").read_bytes(), (tmp_path / "out/7.jpg").read_bytes()) == (png, jpeg)
    assert (tmp_path / "out/labels.csv").read_text("utf-8") == "file,prompt\n5.png,猫\n,<b>\n7.jpg,\n"


def test_a_page_shows_images_above_their_other_cells(tmp_path):
    import base64

    table, data = encoded_rows()
    Samples(table, np.arange(3, dtype=np.uint64)).save(tmp_path / "sheet.html")
    page = (tmp_path / "sheet.html").read_text("utf-8")
    assert page.count("<figure>") == 3
    assert [base64.b64encode(one).decode() in page for one in data] == [True, True]
    assert "<b>prompt</b> 猫" in page
    assert "<figure><figcaption><b>prompt</b> &lt;b&gt;</figcaption></figure>" in page
    pixels = pa.table({"digit": images(np.zeros((1, 8, 8, 1), np.uint8))})
    Samples(pixels, np.arange(1, dtype=np.uint64)).save(tmp_path / "pixels.html")
    assert "image-rendering:pixelated" in (tmp_path / "pixels.html").read_text("utf-8")


def test_a_list_of_images_is_given_by_their_files(tmp_path):
    _, (png, jpeg) = encoded_rows()
    (tmp_path / "a.png").write_bytes(png)
    field = pa.field("images", pa.list_(pa.binary()))
    assert given_scalar(f"[{tmp_path}/a.png,{tmp_path}/a.png]", field, "images").as_py() == [png, png]
    assert given_scalar([jpeg, tmp_path / "a.png"], field, "images").as_py() == [jpeg, png]
    with pytest.raises(UsageError, match=r"--given images=nowhere\.png: nowhere\.png cannot be read"):
        given_scalar("[nowhere.png]", field, "images")


def test_a_notebook_shows_many_large_images_small():
    pixels = pa.table({"image": images(np.zeros((65, 1040, 1040, 1), np.uint8))})
    sheet = decode(Samples(pixels, np.arange(65, dtype=np.uint64))._repr_png_() or b"")
    assert sheet.shape == (9 * 514 - 2, 8 * 514 - 2, 1) or sheet.shape == (8 * 514 - 2, 9 * 514 - 2, 1)
    assert Samples(pixels.slice(0, 0), np.arange(0, dtype=np.uint64))._repr_png_() is None
