"""genreg: one command line and one Python API for every kind of generative model."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from genreg.api import LoadedModel as LoadedModel
    from genreg.api import Samples as Samples
    from genreg.api import list_models as list_models
    from genreg.api import load as load
    from genreg.draft import Array as Array
    from genreg.draft import Batch as Batch
    from genreg.draft import Done as Done
    from genreg.draft import Draft as Draft
    from genreg.draft import Model as Model
    from genreg.draft import Piece as Piece
    from genreg.draft import Seeds as Seeds
    from genreg.errors import GenregError as GenregError
    from genreg.errors import Unsupported as Unsupported
    from genreg.errors import UsageError as UsageError
    from genreg.hooks import hookimpl as hookimpl
    from genreg.specs import Condition as Condition
    from genreg.specs import DataLoader as DataLoader
    from genreg.specs import ModelFamily as ModelFamily
    from genreg.specs import Preprocessor as Preprocessor
    from genreg.specs import Sampler as Sampler
    from genreg.specs import Settings as Settings
    from genreg.specs import Trained as Trained
    from genreg.training import train as train

_HOMES = {
    "genreg.api": ["LoadedModel", "Samples", "list_models", "load"],
    "genreg.training": ["train"],
    "genreg.draft": ["Array", "Batch", "Done", "Draft", "Model", "Piece", "Seeds"],
    "genreg.errors": ["GenregError", "Unsupported", "UsageError"],
    "genreg.hooks": ["hookimpl"],
    "genreg.specs": ["Condition", "DataLoader", "ModelFamily", "Preprocessor", "Sampler", "Settings", "Trained"],
}
_HOME = {name: module for module, names in _HOMES.items() for name in names}
__all__ = sorted(_HOME)


def __getattr__(name: str) -> Any:
    """Import a public name when it is first asked for: ``import genreg`` costs nothing."""
    if name not in _HOME:
        raise AttributeError(f"module genreg has no attribute {name}")
    return getattr(import_module(_HOME[name]), name)
