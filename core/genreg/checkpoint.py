"""A checkpoint is a folder: config.json, model.safetensors, README.md. Nothing in it is executed.

The same on disk, in a wheel and on the Hub. config.json carries ``architectures``, ``model_type`` and a ``genreg``
block: format version, family, the family's config, the chain, the data's schema, the split, the training record.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from safetensors import SafetensorError, safe_open

from genreg.data import notes
from genreg.draft import Array
from genreg.errors import CheckpointError
from genreg.files import new_folder, sha256

FORMAT = 1
CONFIG, WEIGHTS, CARD = "config.json", "model.safetensors", "README.md"
INDEX = ".safetensors.index.json"  # the end of its name: which tensor is in which shard
CHAIN_PREFIX = "chain."
LARGEST_CONFIG = 64 << 20  # bytes
PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl")


@dataclass(frozen=True)
class Weights:
    """The tensors of a checkpoint, read lazily: the header first, each tensor when it is asked for."""

    path: Path  # the file, or the index of its shards
    header: Mapping[str, tuple[tuple[int, ...], str]]  # name -> shape, dtype as the header spells it ("F32")
    shards: Mapping[str, Path] = field(default_factory=dict)  # name -> file, where there is an index

    @classmethod
    def open(cls, path: Path) -> Weights:
        """Read and check the header of a safetensors file, or those of an index's shards; raises CheckpointError."""
        if path.name.endswith(INDEX):
            shards = {name: path.with_name(shard) for name, shard in shards_of(path).items()}
            opened = map(cls.open, sorted(set(shards.values())))
            header = {name: spec for one in opened for name, spec in one.header.items()}
            if header.keys() != shards.keys():
                wrong = sorted(header.keys() ^ shards.keys())
                raise CheckpointError(f"{path} and its shards differ in {', '.join(wrong[:8])}")
            return cls(path, header, shards)
        try:
            with safe_open(str(path), framework="numpy") as file:
                slices = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118 - a file is no mapping
                return cls(path, {name: (tuple(s.get_shape()), s.get_dtype()) for name, s in slices.items()})
        except (SafetensorError, OSError) as error:
            raise CheckpointError(f"{path} is not a readable safetensors file: {error}") from None

    def numpy(self, name: str) -> Array:
        """One tensor as a NumPy array; raises CheckpointError where it is missing."""
        if name not in self.header:
            raise CheckpointError(f"{self.path} has no tensor {name}")
        path = self.shards.get(name, self.path)
        try:
            with safe_open(str(path), framework="numpy") as file:
                return np.asarray(file.get_tensor(name))
        except (SafetensorError, OSError) as error:
            raise CheckpointError(f"{path}: tensor {name} cannot be read: {error}") from None

    def by_file(self, names: Iterable[str]) -> dict[Path, list[str]]:
        """The names by the file that holds them, so that each file is opened once."""
        found: dict[Path, list[str]] = {}
        for name in names:
            found.setdefault(self.shards.get(name, self.path), []).append(name)
        return found

    @property
    def files(self) -> list[Path]:
        """All files of the weights: the one, or the index and its shards."""
        return [self.path, *sorted(set(self.shards.values()))]

    def under(self, prefix: str) -> dict[str, Array]:
        """All tensors whose names begin with the prefix, by the rest of their names."""
        return {name.removeprefix(prefix): self.numpy(name) for name in self.header if name.startswith(prefix)}

    def expect(self, wanted: Mapping[str, tuple[tuple[int, ...], str]]) -> None:
        """Compare the header with the names, shapes and dtypes wanted; raises CheckpointError with all differences."""
        own = {name: found for name, found in self.header.items() if not name.startswith(CHAIN_PREFIX)}
        wrong = [f"{name} is missing" for name in wanted if name not in own]
        wrong += [f"{name} is not expected" for name in own if name not in wanted]
        wrong += [
            f"{name} is {_spelled(own[name])}, expected {_spelled(spec)}"
            for name, spec in wanted.items()
            if name in own and (tuple(own[name][0]), own[name][1]) != (tuple(spec[0]), spec[1])
        ]
        if wrong:
            shown = "; ".join(wrong[:8]) + (f"; and {len(wrong) - 8} more" if len(wrong) > 8 else "")
            raise CheckpointError(f"{self.path} does not fit its config: {shown}")


@dataclass(frozen=True)
class Checkpoint:
    """What config.json says, checked; ``weights`` is None for a family without any."""

    folder: Path
    family: str
    config: Mapping[str, Any]
    schema: pa.Schema  # of the data, with its notes
    chain: list[Mapping[str, Any]] = field(default_factory=list)
    split: Mapping[str, Any] = field(default_factory=dict)
    training: Mapping[str, Any] = field(default_factory=dict)
    weights: Weights | None = None

    def digest(self) -> str:
        """One sha256 over config and weights: the checkpoint's identity in recipes."""
        parts = [sha256(path) for path in (self.folder / CONFIG, *(self.weights.files if self.weights else []))]
        return hashlib.sha256("".join(parts).encode()).hexdigest()


def save(
    folder: Path,
    checkpoint: Checkpoint,
    tensors: Mapping[str, Array],
    card: str,
    *,
    pictures: Mapping[str, bytes] | None = None,
    beside: Mapping[str, Mapping[str, Array]] | None = None,
    force: bool = False,
) -> None:
    """Write a checkpoint so that it appears whole or not at all; ``checkpoint.folder`` and ``weights`` are not used.

    ``beside`` holds further networks by file name, which the family knows and no run needs (a discriminator). Raises
    CheckpointError where something is there already: a checkpoint is replaced when forced, another folder never.
    """
    refuse_existing_folder(folder, force=force)
    block = {
        "format": FORMAT,
        "family": checkpoint.family,
        "config": dict(checkpoint.config),
        "chain": [dict(step) for step in checkpoint.chain],
        "schema": base64.b64encode(checkpoint.schema.serialize().to_pybytes()).decode(),
        "columns": [{"name": f.name, "type": str(f.type), **notes(f)} for f in checkpoint.schema],
        "split": dict(checkpoint.split),
        "training": dict(checkpoint.training),
    }
    config = {"architectures": [checkpoint.family], "model_type": checkpoint.family, "genreg": block}
    with new_folder(folder, replace=force) as temporary:
        (temporary / CONFIG).write_text(json.dumps(config, ensure_ascii=False, indent=2) + "\n", "utf-8")
        (temporary / CARD).write_text(card, "utf-8")
        for name, picture in (pictures or {}).items():
            (temporary / Path(name).name).write_bytes(picture)
        for name, network in {**(beside or {}), WEIGHTS: tensors}.items():
            write_tensors(temporary / name, network)


def write_tensors(path: Path, tensors: Mapping[str, Array]) -> None:
    """A safetensors file whose bytes depend on the tensors alone, readable under the umask."""
    from safetensors.numpy import save_file

    # One metadata key: with two or more the library writes them in random order. It also ignores the umask.
    save_file({name: np.asarray(tensors[name], order="C") for name in sorted(tensors)}, str(path), {"format": "pt"})
    umask = os.umask(0)
    os.umask(umask)
    path.chmod(0o666 & ~umask)


def refuse_existing_folder(folder: Path, *, force: bool) -> None:
    """Raise CheckpointError where saving to ``folder`` would overwrite something that it must not."""
    if folder.exists() and not force:
        raise CheckpointError(f"{folder} is there already: choose another name, or --force to replace it")
    if folder.exists() and not (folder.is_dir() and (folder / CONFIG).is_file()):
        raise CheckpointError(f"{folder} is no checkpoint, so --force does not replace it: choose another name")


def read(folder: Path) -> Checkpoint:
    """Read a checkpoint strictly; raises CheckpointError for what is missing, damaged, foreign or too new."""
    if not folder.is_dir():
        raise CheckpointError(f"{folder}: there is no such checkpoint folder")
    block = read_json(folder / CONFIG).get("genreg")
    if not isinstance(block, dict):
        raise CheckpointError(f"{folder / CONFIG} has no genreg block: this is not a checkpoint that genreg wrote")
    version = block.get("format")
    if type(version) is not int or version < 1:
        raise CheckpointError(f"{folder / CONFIG}: genreg.format must be a whole number from 1 on")
    if version > FORMAT:
        told = f"{folder} has checkpoint format {version}, and this genreg reads up to {FORMAT}"
        raise CheckpointError(f"{told}: upgrade genreg-core")
    wanted = {"family": str, "config": dict, "chain": list, "schema": str, "split": dict, "training": dict}
    for name, kind in wanted.items():
        if not isinstance(block.get(name), kind):
            raise CheckpointError(f"{folder / CONFIG}: genreg.{name} must be a {kind.__name__}")
    try:
        schema = pa.ipc.read_schema(pa.py_buffer(base64.b64decode(block["schema"], validate=True)))
    except (ValueError, OSError, NotImplementedError) as error:
        raise CheckpointError(f"{folder / CONFIG}: genreg.schema is damaged: {error}") from None
    return Checkpoint(
        folder, weights=_weights_in(folder), **{**{name: block[name] for name in wanted}, "schema": schema}
    )


def _weights_in(folder: Path) -> Weights | None:
    found = [folder / name for name in (WEIGHTS, f"model{INDEX}") if (folder / name).is_file()]
    return Weights.open(found[0]) if found else None


def read_json(path: Path) -> dict[str, Any]:
    """A config.json as a mapping; raises CheckpointError where it is missing, damaged or absurdly large."""
    if not path.is_file():
        raise CheckpointError(f"{path.parent} is no checkpoint: it has no {path.name}")
    if path.stat().st_size > LARGEST_CONFIG:
        raise CheckpointError(f"{path} is {path.stat().st_size:,} bytes: no config is that large")
    try:
        config = json.loads(path.read_text("utf-8-sig"))
    except (ValueError, OSError, RecursionError) as error:
        raise CheckpointError(f"{path} is not readable JSON: {error}") from None
    return config if isinstance(config, dict) else {}


def _spelled(spec: tuple[tuple[int, ...], str]) -> str:
    return f"{spec[1]} {list(spec[0])}"


def files_of(folder: Path) -> Iterator[tuple[str, Path]]:
    """The names and paths of a checkpoint's files that are there: config, weights or index and shards, card."""
    weights = _weights_in(folder)
    for path in (folder / CONFIG, *(weights.files if weights else ()), folder / CARD):
        if path.is_file():
            yield path.name, path


def weights_among(names: Iterable[str]) -> str:
    """The file or index that holds a folder's weights, among the names of its files; raises CheckpointError.

    ``model.safetensors`` comes first, then an index, then the only .safetensors that is no variant (``x.fp16``).
    """
    there = sorted(names)
    if WEIGHTS in there:
        return WEIGHTS
    indexes = [name for name in there if name.endswith(INDEX)]
    files = indexes or [name for name in there if name.endswith(".safetensors")]
    plain = [name for name in files if "." not in name.removesuffix(INDEX).removesuffix(".safetensors")] or files
    if len(plain) == 1:
        return plain[0]
    pickled = next((name for name in there if name.endswith(PICKLES)), None)
    why = f"{pickled} is a pickle, which can run code: convert it to safetensors" if pickled else "it has none"
    raise CheckpointError(f"one .safetensors file is needed: {f'it has {len(plain)}' if plain else why}")


def shards_of(index: Path) -> dict[str, str]:
    """Which tensor is in which file, by a .safetensors.index.json; raises CheckpointError for names of other files."""
    found = read_json(index).get("weight_map")
    if not isinstance(found, dict) or not found or not all(isinstance(name, str) for name in found.values()):
        raise CheckpointError(f"{index} is no index: weight_map must say the file of each tensor")
    for name in found.values():
        if not name.endswith(".safetensors") or name.startswith(".") or {"/", "\\", "\0"} & set(name):
            raise CheckpointError(f"{index}: {name!r} is no plain name of a .safetensors file")
    return found
