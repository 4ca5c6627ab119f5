"""A key belongs to one host, lies where its owner alone can read it, and is never shown."""

from __future__ import annotations

import stat
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from click.testing import CliRunner

from genreg.errors import UsageError
from genreg_openai.commands import keys
from genreg_openai.endpoint import endpoint, host_of, require_key
from genreg_openai.keys import find_key, read_store, set_key, store

SECRET = "sk-secret-1234"


@pytest.fixture(autouse=True)
def _own_store(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))


def test_the_environments_key_belongs_to_the_environments_host():
    alone = {"OPENAI_API_KEY": f" {SECRET}\n"}
    assert find_key("api.openai.com", environ=alone).get_secret_value() == SECRET
    assert find_key("elsewhere.example", environ=alone) is None
    both = {**alone, "OPENAI_BASE_URL": "https://elsewhere.example/v1"}
    assert find_key("api.openai.com", environ=both) is None
    assert find_key("elsewhere.example", environ=both).get_secret_value() == SECRET
    assert find_key("elsewhere.example:8443", environ=both) is None
    assert endpoint(environ={"OPENAI_BASE_URL": " "}).base_url == "https://api.openai.com/v1"
    assert SECRET not in repr(endpoint(environ=alone))


def test_a_stored_key_is_private_and_bound_to_its_host():
    set_key("localhost:8000", SECRET)
    assert stat.S_IMODE(store().stat().st_mode) == 0o600
    assert find_key("localhost:8000", environ={}).get_secret_value() == SECRET
    assert find_key("localhost:8001", environ={}) is None
    store().chmod(0o644)
    with pytest.raises(UsageError, match=r"holds a key, and others can read it: chmod 600"):
        find_key("localhost:8000", environ={})
    store().chmod(0o600)
    store().write_text("[]")
    with pytest.raises(UsageError, match="is damaged: remove it"):
        read_store()


def test_a_key_file_is_read_and_must_be_private(tmp_path):
    file = tmp_path / "key"
    file.write_text(f"{SECRET}\n")
    file.chmod(0o640)
    with pytest.raises(UsageError, match="others can read it"):
        find_key("x", file=file)
    file.chmod(0o600)
    assert find_key("x", file=file).get_secret_value() == SECRET
    with pytest.raises(UsageError, match="cannot be read: No such file"):
        find_key("x", file=tmp_path / "none")
    file.write_text("\n")
    with pytest.raises(UsageError, match="there is no key in it"):
        find_key("x", file=file)


@pytest.mark.parametrize("key", ["sk-秘密", "two words", "sk-\x00"])
def test_what_is_no_key_is_refused_without_showing_it(key):
    with pytest.raises(UsageError, match="a key is one word of plain letters") as caught:
        find_key("api.openai.com", environ={"OPENAI_API_KEY": key})
    assert key not in str(caught.value)


def test_the_verb_sets_lists_and_removes(monkeypatch):
    run = CliRunner()
    assert run.invoke(keys, ["set", "openai"], input=f"{SECRET}\n").exit_code == 0
    assert run.invoke(keys, ["set", "https://Example.org:8443/v1"], input=f"{SECRET}\n").exit_code == 0
    listed = run.invoke(keys, ["list"]).output
    assert listed == "api.openai.com  file\nexample.org:8443  file\n"
    assert run.invoke(keys, ["remove", "openai"]).exit_code == 0
    assert read_store().keys() == {"example.org:8443"}
    error = run.invoke(keys, ["remove", "openai"]).exception
    assert str(error) == "there is no key of api.openai.com; there are: example.org:8443"


def test_the_systems_keyring_holds_it_where_it_is_installed(monkeypatch):
    held: dict[tuple[str, str], str] = {}
    fake = SimpleNamespace(
        set_password=lambda service, name, key: held.update({(service, name): key}),
        get_password=lambda service, name: held.get((service, name)),
        delete_password=lambda service, name: held.pop((service, name)),
    )
    monkeypatch.setitem(sys.modules, "keyring", fake)
    assert CliRunner().invoke(keys, ["set", "openai", "--keyring"], input=SECRET).exit_code == 0
    assert SECRET not in store().read_text()
    assert find_key("api.openai.com", environ={}).get_secret_value() == SECRET
    assert CliRunner().invoke(keys, ["list"]).output == "api.openai.com  keyring\n"
    assert CliRunner().invoke(keys, ["remove", "openai"]).exit_code == 0
    assert held == {}
    monkeypatch.setitem(sys.modules, "keyring", None)
    error = CliRunner().invoke(keys, ["set", "openai", "--keyring"], input=SECRET).exception
    assert "needs the package keyring: pip install keyring" in str(error)


def test_a_key_goes_over_https_or_to_this_machine(tmp_path):
    set_key("far.example", SECRET)
    set_key("localhost:1", SECRET)
    with pytest.raises(UsageError, match=r"the key of far\.example goes over https alone, or to this machine"):
        endpoint("http://far.example/v1", environ={})
    assert endpoint("https://far.example/v1", environ={}).key
    assert endpoint("http://localhost:1/v1", environ={}).local
    assert endpoint("http://127.8.0.1:1/v1", environ={}).local
    assert endpoint("http://far2.example/v1", environ={}).key is None
    with pytest.raises(UsageError, match=r"api\.openai\.com needs a key, and there is none: genreg keys set openai"):
        require_key(endpoint(environ={}))


@pytest.mark.parametrize("url", ["localhost:11434", "ftp://x/v1", "https://", "https://user:pw@x/v1"])
def test_what_is_no_base_url_is_refused(url):
    with pytest.raises(UsageError, match=r"write a URL such as https://api\.openai\.com/v1"):
        endpoint(url, environ={})
    with pytest.raises(UsageError, match="the port is no number"):
        endpoint("http://localhost:99999/v1", environ={})


def test_a_host_is_written_in_one_way():
    assert host_of("http://[::1]:80/v1") == "[::1]"
    assert host_of("https://EXAMPLE.org.:443") == "example.org"
    assert Path(store()).name == "keys.json"
