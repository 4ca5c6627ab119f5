"""How to make an output again: written beside it as OUT.recipe.json."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from genreg import __version__
from genreg.draft import Batch, Seeds
from genreg.errors import UsageError
from genreg.files import new_file, sha256
from genreg.images import BESIDE, embedded_recipe

MOST_SAMPLES = 100_000_000  # in one run: their seeds are held in memory
KINDS = {"model": str, "seeds": str, "n": int, "given": dict, "samplers": list, "options": dict}  # of a recipe's fields
LARGEST_GIVEN = 64_000  # bytes of conditions kept word for word; above, the file's name and sha256


@dataclass(frozen=True)
class Recipe:
    """What made an output. ``given`` is {values}, {rows}, or {file, sha256}."""

    model: str
    seeds: str
    n: int = 1
    given: Mapping[str, Any] = field(default_factory=dict)
    key: str | None = None
    samplers: Sequence[str] = ()
    options: Mapping[str, Any] = field(default_factory=dict)
    checkpoint: str | None = None  # sha256 over config and weights
    versions: Mapping[str, str] = field(default_factory=dict)
    shard: str | None = None  # 3/8: this part of the rows alone
    used: Mapping[str, Any] = field(default_factory=dict)  # what it took: requests, tokens, cost
    not_ok: int = 0  # rows that were refused, filtered, cut off or failed
    recipe: int = 1  # the format

    def text(self) -> str:
        """The recipe as JSON."""
        whole = {name: value for name, value in asdict(self).items() if name not in ("used", "not_ok") or value}
        return json.dumps(whole, ensure_ascii=False, indent=2, default=str) + "\n"

    def differs(self, other: Recipe, free: frozenset[str] = frozenset()) -> str | None:
        """The first field in which another recipe asks for something else, apart from the ``free`` options."""
        ours, theirs = (json.loads(replace(one, used={}, not_ok=0).text()) for one in (self, other))
        for recipe in (ours, theirs):
            recipe["options"] = {name: value for name, value in recipe["options"].items() if name not in free}
        order = sorted(ours, key="seeds".__eq__)  # last: they follow from the rest
        return next((name for name in order if ours[name] != theirs[name]), None)

    def of_seed(self, seed: int | None) -> Recipe:
        """The recipe of one sample alone; the whole one where conditions differ from row to row."""
        whole = seed is None or {"rows", "file"} & self.given.keys()
        return self if whole else replace(self, seeds=str(seed), n=1)


def parse_seeds(text: str) -> Seeds:
    """``1,5-9`` in the order written, as uint64; raises UsageError."""
    runs = []
    for part in text.split(","):
        low, dash, high = (piece.strip() for piece in part.partition("-"))
        if len(part) > 50 or not low.isdecimal() or (dash and not high.isdecimal()) or int(high or low) < int(low):
            raise UsageError(f"--seeds {text}: write whole numbers and ranges, such as 1,5-9")
        if int(high or low) >= 2**64:
            raise UsageError(f"--seeds {text}: seeds lie between 0 and {2**64 - 1}")
        if int(high or low) - int(low) >= MOST_SAMPLES:
            raise UsageError(f"--seeds {text}: that is more than {MOST_SAMPLES:,} samples: draw them in several runs")
        runs.append(np.arange(int(high or low) - int(low) + 1, dtype=np.uint64) + np.uint64(int(low)))
    return np.concatenate(runs)


def spell_seeds(seeds: Seeds) -> str:
    """Seeds as ranges, in their order.

    >>> spell_seeds(np.array([1, 5, 6, 7, 9], np.uint64))
    '1,5-7,9'
    """
    if not len(seeds):
        return ""
    values = seeds.astype(np.uint64, copy=False)
    breaks = np.flatnonzero((values[1:] != values[:-1] + np.uint64(1)) | (values[1:] == 0)) + 1
    runs = [(int(run[0]), int(run[-1])) for run in np.split(values, breaks)]
    return ",".join(str(low) if low == high else f"{low}-{high}" for low, high in runs)


def summed(parts: Sequence[Any]) -> Any:
    """What several runs used together: numbers are added, mappings key by key; anything else is as the first has it.

    >>> summed([{"cost": 1.5, "host": "x", "outcomes": {"ok": 2}}, {"cost": 1, "host": "x", "outcomes": {"failed": 1}}])
    {'cost': 2.5, 'host': 'x', 'outcomes': {'ok': 2, 'failed': 1}}
    """
    if isinstance(parts[0], Mapping):
        names = dict.fromkeys(name for part in parts for name in part)
        return {name: summed([part[name] for part in parts if name in part]) for name in names}
    return sum(parts) if isinstance(parts[0], (int, float)) else parts[0]


def versions(plugin: str | None) -> dict[str, str]:
    """The versions that a sample depends on."""
    names = [name for name in (plugin, "numpy", "pyarrow") if name and name != "genreg-core"]
    return {"genreg-core": __version__, **{name: version(name) for name in names}}


def keep_given(
    values: Mapping[str, Any], file: Path | None, rows: Sequence[Mapping[str, Any]] | None
) -> dict[str, Any]:
    """The conditions as a recipe holds them."""
    if file is not None and rows is not None and len(json.dumps(rows, ensure_ascii=False).encode()) <= LARGEST_GIVEN:
        return {"rows": rows}  # with the values in them
    kept: dict[str, Any] = {"values": dict(values)} if values else {}
    return kept | ({"file": str(file), "sha256": sha256(file)} if file is not None else {})


def image_digest(given: Batch) -> str | None:
    """The sha256 of all images among the conditions, so that a changed file is noticed; None without images."""
    flat: list[Any] = [c.flatten() if isinstance(c, pa.ListArray) else c for c in given.columns]
    binary = [c for c in flat if pa.types.is_binary(c.type) or pa.types.is_large_binary(c.type)]
    cells = [cell for column in binary for cell in column.drop_null().to_pylist()]
    return hashlib.sha256(b"".join(hashlib.sha256(cell).digest() for cell in cells)).hexdigest() if cells else None


def recipe_path(output: Path) -> Path:
    """The recipe that lies beside an output; a recipe's own path is itself."""
    return output if f".{output.name}".endswith(BESIDE) else Path(f"{output}{BESIDE}")


def write_recipe(output: Path, recipe: Recipe) -> None:
    """Write the recipe beside its output, whole or not at all."""
    with new_file(recipe_path(output), force=True) as temporary:
        temporary.write_text(recipe.text(), "utf-8")


def read_recipe(output: Path) -> Recipe:
    """The recipe beside an output, or inside a PNG; raises UsageError where there is none or it is damaged."""
    path = recipe_path(output)
    beside = os.path.isfile(path)  # noqa: PTH113 - pathlib raises where a name is too long
    inside = None if beside else embedded_recipe(output)
    if not beside and not inside:
        raise UsageError(f"{output} has no recipe beside it ({path.name})")
    try:
        found = json.loads(inside or path.read_text("utf-8"))
        if found["recipe"] != 1:
            raise UsageError(f"{path}: recipe format {found['recipe']} is not known to this genreg")
        for name, kind in KINDS.items():
            if not isinstance(found.get(name, kind()), kind):
                raise TypeError(f"{name} must be a {kind.__name__}")
        return Recipe(**found)
    except (ValueError, TypeError, KeyError) as error:
        raise UsageError(f"{output if inside else path} is no recipe: {error}") from None
