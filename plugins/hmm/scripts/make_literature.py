"""Write the bundled models whose parameters are from the literature: hmm-casino and hmm-cpg.

Both are examples of Durbin, Eddy, Krogh and Mitchison, "Biological Sequence Analysis", Cambridge, 1998.

python plugins/hmm/scripts/make_literature.py
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from genreg import checkpoint
from genreg.card import model_card
from genreg.offers import pin_files
from genreg.recipe import versions
from genreg_hmm import genreg_models
from genreg_hmm.config import Config, columns

PACKAGE = Path(__file__).parents[1] / "src" / "genreg_hmm"
SOURCE = "Durbin, Eddy, Krogh and Mitchison, Biological Sequence Analysis, 1998"


def casino() -> tuple[Config, dict[str, Any], str]:
    """The occasionally dishonest casino (section 3.2): a fair die, and one that shows a six half of the time."""
    config = Config.model_validate({
        "states": 2, "length": 40,
        "columns": [
            {"name": "rolls", "kind": "text", "values": list("123456")},
            {"name": "die", "kind": "text", "values": ["F", "L"]},
        ],
    })  # fmt: skip
    tensors = {
        "start": np.array([2 / 3, 1 / 3]),  # the stationary distribution
        "transition": np.array([[0.95, 0.05], [0.10, 0.90]]),
        "emission.0.probability": np.array([[1 / 6] * 6, [0.1] * 5 + [0.5]]),
        "emission.1.probability": np.eye(2),
    }
    return config, tensors, f"{SOURCE}, section 3.2; F is the fair die, L the loaded one"


def cpg() -> tuple[Config, dict[str, Any], str]:
    """CpG islands (section 3.1, table of the + and - models), with switches between them that are ours."""
    islands = [
        [0.180, 0.274, 0.426, 0.120],
        [0.171, 0.368, 0.274, 0.188],
        [0.161, 0.339, 0.375, 0.125],
        [0.079, 0.355, 0.384, 0.182],
    ]
    sea = [
        [0.300, 0.205, 0.285, 0.210],
        [0.322, 0.298, 0.078, 0.302],
        [0.248, 0.246, 0.298, 0.208],
        [0.177, 0.239, 0.292, 0.292],
    ]
    inside, outside = (np.array(table) / np.sum(table, 1, keepdims=True) for table in (islands, sea))
    leave, enter = 1 / 60, 1 / 120  # short islands, so that a line of output shows both
    transition = np.block([[(1 - leave) * inside, leave * outside], [enter * inside, (1 - enter) * outside]])
    values, vectors = np.linalg.eig(transition.T)
    stationary = np.real(vectors[:, np.argmax(np.real(values))])
    config = Config.model_validate({
        "states": 8, "length": 120,
        "columns": [
            {"name": "sequence", "kind": "text", "values": list("ACGT")},
            {"name": "islands", "kind": "text", "values": ["+", "-"]},
        ],
    })  # fmt: skip
    tensors = {
        "start": stationary / stationary.sum(),
        "transition": transition,
        "emission.0.probability": np.tile(np.eye(4), (2, 1)),
        "emission.1.probability": np.repeat(np.eye(2), 4, axis=0),
    }
    return (
        config,
        tensors,
        f"{SOURCE}, section 3.1, table of the + and - models; an island of 60 bases on average is ours",
    )


def write(name: str, config: Config, tensors: dict[str, Any], source: str) -> None:
    """A checkpoint as training would write it, and its hashes in the registry."""
    folder = PACKAGE / name
    record = {
        "data": source,
        "rows": {},
        "seed": 0,
        "preprocess": [],
        "metrics": {},
        "versions": versions("genreg-hmm"),
    }
    saved = checkpoint.Checkpoint(folder, "hmm", config.model_dump(mode="json"), columns(config), [], {}, record)
    checkpoint.save(folder, saved, tensors, model_card(name, genreg_models()[0], saved), force=True)
    pin_files(PACKAGE / "registry.yaml", name, folder)


if __name__ == "__main__":
    write("hmm-casino", *casino())
    write("hmm-cpg", *cpg())
