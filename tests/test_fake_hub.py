"""The Hub on loopback, where the real client does not reach: by plain HTTP, and from a shell."""

from __future__ import annotations

import json
import urllib.error
import urllib.request

import pytest

from genreg.testing.hub.__main__ import main
from genreg.testing.hub.wire import asked_range


def ask(hub, path: str, method: str = "GET", body: object = None):
    """The status, the headers and the body of an answer."""
    data = None if body is None else json.dumps(body).encode()
    asked = urllib.request.Request(hub.url + path, data, {"Content-Type": "application/json"}, method=method)
    try:
        with urllib.request.urlopen(asked, timeout=10) as answer:
            return answer.status, answer.headers, answer.read()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.headers, error.read()


@pytest.mark.parametrize(
    ("wanted", "part"),
    [
        ("bytes=0-9", (0, 9)),
        ("bytes=990-", (990, 999)),
        ("bytes=-5", (995, 999)),
        ("bytes=990-5000", (990, 999)),
        ("bytes=-5000", (0, 999)),
        ("bytes=1000-", (1000, 999)),  # beyond the end: answered with 416
        ("bytes=-", None),
        ("", None),
    ],
)
def test_a_range_is_read_as_http_has_it(wanted, part):
    assert asked_range(wanted, 1000) == part


def test_a_tree_comes_in_pages(genreg_hub):
    genreg_hub.page_size = 2
    genreg_hub.add_repo("genreg/a", {"config.json": b"{}", "x/y/z.txt": b"1", "x/w.txt": b"2"})
    path, found = "/api/models/genreg/a/tree/main?recursive=true", []
    while path:
        _, headers, body = ask(genreg_hub, path)
        found += [(row["type"], row["path"]) for row in json.loads(body)]
        path = headers.get("Link", "<>").partition(">")[0].removeprefix("<").removeprefix(genreg_hub.url)
    files = [("file", ".gitattributes"), ("file", "config.json")]
    folders = [("directory", "x"), ("file", "x/w.txt"), ("directory", "x/y"), ("file", "x/y/z.txt")]
    assert found == files + folders


def test_faults_are_ordered_and_forgotten_from_another_process(genreg_hub):
    genreg_hub.add_repo("genreg/a", {"config.json": b"{}"})
    assert ask(genreg_hub, "/_fake/faults", "POST", {"kind": "status", "code": 503})[0] == 200
    assert ask(genreg_hub, "/api/models/genreg/a")[0] == 503
    assert ask(genreg_hub, "/api/models/genreg/a")[0] == 200
    assert [row["status"] for row in json.loads(ask(genreg_hub, "/_fake/log")[2])] == [503, 200]
    genreg_hub.fail("status", times=None)
    assert ask(genreg_hub, "/_fake/faults", "DELETE")[0] == 200
    assert ask(genreg_hub, "/api/models/genreg/a")[0] == 200
    with pytest.raises(ValueError, match="unknown fault 'stale': one of"):
        genreg_hub.fail("stale")


def test_a_shell_gets_the_clients_variables(capsys):
    main(["--print-env", "8123"])
    lines = capsys.readouterr().out.splitlines()
    assert "export HF_ENDPOINT=http://127.0.0.1:8123" in lines
    assert "export HF_HUB_DISABLE_XET=1" in lines
