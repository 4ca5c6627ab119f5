"""Run every script of this folder and write what they measure to docs/benchmarks.md: ``python benchmarks``.

A script prints a Markdown table, and ends with 1 where it misses a goal; so does this. Its docstring says what it
measures.
"""

from __future__ import annotations

import ast
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

HERE = Path(__file__).parent
OUT = HERE.parent / "docs" / "benchmarks.md"
INTRODUCTION = """\
# Benchmarks

Written by `python benchmarks`, which runs every script in `benchmarks/` and ends with 1 where one misses a goal. Times
are of one process on one machine: read the ratios.
"""


def section(script: Path) -> tuple[str, bool]:
    """What a script says of itself and measures, as Markdown, and whether it meets its goals."""
    about = ast.get_docstring(ast.parse(script.read_text("utf-8"))) or ""
    done = subprocess.run([sys.executable, script], stdout=subprocess.PIPE, text=True, encoding="utf-8", check=False)
    met = done.returncode == 0
    verdict = "" if met else f"\n**Ended with {done.returncode}.**\n"
    return f"## {script.stem}\n\n{about.replace('``', '`')}\n\n{done.stdout.strip()}\n{verdict}", met


def main() -> int:
    """Run all scripts in the order of their names; 1 where one fails."""
    sections, all_met = [INTRODUCTION], True
    for script in sorted(path for path in HERE.glob("*.py") if not path.name.startswith("_")):
        print(f"{script.name} …", file=sys.stderr)
        text, met = section(script)
        sections.append(text)
        all_met &= met
    versions = ", ".join(f"{name} {version(name)}" for name in ("genreg-core", "numpy", "pyarrow"))
    sections.append(f"Python {sys.version.split()[0]}, {versions}.\n")
    OUT.write_text("\n".join(sections), "utf-8")
    print(f"wrote docs/{OUT.name}{'' if all_met else '; a goal is missed'}", file=sys.stderr)
    return 0 if all_met else 1


if __name__ == "__main__":
    sys.exit(main())
