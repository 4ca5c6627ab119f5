"""The core is its own first plugin, through the same hooks as every other one."""

from __future__ import annotations

from genreg.columnar import arrow, parquet, write_arrow, write_parquet
from genreg.delimited import csv, write_csv
from genreg.hooks import hookimpl
from genreg.lines import jsonl, txt, write_jsonl, write_txt
from genreg.preprocess import PREPROCESSORS
from genreg.samplers import SAMPLERS
from genreg.specs import DataLoader, Preprocessor, Sampler

LOADERS = [
    DataLoader(csv, (".csv", ".tsv"), write=write_csv, packed=True, several=True),
    DataLoader(jsonl, (".jsonl", ".ndjson"), write=write_jsonl, packed=True, several=True),
    DataLoader(parquet, (".parquet",), write=write_parquet),
    DataLoader(arrow, (".arrow", ".feather"), write=write_arrow),
    DataLoader(txt, (".txt",), write=write_txt, packed=True),
]


@hookimpl
def genreg_data_loaders() -> list[DataLoader]:
    """CSV, JSON Lines, Parquet, Arrow, plain text."""
    return LOADERS


@hookimpl
def genreg_preprocessors() -> list[Preprocessor]:
    """standardize, minmax, categories; dropna, dedupe, fillna, clip."""
    return PREPROCESSORS


@hookimpl
def genreg_samplers() -> list[Sampler]:
    """truncate, interpolate, mix, clamp."""
    return SAMPLERS
