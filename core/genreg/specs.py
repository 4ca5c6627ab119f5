"""What a plugin hands over: frozen records, readable without importing what computes.

Loaders, preprocessors and samplers are plain functions in a record. A function's name, first docstring line and
keyword-only annotated parameters are the command line's name, help and options.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

import pyarrow as pa
from pydantic import BaseModel

from genreg.draft import Array, Batch, Draft, Model

if TYPE_CHECKING:
    from genreg.checkpoint import Weights
    from genreg.data import Source


FREE: dict[str, Any] = {"free": True}  # json_schema_extra of a setting that may change when a run is resumed


class Settings(BaseModel, extra="forbid", frozen=True):
    """The base of a family's ``config`` and ``options``: what it does not declare is refused."""


def free_fields(model: type[BaseModel]) -> set[str]:
    """The fields that may change when a run is resumed: those that are FREE."""
    extras = {name: field.json_schema_extra for name, field in model.model_fields.items()}
    return {name for name, extra in extras.items() if isinstance(extra, dict) and extra.get("free")}


def fixed(config: BaseModel) -> dict[str, Any]:
    """What of a config must be the same when a run is resumed, as JSON: all but the fields that are FREE."""
    return config.model_dump(mode="json", exclude=free_fields(type(config)))


@dataclass(frozen=True)
class Condition:
    """A column of ``given``: a label, a prefix, a temperature, a picture, an observed feature."""

    name: str
    type: pa.DataType  # as the model sees it
    help: str
    default: Any = None
    column: str | None = None  # the data column that it is, in given too: the maps are applied to it


class Report(Protocol):
    """Progress of long work: called with what is done, what there is in all (None: unknown), and figures to show."""

    def __call__(self, done: int, total: int | None = None, /, **figures: float) -> None:
        """Tell that ``done`` of ``total`` units of work are finished."""
        ...


@dataclass(frozen=True)
class Trained:
    """What ``fit`` returns: the weights, the config they belong to, what was measured, pictures for the model card."""

    tensors: Mapping[str, Array]
    config: BaseModel
    metrics: Mapping[str, float] = field(default_factory=dict)
    pictures: Mapping[str, bytes] = field(default_factory=dict)  # file name -> PNG


@dataclass(frozen=True)
class ModelFamily:
    """An architecture: how it is described, configured, conditioned, loaded and fitted.

    ``load(config, options, weights)`` and ``fit(config, options, train, validation, *, seed, folder, report)`` import
    what computes. ``fit`` continues what ``folder``, the run's own, already holds.
    """

    name: str
    summary: str
    makes: str  # table, sequence, text, image
    draft: str  # a phrase for people: "z [64], normal"
    config: type[BaseModel]  # what config.json must satisfy, and what `train --set` takes
    options: type[BaseModel]  # how to load
    columns: Callable[[Any], pa.Schema]  # of a config: the core casts every batch to it
    load: Callable[[Any, Any, Weights | None], Model]
    conditions: Callable[[Any], list[Condition]] = lambda _: []
    fit: Callable[..., Trained] | None = None
    recognizes: Callable[[Mapping[str, Any], Iterable[str]], bool] | None = None  # foreign checkpoints
    estimate: Callable[[Any, Any, Source], Mapping[str, str]] | None = None  # of a fit: what `train --dry-run` adds
    repeatable: bool = True  # False: the same seed may not give the same sample (a remote API)
    takes_weights: bool = False  # fit counts a row by the column whose role is weight
    preprocess: tuple[str, ...] = ()  # maps that training adds unless the user names them
    batch: int = 1024  # rows rendered at a time
    tolerance: float = 0.0  # by how much, relative to the largest value, a sample may depend on the rows beside it


@dataclass(frozen=True)
class Sampler:
    """A pure edit of a draft; ``row`` works in windows, ``all`` sees the whole draft."""

    edit: Callable[..., Draft]
    scope: Literal["row", "all"] = "row"

    @property
    def name(self) -> str:
        """The function's name."""
        return self.edit.__name__


class Write(Protocol):
    """Writes batches of one schema to a file that does not exist yet; knobs are keyword-only."""

    def __call__(self, batches: Iterable[Batch], schema: pa.Schema, path: Path, /) -> None:
        """Write all batches, in bounded memory."""
        ...


@dataclass(frozen=True)
class DataLoader:
    """Reads files of the suffixes, or references of the schemes, as a Source; writes them where it can."""

    read: Callable[..., Source]
    suffixes: tuple[str, ...] = ()
    schemes: tuple[str, ...] = ()
    write: Write | None = None
    packed: bool = False  # the files may lie within gzip or zstd
    several: bool = False  # read takes a list of paths too, as one table

    @property
    def name(self) -> str:
        """The reading function's name."""
        return self.read.__name__


class Fitted(Protocol):
    """A fitted step: applies itself to a batch, and can be written down as JSON and tensors."""

    def apply(self, batch: Batch, /) -> Batch:
        """The batch after the step; columns that it does not know, or that are absent, are left alone."""
        ...

    def state(self) -> tuple[dict[str, Any], dict[str, Array]]:
        """JSON and tensors from which ``restore`` makes the same step."""
        ...


class FittedMap(Fitted, Protocol):
    """A fitted map takes each column alone and can be undone."""

    def undo(self, batch: Batch, /) -> Batch:
        """The inverse of apply, for the columns present."""
        ...

    def log_jacobian(self, batch: Batch, /) -> Array:
        """log |d apply / d data| summed over the mapped columns present and not null: float64 [n]."""
        ...


@dataclass(frozen=True)
class Preprocessor:
    """A step before the model: ``clean`` acts on training rows only, a ``map`` is undone after generation."""

    fit: Callable[..., Fitted]  # fit(source, *, knobs): the source is tagged train
    restore: Callable[[Mapping[str, Any], Mapping[str, Array]], Fitted]
    kind: Literal["clean", "map"] = "map"

    @property
    def name(self) -> str:
        """The fitting function's name."""
        return self.fit.__name__


def summary(function: Callable[..., Any]) -> str:
    """The first docstring line, without its full stop: the command line's help."""
    return (inspect.getdoc(function) or "").partition("\n")[0].rstrip(".")
