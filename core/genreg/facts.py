"""What a model, a family, a component or an output is, and what can be said to it: the answer of ``genreg show``."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Literal

from genreg.api import LoadedModel, load
from genreg.checkpoint import files_of
from genreg.draft import Describing, Drawing
from genreg.errors import NotFound, Unsupported, UsageError, did_you_mean
from genreg.files import new_file, refuse_existing
from genreg.generate import propose
from genreg.images import embedded_recipe
from genreg.options import MISSING, of_function, of_model
from genreg.plugins import Components, load_plugins
from genreg.recipe import read_recipe, recipe_path
from genreg.registry import read_registries
from genreg.specs import ModelFamily, Sampler, summary


def facts_of(what: str, registries: tuple[str, ...] = (), *, offline: bool = False) -> dict[str, Any]:
    """Everything worth telling of a name, a folder or a file, as JSON; raises NotFound with a close name."""
    beside = os.path.isfile(recipe_path(Path(what)))  # noqa: PTH113 - pathlib raises where a name is too long
    if beside or embedded_recipe(Path(what)):
        return {"output": what, **vars(read_recipe(Path(what)))}
    if os.path.isfile(what):  # noqa: PTH113
        raise UsageError(f"{what} has no recipe beside it: genreg did not make it, or the recipe was moved away")
    registry = read_registries(registries)
    if what in registry.entries or "/" in what or os.path.isdir(what):  # noqa: PTH112
        return _of_model(load(what, registries=registries, offline=offline))
    components = load_plugins()
    if what in components.families:
        return _of_family(components.families[what], components)
    for kind in ("samplers", "preprocessors", "loaders"):
        if what in getattr(components, kind):
            return _of_function(what, kind, components)
    kinds = (components.families, components.samplers, components.preprocessors, components.loaders)
    names = [*registry.entries, *(name for kind in kinds for name in kind)]
    raise NotFound(f"there is nothing called {what}{did_you_mean(what, names)}")


def draw_to(
    what: str, output: str, registries: tuple[str, ...] = (), *, force: bool = False, offline: bool = False
) -> None:
    """Draw a model's insides to an .svg or .png file; raises Unsupported where the family has no drawing."""
    path = Path(output)
    kinds: dict[str, Literal["svg", "png"]] = {".svg": "svg", ".png": "png"}
    if (kind := kinds.get(path.suffix.lower())) is None:
        raise UsageError(f"{output}: drawings are .svg or .png")
    refuse_existing(path, force=force)
    model = load(what, registries=registries, offline=offline)
    if not isinstance(model.model, Drawing):
        raise Unsupported(f"{what} is of the family {model.family.name}, which has no drawing")
    with new_file(path, force=force) as temporary:
        temporary.write_bytes(model.model.draw(kind))


def _of_model(model: LoadedModel) -> dict[str, Any]:
    saved, entry = model.checkpoint, model.entry
    facts: dict[str, Any] = {
        "name": model.name,
        "summary": entry.summary if entry else model.family.summary,
        "family": model.family.name,
        "makes": model.family.makes,
        "draft": model.family.draft,
        "repeatable": model.family.repeatable,
        "conditions": _conditions(model),
        "options": [option.described() for option in of_model(model.family.options)],
        "samplers": _fitting(model),
        "columns": {field.name: str(field.type) for field in model.form.schema},
    }
    if isinstance(model.model, Describing):
        facts["inside"] = model.model.describe().splitlines()
    if saved:
        size = sum(path.stat().st_size for _, path in files_of(saved.folder))
        facts |= {"folder": str(saved.folder), "bytes": size, "sha256": saved.digest()}
        facts |= {"training": dict(saved.training), "maps": [step.name for step in model.form.chain.steps]}
    if entry:
        facts |= {"weights": entry.weights, "license": entry.license}
        facts |= {"defaults": dict(entry.defaults), "registry": entry.origin}
    return facts


def _conditions(model: LoadedModel) -> list[dict[str, Any]]:
    rows = []
    for field, condition in zip(model.form.given, model.form.conditions, strict=True):
        name = field.name
        row: dict[str, Any] = {"name": name, "type": str(field.type), "help": condition.help}
        if condition.name not in (name, name.removeprefix("@")):
            row["also"] = condition.name
        values = next((s.fitted.values[condition.column] for s in model.form.chain.steps
                       if hasattr(s.fitted, "values") and condition.column in s.fitted.values), None)  # fmt: skip
        if values is not None:
            row["values"] = list(values)[:50]
        if condition.default is not None:
            row["default"] = condition.default
        rows.append(row)
    return rows


def _fitting(model: LoadedModel) -> list[str]:
    """The samplers that do not refuse a draft of two samples, alike in class and length: of one seed."""
    prepared = model.prepare(model.given(None, {}), 2, seed=0)
    draft = next(propose(model.model, model.form, prepared.seeds[[0, 0]], prepared.window(0, 2).batch))
    return [name for name, sampler in sorted(model.components.samplers.items()) if _fits(sampler, draft)]


def _fits(sampler: Sampler, draft: Any) -> bool:
    needed = [option for option in of_function(sampler.edit) if option.default is MISSING]
    try:
        sampler.edit(draft, **{option.name: "0" if option.type is str else 0 for option in needed})
    except UsageError as error:
        return not isinstance(error, Unsupported)  # the geometry fits; the knobs are only a probe
    return True


def _of_family(family: ModelFamily, components: Components) -> dict[str, Any]:
    return {
        "family": family.name,
        "summary": family.summary,
        "makes": family.makes,
        "draft": family.draft,
        "repeatable": family.repeatable,
        "plugin": components.owners["families", family.name],
        "trains": family.fit is not None,
        "settings": [option.described() for option in of_model(family.config)],
        "options": [option.described() for option in of_model(family.options)],
    }


def _of_function(name: str, kind: str, components: Components) -> dict[str, Any]:
    component = getattr(components, kind)[name]
    function = {"samplers": "edit", "preprocessors": "fit", "loaders": "read"}[kind]
    call = getattr(component, function)
    knobs = [option.described() for option in of_function(call)]
    return {kind[:-1]: name, "summary": summary(call), "plugin": components.owners[kind, name], "knobs": knobs}
