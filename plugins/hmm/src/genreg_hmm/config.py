"""What a hidden Markov model is told, and what it remembers of the sequences: readable without what computes."""

from __future__ import annotations

import re
from typing import Any, Literal, NamedTuple

import pyarrow as pa
from pydantic import Field, field_validator, model_validator

from genreg.data import notes
from genreg.errors import DataError
from genreg.specs import Condition, Settings

INTERNAL: dict[str, Any] = {"internal": True}
LONGEST = 10_000  # steps that a sample with a learned end may take
MOST_STATES = 1024

Kind = Literal["gaussian", "poisson", "categorical", "text"]


class Column(Settings, frozen=True):
    """A column of sequences as the model sees it."""

    name: str
    kind: Kind
    values: list[Any] = Field(default=[])  # the symbols, in the order of their codes


class Part(NamedTuple):
    """Columns that one emission covers: all Gaussian ones together, all counts together, symbols each alone."""

    kind: Kind
    columns: list[Column]


class Config(Settings, frozen=True):
    """The settings of training, and what training found."""

    states: int | str = Field(default=4, description="how many hidden states, or a range such as 2-12 to choose from")
    emission: Literal["auto", "gaussian", "categorical", "poisson"] = Field(
        default="auto",
        description="of list columns: auto takes decimals as gaussian, whole numbers as poisson, text as categorical",
    )
    covariance: Literal["diag", "spherical", "full", "tied"] = Field(
        default="diag", description="of gaussian columns: tied is one full matrix for all states"
    )
    unit: Literal["character", "word"] = Field(default="character", description="a step of a text column")
    topology: Literal["ergodic", "left-right", "banded"] = Field(
        default="ergodic", description="which transitions there are"
    )
    band: int | None = Field(
        default=None,
        ge=1,
        description="how many states a transition may skip to: banded to both sides (1), left-right ahead",
    )
    mask: list[list[int]] = Field(default=[], description="rows of 0 and 1, one per state, in place of a topology")
    end: bool = Field(
        default=False, description="learn in which states sequences end, so that samples end by themselves"
    )
    start: Literal["kmeans", "random"] = Field(
        default="kmeans", description="where EM starts; symbols always start at random"
    )
    restarts: int = Field(default=1, ge=1, le=1000, description="starts, of which the best is kept")
    iterations: int = Field(default=100, ge=1, description="EM steps at most")
    tolerance: float = Field(default=1e-5, ge=0, description="stop when a step gains fewer nats per observation")
    transition_prior: float = Field(
        default=1.0001, ge=1, description="Dirichlet prior of starts, transitions and ends; 1 is none"
    )
    emission_prior: float = Field(
        default=1.0001, ge=1, description="Dirichlet prior of symbols, gamma shape of rates; 1 is none"
    )
    variance_prior: float = Field(default=0.0, ge=0, description="added to each state's sum of squared deviations")
    variance_floor: float = Field(default=1e-6, gt=0, description="least variance, as a share of the column's own")
    criterion: Literal["held-out", "bic", "aic"] = Field(
        default="held-out", description="what chooses among a range of states; without validation rows bic does"
    )
    columns: list[Column] = Field(default=[], json_schema_extra=INTERNAL)
    length: int = Field(default=100, ge=1, json_schema_extra=INTERNAL)  # the median length of training sequences
    steps: int = Field(default=0, ge=0, json_schema_extra=INTERNAL)  # of all training sequences

    @field_validator("states")
    @classmethod
    def _a_count_or_a_range(cls, states: int | str) -> int | str:
        low, high = bounds(states)
        if not 1 <= low <= high <= MOST_STATES:
            raise ValueError(f"write a whole number from 1 to {MOST_STATES}, or a range such as 2-12")
        return states

    @model_validator(mode="after")
    def _the_mask_fits(self) -> Config:
        if self.mask:
            low, high = bounds(self.states)
            size = len(self.mask)
            if low != high or size != low or any(len(row) != size for row in self.mask):
                raise ValueError(f"the mask needs one row and one column per state, and states={self.states}")
            if any(cell not in (0, 1) for row in self.mask for cell in row):
                raise ValueError("the mask holds 0 and 1")
            if not all(any(row) for row in self.mask):
                raise ValueError("each row of the mask must allow a transition, to the state itself at least")
        return self

    @property
    def size(self) -> int:
        """K, the number of states; of a range, the lower end."""
        return bounds(self.states)[0]

    @property
    def parts(self) -> list[Part]:
        """The columns by the emission that covers them."""
        dense = [Part(kind, [c for c in self.columns if c.kind == kind]) for kind in ("gaussian", "poisson")]
        return [part for part in dense if part.columns] + [
            Part(column.kind, [column]) for column in self.columns if column.kind in ("categorical", "text")
        ]


def bounds(states: int | str) -> tuple[int, int]:
    """The least and the largest number of states; (0, 0) where it is neither a number nor a range.

    >>> bounds("2-12"), bounds(8), bounds("many")
    ((2, 12), (8, 8), (0, 0))
    """
    found = re.fullmatch(r"(\d{1,6})(?:-(\d{1,6}))?", str(states))
    return (int(found[1]), int(found[2] or found[1])) if found else (0, 0)


def kind_of(field: pa.Field[Any], config: Config) -> Kind:
    """How a column is modelled; raises DataError for one that holds no sequences."""
    type_: Any = field.type
    if pa.types.is_string(type_) or pa.types.is_large_string(type_):
        return "text"
    if not (pa.types.is_list(type_) or pa.types.is_large_list(type_)):
        raise DataError(
            f"column {field.name} holds {type_}, and hmm takes sequences: a list in each row, or text; "
            f"leave it out with --drop {field.name}"
        )
    leaf = type_.value_type
    text = pa.types.is_string(leaf) or pa.types.is_large_string(leaf) or pa.types.is_boolean(leaf)
    numbers = pa.types.is_integer(leaf) or pa.types.is_floating(leaf)
    if not (text or numbers):
        raise DataError(
            f"column {field.name} holds lists of {leaf}, neither numbers nor text: "
            f"leave it out with --drop {field.name}"
        )
    if text or notes(field).get("values"):
        return "categorical"
    if config.emission != "auto":
        return config.emission
    return "poisson" if pa.types.is_integer(leaf) else "gaussian"


def columns(config: Config) -> pa.Schema:
    """The sequences in the model's units: text, or lists of float64 or of the symbols' own type."""
    fields: list[Any] = []
    for column in config.columns:
        if column.kind == "text":
            fields.append(pa.field(column.name, pa.string()))
        elif column.kind == "categorical":
            leaf = pa.array(column.values).type if column.values else pa.string()
            fields.append(pa.field(column.name, pa.list_(leaf)))
        else:
            fields.append(pa.field(column.name, pa.list_(pa.int64() if column.kind == "poisson" else pa.float64())))
    return pa.schema(fields)


def conditions(config: Config) -> list[Condition]:
    """A prefix of the first column; each column can be given, with nulls to fill in."""
    schema = columns(config)
    if not len(schema):
        return []
    default = "" if config.end else f", {config.length} beyond the prefix where it is not set"
    found = [
        Condition("prefix", schema.field(0).type, f"how {schema.names[0]} begins: kept, and continued"),
        Condition("length", pa.int64(), f"steps of the sample, the prefix among them{default}"),
        Condition("temperature", pa.float64(), "of the emissions: 0 takes the likeliest", default=1.0),
    ]
    if all(column.kind != "gaussian" for column in config.columns):
        found.append(Condition("top_k", pa.int64(), "draw from the k likeliest symbols of a state"))
        found.append(Condition("top_p", pa.float64(), "draw from the likeliest symbols that hold this share"))
    for column in config.columns:
        what = (
            "the whole text, as observed" if column.kind == "text" else "an observed sequence; its nulls are filled in"
        )
        found.append(Condition(column.name, schema.field(column.name).type, what, column=column.name))
    return found
