"""Write the reference from the code: ``python docs/reference.py``; with ``--check``, say what is out of step.

One page per subject and one per plugin, so that a plugin that is not installed here changes nothing.
"""

from __future__ import annotations

import inspect
import json
import re
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import click

from genreg import checkpoint, draft, hooks, specs
from genreg.api import locate, read_config
from genreg.cli import VERBS, group
from genreg.form import Form, given_names
from genreg.options import MISSING, Option, of_function, of_model
from genreg.plugins import Components, load_plugins
from genreg.registry import read_registries
from genreg.registryfile import CHECK, DEFAULTS, ENTRY, FILE, NEEDED, OFFERS, WORDS
from genreg.specs import summary
from genreg.testing import CHECKS

DOCS = Path(__file__).parent
HEAD = "<!-- Written by `python docs/reference.py`: edit the code, not this page. -->\n\n"
KEYS = {  # of config.json
    "architectures": "a list of one: the family, as the Hub expects it",
    "model_type": "the family",
    "genreg.format": f"the number of the format: {checkpoint.FORMAT}",
    "genreg.family": "which family loads it",
    "genreg.config": "the family's own config, checked against its declared settings",
    "genreg.chain": "the fitted maps in order: each a step, the plugin that it comes from, and its state",
    "genreg.schema": "the data's Arrow schema with its metadata, as base64 of its IPC message",
    "genreg.columns": "the same for people to read; it is derived, and not read back",
    "genreg.split": "the shares of the parts, and what rows were kept together by",
    "genreg.training": "data, rows, seed, steps, metrics and versions",
}


def table(head: Iterable[str], rows: Iterable[Iterable[object]]) -> str:
    """A Markdown table; nothing where there is no row."""
    lines = ["| " + " | ".join(" ".join(str(cell).split()).replace("|", r"\|") for cell in row) + " |" for row in rows]
    columns = list(head)
    return "\n".join([f"| {' | '.join(columns)} |", "|" + "---|" * len(columns), *lines]) + "\n\n" if lines else ""


def code(text: object) -> str:
    """Text set as code, without the reStructuredText marks of a docstring."""
    return f"`{text}`"


def prose(docstring: str | None) -> str:
    """A docstring as Markdown: two backticks are one here."""
    return inspect.cleandoc(docstring or "").replace("``", "`") + "\n\n"


def knobs(options: Iterable[Option]) -> str:
    """Knobs as a table."""
    rows = [
        (
            code(o.name),
            o.type_name,
            "needed" if o.default is MISSING else code(json.dumps(o.default, default=str)),
            o.help,
        )
        for o in options
    ]
    explained = any(row[3] for row in rows)
    head = ("name", "type", "default", "")[: 4 if explained else 3]
    return table(head, [row[: len(head)] for row in rows])


def fields(record: type) -> str:
    """The fields of a dataclass, with the comments beside them in its source."""
    rows = []
    for line in inspect.getsource(record).splitlines():
        found = re.match(r"    (\w+): (.+?)(?: = (.+?))?(?:  # (.+))?$", line)
        if found and found[1] in record.__dataclass_fields__:  # type: ignore[attr-defined]
            rows.append((code(found[1]), code(found[2]), code(found[3]) if found[3] else "needed", found[4] or ""))
    return table(("field", "type", "default", ""), rows)


def hooks_page() -> str:
    """Hook specs, the records that they return, and the contract of a model."""
    text = HEAD + "# Reference: hooks and records\n\n"
    text += "\n".join(line for line in prose(hooks.__doc__).replace("::\n", ":\n").splitlines()) + "\n\n"
    for name in ("genreg_data_loaders", "genreg_preprocessors", "genreg_models", "genreg_samplers"):
        hook = getattr(hooks, name)
        text += f"## `{name}() -> {inspect.signature(hook).return_annotation}`\n\n{prose(hook.__doc__)}"
    for record in (specs.ModelFamily, specs.Condition, specs.Trained, specs.DataLoader, specs.Preprocessor,
                   specs.Sampler, draft.Draft, draft.Piece, draft.Done):  # fmt: skip
        text += f"## {record.__name__}\n\n{prose(record.__doc__)}{fields(record)}"
    text += "## What a model can do\n\n" + table(
        ("protocol", "method", ""),
        (
            (protocol.__name__, code(f"{name}{_signature(method)}"), summary(method).replace("``", "`"))
            for protocol in (draft.Model, draft.Scoring, draft.Inferring, draft.Streaming, draft.Planning)
            for name, method in vars(protocol).items()
            if inspect.isfunction(method) and not name.startswith("_")
        ),
    )
    return text


def _signature(method: Any) -> str:
    return str(inspect.signature(method)).replace("(self, ", "(").replace("'", "").replace(", /", "")


def verbs_page() -> str:
    """Every built-in verb with its arguments and options."""
    text = (
        HEAD + "# Reference: verbs\n\nExit codes: 0 every row ok; 1 failed; 2 you can mend it; 3 finished, some rows "
    )
    text += "not ok; 130 interrupted. Before the verb may stand `--debug`, which shows the traceback of an error.\n\n"
    context = click.Context(group)
    for name in VERBS:
        command = group.get_command(context, name)
        assert command is not None
        arguments = [p.make_metavar(context) for p in command.params if isinstance(p, click.Argument)]
        text += f"## `genreg {' '.join([name, *arguments])}`\n\n{prose(command.help)}"
        options = [p.get_help_record(context) for p in command.params if isinstance(p, click.Option)]
        text += table(("option", ""), ((code(record[0]), record[1]) for record in options if record))
    return text


def components_page(components: Components, dist: str) -> str:
    """Families with their models, samplers, steps and loaders of one distribution."""
    text = f"{HEAD}# Reference: {dist}\n\n"
    for name, family in sorted(components.families.items()):
        if components.owners["families", name] == dist:
            text += family_section(family, components)
    for kind, title, function in (
        ("samplers", "Sampler", "edit"), ("preprocessors", "Step", "fit"), ("loaders", "Loader", "read"),
    ):  # fmt: skip
        for name, component in sorted(getattr(components, kind).items()):
            if components.owners[kind, name] != dist:
                continue
            call = getattr(component, function)
            text += f"## {title} `{name}`\n\n{prose(call.__doc__)}{_traits(component)}{knobs(of_function(call))}"
    return text


def _traits(component: Any) -> str:
    if isinstance(component, specs.Preprocessor):
        return f"It is a `{component.kind}` step.\n\n"
    if isinstance(component, specs.Sampler):
        return "It sees the whole draft.\n\n" if component.scope == "all" else "It works row by row.\n\n"
    taken = ", ".join(map(code, [*component.suffixes, *(f"{scheme}://" for scheme in component.schemes)]))
    return f"It reads {taken}{' and writes them' if component.write else ''}.\n\n"


def family_section(family: specs.ModelFamily, components: Components) -> str:
    """A family: what it is, settings, options, and the conditions of its registered models."""
    facts = f"Makes: {family.makes}. Draft: {family.draft}. Trains: {_yes(family.fit)}. "
    facts += f"Takes weights: {_yes(family.takes_weights)}. Repeatable: {_yes(family.repeatable)}.\n\n"
    text = f"## Family `{family.name}`\n\n{family.summary}.\n\n{facts}"
    config = "Settings of training (`--set`)" if family.fit else "What its `config.json` says"
    for title, record in ((config, family.config), ("Options (`--option`)", family.options)):
        found = knobs(of_model(record))
        text += f"{title}:\n\n{found}" if found else ""
    dist = components.owners["families", family.name]
    for name, entry in sorted(read_registries().entries.items()):
        if entry.family == family.name and entry.plugin == dist and (entry.weights or "").startswith("pkg://"):
            _, _, folder = locate(name, read_registries())
            assert folder is not None
            saved = checkpoint.read(folder)  # nothing is loaded: the page needs no torch
            config = read_config(family, saved)
            form = Form(saved.schema, family.columns(config), family.conditions(config))
            rows = zip(given_names(form.conditions), form.given, form.conditions, strict=True)
            text += f"### `{name}`\n\n{entry.summary}. Conditions (`--given`), the first of which may stand bare:\n\n"
            text += table(("name", "type", ""), ((code(given), field.type, one.help) for given, field, one in rows))
    return text


def _yes(value: object) -> str:
    return "yes" if value else "no"


def checks_page() -> str:
    """The conformance kit."""
    text = HEAD + "# Reference: the conformance kit\n\n`genreg check NAME` and `pytest --genreg NAME` hold a model "
    text += "against the contract. A check that does not apply is skipped, with its reason.\n\n"
    text += table(("check", "promise", "how it is checked", "to mend it"),
                  ((code(c.name), c.explains, summary(c.run), c.mend) for c in CHECKS))  # fmt: skip
    text += "A failure that is known is declared with its reason: in the registry entry, `check: {expected_failures: "
    text += "{CHECK: REASON}}`, or in pytest's ini file, `genreg_expected_failures = NAME CHECK: REASON`. One that "
    return text + "passes after all is reported as a failure.\n"


def formats_page() -> str:
    """What checkpoints and registries hold."""
    text = f"{HEAD}# Reference: formats\n\n## A checkpoint\n\n{prose(checkpoint.__doc__)}"
    text += (
        f"`{checkpoint.WEIGHTS}` holds the family's tensors, and those of the chain under `{checkpoint.CHAIN_PREFIX}`."
    )
    text += f" `{checkpoint.CARD}` is the model card.\n\n`{checkpoint.CONFIG}`:\n\n"
    _, _, folder = locate("nb-iris", read_registries())
    assert folder is not None
    saved = json.loads((folder / checkpoint.CONFIG).read_text("utf-8"))
    names = [*(n for n in saved if n != "genreg"), *(f"genreg.{n}" for n in saved["genreg"])]
    text += table(("key", ""), ((code(name), KEYS[name]) for name in names))
    text += "## A registry\n\nA `registry.yaml` holds `version: 1` and `models:`, a mapping from names to entries. The "
    text += "core's, each installed plugin's, the user's (`$XDG_CONFIG_HOME/genreg/registry.yaml`) and those of "
    text += "`--registry` are merged, and the later wins. An entry:\n\n"
    nested = {"defaults": DEFAULTS, "check": CHECK, "files.FILE": FILE}
    keys = dict(ENTRY) | {f"{above}.{key}": field for above, own in nested.items() for key, field in own.items()}
    rows = ((code(k), WORDS[kind], f"{said}{'; needed' if k in NEEDED else ''}") for k, (kind, said) in keys.items())
    text += table(("key", "type", ""), rows)
    text += (
        f"A plugin's own file also says what its hooks offer ({', '.join(map(code, OFFERS))}): that part is written "
    )
    return text + "by `genreg offers DIST --write`.\n"


def pages() -> dict[str, str]:
    """The text of every page by its file name."""
    components = load_plugins()
    found = {
        "reference-hooks.md": hooks_page(),
        "reference-verbs.md": verbs_page(),
        "reference-checks.md": checks_page(),
        "reference-formats.md": formats_page(),
    }
    for status in components.statuses:
        dist = status.point.dist
        if not status.cause and (
            dist == "genreg-core" or (DOCS.parent / "plugins" / dist.removeprefix("genreg-")).is_dir()
        ):
            found[f"reference-{dist}.md"] = components_page(components, dist)
    return {name: re.sub(r"\n{3,}", "\n\n", text).rstrip() + "\n" for name, text in found.items()}


def main(arguments: list[str]) -> int:
    """Write the pages, or say which differ; 1 where one does."""
    stale = [n for n, t in pages().items() if not (DOCS / n).is_file() or (DOCS / n).read_text("utf-8") != t]
    for name, text in pages().items():
        if name in stale and "--check" not in arguments:
            (DOCS / name).write_text(text, "utf-8")
    print(f"{', '.join(stale) or 'nothing'} {'out of step' if '--check' in arguments else 'written'}")
    return 1 if stale and "--check" in arguments else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
