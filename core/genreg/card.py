"""The model card: README.md with the front matter that the Hub reads."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import yaml

from genreg.errors import GenregError, UsageError
from genreg.specs import ModelFamily

if TYPE_CHECKING:
    from genreg.api import LoadedModel
    from genreg.checkpoint import Checkpoint

FRONT = re.compile(r"\A---\r?\n(.*?)^---\r?\n", re.DOTALL | re.MULTILINE)
SAMPLE, SAMPLES = "sample.png", 5

PIPELINE_TAGS = {
    "image": "unconditional-image-generation",
    "text": "text-generation",
    "table": "tabular-classification",
}


def model_card(name: str, family: ModelFamily, saved: Checkpoint, pictures: Sequence[str] = ()) -> str:
    """Front matter, what it is, how to run it, what it was trained on, what was measured."""
    record, front = saved.training, yaml.safe_dump(_tags(family), sort_keys=False, default_flow_style=None)
    rows = ", ".join(f"{count:,} {part}" for part, count in record["rows"].items())
    metrics = [f"| {key} | {value:.6g} |" for key, value in record["metrics"].items()]
    lines = [
        f"---\n{front}---", "", f"# {name}", "", f"{family.summary}.", "", "```", f"genreg run {name} -n 5", "```", "",
        *[line for picture in pictures for line in (f"![{picture.partition('.')[0]}]({picture})", "")],
        "## Training", "", f"Data: `{record['data']}`; rows: {rows}; seed {record['seed']}.", "",
        "```json", json.dumps(saved.config, ensure_ascii=False, indent=2), "```", "",
        *(["## Measured", "", "| | |", "|---|---|", *metrics, ""] if metrics else []),
    ]  # fmt: skip
    return "\n".join(lines)


def _tags(family: ModelFamily) -> dict[str, Any]:
    """What the Hub is told of any model of a family."""
    tag = PIPELINE_TAGS.get(family.makes)
    return {"library_name": "genreg", **({"pipeline_tag": tag} if tag else {}), "tags": ["genreg", family.name]}


def front_matter(card: str) -> tuple[dict[str, Any], str]:
    """What the Hub reads of a card, and the text after it; raises UsageError where that is no YAML mapping."""
    found = FRONT.match(card)
    try:
        front = yaml.safe_load(found[1]) if found else {}
    except yaml.YAMLError as error:
        raise UsageError(f"README.md: its front matter is no YAML: {' '.join(str(error).split())}") from None
    if not isinstance(front or {}, dict):
        raise UsageError("README.md: its front matter must be a mapping, such as license: apache-2.0")
    return dict(front or {}), card[found.end() :] if found else card


def published(card: str, repo: str, model: LoadedModel, told: Mapping[str, Any]) -> tuple[str, dict[str, bytes]]:
    """The card for the Hub and pictures beside it: front matter complete with what is ``told``, and a sample.

    What the card says already stays, but for what is told now. Raises UsageError where no licence is named.
    """
    front, body = front_matter(card)
    metrics = list(model.checkpoint.training.get("metrics", {})) if model.checkpoint else []
    known = _tags(model.family) | ({"metrics": metrics} if metrics else {})
    front = {**known, **front, **{name: value for name, value in told.items() if value}}
    if not front.get("license"):
        raise UsageError("say who may use the model: --license apache-2.0 (or license: in README.md's front matter)")
    body = re.sub(r"genreg run (?!hf://)\S+ -n 5\b", f"genreg run hf://{repo} -n 5", body, count=1)
    sample, pictures = _sample(model, repo) if "\n## A sample\n" not in body else ("", {})
    text = f"---\n{yaml.safe_dump(front, sort_keys=False, allow_unicode=True)}---\n{body.rstrip()}\n{sample}"
    return text, pictures


def _sample(model: LoadedModel, repo: str) -> tuple[str, dict[str, bytes]]:
    """A section with samples and the command that draws them; nothing where the model needs conditions, or a key."""
    command = f"genreg run hf://{repo} -n {SAMPLES} --seed 0"
    try:
        samples = model.sample(SAMPLES, seed=0)
    except GenregError:
        return "", {}
    picture = samples._repr_png_()
    shown = f"![samples]({SAMPLE})" if picture else f"```text\n{samples!r}\n```"
    return f"\n## A sample\n\n```\n{command}\n```\n\n{shown}\n", {SAMPLE: picture} if picture else {}
