"""Weights from the Hub: the real client against a hub on loopback, with every fault of a network."""

# ruff: noqa: E501 - a row of a table is one line

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import shutil
import signal
import sys
import threading
import time
from collections import namedtuple
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import save

from genreg import hub as hubs
from genreg.entrypoints import package_folder
from genreg.errors import CheckpointError, HubError, NotCached, UsageError
from genreg.fetch import fetch
from genreg.hub import Reference, parse
from genreg.offline import hub_cache
from genreg.testing import hub as _hub  # noqa: F401 - now, while it can get hold of the real time.sleep
from genreg.weights import resolve

NB = Path(package_folder("genreg_nb") or "") / "nb-iris"
REPO = "genreg/tiny"
TEXT = f"hf://{REPO}"
SIZE = 3 << 20


@pytest.fixture(autouse=True)
def slept(monkeypatch):
    """Waits are for networks."""
    waits: list[float] = []
    monkeypatch.setattr(time, "sleep", waits.append)
    monkeypatch.setattr(hubs, "TIMEOUT", 2.0)
    return waits


@pytest.fixture
def weights() -> bytes:
    return save({"w": np.random.default_rng(0).integers(0, 256, SIZE, np.uint8)}, {"format": "pt"})


@pytest.fixture
def hub(genreg_hub, weights):
    genreg_hub.add_repo(
        REPO, {"config.json": b'{"genreg": {}}', "model.safetensors": weights, "README.md": b"# tiny\n"}
    )
    return genreg_hub


def commit(hub, repo=REPO) -> str:
    return hub.repos["models", repo].find("main").oid


def pins(**files: bytes) -> dict:
    return {
        name.replace("_", "."): {"sha256": hashlib.sha256(data).hexdigest(), "size": len(data)}
        for name, data in files.items()
    }


def sent(hub) -> int:
    return sum(request["sent"] for request in hub.requests(server="cdn", method="GET"))


# ---- references ----

names = st.from_regex(r"[a-z0-9]([a-z0-9_]{0,8}[a-z0-9])?", fullmatch=True)


@settings(deadline=None)  # the first example imports the client
@given(
    names,
    names,
    st.none() | st.from_regex(r"[a-z0-9]{1,8}(/[a-z]{1,8})?|[0-9a-f]{40}", fullmatch=True),
    st.just("") | names,
)
def test_a_reference_is_read_as_it_is_written(org, name, revision, folder):
    if org in ("models", "datasets", "spaces", "kernels", "buckets"):
        return
    reference = Reference(f"{org}/{name}", revision, folder)
    assert parse(str(reference)) == reference


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("hf://gpt2", "hf://gpt2 is no reference: write hf://org/repo or hf://org/repo@revision"),
        ("hf://datasets/org/name", "hf://datasets/org/name is a dataset: models are hf://org/repo"),
        ("hf://org/repo/../x", "'../x' is no folder of a repository"),
        ("hf://org/repo@main/model.safetensors", "is a file: name its folder, hf://org/repo@main"),
        ("hf://org/repo@", "is no reference"),
    ],
)
def test_what_is_no_reference_says_how_to_write_one(text, message):
    with pytest.raises(UsageError) as caught:
        parse(text)
    assert message in str(caught.value)


# ---- fetched, and kept in Hugging Face's own cache ----


def test_files_arrive_whole_and_the_pin_is_told(hub, weights, capsys):
    reference, folder = fetch(TEXT)
    assert str(reference) == f"{TEXT}@{commit(hub)}"
    assert (folder / "model.safetensors").read_bytes() == weights
    assert {path.name for path in folder.iterdir()} == {"config.json", "model.safetensors", "README.md"}
    assert capsys.readouterr().err == f"genreg: {TEXT} is {reference} now: write that to get the same weights again\n"


def test_what_is_cached_and_pinned_costs_no_request(hub, weights):
    reference, folder = fetch(TEXT)
    hub.forget()
    assert fetch(str(reference)) == (reference, folder)
    files = pins(model_safetensors=weights)
    assert resolve(str(reference), files=files) == folder
    assert hub.requests() == []


def test_config_and_weights_come_from_one_commit(hub, monkeypatch):
    look = hubs.contents

    def moved(reference):
        there = look(reference)
        hub.push(REPO, {"config.json": b'{"genreg": {"newer": 1}}'})
        return there

    monkeypatch.setattr(hubs, "contents", moved)
    before = commit(hub)
    reference, folder = fetch(TEXT)
    assert reference.revision == before
    assert (folder / "config.json").read_bytes() == b'{"genreg": {}}'


def test_nothing_but_data_is_fetched(hub, weights):
    other = {
        "modeling.py": b"1/0",
        "pytorch_model.bin": b"\x80\x04.",
        "x/config.json": b"{}",
        "model.fp16.safetensors": weights,
    }
    hub.push(REPO, other)
    _, folder = fetch(TEXT)
    assert {path.name for path in folder.iterdir()} == {"config.json", "model.safetensors", "README.md"}
    for name in other:
        assert not hub.requests(path=name.replace(".", r"\."))


def test_a_folder_of_a_repository_is_fetched_alone(hub, weights):
    hub.push(REPO, {"vae/config.json": b"{}", "vae/diffusion_pytorch_model.safetensors": weights})
    reference, folder = fetch(f"{TEXT}@main/vae")
    assert str(reference) == f"{TEXT}@{commit(hub)}/vae"
    assert {path.name for path in folder.iterdir()} == {"config.json", "diffusion_pytorch_model.safetensors"}


def test_the_cache_stays_one_that_the_client_understands(hub, weights):
    from huggingface_hub import HfApi, hf_hub_download, scan_cache_dir

    reference, folder = fetch(TEXT)
    info = scan_cache_dir(os.environ["HF_HUB_CACHE"])
    assert (info.warnings, info.incomplete_files) == ([], frozenset())
    (repo,) = info.repos
    assert (repo.repo_id, repo.nb_files) == (REPO, 3)
    assert [revision.refs for revision in repo.revisions] == [frozenset({"main"})]
    checked = HfApi().verify_repo_checksums(REPO, revision=reference.revision)
    assert (checked.mismatches, checked.checked_count) == ([], 3)
    found = hf_hub_download(REPO, "model.safetensors", revision="main", local_files_only=True)
    assert Path(found).parent == folder


def test_what_the_client_fetched_is_used(hub):
    from huggingface_hub import hf_hub_download

    for name in ("config.json", "model.safetensors"):
        hf_hub_download(REPO, name)
    hub.forget()
    fetch(f"{TEXT}@{commit(hub)}")
    assert hub.requests() == []


# ---- faults ----

FAULTS = {
    "drop": {"after": SIZE // 2},
    "drop again and again": {"after": SIZE // 3, "times": 4},
    "reset": {"after": SIZE // 2},
    "reset at once": {"after": 0},
    "stall": {"after": SIZE // 2, "seconds": 3},
    "corrupt": {"offset": SIZE // 2},
    "truncate": {"after": SIZE // 2},
    "slow": {"rate": 20 << 20},
    "delay": {"seconds": 0.1},
    "status 429": {"code": 429, "headers": {"Retry-After": "7"}},
    "status 500": {"code": 500},
    "status 503": {"code": 503, "times": 3},
}


@pytest.mark.parametrize("name", FAULTS)
def test_after_a_fault_the_file_is_whole(hub, weights, name, monkeypatch):
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_DOWNLOAD_TIMEOUT", 1)
    hub.fail(name.split()[0], server="cdn", method="GET", **FAULTS[name])
    _, folder = fetch(TEXT)
    assert (folder / "model.safetensors").read_bytes() == weights
    assert not list(folder.parents[1].rglob("*.incomplete"))


@pytest.mark.parametrize("fault", ["drop", "status"])  # what a reset finds unread is lost
def test_what_arrived_before_a_fault_is_not_fetched_again(hub, weights, fault):
    hub.fail("drop" if fault == "status" else fault, server="cdn", after=SIZE // 2)
    if fault == "status":
        hub.fail("status", server="cdn", code=502)
    fetch(TEXT)
    assert len(weights) <= sent(hub) < len(weights) + (1 << 19)
    assert hub.requests(server="cdn")[-1]["range"].startswith("bytes=1")


def test_a_server_that_knows_no_ranges_begins_anew(hub, weights):
    hub.fail("drop", server="cdn", after=SIZE // 2)
    hub.fail("ignore_range", server="cdn", times=None)
    _, folder = fetch(TEXT)
    assert (folder / "model.safetensors").read_bytes() == weights


@pytest.mark.parametrize("what", [{"code": 500}, {"code": 429, "headers": {"Retry-After": "3"}}])
@pytest.mark.parametrize("path", ["/api/models", r"resolve/.*config\.json", "resolve-cache"])
def test_a_fault_of_the_hub_itself_is_waited_out(hub, weights, what, path, slept):
    hub.fail("status", server="hub", path=path, **what)
    _, folder = fetch(TEXT)
    assert (folder / "model.safetensors").read_bytes() == weights
    assert what["code"] == 500 or 3.0 in slept


@pytest.mark.parametrize("kind", ["drop", "reset", "corrupt", "truncate"])
def test_a_small_file_is_as_safe_as_a_large_one(hub, kind):
    hub.fail(kind, server="hub", method="GET", path="resolve-cache.*config", after=3, offset=3)
    _, folder = fetch(TEXT)
    assert (folder / "config.json").read_bytes() == b'{"genreg": {}}'


def test_a_file_that_always_arrives_damaged_is_refused_and_not_kept(hub):
    hub.fail("corrupt", server="cdn", offset=5, times=None)
    with pytest.raises(
        CheckpointError, match=r"model.safetensors arrived damaged twice, and was deleted: .*genreg pull hf://"
    ):
        fetch(TEXT)
    cache = Path(os.environ["HF_HOME"])
    assert not [path for path in cache.rglob("*") if path.is_file() and path.stat().st_size >= SIZE]


def test_a_line_that_never_holds_ends_in_one_message_and_what_came_is_kept(hub, weights):
    hub.fail("drop", server="cdn", after=SIZE // 2)
    hub.fail("drop", server="cdn", after=0, times=None)
    with pytest.raises(HubError, match=r"unreachable|without a byte"):
        fetch(TEXT)
    hub.heal()
    hub.forget()
    fetch(TEXT)
    assert sent(hub) < len(weights) - SIZE // 4


@pytest.mark.parametrize("share", [0.1, 0.5, 0.95])
def test_a_killed_process_is_gone_on_with(hub, weights, start, share, tmp_path):
    stop = int(share * SIZE)
    hub.fail("stall", server="cdn", after=stop, seconds=20)
    child = start("pull", TEXT)
    parts = Path(os.environ["HF_HOME"])
    until = time.monotonic() + 20
    while sum(part.stat().st_size for part in parts.rglob("*.incomplete")) < stop - (64 << 10):
        assert time.monotonic() < until
        threading.Event().wait(0.02)  # time.sleep is patched
    os.kill(child.pid, signal.SIGKILL)
    child.communicate()
    hub.forget()
    _, folder = fetch(TEXT)
    assert (folder / "model.safetensors").read_bytes() == weights
    assert sent(hub) < len(weights) - stop + (1 << 18)


def test_two_processes_at_once_fetch_once(hub, weights, start):
    hub.fail("slow", server="cdn", rate=4 << 20, times=None)
    children = [start("pull", TEXT) for _ in range(2)]
    for child in children:
        _, err = child.communicate(timeout=60)
        assert child.returncode == 0, err
    assert sent(hub) == len(weights)


def test_a_disk_that_is_too_small_is_told_before_a_byte_moves(hub, monkeypatch):
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(1, 1, 1000))
    with pytest.raises(UsageError, match=r"takes 3,1\d\d,\d\d\d bytes, and .* has 1,000 left: make room"):
        fetch(TEXT)
    assert sent(hub) == 0


# ---- pins ----


def test_a_wrong_digest_or_size_is_refused_before_a_byte_moves(hub, weights):
    right = pins(model_safetensors=weights)["model.safetensors"]
    for wrong in ({"sha256": "0" * 64}, {"size": 7}):
        with pytest.raises(
            CheckpointError, match=r"model.safetensors is not the file that is registered .*nothing was fetched"
        ):
            resolve(f"{TEXT}@{commit(hub)}", files={"model.safetensors": right | wrong})
    with pytest.raises(CheckpointError, match=r"has no file other.safetensors, which is registered"):
        resolve(f"{TEXT}@{commit(hub)}", files={"other.safetensors": right})
    assert sent(hub) == 0


def test_a_small_file_is_compared_after_it_came(hub):
    with pytest.raises(CheckpointError, match=r"config.json is not the file that is registered"):
        resolve(f"{TEXT}@{commit(hub)}", files={"config.json": {"sha256": "0" * 64, "size": 14}})


def test_a_commit_that_vanished_is_made_up_for_by_the_same_files(hub, weights, capsys):
    gone, files = "0" * 40, pins(model_safetensors=weights, config_json=b'{"genreg": {}}')
    folder = resolve(f"{TEXT}@{gone}", files=files)
    assert (folder / "model.safetensors").read_bytes() == weights
    assert f"{TEXT}@{gone} has vanished: the same files are at {TEXT}@{commit(hub)}" in capsys.readouterr().err
    hub.forget()
    assert resolve(f"{TEXT}@{gone}", files=files) == folder
    assert hub.requests() == []
    hub.push(REPO, {"model.safetensors": weights[:-1] + b"x"})
    shutil.rmtree(os.environ["HF_HUB_CACHE"])
    with pytest.raises(CheckpointError, match=r"has vanished, and .*is not the file that is registered"):
        resolve(f"{TEXT}@{gone}", files=files)


def test_a_damaged_cache_is_mended_online_and_refused_offline(hub, weights):
    reference, files = f"{TEXT}@{commit(hub)}", pins(model_safetensors=weights)
    path = resolve(reference, files=files) / "model.safetensors"
    path.resolve().write_bytes(weights[:-1] + b"x")
    with pytest.raises(CheckpointError, match=r"is not the file that is registered: with a network, genreg pull me"):
        resolve(reference, files=files, offline=True, mend="genreg pull me")
    assert (resolve(reference, files=files) / "model.safetensors").read_bytes() == weights


# ---- offline ----


def test_offline_nothing_is_asked_and_a_miss_says_what_fetches_it(hub, monkeypatch):
    from huggingface_hub import constants

    line = f"{TEXT} is not in the cache, and offline nothing is fetched; with a network: genreg pull {TEXT}"
    with pytest.raises(NotCached) as caught:
        fetch(TEXT, offline=True)
    assert str(caught.value) == line
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(NotCached):
        fetch(TEXT)
    assert hub.requests() == []
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    reference, folder = fetch(TEXT)
    hub.forget()
    assert fetch(TEXT, offline=True) == (reference, folder)
    assert fetch(str(reference), offline=True) == (reference, folder)
    assert hub.requests() == []


def test_half_a_snapshot_is_no_checkpoint(hub):
    from huggingface_hub import hf_hub_download

    hf_hub_download(REPO, "config.json")
    with pytest.raises(NotCached):
        fetch(TEXT, offline=True)


# ---- errors ----


def refused(text: str = TEXT) -> str:
    with pytest.raises((HubError, CheckpointError)) as caught:
        fetch(text)
    message = str(caught.value)
    assert "hf_" not in message.replace("hf_hub", "")
    assert "\n" not in message
    return message


def test_gated_private_and_missing_are_told_apart_as_far_as_the_hub_does(hub, monkeypatch):
    url = hub.url
    monkeypatch.setenv("HF_TOKEN", "")
    hub.add_repo("other/gated", {"config.json": b"{}", "model.safetensors": b"x" * 9}, gated="auto")
    hub.add_repo("other/private", {}, private=True)
    assert refused("hf://other/gated").startswith("hf://other/gated@")
    assert f"is gated: ask for access at {url}/other/gated, then log in with `hf auth login`" in refused(
        "hf://other/gated"
    )
    for name in ("other/private", "other/missing"):
        assert refused(f"hf://{name}") == (
            f"hf://{name} is private or does not exist: look at {url}/{name}, and log in with `hf auth login` if it is yours"
        )


def test_a_revision_and_a_file_that_are_not_there(hub):
    assert refused(f"{TEXT}@v9") == (
        f"{TEXT}@v9 has no revision v9: {hub.url}/{REPO}/commits/main lists them; the newest is genreg pull {TEXT}"
    )
    hub.add_repo("genreg/bare", {"model.safetensors": b"x"})
    assert "is no checkpoint: it has no config.json" in refused("hf://genreg/bare")
    hub.add_repo("genreg/pickled", {"config.json": b"{}", "pytorch_model.bin": b"x"})
    assert "pytorch_model.bin is a pickle, which can run code: convert it to safetensors" in refused(
        "hf://genreg/pickled"
    )


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        (
            {"code": 429, "headers": {"Retry-After": "3600"}},
            "is rate-limited: wait 3600 s, or log in with `hf auth login`; then genreg pull",
        ),
        ({"code": 429, "headers": {"RateLimit": '"api";r=0;t=120'}}, "is rate-limited: wait 120 s"),
        ({"code": 503}, "cannot be fetched, the Hub answers 503 (made up by fakehub): later, genreg pull"),
        ({"code": 403}, "is refused, your token lacks the right"),
        (
            {"code": 200, "body": "<html>Welcome to the hotel</html>"},
            "that is no Hub's: does the network ask you to log in first?",
        ),
    ],
)
def test_each_answer_has_a_message_of_its_own(hub, fault, message):
    hub.fail("status", server="hub", times=None, **fault)
    assert message in refused()


def test_a_token_that_the_hub_does_not_know_is_said_to_be_that(hub, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_" + "secret" * 5)
    assert "the Hub does not know your token: `hf auth login` replaces it" in refused()


def test_a_hub_that_is_down_answers_in_seconds(hub, monkeypatch):
    url = hub.url
    hub.stop()
    before = time.monotonic()
    message = refused()
    assert time.monotonic() - before < 5
    assert f"{url} is unreachable (ConnectError" in message
    assert message.endswith("what is cached runs with --offline")


def test_a_hub_that_says_nothing_is_given_up_in_seconds(hub, monkeypatch):
    monkeypatch.setattr(hubs, "TIMEOUT", 0.3)
    hub.fail("delay", server="hub", seconds=2, times=None)
    before = time.monotonic()
    assert "is unreachable (ReadTimeout" in refused()
    assert time.monotonic() - before < 2


def test_the_token_goes_to_the_hub_and_to_nobody_else(hub):
    fetch(TEXT)
    assert all(request["auth"] for request in hub.requests(server="hub"))
    assert not any(request["auth"] for request in hub.requests(server="cdn"))
    assert all("genreg/" in request["user_agent"] for request in hub.requests())


# ---- shards ----


def sharded(**more: object) -> dict[str, bytes]:
    files = {f"model-0000{at}-of-00002.safetensors": save({f"t{at}": np.full(4, at, np.float32)}) for at in (1, 2)}
    index = {
        "metadata": {},
        "weight_map": {"t1": "model-00001-of-00002.safetensors", "t2": "model-00002-of-00002.safetensors", **more},
    }
    return {"config.json": b"{}", "model.safetensors.index.json": json.dumps(index).encode(), **files}


def test_shards_come_with_their_index(genreg_hub):
    from genreg.checkpoint import Weights

    genreg_hub.add_repo("genreg/sharded", sharded())
    reference, folder = fetch("hf://genreg/sharded")
    weights = Weights.open(folder / "model.safetensors.index.json")
    assert [weights.numpy(f"t{at}").tolist() for at in (1, 2)] == [[1.0] * 4, [2.0] * 4]
    genreg_hub.forget()
    assert fetch(str(reference)) == (reference, folder)
    (folder / "model-00002-of-00002.safetensors").unlink()
    with pytest.raises(NotCached):
        fetch(str(reference), offline=True)
    assert genreg_hub.requests() == []


@pytest.mark.parametrize(
    "name", ["../x.safetensors", "x.bin", "/etc/x.safetensors", ".x.safetensors", "a\\x.safetensors"]
)
def test_an_index_names_plain_files_alone(genreg_hub, name):
    genreg_hub.add_repo("genreg/sharded", sharded(t3=name))
    assert f"{name!r} is no plain name of a .safetensors file" in refused("hf://genreg/sharded")


def test_a_shard_that_is_not_there_or_not_pinned_is_named(genreg_hub):
    genreg_hub.add_repo("genreg/sharded", sharded(t3="model-3.safetensors"))
    assert "model.safetensors.index.json names model-3.safetensors, and there is no such file" in refused(
        "hf://genreg/sharded"
    )
    files = sharded()
    genreg_hub.push("genreg/sharded", files)
    held = {name: {"sha256": hashlib.sha256(data).hexdigest(), "size": len(data)} for name, data in files.items()}
    reference = f"hf://genreg/sharded@{commit(genreg_hub, 'genreg/sharded')}"
    assert resolve(reference, files=held).is_dir()
    held.pop("model-00002-of-00002.safetensors")
    with pytest.raises(CheckpointError, match=r"names model-00002-of-00002.safetensors, which is not registered"):
        resolve(reference, files=held)


# ---- the command line ----


@pytest.fixture
def iris(genreg_hub):
    files = {path.name: path for path in NB.iterdir() if path.suffix in (".json", ".safetensors", ".md")}
    genreg_hub.add_repo("genreg/iris", files)
    return genreg_hub


def test_a_reference_runs_and_its_recipe_has_the_pin(iris, genreg, tmp_path):
    out, pinned = tmp_path / "x.csv", f"hf://genreg/iris@{commit(iris, 'genreg/iris')}"
    assert genreg("run", "hf://genreg/iris", "-n", "2", "--seed", "0", "-o", out).code == 0
    assert json.loads((tmp_path / "x.csv.recipe.json").read_text())["model"] == pinned
    local = tmp_path / "y.csv"
    assert genreg("run", "nb-iris", "-n", "2", "--seed", "0", "-o", local).code == 0
    assert out.read_bytes() == local.read_bytes()
    assert genreg("score", pinned, "--data", out, "--offline").code == 0
    assert genreg("show", pinned, "--offline", "--json").out.startswith("{")
    assert genreg("check", pinned, "--offline", "--json").out.startswith("[")


def test_a_recipe_fetches_nothing_without_a_yes(iris, genreg, tmp_path):
    out = tmp_path / "x.csv"
    genreg("run", "hf://genreg/iris", "-n", "2", "--seed", "0", "-o", out)
    shutil.rmtree(os.environ["HF_HUB_CACHE"])
    iris.forget()
    pinned = f"hf://genreg/iris@{commit(iris, 'genreg/iris')}"
    again = ("run", "--recipe", out, "-o", tmp_path / "y.csv")
    assert genreg(*again).line == f"{out} needs {pinned}, which is not here: --yes fetches it"
    assert iris.requests() == []
    assert "with a network: genreg pull" in genreg(*again, "--yes", "--offline").line
    assert genreg(*again, "--yes").code == 0
    assert (tmp_path / "y.csv").read_bytes() == out.read_bytes()


def entry(hub, **changed) -> str:
    files = pins(**{name.replace(".", "_"): (NB / name).read_bytes() for name in ("config.json", "model.safetensors")})
    weights = f"hf://genreg/iris@{commit(hub, 'genreg/iris')}"
    found = {"family": "nb", "summary": "x", "makes": "table", "weights": weights, "files": files, **changed}
    return json.dumps({"version": 1, "models": {"far": {k: v for k, v in found.items() if v is not None}}})


def test_an_entry_is_pulled_verified_and_run(iris, genreg, registry_file):
    path = registry_file(entry(iris))
    here = ("--registry", path)
    missing = genreg("run", "far", *here, "--offline").line
    assert missing.endswith("is not in the cache, and offline nothing is fetched; with a network: genreg pull far")
    assert json.loads(genreg("verify", "far", *here, "--json").out)[0]["status"] == "not fetched"
    (row,) = json.loads(genreg("pull", *here, "--json").out)
    assert (row["name"], row["bytes"]) == (
        "far",
        sum((NB / name).stat().st_size for name in ("config.json", "model.safetensors")),
    )
    assert genreg("verify", "far", *here).out == "ok          far\n"
    assert genreg("run", "far", *here, "--offline").code == 0
    (Path(row["folder"]) / "model.safetensors").resolve().write_bytes(b"x" * 624)
    done = genreg("verify", *here)
    assert done.code == 1
    assert "damaged     far: " in done.out
    assert "ok          nb-iris\n" in done.out
    assert genreg("pull", "far", *here).out == f"far: {row['bytes']:,} bytes in {row['folder']}\n"
    assert genreg("verify", "far", *here).code == 0


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"weights": "hf://genreg/iris"}, "models.far.weights: write hf://org/repo@commit with all 40 digits"),
        ({"weights": "hf://genreg/iris@main"}, "write hf://org/repo@commit with all 40 digits"),
        ({"files": None}, "models.far: files is missing: sha256 and size of each file"),
        ({"files": {"config.json": {"size": 3}}}, "files.config.json: needs size and sha256, 64 digits"),
        ({"files": {"config.json": {"sha256": "0" * 64}}}, "needs size and sha256"),
    ],
)
def test_an_entry_on_the_hub_is_pinned_to_the_bit(iris, genreg, registry_file, changed, message):
    assert message in genreg("list", "--registry", registry_file(entry(iris, **changed))).line


def test_the_listing_marks_what_runs_without_a_network(iris, genreg, registry_file):
    path = registry_file(entry(iris))
    asked = ("list", "--offline", "--family", "nb", "--registry", path)
    found = genreg(*asked).out
    assert re.search(
        r"^NAME +FAMILY +MAKES +OFFLINE +SUMMARY\nfar +nb +table +no +x\n +not in the cache: genreg pull far\n", found
    )
    assert re.search(r"^nb-iris +nb +table +yes +Iris", found, re.M)
    assert genreg(*asked, "-q").out == "nb-iris\nnb-penguins\n"
    far, near, _ = json.loads(genreg(*asked, "--json").out)
    assert (far["offline"], far["obstacle"]) == (False, "not in the cache: genreg pull far")
    assert (near["offline"], "obstacle" in near) == (True, False)
    assert genreg("pull", "far", "--registry", path).code == 0
    iris.forget()
    assert genreg(*asked, "-q").out == "far\nnb-iris\nnb-penguins\n"
    assert iris.requests() == []
    pinned = path.read_text()
    path.write_text(pinned.replace(commit(iris, "genreg/iris"), "0" * 40))  # the same files, of a commit that vanished
    assert genreg(*asked, "-q").out == "far\nnb-iris\nnb-penguins\n"
    assert genreg("run", "far", "--registry", path, "--offline").code == 0
    (weights,) = Path(os.environ["HF_HUB_CACHE"]).rglob("model.safetensors")
    weights.resolve().write_bytes(b"half")
    assert genreg(*asked, "-q").out == "nb-iris\nnb-penguins\n"


@pytest.mark.parametrize(
    "variables",
    [
        {},
        {"XDG_CACHE_HOME": "/caches"},
        {"HF_HOME": "~/hf", "XDG_CACHE_HOME": "/caches"},
        {"HUGGINGFACE_HUB_CACHE": "/older", "HF_HOME": "/hf"},
        {"HF_HUB_CACHE": "$HOME/模型", "HUGGINGFACE_HUB_CACHE": "/older"},
    ],
    ids=" ".join,
)
def test_the_cache_is_where_the_client_has_it(monkeypatch, variables):
    import runpy

    from huggingface_hub import constants

    for name in ("XDG_CACHE_HOME", "HF_HOME", "HUGGINGFACE_HUB_CACHE", "HF_HUB_CACHE"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert hub_cache() == runpy.run_path(constants.__file__)["HF_HUB_CACHE"]


def test_what_cannot_be_pulled_or_verified_says_so(genreg, registry_file):
    path = registry_file("version: 1\nmodels: {far: {family: nb, makes: table, summary: x}}\n")
    assert genreg("pull", "far", "--registry", path).line == "far has no weights: there is nothing to fetch"
    assert genreg("pull", "nb-irs").line.startswith("there is no model nb-irs; did you mean nb-iris?")
    assert (
        genreg("verify", "far", "--registry", path).out
        == "not pinned  far: its entry has no weights: there is nothing to compare\n"
    )


def test_a_foreign_repository_that_no_family_knows_says_what_was_looked_at(hub, genreg):
    hub.push(REPO, {"config.json": b'\xef\xbb\xbf{"model_type": "dream"}'})
    assert "no family recognizes it (config.json names dream; 1 tensors, such as w)" in genreg("show", TEXT).err


def test_listing_and_local_models_import_no_hub(process):
    code = "import sys; from genreg.cli import main\ntry: main(sys.argv[1:])\nexcept SystemExit: print('huggingface_hub' in sys.modules)"
    import subprocess

    for asked in ("list", "run nb-iris"):
        done = subprocess.run([sys.executable, "-c", code, *asked.split()], capture_output=True, text=True)
        assert done.stdout.splitlines()[-1] == "False", done


def test_our_own_catalogue_is_pinned_to_the_bit():
    from genreg.registry import read_registries

    entries = [entry for entry in read_registries().entries.values() if entry.weights]
    assert entries
    for entry in entries:
        assert {"config.json", "model.safetensors"} <= entry.files.keys(), entry.name
        for facts in entry.files.values():
            assert len(facts["sha256"]) == 64, entry.name
            assert facts["size"] > 0, entry.name
        if entry.weights.startswith("hf://"):
            assert hubs.parse(entry.weights).pinned, entry.name


def test_a_terminal_shows_a_bar_for_each_file_and_a_pipe_none(hub, start, monkeypatch):
    import pty

    monkeypatch.delenv("HF_HUB_DISABLE_PROGRESS_BARS")
    ours, theirs = pty.openpty()
    child = start("pull", TEXT, stderr=theirs, env={"TERM": "xterm"})
    os.close(theirs)
    shown = b""
    with contextlib.suppress(OSError):
        while block := os.read(ours, 1 << 16):
            shown += block
    os.close(ours)
    out, _ = child.communicate(timeout=60)
    for name in (b"model.safetensors", b"config.json", b"README.md"):
        assert name in shown
    assert out.startswith(f"{TEXT}: 3,145,8".encode())
    shutil.rmtree(os.environ["HF_HUB_CACHE"])
    child = start("pull", f"{TEXT}@{commit(hub)}")
    assert child.communicate(timeout=60)[1] == b""


def test_the_variable_of_hugging_face_is_heard(hub, process):
    done = process("show", TEXT, env={"HF_HUB_OFFLINE": "1"})
    assert (
        done.line == f"{TEXT} is not in the cache, and offline nothing is fetched; with a network: genreg pull {TEXT}"
    )
    assert hub.requests() == []
