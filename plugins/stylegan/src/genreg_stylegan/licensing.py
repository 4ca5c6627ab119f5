"""The model card of a converted network, which asks the question that a converter cannot answer: whose is it?"""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping, Sequence
from typing import Any

HUB_LICENSES = ("cc0-1.0", "cc-by-4.0", "cc-by-sa-4.0", "cc-by-nc-4.0", "cc-by-nc-sa-4.0", "mit", "apache-2.0")
CARD = """---
library_name: genreg
pipeline_tag: unconditional-image-generation
tags: [genreg, {family}]
{front}
---

# {name}

A {family} network, converted from a file; its numbers are as they were.

```
genreg run {here} -n 5
```

## License

{answer}

- NVIDIA's own networks are under the license of their repositories (NVIDIA Source Code License for StyleGAN2-ADA and
  StyleGAN3: research and evaluation only). Networks that were trained further from them may carry it on.
- Others state a license where they publish the file. A file without one gives no right to pass it on.
- The pictures it was trained on have owners too: FFHQ, for one, is licensed for noncommercial use.

Converting a file changes nothing about its license. Write the answer here before you publish this folder.

## Source

`{file}`, {kind}; sha256 `{sha256}`; the model is its `{network}`.{beside}

```json
{config}
```
"""


def card(
    name: str,
    family: str,
    config: Mapping[str, Any],
    source: Mapping[str, str],
    beside: Sequence[str],
    license_name: str | None,
) -> str:
    """Front matter, how to run it, its license or the question after it, and where it came from."""
    return CARD.format(
        name=name,
        here=shlex.quote(f"./{name}"),
        family=family,
        front=_front(license_name),
        answer=(
            f"Stated on conversion: `{license_name}`. Whether that is so is for you to know:"
            if license_name
            else "**Not stated.** Whoever trained the network, and on which pictures, decides what may be done with it:"
        ),
        beside=f" Beside it: {', '.join(f'`{one}`' for one in beside)}." if beside else "",
        config=json.dumps({k: v for k, v in config.items() if v not in (None, [])}, ensure_ascii=False, indent=2),
        **source,
    )


def _front(license_name: str | None) -> str:
    """The Hub's lines: an identifier that it knows, else ``other`` and the name as it was given."""
    known = (license_name or "").lower()
    if known in HUB_LICENSES:
        return f"license: {known}"
    return "license: other" + (
        f"\nlicense_name: {json.dumps(license_name, ensure_ascii=False)}" if license_name else ""
    )
