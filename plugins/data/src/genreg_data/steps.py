"""The steps of this plugin, as its hook returns them."""

from __future__ import annotations

from genreg import Preprocessor
from genreg.preprocess import no_restore, restore_categories, restore_standardize
from genreg_data.clean import fillgroup, imagesize, length, match, replace, scrub, within
from genreg_data.labels import label, labels
from genreg_data.maps import (
    channels,
    log,
    onehot,
    ordinal,
    quantile,
    restore_channels,
    restore_log,
    restore_onehot,
    restore_quantile,
    robust,
)
from genreg_data.near import nearimage, neartext

CLEAN = (scrub, replace, match, within, length, imagesize, fillgroup, neartext, nearimage, label, labels)
PREPROCESSORS = [
    *(Preprocessor(step, no_restore, kind="clean") for step in CLEAN),
    Preprocessor(robust, restore_standardize),
    Preprocessor(quantile, restore_quantile),
    Preprocessor(log, restore_log),
    Preprocessor(channels, restore_channels),
    Preprocessor(onehot, restore_onehot),
    Preprocessor(ordinal, restore_categories),
]
