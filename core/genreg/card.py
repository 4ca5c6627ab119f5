"""The model card: README.md with the front matter that the Hub reads."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING

from genreg.specs import ModelFamily

if TYPE_CHECKING:
    from genreg.checkpoint import Checkpoint

PIPELINE_TAGS = {
    "image": "unconditional-image-generation",
    "text": "text-generation",
    "table": "tabular-classification",
}


def model_card(name: str, family: ModelFamily, saved: Checkpoint, pictures: Sequence[str] = ()) -> str:
    """Front matter, what it is, how to run it, what it was trained on, what was measured."""
    record = saved.training
    tag = PIPELINE_TAGS.get(family.makes)
    front = [
        "---",
        "library_name: genreg",
        *([f"pipeline_tag: {tag}"] if tag else []),
        f"tags: [genreg, {family.name}]",
        "---",
    ]
    rows = ", ".join(f"{count:,} {part}" for part, count in record["rows"].items())
    metrics = [f"| {key} | {value:.6g} |" for key, value in record["metrics"].items()]
    lines = [
        *front, "", f"# {name}", "", f"{family.summary}.", "", "```", f"genreg run {name} -n 5", "```", "",
        *[line for picture in pictures for line in (f"![{picture.partition('.')[0]}]({picture})", "")],
        "## Training", "", f"Data: `{record['data']}`; rows: {rows}; seed {record['seed']}.", "",
        "```json", json.dumps(saved.config, ensure_ascii=False, indent=2), "```", "",
        *(["## Measured", "", "| | |", "|---|---|", *metrics, ""] if metrics else []),
    ]  # fmt: skip
    return "\n".join(lines)
