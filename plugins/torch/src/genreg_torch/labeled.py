"""What families of labeled pictures share: the columns they take, what they remember of them. No torch is imported."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
from pydantic import Field, model_validator

from genreg.data import named_with_role, noted, notes
from genreg.errors import DataError
from genreg.images import image_columns, image_field
from genreg.specs import Condition, Settings

INTERNAL: dict[str, Any] = {"internal": True}
LARGEST_SIDE = 1024


class Images(Settings, frozen=True):
    """What a family remembers of its pictures and labels; a family's config is a subclass."""

    image: str = Field(default="image", json_schema_extra=INTERNAL)
    shape: list[int] = Field(default=[], json_schema_extra=INTERNAL)  # height, width, channels
    label: str | None = Field(default=None, json_schema_extra=INTERNAL)
    values: list[Any] = Field(default=[], json_schema_extra=INTERNAL)  # of the label, in order
    counts: list[int] = Field(default=[], json_schema_extra=INTERNAL)  # training rows of each

    @model_validator(mode="after")
    def _sizes(self) -> Images:
        if self.shape and (len(self.shape) != 3 or not all(1 <= side <= LARGEST_SIDE for side in self.shape)):
            raise ValueError(f"shape: height, width and channels between 1 and {LARGEST_SIDE}, not {self.shape}")
        if len(self.counts) != len(self.values) or any(count < 0 for count in self.counts):
            raise ValueError("counts: one number of training rows for each of the label's values")
        return self

    @property
    def classes(self) -> int:
        """C, the number of classes; 0 without a label."""
        return len(self.values)


def described(schema: pa.Schema, family: str) -> dict[str, Any]:
    """The image's and the label's columns of a schema, as fields of a config.

    Raises DataError where there is no image, more than one, a label that is not coded, or another column.
    """
    label = named_with_role(schema, "label")
    encoded = [field.name for field in schema if pa.types.is_binary(field.type) or pa.types.is_large_binary(field.type)]
    images = list(dict.fromkeys([*image_columns(schema), *encoded]))
    if len(images) != 1:
        found = f"has {len(images)}" if images else "has no column of pictures (uint8 tensors, or encoded)"
        raise DataError(f"{family} is trained on one column of pictures, and this data {found}")
    for field in schema:
        if field.name not in (images[0], label):
            hint = f"--drop {field.name}, or --label {field.name}"
            raise DataError(f"{family} models pictures and a label, and not the column {field.name}: {hint}")
    found_values = notes(schema.field(label)).get("values") if label else []
    if label and found_values is None:
        raise DataError(f"the label {label} is not coded: add --preprocess categories")
    return {"image": images[0], "label": label, "values": found_values}


def columns(config: Images) -> pa.Schema:
    """A uint8 tensor [h, w, c] and the label's code."""
    if not config.shape:
        return pa.schema([])  # before training
    fields: list[Any] = [image_field(config.image, config.shape)]
    if config.label is not None:
        fields.append(noted(pa.field(config.label, pa.int32()), values=config.values, role="label"))
    return pa.schema(fields)


def label_condition(config: Images) -> list[Condition]:
    """The class, where the model has classes."""
    if config.label is None:
        return []
    there = ", ".join(map(str, config.values[:10])) + (" …" if config.classes > 10 else "")
    return [
        Condition("label", pa.int32(), f"the class: {there}; drawn as in training where not given", column=config.label)
    ]
