"""API keys: each belongs to one host, and goes nowhere else.

Where a key comes from, in this order: ``key_file``, the environment (OPENAI_API_KEY belongs to the host of
OPENAI_BASE_URL where that is set beside it, else to OpenAI's own), and the store that ``genreg keys`` fills: a file
that its owner alone can read (0600), or the system's keyring where the package ``keyring`` is installed.
"""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import SecretStr

from genreg.errors import UsageError

OPENAI = "api.openai.com"
SERVICE = "genreg"  # of the keyring
IN_KEYRING = {"keyring": True}  # what the file says of a key that the keyring holds


def store() -> Path:
    """The file of stored keys, there or not: beside the user's registry.yaml."""
    from genreg.registry import user_file

    return Path(user_file()).with_name("keys.json")


def find_key(
    host: str, *, file: Path | None = None, environ: Mapping[str, str] = os.environ, stored: Path | None = None
) -> SecretStr | None:
    """The key that belongs to a host, or None. Raises UsageError for one that is no key or lies open to others."""
    if file is not None:
        return checked(_private(file).strip(), f"key_file={file}")
    from genreg_openai.endpoint import host_of

    base_url = environ.get("OPENAI_BASE_URL", "").strip()
    if environ.get("OPENAI_API_KEY", "").strip() and host == (host_of(base_url) if base_url else OPENAI):
        return checked(environ["OPENAI_API_KEY"].strip(), "OPENAI_API_KEY")
    kept = read_store(stored).get(host)
    if kept == IN_KEYRING:
        kept = _keyring().get_password(SERVICE, host)
    return checked(kept, f"the stored key of {host}") if isinstance(kept, str) else None


def checked(key: str, where: str) -> SecretStr:
    """A key that can stand in a header; raises UsageError, without the key, where it cannot."""
    if not key:
        raise UsageError(f"{where}: there is no key in it")
    if not (key.isascii() and key.isprintable()) or " " in key:
        raise UsageError(f"{where}: a key is one word of plain letters, digits and signs, and this is none")
    return SecretStr(key)


def read_store(path: Path | None = None) -> dict[str, Any]:
    """Stored keys by host. Raises UsageError where the file is damaged or lies open to others."""
    path = path or store()
    if not path.is_file():
        return {}
    try:
        found = json.loads(_private(path))
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise UsageError(f"{path} is damaged: remove it, and set the keys again with genreg keys set")
    return found


def set_key(host: str, key: str, *, keyring: bool = False, path: Path | None = None) -> None:
    """Store the key of a host, in the file or in the system's keyring."""
    secret, kept = checked(key.strip(), f"the key of {host}").get_secret_value(), read_store(path)
    if keyring:
        _keyring().set_password(SERVICE, host, secret)
    _write_store(kept | {host: IN_KEYRING if keyring else secret}, path)


def remove_key(host: str, *, path: Path | None = None) -> None:
    """Forget the key of a host; raises UsageError where there is none."""
    kept = read_store(path)
    if host not in kept:
        known = ", ".join(sorted(kept)) or "none"
        raise UsageError(f"there is no key of {host}; there are: {known}")
    if kept.pop(host) == IN_KEYRING:
        _keyring().delete_password(SERVICE, host)
    _write_store(kept, path)


def _write_store(kept: Mapping[str, Any], path: Path | None) -> None:
    """Write the file whole, and never for a moment open to others."""
    path = path or store()
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
            json.dump(kept, file, indent=2)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def _private(path: Path) -> str:
    """The text of a file that its owner alone can read; raises UsageError for any other."""
    try:
        mode = path.stat().st_mode
        text = path.read_text("utf-8-sig")
    except (OSError, ValueError) as error:
        raise UsageError(f"{path} cannot be read: {getattr(error, 'strerror', None) or 'it is not text'}") from None
    if stat.S_IMODE(mode) & 0o077:
        raise UsageError(f"{path} holds a key, and others can read it: chmod 600 {path}")
    return text


def _keyring() -> Any:
    try:
        import keyring
    except ModuleNotFoundError:
        raise UsageError("the system's keyring needs the package keyring: pip install keyring") from None
    return keyring
