"""What `genreg list` and completion cost against `python -c pass`: CPU time, the minimum of interleaved runs.

    python benchmarks/startup.py [--runs 20] [--goal 7]

Exits with 1 where the goal is missed.
"""

from __future__ import annotations

import argparse
import os
import resource
import subprocess
import sys

PYTHON = sys.executable
COMMANDS = {
    "python -c pass": ["-c", "pass"],
    "import click": ["-c", "import click"],
    "import yaml, with its C loader": ["-c", "import yaml; yaml.CSafeLoader"],
    "scan of the entry points": ["-c", "from genreg.entrypoints import scan; scan()"],
    "genreg --version": ["-m", "genreg", "--version"],
    "genreg --help": ["-m", "genreg", "--help"],
    "genreg list": ["-m", "genreg", "list"],
    "genreg list --json": ["-m", "genreg", "list", "--json"],
    "completing a verb": ["-m", "genreg", "r"],
    "completing a model": ["-m", "genreg", "score", "n"],
    "completing a knob": ["-m", "genreg", "run", "nb-iris", "--sampler", "truncate:p"],
}


def cpu(arguments: list[str], *, asks: bool = False) -> float:
    """User and system time of one child, in seconds."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    env = {**os.environ, "_GENREG_COMPLETE": "zsh"} if asks else None
    subprocess.run([PYTHON, *arguments], stdout=subprocess.DEVNULL, check=True, env=env)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--runs", type=int, default=20)
    parser.add_argument("--goal", type=float, default=7.0, help="times python -c pass that genreg list may cost")
    wanted = parser.parse_args()
    best = dict.fromkeys(COMMANDS, float("inf"))
    for _ in range(wanted.runs):
        for name, arguments in COMMANDS.items():
            best[name] = min(best[name], cpu(arguments, asks=name.startswith("completing")))
    unit = best["python -c pass"]
    print(f"| CPU, minimum of {wanted.runs} | ms | x python -c pass |\n|---|---:|---:|")
    for name, seconds in best.items():
        print(f"| {name} | {1000 * seconds:.1f} | {seconds / unit:.1f} |")
    ratios = {name: best[name] / unit for name in best if name == "genreg list" or name.startswith("completing")}
    worst = max(ratios, key=lambda name: ratios[name])
    met = ratios[worst] <= wanted.goal
    print(f"\n{worst}: {ratios[worst]:.1f} times, {'within' if met else 'above'} the goal of {wanted.goal:g}")
    return 0 if met else 1


if __name__ == "__main__":
    sys.exit(main())
