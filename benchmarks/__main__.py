"""Run the scripts of this folder and write what they measure to docs/benchmarks.md.

``python benchmarks`` runs all; ``python benchmarks draws startup`` runs these, and keeps what the others measured last.
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

Written by `python benchmarks`, which runs every script in `benchmarks/` (or those named) and ends with 1 where one
misses a goal. Times are of one process on one machine: read the ratios.
"""


def section(script: Path) -> tuple[str, bool]:
    """What a script says of itself and measures, as Markdown, and whether it meets its goals."""
    about = ast.get_docstring(ast.parse(script.read_text("utf-8"))) or ""
    done = subprocess.run([sys.executable, script], stdout=subprocess.PIPE, text=True, encoding="utf-8", check=False)
    met = done.returncode == 0
    verdict = "" if met else f"\n**Ended with {done.returncode}.**\n"
    own = ", ".join(f"{name} {version(name)}" for name in ("genreg-core", "numpy", "pyarrow"))
    measured = f"{done.stdout.strip()}\n{verdict}\nPython {sys.version.split()[0]}, {own}.\n"
    return f"## {script.stem}\n\n{about.replace('``', '`')}\n\n{measured}", met


def kept() -> dict[str, str]:
    """The sections of docs/benchmarks.md as they are, by script."""
    parts = OUT.read_text("utf-8").split("\n## ")[1:] if OUT.is_file() else []
    return {part.partition("\n")[0]: f"## {part.rstrip()}\n" for part in parts}


def main(names: list[str]) -> int:
    """Run the scripts named, or all, in the order of their names; 1 where one fails."""
    scripts = {
        p.stem: p for p in sorted(HERE.glob("*.py")) if p != HERE / "__main__.py" and "__main__" in p.read_text()
    }
    sections, all_met = kept(), True
    for name in names or scripts:
        print(f"{name} …", file=sys.stderr)
        sections[name], met = section(scripts[name])
        all_met &= met
    found = [sections[name] for name in scripts if name in sections]
    OUT.write_text("\n".join([INTRODUCTION, *found]).rstrip() + "\n", "utf-8")
    print(f"wrote docs/{OUT.name}{'' if all_met else '; a goal is missed'}", file=sys.stderr)
    return 0 if all_met else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
