"""What is in a source: schema, counts, missing cells, ranges, a small histogram per column, labels, sample rows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from genreg import Array, Batch
from genreg.data import Source, named_with_role, notes, untimed
from genreg.errors import DataError
from genreg.images import each_image, image_columns
from genreg.preprocess import is_text
from genreg.specs import Report
from genreg_data.sketch import Quantiles

BINS = 16  # of a histogram
MOST_VALUES = 10_000  # different values that are counted of a column; above, it is told that there are more
COMMON = 5  # values shown, the most frequent first


@dataclass
class Look:
    """One column as it is seen batch by batch."""

    entry: pa.Field[Any]
    missing: int = 0
    seen: int = 0
    values: Counter[Any] | None = field(default_factory=Counter)  # None: too many to count
    numbers: Quantiles = field(default_factory=Quantiles)  # of numbers, dates and times; of texts and lists the length
    low: Any = None
    high: Any = None
    total: float = 0.0
    odd: int = 0  # NaN and infinities
    sizes: Counter[str] = field(default_factory=Counter)  # of images: height x width x channels

    def add(self, column: Any, *, image: bool) -> None:
        """Take in a batch's cells."""
        self.missing += column.null_count
        self.seen += len(column) - column.null_count
        cells = column.drop_null()
        if image:
            self.values = None
            self._images(column)
            return
        measured = self._measured(cells)
        if measured is not None and len(measured):
            finite = measured[np.isfinite(measured)]
            self.odd += len(measured) - len(finite)
            self.numbers.add(finite)
            self.total += float(finite.sum())
        if not pa.types.is_nested(cells.type) and len(cells):
            self._range(cells)
            self._count(cells)
        elif pa.types.is_nested(cells.type):
            self.values = None

    def _images(self, column: Any) -> None:
        if isinstance(column.type, pa.FixedShapeTensorType):
            self.sizes[" x ".join(map(str, column.type.shape))] += len(column) - column.null_count
            return
        for image in each_image(column):
            if image is not None:
                self.sizes[" x ".join(map(str, image.shape))] += 1

    def _measured(self, cells: Any) -> Array | None:
        """Numbers, dates and times as they are, text and lists by their length: float64; None for anything else."""
        kind = cells.type
        if is_text(kind):
            return np.asarray(pc.utf8_length(cells).to_numpy(zero_copy_only=False), np.float64)
        if _is_list(kind):
            return np.asarray(pc.list_value_length(cells).to_numpy(zero_copy_only=False), np.float64)
        plain = untimed(cells)
        if pa.types.is_integer(plain.type) or pa.types.is_floating(plain.type):
            return np.asarray(plain.to_numpy(zero_copy_only=False), np.float64)
        return None

    def _range(self, cells: Any) -> None:
        """Take in the least and the largest of numbers, dates and times, infinities and NaN aside."""
        kind = cells.type
        if pa.types.is_boolean(kind) or pa.types.is_binary(kind) or is_text(kind):
            return
        if pa.types.is_floating(kind):
            cells = cells.filter(pc.is_finite(cells))
        if len(cells):
            ends = pc.min_max(cells)
            low, high = ends["min"].as_py(), ends["max"].as_py()
            self.low = low if self.low is None else min(self.low, low)
            self.high = high if self.high is None else max(self.high, high)

    def _count(self, cells: Any) -> None:
        """Count values, until there are more than MOST_VALUES."""
        if self.values is None or pa.types.is_binary(cells.type):
            self.values = None
            return
        counted = pc.value_counts(cells)
        if len(counted) > MOST_VALUES:
            self.values = None
            return
        for pair in counted.to_pylist():
            self.values[pair["values"]] += pair["counts"]
        if len(self.values) > MOST_VALUES:
            self.values = None

    def described(self) -> dict[str, Any]:
        """The column as JSON."""
        kind = self.entry.type
        about: dict[str, Any] = {"type": str(kind), "missing": self.missing, "missing_share": self.share}
        if role := notes(self.entry).get("role"):
            about["role"] = role
        if self.sizes:
            return {**about, "type": "image", "sizes": dict(self.sizes.most_common(COMMON))}
        if self.values is not None:
            about["different"] = len(self.values)
        if is_text(kind) or _is_list(kind):
            about["length"] = self._spread()
        elif pa.types.is_boolean(kind):
            pass  # false and true have no range
        elif self.low is not None:
            about |= {"least": _plain(self.low), "most": _plain(self.high)}
            numeric = pa.types.is_integer(kind) or pa.types.is_floating(kind)
            about |= {"mean": self.total / max(self.seen - self.odd, 1), "median": self._median()} if numeric else {}
        if self.odd:
            about["not_finite"] = self.odd
        if self.values is not None and (not self.is_ordered() or len(self.values) <= COMMON):
            common = sorted(self.values.items(), key=lambda pair: (-pair[1], str(pair[0])))[:COMMON]
            about["common"] = {str(_plain(value)): count for value, count in common}
        if histogram := self._histogram():
            about["histogram"] = histogram
        return about

    @property
    def share(self) -> float:
        """The share of cells that are missing."""
        return self.missing / max(self.missing + self.seen, 1)

    def is_ordered(self) -> bool:
        """Whether the column is of numbers, dates or times."""
        kind = self.entry.type
        return pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_temporal(kind)

    def _spread(self) -> list[int] | None:
        least, most = self.numbers.at([0, 1]).tolist()
        return None if np.isnan(least) else [int(least), int(most)]

    def _median(self) -> float:
        return float(self.numbers.at([0.5])[0])

    def _histogram(self) -> list[int] | None:
        """About how many cells lie in each of 16 equal pieces of the range: from quantiles, and so in one pass."""
        ends = self.numbers.at([0, 1])
        count = self.seen - self.odd
        if not np.isfinite(ends).all() or ends[0] == ends[1] or not count:
            return None
        values = self.numbers.at(np.linspace(0, 1, min(count, 4096)).tolist())
        counts, _ = np.histogram(values, BINS, (ends[0], ends[1]))
        return [round(float(n)) for n in counts * (count / len(values))]


def _is_list(kind: pa.DataType) -> bool:
    return pa.types.is_list(kind) or pa.types.is_large_list(kind)


def inspect(source: Source, report: Report, *, label: str | None = None, rows: int = 5) -> dict[str, Any]:
    """A source in one pass, as JSON: rows, columns, the balance of the label, the first rows.

    Raises DataError for a label that is not there.
    """
    if label is not None and label not in source.schema.names:
        raise DataError(f"--label {label}: the data has no column {label}; there are: {', '.join(source.schema.names)}")
    label = label or named_with_role(source.schema, "label")
    looks = {entry.name: Look(entry) for entry in source.schema}
    pictures = image_columns(source.schema)
    balance: Counter[Any] = Counter()
    sample: list[Batch] = []
    done = 0
    for batch in source.scan():
        if done < rows:
            sample.append(batch.slice(0, rows - done))
        done += batch.num_rows
        for name, look in looks.items():
            look.add(batch.column(name), image=name in pictures)
        if label is not None:
            for pair in pc.value_counts(batch.column(label)).to_pylist():
                balance[pair["values"]] += pair["counts"]
        report(done, source.rows)
    found: dict[str, Any] = {
        "rows": done,
        "columns": {name: look.described() for name, look in looks.items()},
        "sample": [_shown_row(batch, row, pictures) for batch in sample for row in range(batch.num_rows)],
    }
    if label is not None:
        counts = sorted(balance.items(), key=lambda pair: (-pair[1], str(pair[0])))
        found |= {"label": label, "balance": {"" if v is None else str(_plain(v)): count for v, count in counts}}
    return {**found, "skipped": dict(source.skipped)} if source.skipped else found


def first_images(source: Source, most: int) -> list[Array | None]:
    """The first images of a source, for a contact sheet; raises DataError where it has none, or several columns."""
    names = image_columns(source.schema)
    if len(names) != 1:
        there = f"several columns of images ({', '.join(names)})" if names else "no images"
        raise DataError(f"a sheet shows one column of images, and the source has {there}: leave out -o")
    found: list[Array | None] = []
    for batch in source.batches(size=min(most, 64)):
        found += each_image(batch.column(names[0]))
        if len(found) >= most:
            break
    return found[:most]


def _shown_row(batch: Batch, row: int, pictures: list[str]) -> dict[str, Any]:
    return {
        name: "image" if name in pictures else _plain(batch.column(name)[row].as_py()) for name in batch.schema.names
    }


def _plain(value: Any) -> Any:
    """A value as JSON holds it."""
    if isinstance(value, float) and not np.isfinite(value):
        return str(value)
    if value is None or isinstance(value, bool | int | float | str | list):
        return value
    return f"<{len(value):,} bytes>" if isinstance(value, bytes) else str(value)


def bars(counts: list[int]) -> str:
    """A histogram in a line of eight heights; what is not empty is never blank.

    >>> bars([0, 1, 4, 8])
    ' ▁▄█'
    """
    most = max(counts)
    return "".join(" ▁▂▃▄▅▆▇█"[0 if not count else max(1, round(8 * count / most))] for count in counts)


def told(found: Mapping[str, Any]) -> str:
    """What ``inspect`` found, as people read it."""
    from genreg.outputs import as_text, shown

    table: dict[str, list[str]] = {name: [] for name in ("column", "type", "missing", "different", "range", "")}
    for name, about in found["columns"].items():
        ends = [about.get("least"), about.get("most")] if "least" in about else about.get("length") or []
        unit = " long" if about.get("length") else ""
        text = " .. ".join(f"{end:.6g}" if isinstance(end, float) else str(end) for end in ends) + unit
        sizes = ", ".join(f"{size} ({count:,})" for size, count in about.get("sizes", {}).items())
        common = ", ".join(f"{value} {count:,}" for value, count in about.get("common", {}).items())
        role = f" ({about['role']})" if "role" in about else ""
        missing = f"{about['missing']:,} ({about['missing_share']:.1%})" if about["missing"] else ""
        graph = bars(about["histogram"]) if "histogram" in about and "common" not in about else common
        different = f"{about['different']:,}" if "different" in about else ""
        for column, cell in zip(
            table, (name + role, about["type"], missing, different, sizes or text, graph), strict=True
        ):
            table[column].append(cell)
    lines = [f"{found['rows']:,} rows", "", as_text(pa.table(table))]
    if "balance" in found:
        lines += ["", f"{found['label']}:"]
        for value, count in list(found["balance"].items())[:20]:
            lines.append(f"  {shown(value) or '(none)'}  {count:,} ({count / max(found['rows'], 1):.1%})")
    for name, reason in list(found.get("skipped", {}).items())[:10]:
        lines.append(f"skipped {name}: {reason}")
    if found["sample"]:
        names = list(found["columns"])
        cells = {name: [None if row[name] is None else str(row[name]) for row in found["sample"]] for name in names}
        lines += ["", as_text(pa.table({name: pa.array(column, pa.string()) for name, column in cells.items()}))]
    return "\n".join(line.rstrip() for line in "\n".join(lines).split("\n"))
