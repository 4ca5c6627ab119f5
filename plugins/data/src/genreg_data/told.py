"""The report of prepared data as people read it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from genreg.outputs import shown
from genreg.wide import padded, width


def told(manifest: Mapping[str, Any]) -> str:
    """A manifest's report as text: rows and cells of each step with examples, and the balance of labels."""
    lines: list[str] = []
    for account in manifest["report"]:
        lines += _step(account)
    for name, reason in list(manifest.get("skipped", {}).items())[:10]:
        lines.append(f"skipped {name}: {reason}")
    for at, one in enumerate(manifest["maps"]):
        lines.append(f"{'maps: ' if not at else '      '}{one['step']}")
    return "\n".join([*lines, *_balance(manifest["labels"])])


def _step(account: Mapping[str, Any]) -> list[str]:
    """What one step took and changed, with examples."""
    rows = account["rows"]
    if account["step"].partition(":")[0] == "split":
        parts = ", ".join(f"{one['after']:,} {part}" for part, one in rows.items())
        return [f"{account['step']}: {parts}"]
    taken = sum(one["before"] - one["after"] for one in rows.values())
    done = [f"took {taken:,} of {sum(one['before'] for one in rows.values()):,} rows"] if taken else []
    done += [f"changed {count:,} cells of {name}" for name, count in account["changed"].items()]
    lines = [f"{account['step']}: {', '.join(done) or 'changed nothing'}"]
    for row in account["taken"]:
        cells = ", ".join(f"{name} {shown(cell)}" for name, cell in row.items() if name not in ("part", "row"))
        lines.append(f"  - {_where(row)}: {cells}")
    for one in account["changes"]:
        lines.append(f"  ~ {_where(one)}, {one['column']}: {shown(one['from'])} -> {shown(one['to'])}")
    return lines


def _where(example: Mapping[str, Any]) -> str:
    return f"row {example['row']:,}" + (f" of {example['part']}" if "part" in example else "")


def _balance(labels: Mapping[str, Mapping[str, int]]) -> list[str]:
    """Labels as rows and parts as columns, each with its share of the part."""
    if not labels:
        return []
    names = list(dict.fromkeys(name for counts in labels.values() for name in counts))
    totals = {part: sum(counts.values()) for part, counts in labels.items()}
    table = [["label", *labels]]
    for name in names[:20]:
        shares = [
            f"{counts.get(name, 0):,} ({counts.get(name, 0) / totals[part]:.0%})" for part, counts in labels.items()
        ]
        table.append([shown(name), *shares])
    widths = [max(width(row[at]) for row in table) for at in range(len(table[0]))]
    lines = ["  ".join(padded(cell, own) for cell, own in zip(row, widths, strict=True)).rstrip() for row in table]
    return [*lines, *([f"… and {len(names) - 20:,} labels more"] if len(names) > 20 else [])]
