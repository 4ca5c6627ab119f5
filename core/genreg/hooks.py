"""The four hooks of a plugin, written for authors.

A plugin is a package with an entry point in the group ``genreg`` and a ``registry.yaml`` beside its ``__init__.py``::

    [project.entry-points.genreg]
    mine = "genreg_mine"

Its ``__init__.py`` imports nothing heavy, marks functions with ``hookimpl``, and returns lists. A hook that raises, has
another signature, returns something else, or claims a name that another distribution has, stops that plugin alone;
``genreg plugins --verbose`` shows why.

    from genreg import ModelFamily, hookimpl

    @hookimpl
    def genreg_models():
        return [ModelFamily(name="mine", ...)]

A plugin's own verbs are click commands in the entry-point group ``genreg.commands``, imported when they are called.
"""

from __future__ import annotations

import pluggy

from genreg.specs import DataLoader, ModelFamily, Preprocessor, Sampler

hookspec = pluggy.HookspecMarker("genreg")
hookimpl = pluggy.HookimplMarker("genreg")


@hookspec
def genreg_data_loaders() -> list[DataLoader]:  # type: ignore[empty-body]
    """Data loaders: functions from a path or reference to a re-iterable Source.

    ``read(path, *, knobs) -> Source`` streams batches of one schema, decided before the first batch. ``suffixes``
    (``.csv``) or ``schemes`` (``sklearn``) say what the loader takes; ``write`` makes its suffixes valid for ``-o``.
    """


@hookspec
def genreg_preprocessors() -> list[Preprocessor]:  # type: ignore[empty-body]
    """Steps before the model, fitted on training rows.

    A ``clean`` step (drop, fill, filter) acts on training rows, has no undo and never sees given conditions. A ``map``
    takes each column alone, skips absent ones, and has ``apply``, ``undo`` and ``log_jacobian``. The state of both is
    JSON and tensors, kept in the checkpoint.
    """


@hookspec
def genreg_models() -> list[ModelFamily]:  # type: ignore[empty-body]
    """Model families: frozen records that describe, configure, load and fit an architecture.

    ``load`` returns an object with ``propose`` and ``render`` (see genreg.draft); torch is imported there, not before.
    """


@hookspec
def genreg_samplers() -> list[Sampler]:  # type: ignore[empty-body]
    """Samplers: pure edits of a draft (truncate, interpolate, mix, clamp).

    The field also calls a diffusion solver or top-p a sampler. Those run the model, so they are the model's own: a
    solver is a function inside its plugin, top-p is a condition. Here a sampler sees a draft and nothing else.
    """
