"""Checkpoints that others wrote: offered to the families, of which exactly one may know it."""

from __future__ import annotations

import shlex
from collections.abc import Iterable
from pathlib import Path

import pyarrow as pa

from genreg.checkpoint import CONFIG, PICKLES, Checkpoint, Weights, read_json, weights_among
from genreg.entrypoints import install_line
from genreg.errors import CheckpointError
from genreg.registry import Registry
from genreg.specs import ModelFamily


def is_foreign(folder: Path) -> bool:
    """Whether the folder has a config.json that genreg did not write."""
    config = read_json(folder / CONFIG) if (folder / CONFIG).is_file() else {}
    return bool(config) and "genreg" not in config


def no_folder(path: str, registry: Registry) -> str:
    """Why a file is no model, and the verb that makes a checkpoint of such files, where a plugin has one."""
    suffix = Path(path).suffix.lower()
    why = "a pickle, which can run code when it is opened" if suffix in PICKLES else "a file"
    for plugin, known in registry.plugins.items():
        for verb, suffixes in known.get("converts", {}).items():
            if suffix in suffixes:
                way = f"genreg {verb} {shlex.quote(path)} -o FOLDER makes a checkpoint of it"
                first = "" if plugin in registry.installed else f", once {plugin} is installed: {install_line(plugin)}"
                return f"{path} is {why}: {way}{first}"
    return f"{path} is {why}: a model is a name, or the folder of a checkpoint"


def adopt(folder: Path, families: Iterable[ModelFamily]) -> Checkpoint:
    """The folder as a checkpoint of the one family that recognizes its config.json and the names of its tensors.

    Raises CheckpointError, saying what was looked at, where there are no safetensors, or not exactly one family.
    """
    try:
        name = weights_among(path.name for path in folder.iterdir())
    except CheckpointError as error:
        raise CheckpointError(f"{folder}: {error}") from None
    config, weights = read_json(folder / CONFIG), Weights.open(folder / name)
    able = [one for one in families if one.recognizes is not None and one.recognizes(config, weights.header)]
    if len(able) != 1:
        kind = config.get("_class_name") or config.get("model_type") or "nothing"
        said = "no family recognizes it" if not able else f"{' and '.join(one.name for one in able)} all claim it"
        raise CheckpointError(
            f"{folder} is no checkpoint that genreg wrote, and {said} "
            f"(config.json names {kind}; {len(weights.header)} tensors, such as {next(iter(weights.header), 'none')})"
        )
    return Checkpoint(folder, able[0].name, config, pa.schema([]), weights=weights)
