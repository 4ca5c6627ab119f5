"""What naive Bayes is told, and what it remembers of the table: readable without what computes."""

from __future__ import annotations

import json
import re
from functools import cached_property
from typing import Any, Literal

import pyarrow as pa
from pydantic import Field, field_validator, model_validator

from genreg.data import named_with_role, noted, notes
from genreg.errors import DataError, UsageError, did_you_mean
from genreg.specs import Condition, Settings

INTERNAL: dict[str, Any] = {"internal": True}


class Column(Settings, frozen=True):
    """A column of the table as the model sees it."""

    name: str
    kind: Literal["gaussian", "categorical", "bernoulli", "multinomial"]
    values: list[Any] = Field(default=[])  # of a category: the value of each code, in order


class Config(Settings, frozen=True):
    """The settings of training, and the columns that training found."""

    alpha: float = Field(default=1.0, gt=0, le=1e12, description="added to the count of every level of a category")
    var_smoothing: float = Field(
        default=1e-9, ge=0, le=1e12, description="added to a variance, as a share of its column's overall variance"
    )
    priors: Literal["empirical", "uniform"] | list[float] = Field(
        default="empirical",
        description="of the classes: as counted, all equal, or a list in the order of the label's values",
    )
    bernoulli: list[str] = Field(default=[], description="columns that hold 0 and 1; * stands for any text")
    multinomial: list[str] = Field(
        default=[], description="columns of counts that share out a row's total; * stands for any text"
    )
    label: str | None = Field(default=None, json_schema_extra=INTERNAL)
    columns: list[Column] = Field(default=[], json_schema_extra=INTERNAL)  # in training's order, with the label

    @field_validator("priors")
    @classmethod
    def _a_distribution(cls, priors: str | list[float]) -> str | list[float]:
        if isinstance(priors, list) and not (all(p > 0 for p in priors) and abs(sum(priors) - 1) < 1e-6):
            raise ValueError("the probabilities of the classes must be above 0 and sum to 1")
        return priors

    @model_validator(mode="after")
    def _label_is_a_category(self) -> Config:
        if self.label is not None and not any(c.name == self.label and c.kind == "categorical" for c in self.columns):
            raise ValueError(f"the label {self.label} must be one of the columns, a categorical one")
        return self

    @cached_property
    def classes(self) -> list[Any]:
        """The label's values; one nameless class where there is no label."""
        return next((column.values for column in self.columns if column.name == self.label), [None])

    @cached_property
    def gaussian(self) -> list[str]:
        """The names of the G Gaussian columns."""
        return [column.name for column in self.columns if column.kind == "gaussian"]

    @cached_property
    def counts(self) -> list[str]:
        """The names of the V multinomial columns."""
        return [column.name for column in self.columns if column.kind == "multinomial"]

    @cached_property
    def binary(self) -> set[str]:
        """The names of the Bernoulli columns: those of the blocks whose levels are the numbers 0 and 1."""
        return {column.name for column in self.columns if column.kind == "bernoulli"}

    @cached_property
    def blocks(self) -> list[tuple[str, slice]]:
        """The K categorical and Bernoulli columns, the label aside, and the place of each among the W levels of all.

        A column of k values has k + 1 levels: the last is the bucket of values that training did not see.
        """
        blocks, start = [], 0
        for column in self.columns:
            if column.kind in ("categorical", "bernoulli") and column.name != self.label:
                levels = 2 if column.kind == "bernoulli" else len(column.values)
                blocks.append((column.name, slice(start, start + levels + 1)))
                start = blocks[-1][1].stop
        return blocks

    @cached_property
    def width(self) -> int:
        """W, the number of levels of all categorical columns."""
        return self.blocks[-1][1].stop if self.blocks else 0


def described(config: Config, schema: pa.Schema) -> Config:
    """The config with the columns of a schema, the weight aside.

    Categories have noted values; yes/no and the columns that ``bernoulli`` names are Bernoulli, those that
    ``multinomial`` names share a total, and all other columns must be numbers. Raises DataError and UsageError by name.
    """
    label = named_with_role(schema, "label")
    own = [field for field in schema if notes(field).get("role") != "weight"]
    named = {
        kind: _named(patterns, kind, [field.name for field in own if field.name != label])
        for kind, patterns in (("bernoulli", config.bernoulli), ("multinomial", config.multinomial))
    }
    twice = sorted(named["bernoulli"] & named["multinomial"])
    if twice:
        raise UsageError(f"column {twice[0]} is named by bernoulli and by multinomial: it has one kind")
    kinds = {name: kind for kind in named for name in named[kind]}
    columns = [_column(field, label, kinds.get(field.name)) for field in own]
    settings = {name: getattr(config, name) for name in Config.model_fields}
    return Config(**{**settings, "label": label, "columns": columns})


def _named(patterns: list[str], kind: str, names: list[str]) -> set[str]:
    """The columns that match the patterns; raises UsageError for a pattern that none does."""
    found: set[str] = set()
    for pattern in patterns:
        letters = re.compile(".*".join(map(re.escape, pattern.split("*"))), re.DOTALL)
        matched = [name for name in names if name == pattern or letters.fullmatch(name)]
        if not matched:
            raise UsageError(f"{kind}: the data has no column {pattern}{did_you_mean(pattern, names)}")
        found.update(matched)
    return found


def _column(field: pa.Field[Any], label: str | None, named: str | None) -> Column:
    """A column by its type and by what the settings call it; raises UsageError and DataError by its name."""
    values, kind = notes(field).get("values"), field.type
    if values is not None and pa.types.is_integer(kind):
        if named:
            raise UsageError(
                f"{named}: column {field.name} holds categories ({listed(values)}), not numbers: "
                "leave it out of the list, for a category has its own counts already"
            )
        return Column(name=field.name, kind="categorical", values=values)
    if pa.types.is_boolean(kind) and field.name != label and named != "multinomial":
        return Column(name=field.name, kind="bernoulli")
    number = pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_temporal(kind)
    if field.name == label or not number:
        raise DataError(
            f"column {field.name} holds {kind}, neither numbers nor codes of categories: "
            f"add --preprocess categories, or leave it out with --drop {field.name}"
        )
    return Column.model_validate({"name": field.name, "kind": named or "gaussian"})


def columns(config: Config) -> pa.Schema:
    """The table in the model's units: float64, and int32 codes of categories with their noted values."""
    fields = []
    for column in config.columns:
        if column.kind != "categorical":
            fields.append(pa.field(column.name, pa.float64()))
        else:
            role = "label" if column.name == config.label else None
            fields.append(noted(pa.field(column.name, pa.int32()), values=column.values, role=role))
    return pa.schema(fields)


def conditions(config: Config) -> list[Condition]:
    """Every column can be given: the label first, then the features in their order."""
    order = sorted(config.columns, key=lambda column: column.name != config.label)
    schema = columns(config)
    return [
        Condition(
            "label" if column.name == config.label else column.name,
            schema.field(column.name).type,
            _help(column, config.label),
            column=column.name,
        )
        for column in order
    ]


def shown(value: Any) -> str:
    """A category's value as people write it: text bare, all else as JSON."""
    return value if isinstance(value, str) else json.dumps(value)


def listed(values: list[Any]) -> str:
    """The first values of a category, for messages and help."""
    return ", ".join(map(shown, values[:10])) + (f" and {len(values) - 10} more" if len(values) > 10 else "")


def _help(column: Column, label: str | None) -> str:
    numbers = {"gaussian": "an observed number", "bernoulli": "an observed 0 or 1", "multinomial": "an observed count"}
    if column.kind in numbers:
        return numbers[column.kind]
    return f"{'the class' if column.name == label else 'an observed category'}: {listed(column.values)}"
