"""Train hmm-text on the project's own documentation and on scripts/corpus.txt, Chinese and English.

python plugins/hmm/scripts/train_text.py
"""

from __future__ import annotations

import re
import runpy
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

import genreg
from genreg import checkpoint
from genreg_hmm.config import Config
from genreg_hmm.sequences import WIDE

HERE = Path(__file__).parent
ROOT = HERE.parents[2]


def prose(markdown: str) -> list[str]:
    """The sentences of a page, without its code, tables, headings and links."""
    text = re.sub(r"```.*?```", "", markdown, flags=re.S)
    text = re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", text)
    paragraphs = [" ".join(p.split()) for p in text.split("\n\n") if not re.match(r"\s*([#|<]|    )", p)]
    sentences = [s.strip(" -*`") for p in paragraphs for s in re.split(r"(?<=[.。])\s+", p)]
    return [s for s in sentences if re.search(r"[.。]$", s) and not re.search(r"[`/|=<>_*]", s)]


def trained(lines: list[str], states: int, folder: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """Config and tensors of a model of the sentences: all of them, for it shows what it can do and is not measured."""
    (folder / "sentences.txt").write_text("\n".join(lines) + "\n", "utf-8")
    settings = {"states": states, "unit": "word", "end": True, "iterations": 150, "tolerance": 0, "restarts": 5}
    settings |= {"transition_prior": 1, "emission_prior": 1}  # so few words that any smoothing would drown them
    genreg.train(
        "hmm", folder / "sentences.txt", out=folder / "model", settings=settings, split="100", seed=1, force=True
    )
    saved = checkpoint.read(folder / "model")
    assert saved.weights is not None
    return dict(saved.config), saved.weights.under("")


def merged(parts: list[tuple[dict[str, Any], dict[str, Any]]], shares: list[float]) -> tuple[Config, dict[str, Any]]:
    """One chain of which each language is a part of its own: a sentence stays in the language that it begins in."""
    alphabet = sorted({word for config, _ in parts for word in config["columns"][0]["values"]})
    sizes = [len(tensors["start"]) for _, tensors in parts]
    probability, transition = np.zeros((sum(sizes), len(alphabet))), np.zeros((sum(sizes), sum(sizes)))
    first = 0
    for (config, tensors), size in zip(parts, sizes, strict=True):
        rows = slice(first, first + size)
        at = [alphabet.index(word) for word in config["columns"][0]["values"]]
        probability[rows, at] = tensors["emission.0.probability"]
        transition[rows, rows] = tensors["transition"]
        first += size
    config = Config.model_validate(parts[0][0] | {
        "states": sum(sizes), "steps": sum(config["steps"] for config, _ in parts),
        "columns": [{"name": "text", "kind": "text", "values": alphabet}],
    })  # fmt: skip
    starts = [share * tensors["start"] for share, (_, tensors) in zip(shares, parts, strict=True)]
    return config, {
        "start": np.concatenate(starts), "transition": transition,
        "end": np.concatenate([tensors["end"] for _, tensors in parts]), "emission.0.probability": probability,
    }  # fmt: skip


def main() -> None:
    """A model of each language, and the two as one."""
    pages = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")), *sorted((ROOT / "plugins").glob("*/README.md"))]
    lines = (HERE / "corpus.txt").read_text("utf-8").splitlines()
    lines += [sentence for page in pages for sentence in prose(page.read_text("utf-8"))]
    chinese = [line for line in lines if WIDE.search(line)]
    english = [line for line in lines if not WIDE.search(line)]
    with tempfile.TemporaryDirectory() as folder:
        parts = [trained(english, 96, Path(folder)), trained(chinese, 64, Path(folder))]
    config, tensors = merged(parts, [len(english) / len(lines), len(chinese) / len(lines)])
    literature = runpy.run_path(str(HERE / "make_literature.py"))
    literature["write"](
        "hmm-text", config, tensors, "genreg's documentation and plugins/hmm/scripts/corpus.txt, in two languages"
    )


if __name__ == "__main__":
    main()
