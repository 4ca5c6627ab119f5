"""Prepared data as a folder: a file per part and format, and the manifest that makes them again, byte for byte."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow.compute as pc

from genreg.checkpoint import Weights, write_tensors
from genreg.data import Source, named_with_role
from genreg.errors import DataError, UsageError
from genreg.files import new_folder, reason, sha256
from genreg.loading import writer_of
from genreg.options import parse_call
from genreg.plugins import Components, load_plugins
from genreg.preprocess import Chain, restore_chain
from genreg.recipe import versions
from genreg.schemafile import beside, write_schema
from genreg.several import matched
from genreg.specs import Report
from genreg_data.files import read, schema_path
from genreg_data.pipeline import Prepared, run_steps

MANIFEST, MAPS = "manifest.json", "maps.safetensors"


@dataclass(frozen=True)
class Order:
    """What is to be prepared: everything that the outcome follows from."""

    source: str
    steps: Sequence[str]
    loader: str | None = None
    formats: Sequence[str] = ("parquet",)
    seed: int = 0
    strict: bool = False  # stop at a broken image, which is otherwise left out and named

    def inputs(self) -> dict[str, str]:
        """The files that are read, by their names, with their sha256; raises DataError for one that is not there."""
        files = [] if "://" in self.source else matched(self.source)
        files = [file for one in files for file in (sorted(one.rglob("*")) if one.is_dir() else [one, beside(one)])]
        for call in self.steps:
            files += [Path(value) for knob, value in parse_call(call, "--steps")[1].items() if knob == "file"]
        return {file.as_posix(): sha256(file) for file in files if file.is_file()}


def prepare(order: Order, out: Path, report: Report, *, force: bool = False) -> dict[str, Any]:
    """Run the order and write the folder ``out``, whole or not at all; returns its manifest.

    Raises UsageError for what is asked wrong, DataError for data that the steps do not fit.
    """
    return _write(order, out, report, force=force, promised=None)


def reproduce(path: Path, out: Path | None, report: Report, *, force: bool = False) -> dict[str, Any]:
    """Make the files of a manifest again, where it lies or in ``out``; returns it.

    Raises DataError where an input is not the one that it was made from, or a file does not come out as it says.
    """
    path = path / MANIFEST if path.is_dir() else path
    manifest = read_manifest(path)
    order = Order(**{name: manifest[name] for name in ("source", "steps", "loader", "formats", "seed", "strict")})
    found = order.inputs()
    for name, digest in manifest["inputs"].items():
        if found.get(name) != digest:
            what = "is another file than the manifest's" if name in found else "is not there"
            raise DataError(f"{path.name} does not fit its files: {name} {what} (sha256 {digest[:12]}…)")
    if extra := sorted(found.keys() - manifest["inputs"].keys()):
        raise DataError(f"{path.name} does not fit its files: {extra[0]} was not there when it was made")
    home = path.parent if out is None else out
    if out is None:
        for name, digest in manifest["files"].items():
            if (home / name).is_file() and sha256(home / name) != digest and not force:
                raise DataError(f"{path.name} does not fit its files: {name} was changed: --force makes it anew")
    return _write(order, home, report, force=force or out is None, promised=manifest)


def read_manifest(path: Path) -> dict[str, Any]:
    """A manifest (a file, or in its folder); raises DataError where it is none."""
    path = path / MANIFEST if path.is_dir() else path
    try:
        manifest = json.loads(path.read_text("utf-8"))
        if manifest["genreg_manifest"] != 1:
            raise DataError(f"{path.name} is of format {manifest['genreg_manifest']}, and this genreg reads format 1")
        kinds = {"source": str, "steps": list, "formats": list, "seed": int, "inputs": dict, "files": dict}
        for name, kind in kinds.items():
            if not isinstance(manifest[name], kind):
                raise TypeError(f"{name} must be a {kind.__name__}")
            held = manifest[name].values() if kind is dict else manifest[name] if kind is list else ()
            if not all(isinstance(one, str) for one in held):
                raise TypeError(f"{name} must hold texts")
        manifest.setdefault("loader", None)
        manifest.setdefault("strict", False)
    except OSError as error:
        raise DataError(f"{path} cannot be read: {reason(error).lower()}") from None
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise DataError(f"{path} is no manifest: {type(error).__name__}: {error}") from None
    return dict(manifest)


def read_maps(folder: str | Path) -> Chain:
    """The maps of a prepared folder: ``undo`` brings rows back to the data's units."""
    folder = Path(folder)
    manifest = read_manifest(folder)
    tensors = Weights.open(folder / MAPS).under("") if (folder / MAPS).is_file() else {}
    components = load_plugins()
    return restore_chain(manifest["maps"], tensors, lambda name: components.find("preprocessors", name))


def _write(
    order: Order, out: Path, report: Report, *, force: bool, promised: Mapping[str, Any] | None
) -> dict[str, Any]:
    """Read, run the steps and write the folder; the files must be those ``promised`` by a manifest, if there is one."""
    components = load_plugins()
    _refuse_output(out, order, components, force=force)
    inputs = order.inputs()
    with _scratch(out) as scratch:
        source = read([order.source], components.loaders, order.loader, strict=order.strict)
        done = run_steps(source, order.steps, components, scratch, report, seed=order.seed)
        with new_folder(out, replace=True) as folder:
            _write_parts(done, order, folder, components)
            manifest = _manifest(order, inputs, done, source, folder, components)
            if promised is not None:
                _refuse_different(promised, manifest)
                manifest = dict(promised)  # its text too: what it says of versions is of when it was made
            text = json.dumps(manifest, ensure_ascii=False, indent=1)
            (folder / MANIFEST).write_text(text + "\n", "utf-8")
    return manifest


def _write_parts(done: Prepared, order: Order, folder: Path, components: Components) -> None:
    """A file per part and format, with its schema beside text, and the maps' tensors."""
    for part, source in done.parts.items():
        for form in order.formats:
            path = folder / f"{part}.{form}"
            writer_of(path, components.loaders)(source.scan(), source.schema, path)
            if (typed := schema_path(str(path))) is not None:
                write_schema(source.schema, typed)
    if tensors := done.chain.state()[1]:
        write_tensors(folder / MAPS, tensors)


def _manifest(
    order: Order, inputs: dict[str, str], done: Prepared, source: Source, folder: Path, components: Components
) -> dict[str, Any]:
    """All that the files follow from, and what was found on the way: JSON."""
    owners = {components.owners["preprocessors", name] for name in map(_name, order.steps) if name != "split"}
    return {
        "genreg_manifest": 1,
        "source": order.source,
        "loader": order.loader,
        "steps": list(order.steps),
        "formats": list(order.formats),
        "seed": order.seed,
        "strict": order.strict,
        "inputs": inputs,
        "rows": {part: rows.rows for part, rows in done.parts.items()},
        "labels": {part: balance for part, rows in done.parts.items() if (balance := _balance(rows))},
        "skipped": dict(source.skipped),
        "report": [account.described() for account in done.accounts],
        "maps": done.chain.state()[0],
        "files": {file.name: sha256(file) for file in sorted(folder.iterdir())},
        "versions": {
            name: number for owner in sorted(owners | {"genreg-data"}) for name, number in versions(owner).items()
        },
    }


def _balance(source: Source) -> dict[str, int]:
    """How many rows each label has, the most first, before the maps."""
    table = source.table
    name = named_with_role(table.schema, "label") if table is not None else None
    if table is None or name is None:
        return {}
    counts = [(str(pair["values"]), pair["counts"]) for pair in pc.value_counts(table.column(name)).to_pylist()]
    return dict(sorted(counts, key=lambda pair: (-pair[1], pair[0])))


def _refuse_different(promised: Mapping[str, Any], made: Mapping[str, Any]) -> None:
    """Raise DataError where a file did not come out as promised."""
    for name in sorted(promised["files"].keys() | made["files"].keys()):
        if promised["files"].get(name) != made["files"].get(name):
            then, now = (dict(one.get("versions", {})) for one in (promised, made))
            other = ", ".join(f"{one} {then.get(one)} then, {now[one]} now" for one in now if then.get(one) != now[one])
            why = f"other versions made it ({other})" if other else "the manifest was changed"
            raise DataError(f"{MANIFEST} does not fit its files: {name} comes out otherwise: {why}")


def _refuse_output(out: Path, order: Order, components: Components, *, force: bool) -> None:
    """Raise UsageError where the folder would replace something unasked, or a format has no writer."""
    for form in order.formats:
        if "/" in form or "\\" in form:
            raise UsageError(f"--format {form}: write the suffix of a format, such as csv")
        writer_of(f"part.{form}", components.loaders)
    for call in order.steps:
        if _name(call) != "split":
            components.find("preprocessors", _name(call))
    if not out.exists():
        return
    if not force:
        raise UsageError(f"{out} is there already: choose another name, or --force to replace it")
    if not out.is_dir() or not (out / MANIFEST).is_file():
        raise UsageError(f"{out} is no folder of prepared data, so --force does not replace it: choose another name")
    known = {MANIFEST, *read_manifest(out)["files"]}
    if strange := sorted(file.name for file in out.iterdir() if file.name not in known):
        raise UsageError(f"{out} holds {strange[0]}, which the manifest does not know: move it, or choose another name")


@contextmanager
def _scratch(out: Path) -> Iterator[Path]:
    """A folder for rows that do not fit in memory: on the disk of the output, for /tmp may be memory."""
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=out.parent, prefix=f".{out.name}.", suffix=".tmp") as folder:
            yield Path(folder)
    except OSError as error:
        raise UsageError(f"{out} cannot be written: {reason(error)}; nothing was left half done") from error


def _name(call: str) -> str:
    return parse_call(call, "--steps")[0]
