"""Pixels and pictures: image columns, encoded images, contact sheets, and the writers of both.

An image column is ``fixed_shape_tensor<uint8>`` [h, w, c], or binary with the note ``media`` (``image/png``): encoded,
of any size. Channels are 1 (grey), 3 (RGB) or 4 (RGBA). Pillow is imported by what uses it.
"""

from __future__ import annotations

import base64
import html
import io
import math
import tempfile
import zipfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import numpy as np
import pyarrow as pa

from genreg.data import Source, noted, notes, spool
from genreg.draft import Array, Batch, Seeds
from genreg.errors import DataError, UsageError

if TYPE_CHECKING:
    from genreg.recipe import Recipe
    from genreg.specs import Write

Fit: TypeAlias = Literal["crop", "pad", "resize", "refuse"]
FORMATS = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG", ".webp": "WEBP", ".bmp": "BMP"}
SUFFIXES = {"image/png": ".png", "image/jpeg": ".jpg", "image/webp": ".webp", "image/bmp": ".bmp", "image/gif": ".gif"}
ANIMATIONS = {".gif": "GIF", ".apng": "PNG", ".webp": "WEBP"}
FRAMES = 25  # a second
MODES = {1: "L", 3: "RGB", 4: "RGBA"}
MOST_PIXELS = 1 << 26  # of an image read or a sheet written: 8192 x 8192
SMALLEST_SHOWN = 64  # pixels: on sheets and in notebooks a smaller side is enlarged, by a whole factor
WIDEST_SHOWN = 512  # pixels: on pages and in notebooks an encoded image is not shown wider
GAP = 2  # pixels between the images of a sheet
CHUNK = "genreg"  # the text chunk of a PNG that holds its recipe


# ---- columns ----


def image_field(name: str, shape: Sequence[int] | None = None, *, media: str = "image/png") -> pa.Field[Any]:
    """The field of an image column: pixels of the ``shape`` [h, w, c], or without one encoded images."""
    if shape is None:
        return noted(pa.field(name, pa.binary()), media=media)
    return pa.field(name, pa.fixed_shape_tensor(pa.uint8(), [*shape]))


def image_columns(schema: pa.Schema) -> list[str]:
    """The names of the columns that hold images."""
    return [field.name for field in schema if _is_tensor(field.type) or "image/" in str(notes(field).get("media"))]


def images(pixels: Array) -> Any:
    """Pixels, uint8 [n, h, w, c] or [n, h, w], as a column; raises UsageError for any other array."""
    array = pixels[..., None] if pixels.ndim == 3 else pixels
    if array.dtype != np.uint8 or array.ndim != 4 or array.shape[3] not in MODES:
        raise UsageError(
            f"images takes uint8 [n, h, w, c] with 1, 3 or 4 channels, not {pixels.dtype} {list(pixels.shape)}"
        )
    kind: Any = image_field("", array.shape[1:]).type
    flat = pa.array(np.ascontiguousarray(array).reshape(-1))
    return pa.ExtensionArray.from_storage(kind, pa.FixedSizeListArray.from_arrays(flat, type=kind.storage_type))


def pixels(column: Any, *, size: int | tuple[int, int] | None = None, channels: int | None = None) -> Array:
    """An image column without nulls as uint8 [n, h, w, c]: a view of pixels (read-only), or decoded.

    Raises DataError for nulls, for damaged images, and where ``size`` and ``channels`` leave images of several shapes.
    """
    if column.null_count:
        raise DataError(f"{column.null_count} of {len(column)} images are missing")
    if _is_tensor(column.type) and size is None and channels in (None, column.type.shape[2]):
        whole: Any = column.combine_chunks() if hasattr(column, "chunks") else column
        return np.asarray(whole.to_numpy_ndarray())
    found = [_brought(array, size, channels) for array in each_image(column, size=size, channels=channels)]
    if len(shapes := sorted({array.shape for array in found})) > 1:
        first, second = map(list, shapes[:2])
        raise DataError(f"the images have the shapes {first} and {second}: give one size and channels")
    return np.stack(found) if found else np.empty((0, 0, 0, channels or 1), np.uint8)


def each_image(column: Any, *, size: int | tuple[int, int] | None = None, channels: int | None = None) -> Iterator[Any]:
    """The images of a column one by one, uint8 [h, w, c]; None for null."""
    if _is_tensor(column.type):
        height, width, depth = column.type.shape
        chunks: Any = column.chunks if isinstance(column, pa.ChunkedArray) else [column]
        for chunk in chunks:
            array = chunk.to_numpy_ndarray() if not chunk.null_count else None
            for row in range(len(chunk)):
                cell = chunk[row].as_py() if array is None else array[row]
                yield None if cell is None else np.asarray(cell, np.uint8).reshape(height, width, depth)
        return
    for row, cell in enumerate(column):
        data = cell.as_py()
        yield None if data is None else decode(data, size=size, channels=channels, name=f"image {row}")


def _is_tensor(kind: pa.DataType) -> bool:
    shape = kind.shape if isinstance(kind, pa.FixedShapeTensorType) and kind.value_type == pa.uint8() else ()
    return len(shape) == 3 and shape[2] in MODES


# ---- encoded images ----


def decode(
    data: bytes,
    *,
    size: int | tuple[int, int] | None = None,
    channels: int | None = None,
    fit: Fit = "crop",
    name: str = "the image",
) -> Array:
    """PNG, JPEG, WebP, BMP or a GIF's first frame as uint8 [h, w, c], upright.

    Transparency lies over white unless ``channels`` is 4. ``size`` is a side or (height, width), reached as ``fit``
    says: crop fills it and cuts what hangs over, pad shows all within a black border, resize stretches. Raises
    DataError for what is damaged, no image, or over MOST_PIXELS.
    """
    image = _opened(data, name)
    if any("exif" in key or "xmp" in key for key in image.info):
        from PIL import ImageOps

        with suppress(Exception):  # what cannot be read does not say that another side is up
            ImageOps.exif_transpose(image, in_place=True)
    image = _in_mode(image, channels)
    if size is not None:
        height, width = (size, size) if isinstance(size, int) else size
        image = _fitted(image, height, width, fit, name)
    return np.array(image).reshape(image.height, image.width, -1)


def encode(image: Array, *, kind: str = "PNG", recipe: str = "") -> bytes:
    """uint8 [h, w, c] or [h, w] as PNG (or JPEG, WEBP, BMP); a PNG takes a ``recipe`` along."""
    from PIL import PngImagePlugin

    texts = PngImagePlugin.PngInfo()
    if recipe:
        texts.add_itxt(CHUNK, recipe)
    picture, out = as_pillow(image), io.BytesIO()
    if kind == "JPEG" and picture.mode == "RGBA":  # which cannot be transparent
        picture = _in_mode(picture, 3)
    picture.save(out, kind, pnginfo=texts, quality=95, lossless=True)
    return out.getvalue()


def as_pillow(image: Array) -> Any:
    """uint8 [h, w, c] or [h, w] as a Pillow image; raises UsageError for any other array."""
    from PIL import Image

    array = image[..., 0] if image.ndim == 3 and image.shape[2] == 1 else image
    shaped = array.ndim == 2 or (array.ndim == 3 and array.shape[2] in MODES)
    if array.dtype != np.uint8 or not shaped or not array.size:
        raise UsageError(f"an image is uint8 [h, w, c] with 1, 3 or 4 channels, not {image.dtype} {list(image.shape)}")
    return Image.fromarray(np.ascontiguousarray(array))


def thumbnail(image: Array, side: int) -> Array:
    """An image, uint8 [h, w, c], made smaller where a side of it is longer than ``side`` pixels."""
    if max(image.shape[:2]) <= side:
        return image
    small = as_pillow(image)
    small.thumbnail((side, side))
    return np.array(small).reshape(small.height, small.width, -1)


def encoded(value: Any, asked: str = "the image") -> bytes:
    """An encoded image from what people have: a path (also ``@path``), bytes, a Pillow image, a uint8 array.

    ``asked`` begins the message of the UsageError for a file that is not there or anything that is no image.
    """
    if isinstance(value, (str, Path)):
        path = Path(value.removeprefix("@") if isinstance(value, str) else value)
        try:
            value = path.read_bytes()
        except OSError as error:
            raise UsageError(f"{asked}: {path} cannot be read: {(error.strerror or str(error)).lower()}") from None
    elif hasattr(value, "convert") and hasattr(value, "getexif"):  # Pillow's, which need not be imported to ask
        value = encode(np.array(_in_mode(value, None)))
    elif isinstance(value, np.ndarray):
        value = encode(value)
    if not isinstance(value, bytes):
        kind = type(value).__name__
        raise UsageError(f"{asked}: an image is a path, bytes, a Pillow image or a uint8 array, not {kind}")
    decode(value, name=asked)
    return value


@cache
def _readers() -> Mapping[bytes, Any]:
    """Pillow's readers by how their files begin. Image.open would try dozens more, and warn of bombs."""
    from PIL import BmpImagePlugin, GifImagePlugin, JpegImagePlugin, PngImagePlugin, WebPImagePlugin

    return {
        b"\x89PNG": PngImagePlugin.PngImageFile, b"\xff\xd8\xff": JpegImagePlugin.JpegImageFile,
        b"RIFF": WebPImagePlugin.WebPImageFile, b"BM": BmpImagePlugin.BmpImageFile,
        b"GIF8": GifImagePlugin.GifImageFile,
    }  # fmt: skip


def media_of(data: bytes, name: str = "the image") -> str:
    """The media type of an encoded image, by how it begins; raises DataError for what genreg does not read."""
    return f"image/{_reader(data, name).format.lower()}"


def _reader(data: bytes, name: str) -> Any:
    reader = next((reader for magic, reader in _readers().items() if data.startswith(magic)), None)
    if reader is None:
        what = "no image that genreg reads" if data else "no bytes"
        raise DataError(f"{name}: {what} (PNG, JPEG, WebP, BMP, GIF)")
    return reader


def _opened(data: bytes, name: str) -> Any:
    """A loaded Pillow image."""
    reader = _reader(data, name)
    try:
        image = reader(io.BytesIO(data))
        width, height = image.size
        if width * height <= MOST_PIXELS:
            image.load()
            return image
    except Exception as error:  # what Pillow raises for damaged bytes is not documented, and is of many kinds
        raise DataError(f"{name}: a damaged image ({' '.join(str(error).split()) or type(error).__name__})") from None
    raise DataError(f"{name}: {width} x {height} are more than {MOST_PIXELS:,} pixels: make it smaller first")


def _in_mode(image: Any, channels: int | None) -> Any:
    """A Pillow image of any mode in 1, 3 or 4 channels of 8 bits; None: those that it has."""
    from PIL import Image

    if image.mode.startswith("I"):  # 16 bits of grey
        image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    clear = image.has_transparency_data
    channels = channels or (4 if clear else 1 if image.mode in ("1", "L") else 3)
    if clear and channels < 4:
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image.convert("RGBA"))
    return image if image.mode == MODES[channels] else image.convert(MODES[channels])


def _fitted(image: Any, height: int, width: int, fit: Fit, name: str) -> Any:
    from PIL import ImageOps
    from PIL.Image import Resampling

    if image.size == (width, height):
        return image
    if fit == "refuse":
        own = f"{image.width} x {image.height} pixels"
        raise DataError(f"{name}: {own}, not {width} x {height}; fit=crop, pad or resize")
    if fit == "resize":
        return image.resize((width, height), Resampling.BICUBIC)
    return (ImageOps.fit if fit == "crop" else ImageOps.pad)(image, (width, height), Resampling.BICUBIC)


def _brought(image: Array, size: int | tuple[int, int] | None, channels: int | None) -> Array:
    """Pixels at hand in another size or number of channels; what is decoded is in both already."""
    height, width = (size, size) if isinstance(size, int) else size or image.shape[:2]
    if image.shape == (height, width, channels or image.shape[2]):
        return image
    return np.array(_fitted(_in_mode(as_pillow(image), channels), height, width, "crop", "")).reshape(height, width, -1)


# ---- sheets ----


def contact_sheet(arrays: Sequence[Array | None], *, columns: int | None = None) -> Array:
    """Images, uint8 [h, w, c] of any sizes, row by row on one: uint8 [H, W, c], white between and where one is None.

    Tiny images are enlarged by a whole factor; none is ever made smaller. Raises DataError for none, or too many.
    """
    there = [array for array in arrays if array is not None]
    if not there:
        raise DataError("there is no image to show")
    height, width = max(array.shape[0] for array in there), max(array.shape[1] for array in there)
    channels = max(array.shape[2] for array in there)
    factor = shown_factor(height, width)
    columns = min(columns or math.ceil(math.sqrt(len(arrays) * height / width)), len(arrays))
    down, right = height * factor + GAP, width * factor + GAP
    rows = -(-len(arrays) // columns)
    if rows * down * columns * right > MOST_PIXELS:
        raise DataError(
            f"{len(arrays):,} images of {width} x {height} are too many for one sheet: write a folder, such as OUT/"
        )
    sheet = np.full((rows * down - GAP, columns * right - GAP, channels), 255, np.uint8)
    for at, array in enumerate(arrays):
        if array is not None:
            y, x = at // columns * down, at % columns * right
            large = _brought(array, None, channels).repeat(factor, 0).repeat(factor, 1)
            sheet[y : y + large.shape[0], x : x + large.shape[1]] = large
    return sheet


def shown_factor(height: int, width: int) -> int:
    """How many times its size an image is shown at."""
    return -(-SMALLEST_SHOWN // min(height, width)) if min(height, width) < SMALLEST_SHOWN else 1


# ---- writers: an output's suffix, or the "/" at its end, says which ----


def write_picture(batches: Iterable[Batch], schema: pa.Schema, path: Path, /, *, recipe: Recipe | None = None) -> None:
    """Write one image as it is, several as a contact sheet. Raises DataError for none.

    A PNG made here holds its recipe. The bytes of an encoded image are not touched where the suffix fits, or is none.
    """
    kind = FORMATS.get(path.suffix.lower())
    found, data = _gathered(batches, schema, path)
    if data is not None and kind in (None, _reader(data, path.name).format):
        path.write_bytes(data)
        return
    image = found[0] if len(found) == 1 and found[0] is not None else contact_sheet(found)
    path.write_bytes(encode(image, kind=kind or "PNG", recipe=recipe.text() if recipe else ""))


def write_animation(batches: Iterable[Batch], schema: pa.Schema, path: Path, /) -> None:
    """Write one image as it is, several one after another, FRAMES a second, for ever. Raises DataError for none."""
    kind = ANIMATIONS[path.suffix.lower()]
    gathered, data = _gathered(batches, schema, path)
    if data is not None and kind == _reader(data, path.name).format:
        path.write_bytes(data)
        return
    found = [image for image in gathered if image is not None]
    if not found:
        raise DataError("there is no image to show")
    by = shown_factor(*found[0].shape[:2]) if len(found) > 1 else 1
    first, *rest = (as_pillow(image.repeat(by, 0).repeat(by, 1)) for image in found)
    how: dict[str, Any] = {"duration": 1000 // FRAMES, "loop": 0} if rest else {}
    first.save(path, kind, save_all=bool(rest), append_images=rest, lossless=True, **how)


def _gathered(batches: Iterable[Batch], schema: pa.Schema, path: Path) -> tuple[list[Array | None], bytes | None]:
    """All images, None where one is missing, and the bytes of a single encoded one; raises DataError for too many."""
    name = _only_image_column(schema, path.suffix)
    found: list[Array | None] = []
    data, total = None, 0
    for batch in batches:
        if not found and batch.num_rows and not _is_tensor(batch.column(name).type):
            data = batch.column(name)[0].as_py()
        found += each_image(batch.column(name))
        total += sum(array.size for array in found[-batch.num_rows :] if array is not None)
        if len(found) > 1 and total > 4 * MOST_PIXELS:
            raise DataError(f"{len(found):,} images and more are too many for one file: write a folder, such as OUT/")
    return found, data if len(found) == 1 else None


def write_folder(
    batches: Iterable[Batch],
    schema: pa.Schema,
    folder: Path,
    /,
    *,
    seeds: Seeds | None = None,
    recipe: Recipe | None = None,
) -> None:
    """Write a file per row, named by its seed (by its number without ``seeds``), the other columns in labels.csv.

    Pixels become PNGs that hold their recipe; the bytes of encoded images are not touched, and it goes beside them.
    """
    from genreg.delimited import write_csv

    name = _only_image_column(schema, "a folder")
    rest = [other for other in schema.names if other != name]
    own = seeds is not None and len(np.unique(seeds)) == len(seeds)
    kept = pa.schema([pa.field("file", pa.string()), *(schema.field(other) for other in rest)])

    def labels() -> Iterator[Batch]:
        row = 0
        for batch in batches:
            files: list[str | None] = []
            for image in as_they_are(batch.column(name)):
                seed = int(seeds[row]) if seeds is not None and own else None
                stem, text = f"{row:06d}" if seed is None else f"{seed}", recipe.of_seed(seed).text() if recipe else ""
                files.append(None if image is None else _write_one(folder, stem, image, text))
                row += 1
            columns = [pa.array(files, pa.string()), *(batch.column(other) for other in rest)]
            yield pa.RecordBatch.from_arrays(columns, schema=kept)

    write_csv(labels(), kept, folder / LABELS)


def as_they_are(column: Any) -> Iterator[Array | bytes | None]:
    """The images of a column: pixels, or encoded bytes."""
    yield from each_image(column) if _is_tensor(column.type) else (cell.as_py() for cell in column)


def _write_one(folder: Path, stem: str, image: Array | bytes, recipe: str) -> str:
    """Write one image with its recipe; the name of its file."""
    if not isinstance(image, bytes):
        (folder / f"{stem}.png").write_bytes(encode(image, recipe=recipe))
        return f"{stem}.png"
    name = f"{stem}{SUFFIXES[media_of(image)]}"
    (folder / name).write_bytes(image)
    if recipe:
        (folder / f"{name}{BESIDE}").write_text(recipe, "utf-8")
    return name


def write_sheet(batches: Iterable[Batch], schema: pa.Schema, path: Path, /) -> None:
    """Write a page with each image above its other cells, whatever their script; it needs no other file."""
    name = _only_image_column(schema, path.suffix)
    with path.open("w", encoding="utf-8") as page:
        page.write(SHEET)
        for batch in batches:
            rows = batch.select([other for other in schema.names if other != name]).to_pylist()
            for image, row in zip(as_they_are(batch.column(name)), rows, strict=True):
                cells = (f"<b>{html.escape(key)}</b> {html.escape(str(cell))}" for key, cell in row.items()
                         if cell is not None)  # fmt: skip
                tag = "" if image is None else as_tag(image)
                page.write(f"<figure>{tag}<figcaption>{'<br>'.join(cells)}</figcaption></figure>\n")


def as_tag(image: Array | bytes) -> str:
    """An image as an HTML element that needs no file; a tiny one is enlarged, with its pixels kept apart."""
    if isinstance(image, bytes):
        media, data, style = media_of(image), image, f"max-width:min(100%,{WIDEST_SHOWN}px)"
    else:
        width = image.shape[1] * shown_factor(*image.shape[:2])
        media, data, style = "image/png", encode(image), f"width:{width}px;image-rendering:pixelated"
    return f'<img style="{style}" src="data:{media};base64,{base64.b64encode(data).decode()}">'


def write_npz(batches: Iterable[Batch], schema: pa.Schema, path: Path, /) -> None:
    """Write each column as an array, images as uint8 [n, h, w, c]; raises DataError for lists and missing cells."""
    for field in schema:
        if pa.types.is_nested(field.type):
            raise DataError(f"column {field.name} holds {field.type}, which .npz cannot hold: write .parquet or .jsonl")
    with tempfile.TemporaryDirectory(dir=path.parent) as folder, zipfile.ZipFile(path, "w") as archive:
        table = spool(Source(schema, lambda _: iter(batches)), Path(folder)).table
        assert table is not None
        for name in schema.names:
            with archive.open(zipfile.ZipInfo(f"{name}.npy"), "w", force_zip64=True) as file:
                _write_npy(file, name, table.column(name), image=name in image_columns(schema))


def _write_npy(file: Any, name: str, column: Any, *, image: bool) -> None:
    if (missing := column.null_count) and not pa.types.is_floating(column.type):
        raise DataError(f"column {name} has {missing:,} missing cells, which .npz cannot hold: write .parquet")
    if not image:
        array = column.to_numpy()
        np.lib.format.write_array(file, array.astype(str) if array.dtype == object else array, allow_pickle=False)
        return
    shape = pixels(column.slice(0, 1)).shape[1:]
    header = {"descr": "|u1", "fortran_order": False, "shape": (len(column), *shape)}
    np.lib.format.write_array_header_1_0(file, header)
    for chunk in column.chunks:
        array = pixels(chunk)
        if array.shape[1:] != shape:
            raise DataError(
                f"column {name} has images of several sizes, which .npz cannot hold: write a folder or .parquet"
            )
        file.write(np.ascontiguousarray(array).data.cast("B"))


def _only_image_column(schema: pa.Schema, where: str) -> str:
    names = image_columns(schema)
    if len(names) == 1:
        return names[0]
    there = ", ".join(names or (f"{field.name} ({field.type})" for field in schema))
    way = "write .npz or .parquet" if names else "write .csv or .parquet"
    raise DataError(f"{where} takes one column of images, and here are {there}: {way}")


def embedded_recipe(path: Path) -> str | None:
    """The recipe inside a PNG, as text; None where there is none, or no PNG."""
    from PIL import PngImagePlugin

    with suppress(Exception), path.open("rb") as file:
        found = PngImagePlugin.PngImageFile(file).info.get(CHUNK)
        return str(found) if found else None
    return None


LABELS = "labels.csv"
BESIDE = ".recipe.json"  # after a file's name: its recipe
SHEET = """<!doctype html><meta charset="utf-8"><style>
body {display: grid; grid-template-columns: repeat(auto-fill, minmax(16rem, 1fr)); gap: 1rem; font: 0.8rem sans-serif}
figure {margin: 0} figcaption {overflow-wrap: anywhere}
</style>
"""
WRITERS: Mapping[str, Write] = {
    **dict.fromkeys(FORMATS, write_picture), **dict.fromkeys(ANIMATIONS, write_animation),
    "/": write_folder, ".npz": write_npz, ".html": write_sheet,
}  # fmt: skip
