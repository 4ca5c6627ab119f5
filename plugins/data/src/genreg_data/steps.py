"""The steps of this plugin, as its hook returns them."""

from __future__ import annotations

from genreg import Preprocessor
from genreg.preprocess import no_restore, restore_categories, restore_standardize
from genreg_data.categories import onehot, ordinal, restore_onehot
from genreg_data.channels import channels, restore_channels
from genreg_data.clean import fillgroup, imagesize, length, match, replace, scrub, within
from genreg_data.labels import label, labels
from genreg_data.logarithm import log, restore_log
from genreg_data.near import nearimage, neartext
from genreg_data.ranks import quantile, restore_quantile, robust

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
