"""Folders of images: every image with its class, in order, or the name of the one that stands in the way."""

from __future__ import annotations

import io
import itertools
import struct
import threading
import time
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pictures_read import refusal, rows
from PIL import Image

from genreg.data import notes, spool
from genreg.errors import DataError, UsageError
from genreg.images import encode, pixels
from genreg.loading import open_source
from genreg.plugins import load_plugins
from genreg_data import images
from genreg_data.folders import _cut, in_threads

NOISE = np.random.default_rng(0)


def noise(*shape: int) -> Any:
    return NOISE.integers(0, 256, shape, dtype=np.uint8)


@pytest.fixture
def put(tmp_path):
    """Write images below ``photos``: put("cats/a.png", array)."""

    def write(name: str, image: Any, kind: str = "PNG") -> Path:
        path = tmp_path / "photos" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(image if isinstance(image, bytes) else encode(image, kind=kind))
        return tmp_path / "photos"

    return write


def test_the_class_is_the_folders_name_and_the_label_has_its_role(put):
    array = noise(4, 8, 6, 3)
    for at, name in enumerate(["猫/b.png", "猫/deep/c.png", "dog/z.png", "dog/a.PNG"]):
        folder = put(name, array[at])
    source = images(folder)
    found, labels = rows(source)
    assert source.rows == 4
    assert labels == ["dog", "dog", "猫", "猫"]
    assert np.array_equal(found, array[[3, 2, 0, 1]])
    assert notes(source.schema.field("label")) == {"role": "label", "values": ["dog", "猫"]}
    assert source.schema.field("image").type.shape == [8, 6, 3]


def test_a_flat_folder_has_no_label_and_hidden_and_other_files_are_left_alone(put):
    put("b.png", noise(4, 4))
    put(".a.png", b"hidden")
    put("__MACOSX/x.png", b"rubbish")
    put(".git/x.png", b"rubbish")
    put("readme.txt", b"hello")
    source = images(put("a.bmp", noise(4, 4, 1)[..., [0, 0, 0]], kind="BMP"), channels=1)
    assert source.schema.names == ["image"]
    assert rows(source)[0].shape == (2, 4, 4, 1)


def test_every_batch_size_gives_the_same_rows(put):
    array = noise(70, 5, 5, 1)
    for at, image in enumerate(array):
        folder = put(f"c{at % 3}/{at:03d}.png", image)
    whole = rows(images(folder, threads=3))
    for size, threads in itertools.product((1, 7, 64, 1000), (1, 2)):
        source = images(folder, threads=threads)
        assert max(batch.num_rows for batch in source.batches(size=size)) <= size
        again = rows(source, size)
        assert np.array_equal(again[0], whole[0])
        assert again[1] == whole[1]
        assert np.array_equal(rows(source, size)[0], whole[0])  # re-iterable


def saved(image: Any, kind: str, **options: Any) -> bytes:
    out = io.BytesIO()
    image.save(out, kind, **options)
    return out.getvalue()


def kinds() -> dict[str, bytes]:
    """One picture, left dark and right light, in every form that a folder may hold."""
    pixels = np.zeros((8, 16, 3), np.uint8)
    pixels[:, 8:] = (200, 100, 50)
    picture, grey = Image.fromarray(pixels), Image.fromarray(pixels[..., 0])
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by a quarter, clockwise
    turned = Image.fromarray(np.ascontiguousarray(np.rot90(pixels)))
    other = Image.fromarray(255 - pixels)
    clear = Image.merge("RGBA", (*picture.split(), Image.new("L", (16, 8), 255)))
    return {
        "rgb.png": saved(picture, "PNG"),
        "rgb.jpg": saved(picture, "JPEG", quality=100, subsampling=0),
        "rgb.webp": saved(picture, "WEBP", lossless=True),
        "rgb.bmp": saved(picture, "BMP"),
        "frames.gif": saved(picture, "GIF", save_all=True, append_images=[other]),
        "frames.webp": saved(picture, "WEBP", lossless=True, save_all=True, append_images=[other]),
        "palette.png": saved(picture.quantize(4), "PNG"),
        "palette.bmp": saved(picture.quantize(4), "BMP"),
        "clear.png": saved(clear, "PNG"),
        "cmyk.jpg": saved(picture.convert("CMYK"), "JPEG", quality=100, subsampling=0),
        "turned.jpg": saved(turned, "JPEG", exif=exif, quality=100, subsampling=0),
        "progressive.jpeg": saved(picture, "JPEG", quality=100, subsampling=0, progressive=True),
        "grey16.png": saved(Image.fromarray(np.asarray(grey, np.uint16) * 257), "PNG"),
        "grey.png": saved(grey, "PNG"),
        "grey.gif": saved(grey, "GIF"),
        "bits.png": saved(Image.fromarray(pixels[..., 0] > 0), "PNG"),
    }


@pytest.mark.parametrize("name", kinds())
def test_every_kind_of_image_is_read_upright_with_its_colors(put, name):
    folder = put(name, kinds()[name])
    (image,), _ = rows(images(folder, channels=3))
    right = {"grey": (200, 200, 200), "bits": (255, 255, 255)}.get(
        name.split(".")[0].removesuffix("16"), (200, 100, 50)
    )
    assert image.shape == (8, 16, 3)
    assert np.abs(image[:, :7].astype(int)).max() <= 3
    assert np.abs(image[:, 9:].astype(int) - right).max() <= 3


def test_a_folder_of_every_kind_is_one_stream(put):
    for name, data in kinds().items():
        folder = put(name, data)
    found, _ = rows(images(folder, size=8, channels=3))
    assert found.shape == (len(kinds()), 8, 8, 3)
    assert images(folder, size=8, channels=1).schema.field("image").type.shape == [8, 8, 1]


def png_header(width: int, height: int) -> bytes:
    """A PNG that says it has so many pixels, and has none."""
    chunk = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + chunk + struct.pack(">I", zlib.crc32(chunk)) + png_end()


def png_end() -> bytes:
    data = zlib.compress(b"\0" * 100)
    chunks = [(b"IDAT", data), (b"IEND", b"")]
    return b"".join(
        struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body)) for name, body in chunks
    )


def test_absurd_sizes_are_refused_before_a_pixel_is_made(put):
    bombs = {
        "a.png": png_header(100_000, 100_000),
        "b.gif": b"GIF89a" + struct.pack("<HH", 65535, 65535) + b"\0\0\0,\0\0\0\0\xff\xff\xff\xff\0\2\2D\1\0;",
        "c.bmp": b"BM" + struct.pack("<IHHIIiiHHIIiiII", 54, 0, 0, 54, 40, 60000, 60000, 1, 24, 0, 0, 0, 0, 0, 0),
    }
    for name, data in bombs.items():
        folder = put(name, data)
        size = {"a": "100000 x 100000", "b": "65535 x 65535", "c": "60000 x 60000"}[name[0]]
        told = f"photos/{name}: {size} are more than 67,108,864 pixels: make it smaller first"
        assert refusal(images, folder).startswith(told)
        (folder / name).unlink()


def test_what_is_broken_is_counted_and_named(put):
    folder = put("a/0.png", noise(4, 4, 3))
    put("a/1.png", b"")
    put("a/2.png", encode(noise(4, 4, 3))[:40])
    put("b/3.jpg", b"<html>")
    put("b/4.png", noise(4, 4, 3))
    source = images(folder, broken="skip")
    found, labels = rows(source)
    assert len(found) == 2
    assert labels == ["a", "b"]
    assert [*source.skipped] == ["photos/a/1.png", "photos/a/2.png", "photos/b/3.jpg"]
    assert source.skipped["photos/a/1.png"] == "no bytes (PNG, JPEG, WebP, BMP, GIF)"
    assert source.skipped["photos/a/2.png"].startswith("a damaged image (")
    rows(source)
    assert len(source.skipped) == 3


def listed(folder: Path, text: str) -> Path:
    (folder / "labels.csv").write_text(text, "utf-8")
    return folder


def test_a_flat_folder_takes_the_columns_of_its_labels_csv(put):
    for name in ("1.png", "2.png", "10.png"):
        folder = put(name, np.full((2, 2, 1), int(name[:-4]), np.uint8))
    source = images(listed(folder, "file,label,score\n2.png,猫,0.5\n10.png,狗,\n1.png,猫,1.25\n"))
    found, labels = rows(source)
    assert found[:, 0, 0, 0].tolist() == [2, 10, 1]
    assert labels == ["猫", "狗", "猫"]
    assert notes(source.schema.field("label")) == {"role": "label"}
    assert [c for b in source.batches(size=2) for c in b.column("score").to_pylist()] == [0.5, None, 1.25]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("file,label\n1.png,a\n", "photos/labels.csv does not name 2.png, which is in the folder"),
        ("file,label\n1.png,a\n2.png,b\n3.png,b\n", "photos/labels.csv names 3.png, which is not in the folder"),
        ("file,label\n1.png,a\n2.png,b\n1.png,b\n", "photos/labels.csv names 1.png 2 times"),
        ("name,label\n1.png,a\n", "photos/labels.csv has the columns name, label, and needs file, and no image"),
    ],
)
def test_a_labels_csv_that_does_not_fit_is_refused(put, text, message):
    put("1.png", noise(2, 2, 1))
    assert refusal(images, listed(put("2.png", noise(2, 2, 1)), text)) == message


def test_size_channels_and_fit_bring_all_to_one_form(put):
    put("a/1.png", noise(9, 7, 4))
    put("a/2.jpg", noise(20, 30, 3), kind="JPEG")
    put("b/3.webp", noise(12, 12, 1), kind="WEBP")
    folder = put("b/4.bmp", noise(5, 40, 3), kind="BMP")
    for fit in ("crop", "pad", "resize"):
        assert rows(images(folder, size=8, channels=3, fit=fit))[0].shape == (4, 8, 8, 3)
    assert rows(images(folder, size=[6, 10], channels=1))[0].shape == (4, 6, 10, 1)
    assert rows(images(folder, size=8, channels=4))[0].shape == (4, 8, 8, 4)


def test_images_that_differ_are_refused_with_the_knobs_that_settle_it(put):
    put("a/1.png", noise(8, 8, 1))
    folder = put("a/2.png", noise(8, 9, 1))
    assert refusal(images, folder) == (
        "photos/a/2.png is 9 x 8 grey, and photos/a/1.png is 8 x 8 grey: "
        "bring all to one form with --loader images:size=8"
    )
    put("a/2.png", noise(8, 8, 3))
    assert refusal(images, folder) == (
        "photos/a/2.png is 8 x 8 RGB, and photos/a/1.png is 8 x 8 grey: "
        "bring all to one form with --loader images:channels=3"
    )
    put("a/2.png", noise(9, 8, 4))
    assert refusal(images, folder).endswith("bring all to one form with --loader images:size=8,channels=3")
    assert (
        refusal(images, folder, size=4, channels=1, fit="refuse")
        == "photos/a/1.png: 8 x 8 pixels, not 4 x 4; fit=crop, pad or resize"
    )


def test_a_broken_image_is_named_or_left_out_on_purpose(put):
    array = noise(3, 6, 6, 1)
    put("a/0.png", b"")
    put("a/1.png", array[0])
    put("a/2.png", encode(noise(60, 60, 3))[:200])
    put("b/3.png", array[1])
    folder = put("b/4.png", b"<html>not found</html>")
    way = "mend or remove it, or leave out what is broken with --loader images:broken=skip"
    assert refusal(images, folder) == f"photos/a/0.png: no bytes (PNG, JPEG, WebP, BMP, GIF): {way}"
    (folder / "a/0.png").unlink()
    assert refusal(images, folder).startswith("photos/a/2.png: a damaged image (image file is truncated")
    (folder / "a/2.png").unlink()
    assert refusal(images, folder) == f"photos/b/4.png: no image that genreg reads (PNG, JPEG, WebP, BMP, GIF): {way}"
    put("a/0.png", b"")
    source = images(folder, broken="skip")
    assert source.rows is None
    found, labels = rows(source)
    assert np.array_equal(found, array[:2])
    assert labels == ["a", "b"]
    (folder / "a/1.png").unlink()
    (folder / "b/3.png").unlink()
    assert refusal(images, folder, broken="skip") == f"{folder} has no image that can be read"


def test_a_file_that_goes_away_is_named(put):
    put("a.png", noise(4, 4))
    folder = put("b.png", noise(4, 4))
    source = images(folder)
    (folder / "b.png").unlink()
    with pytest.raises(DataError, match=r"^photos/b\.png cannot be read: no such file or directory: mend or remove it"):
        rows(source)


def test_a_folder_that_is_no_data_set_is_refused(put, tmp_path):
    folder = put("a/notes.txt", b"hello")
    assert refusal(images, folder) == f"{folder} has no images (.png, .jpg, .jpeg, .webp, .bmp, .gif)"
    assert refusal(images, folder / "a" / "notes.txt") == f"{folder / 'a' / 'notes.txt'} is no folder of images"
    put("a/1.png", noise(4, 4))
    put("sheet.png", noise(4, 4))
    assert refusal(images, folder) == (
        f"{folder} has images beside its class folders, such as sheet.png: move them into a class, or away"
    )


@pytest.mark.parametrize("size", [0, -3, 9000, [1, 2, 3], [4, 0]])
def test_a_size_that_cannot_be_is_refused(put, size):
    folder = put("a.png", noise(4, 4))
    assert refusal(images, folder, size=size) == f"size={size}: write a side, or [height,width], from 1 to 8192 pixels"


def test_a_name_that_is_not_utf8_is_refused(put):
    folder = put("a.png", noise(4, 4))
    try:
        (folder / "a.png").rename(folder / "\udcff.png")
    except OSError:
        pytest.skip("this file system takes UTF-8 alone")
    assert refusal(images, folder) == rf"{folder} has a name that is not UTF-8, '\udcff.png': rename it"


def test_one_image_and_a_class_with_one_example_are_data(put):
    assert rows(images(put("a/1.png", noise(4, 4))))[1] == ["a"]


def test_the_label_can_have_another_name(put):
    assert images(put("a/1.png", noise(4, 4)), label="species").schema.names == ["image", "species"]


def test_the_command_line_reads_a_folder_and_types_its_knobs(put):
    folder = put("a/1.png", noise(9, 7, 3))
    loaders = load_plugins().loaders
    assert open_source(folder, loaders).rows == 1
    source = open_source(f"{folder}/", loaders, "images:size=4,channels=1,fit=pad")
    assert source.schema.field("image").type.shape == [4, 4, 1]
    assert open_source(folder, loaders, "images:size=[4,6]").schema.field("image").type.shape == [4, 6, 3]
    with pytest.raises(UsageError, match=r"--loader images: channels=2: .* \(it takes 1 \| 3 \| 4 \| none\)"):
        open_source(folder, loaders, "images:channels=2")
    with pytest.raises(UsageError, match="--loader images: fit=squash"):
        open_source(folder, loaders, "images:fit=squash")


def test_what_is_read_can_be_spooled_and_shuffled(put, tmp_path):
    for at in range(20):
        folder = put(f"c{at % 2}/{at}.png", np.full((4, 4), at, np.uint8))
    held = spool(images(folder), tmp_path)
    seen = [pixels(batch.column("image"))[:, 0, 0, 0] for batch in held.batches(size=6, shuffle=1)]
    assert sorted(np.concatenate(seen).tolist()) == list(range(20))


# ---- threads ----


def test_threads_keep_the_order_and_run_at_once():
    running, most = [0], [0]
    lock = threading.Lock()

    def work(item: int) -> int:
        with lock:
            running[0] += 1
            most[0] = max(most[0], running[0])
        time.sleep(0.002 * (item % 3))
        with lock:
            running[0] -= 1
        return item

    assert list(in_threads(work, range(50), 4)) == list(range(50))
    assert most[0] == 4


def test_threads_are_only_a_little_ahead_and_stop_with_their_reader():
    taken = []

    def items() -> Any:
        for item in range(1000):
            taken.append(item)
            yield item

    stream = in_threads(lambda item: item, items(), 2)
    assert [next(stream) for _ in range(3)] == [0, 1, 2]
    stream.close()
    assert len(taken) <= 3 + 2 * 2 + 1
    before = threading.active_count()
    assert before == threading.active_count()


def test_an_error_in_a_thread_reaches_the_reader_in_its_turn():
    def work(item: int) -> int:
        return 1 // (item - 3)

    stream = in_threads(work, range(10), 4)
    assert [next(stream) for _ in range(3)] == [-1, -1, -1]
    with pytest.raises(ZeroDivisionError):
        next(stream)


def test_cut_leaves_nothing_over():
    assert list(_cut(range(7), 3)) == [[0, 1, 2], [3, 4, 5], [6]]
    assert list(_cut([], 3)) == []
