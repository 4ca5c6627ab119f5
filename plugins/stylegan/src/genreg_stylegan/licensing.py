"""The model card of a converted network, which asks the question that a converter cannot answer: whose is it?"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

UNKNOWN = "Not stated. Whoever trained the network, and on which pictures, decides what may be done with it:"


def card(
    name: str,
    family: str,
    config: Mapping[str, Any],
    source: Mapping[str, str],
    beside: Sequence[str],
    license_name: str | None,
) -> str:
    """Front matter, how to run it, where it came from, and its license or the question after it."""
    answer = [f"Stated on conversion: `{license_name}`. Check it against these:"] if license_name else [UNKNOWN]
    known = {key: value for key, value in config.items() if value is not None and value != []}
    lines = [
        "---", "library_name: genreg", "pipeline_tag: unconditional-image-generation", f"tags: [genreg, {family}]",
        f"license: {license_id(license_name)}", *([f"license_name: {json.dumps(license_name)}"] if license_name else []), "---", "",
        f"# {name}", "", f"A {family} network, converted from a file; every tensor is as it was.", "",
        "```", f"genreg run ./{name} -n 5", "```", "",
        "## License", "", *answer, "",
        "- NVIDIA's own networks are under the license of their repository (NVIDIA Source Code License for StyleGAN2-ADA and",
        "  StyleGAN3: research and evaluation only). Networks that were trained further from them may carry it on.",
        "- Others state a license where they publish the file. A file without one gives you no right to pass it on.",
        "- The pictures it was trained on have owners too: FFHQ, for one, is licensed for noncommercial use.", "",
        "Converting a file changes nothing about its license. Write the answer here before you publish this folder.", "",
        "## Source", "",
        f"`{source['file']}`, {source['kind']}; sha256 `{source['sha256']}`; the model is `{source['network']}`."
        + (f" Beside it: {', '.join(f'`{one}`' for one in beside)}." if beside else ""), "",
        "```json", json.dumps(known, ensure_ascii=False, indent=2), "```", "",
    ]  # fmt: skip
    return "\n".join(lines)


def license_id(license_name: str | None) -> str:
    """What the Hub's front matter takes: an identifier in small letters where it looks like one, else ``other``."""
    known = (
        "cc0-1.0",
        "cc-by-4.0",
        "cc-by-sa-4.0",
        "cc-by-nc-4.0",
        "cc-by-nc-sa-4.0",
        "mit",
        "apache-2.0",
        "bsd-3-clause",
    )
    return license_name.lower() if license_name and license_name.lower() in known else "other"
