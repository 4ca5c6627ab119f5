"""One root, few leaves: every message says what was asked, why not, and what would work."""

from __future__ import annotations

from collections.abc import Iterable


class GenregError(Exception):
    """What genreg itself reports: one line in the user's words."""

    exit_code = 1


class UsageError(GenregError):
    """The user can mend it: a wrong name, value, file or combination."""

    exit_code = 2


class Interrupted(GenregError):
    """Somebody pressed Ctrl-C; the message says what was kept."""

    exit_code = 130


class Unsupported(UsageError):
    """A model, draft or sampler cannot do what was asked, for the reason given."""


class DataError(UsageError):
    """The data cannot be read, written or used as asked."""


class CheckpointError(UsageError):
    """A checkpoint is missing, damaged, or does not fit its family."""


class RegistryError(UsageError):
    """A registry file is wrong, at the file, line and key that the message names."""


class PluginError(UsageError):
    """A plugin is missing, broken, or collides with another one."""


class NotFound(UsageError):
    """A name that is not there."""


class HubError(UsageError):
    """The Hub refuses, or cannot be reached; the message has the next command to type."""


class NotCached(HubError):
    """Offline, and not here."""


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """The end of a message about an unknown name: a close name, else all that exist.

    >>> did_you_mean("hnm", ["hmm", "nb"])
    '; did you mean hmm?'
    >>> did_you_mean("zebra", ["nb", "hmm"])
    '; there are: hmm, nb'
    """
    from difflib import get_close_matches

    names = sorted(set(known))
    close = get_close_matches(name, names, n=1, cutoff=0.5)
    if close:
        return f"; did you mean {close[0]}?"
    return f"; there are: {', '.join(names)}" if names else "; there are none"
