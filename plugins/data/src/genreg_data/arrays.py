"""NumPy's .npy and .npz as a stream of images with labels: read block by block, never unpickled."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
import pyarrow as pa

from genreg import Array, Batch
from genreg.data import Source, noted
from genreg.errors import DataError, did_you_mean
from genreg.images import image_field
from genreg.images import images as image_column
from genreg.textfiles import refuse_bomb
from genreg_data.forms import Axes, Pixels, recognized_axes, recognized_range

BATCH = 1 << 26  # bytes of numbers read at a time
LABELS = {"label", "labels", "y", "target", "targets", "class", "classes"}


@dataclass(frozen=True)
class Member:
    """One array of a file, of which only the header has been read."""

    path: Path
    name: str  # "" in a .npy
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    fortran: bool

    @property
    def what(self) -> str:
        """The array as messages name it."""
        return f"{self.path.name}: {self.name}" if self.name else self.path.name

    @property
    def rows(self) -> int:
        """How many rows: the first axis."""
        return self.shape[0] if self.shape else 0

    def blocks(self, most: int | None = None) -> Iterator[Array]:
        """The array in blocks of rows, at most so many and BATCH bytes; raises DataError where the file ends early."""
        width = int(np.prod(self.shape[1:])) * self.dtype.itemsize
        step = max(1, min(most or self.rows, BATCH // max(width, 1)))
        with _sound(self.path), _opened(self.path, self.name) as file:
            _header(file)
            if self.fortran:  # its rows do not lie one by one
                whole = np.frombuffer(_exactly(file, width * self.rows), self.dtype).reshape(self.shape, order="F")
                yield from (whole[at : at + step] for at in range(0, self.rows, step))
                return
            for at in range(0, self.rows, step):
                some = min(step, self.rows - at)
                yield np.frombuffer(_exactly(file, width * some), self.dtype).reshape(some, *self.shape[1:])


def arrays(
    path: Path,
    *,
    image: str = "",
    label: str = "",
    axes: Axes | None = None,
    range: str = "",
    shape: list[int] | None = None,
) -> Source:
    """NumPy arrays of images (.npy, .npz): uint8, or numbers in 0..1 or -1..1; labels beside them.

    ``image`` and ``label`` name arrays of an .npz. ``axes``, ``range`` (0..16) and ``shape`` (of flat rows: [8,8])
    settle what the numbers do not say. Other arrays with one value a row are columns. Raises DataError.
    """
    members = _members(path)
    main = _image(members, path, image, flat=shape is not None)
    columns = _columns(members, main, path, label, chosen=bool(image))
    own = (main.rows, *shape) if shape else main.shape
    if int(np.prod(own)) != int(np.prod(main.shape)):
        raise DataError(f"shape={shape}: {main.what} is {list(main.shape)}")
    order, form = recognized_axes(own, axes, main.what)
    pixels = Pixels(order, form, *recognized_range(main.blocks(), main.dtype, range, main.what))
    named = _label(columns, main, label)
    beside = {name: _column(member) for name, member in columns.items()}
    fields = [image_field("image", form)]
    for name, column in beside.items():
        field = pa.field("label" if name == named else name, column.type)
        fields.append(noted(field, role="label") if name == named else field)
    schema = pa.schema(fields)

    def batches(size: int) -> Iterator[Batch]:
        row = 0
        for block in main.blocks(max(1, min(size, BATCH // int(np.prod(form))))):
            rest = [column.slice(row, len(block)) for column in beside.values()]
            yield pa.RecordBatch.from_arrays([image_column(pixels.of(block)), *rest], schema=schema)
            row += len(block)

    return Source(schema, batches, main.rows)


def _members(path: Path) -> list[Member]:
    """The arrays of the file by their headers; raises DataError for what is damaged or holds Python objects."""
    names = [""]
    with _sound(path):
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                names = [name.removesuffix(".npy") for name in archive.namelist() if name.endswith(".npy")]
    found = []
    for name in names:
        with _sound(path), _opened(path, name) as file:
            shape, fortran, dtype = _header(file)
        found.append(Member(path, name, shape, dtype, fortran))
        if dtype.hasobject:
            raise DataError(
                f"{found[-1].what} holds Python objects, which are code to run: save numbers or text instead"
            )
    if not found:
        raise DataError(f"{path.name} holds no array")
    return found


def _image(members: list[Member], path: Path, name: str, *, flat: bool) -> Member:
    """The array of the images: the one named, or the only one that can be it; raises DataError."""
    named = {member.name: member for member in members}
    if name:
        if name not in named:
            raise DataError(f"image={name}: {path.name} has no array {name}{did_you_mean(name, named)}")
        return named[name]
    able = [member for member in members if len(member.shape) in ((2, 3, 4) if flat else (3, 4))]
    there = ", ".join(f"{member.name} {list(member.shape)}".strip() for member in members)
    if not able:
        raise DataError(
            f"{path.name} has no images [n, h, w], [n, h, w, c], [n, c, h, w], but {there}; flat ones need shape=[h,w]"
        )
    if len(able) > 1:
        raise DataError(f"{path.name} has several arrays of images ({there}): --loader arrays:image={able[0].name}")
    return able[0]


def _columns(members: list[Member], main: Member, path: Path, label: str, *, chosen: bool) -> dict[str, Member]:
    """The arrays with one value a row; others are left out where the images were chosen, else refused."""
    found = {
        member.name: member for member in members if member.shape in ((main.rows,), (main.rows, 1)) and member != main
    }
    if label and label not in found:
        raise DataError(
            f"label={label}: {path.name} has no array {label} with one value for each of {main.rows:,} rows"
            + did_you_mean(label, found)
        )
    for member in members:
        if member != main and member.name not in found and not chosen:
            raise DataError(
                f"{member.what} is {list(member.shape)}, and {main.name} has {main.rows:,} rows: "
                f"--loader arrays:image={main.name} reads what fits it alone"
            )
    return found


def _label(columns: dict[str, Member], main: Member, label: str) -> str | None:
    """The name of the labels: the one given, x_train's y_train, or the only one that is called so."""
    if label:
        return label
    partner = {"x": "y", "X": "y"}.get(main.name[:1], "") + main.name[1:]
    if partner in columns and partner != main.name:
        return partner
    able = [name for name in columns if name.lower() in LABELS]
    return able[0] if len(able) == 1 else None


def _column(member: Member) -> Any:
    """An array with one value a row as a column [rows]; raises DataError for what no column holds."""
    kind = member.dtype.kind
    if kind not in "biufUM":
        raise DataError(f"{member.what} holds {member.dtype}, which is no column: numbers, dates and text are")
    whole = np.concatenate([*member.blocks()]).reshape(-1) if member.rows else np.empty(0, member.dtype)
    if kind == "U":
        return pa.array(whole.tolist(), pa.string())
    return pa.array(whole.astype(np.int64) if kind == "i" else whole)


@contextmanager
def _opened(path: Path, name: str) -> Iterator[IO[bytes]]:
    """An array's bytes from its header on; ``name`` is that of the member in an .npz, none in a .npy."""
    if not name:
        with path.open("rb") as file:
            yield file
        return
    with zipfile.ZipFile(path) as archive, archive.open(f"{name}.npy") as member:
        about = archive.getinfo(f"{name}.npy")  # zipfile reads no more than this says
        refuse_bomb(f"{path.name}: {name}", about.file_size, about.compress_size)
        yield member


@contextmanager
def _sound(path: Path) -> Iterator[None]:
    """Whatever goes wrong in reading a file is a DataError that names it."""
    try:
        yield
    except DataError:
        raise
    except (OSError, EOFError, ValueError, zipfile.BadZipFile, zlib.error, NotImplementedError, RuntimeError) as error:
        reason = " ".join(str(error).split())
        raise DataError(f"{path.name} is damaged, or no NumPy file: {reason}") from None


def _header(file: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    version = np.lib.format.read_magic(file)
    read: Any = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, fortran, dtype = read(file)
    return shape, fortran, dtype


def _exactly(file: IO[bytes], size: int) -> bytes:
    data = file.read(size)
    if len(data) < size:
        raise ValueError(f"it ends {size - len(data):,} bytes too early")
    return data
