"""``genreg push``: one commit, compared, and an entry that is ready to be pasted."""

# ruff: noqa: E501 - a line that is printed is one line

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path

import pytest
import yaml

import genreg as api
from genreg import hub as hubs
from genreg.card import front_matter
from genreg.entrypoints import package_folder
from genreg.errors import CheckpointError
from genreg.push import push
from genreg.testing.hub import READER_TOKEN

NB = Path(package_folder("genreg_nb") or "") / "nb-iris"
REPO = "genreg/iris"
# huggingface_hub uploads with an argument that its own HTTP client has deprecated.
pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=<...>':DeprecationWarning")


@pytest.fixture
def folder(tmp_path) -> Path:
    return Path(shutil.copytree(NB, tmp_path / "iris"))


def stored(hub, name: str) -> bytes:
    repo = hub.repos["models", REPO]
    with hub.open(repo, repo.find("main").tree[name]) as file:
        return file.read()


def test_what_is_pushed_comes_back_bit_equal_by_the_printed_entry(genreg_hub, genreg, folder, tmp_path):
    done = genreg("push", folder, REPO, "--license", "BSD-3-Clause", "--tag", "v1.0")
    assert done.code == 0, done.err
    repo = genreg_hub.repos["models", REPO]
    commit = repo.find("main").oid
    assert done.err == f"genreg: {genreg_hub.url}/{REPO} is at commit {commit} now; its entry:\n"
    assert repo.find("v1.0").oid == commit
    entry = yaml.safe_load(done.out)["models"]["iris"]
    assert entry["weights"] == f"hf://{REPO}@{commit}"
    assert entry["license"] == "BSD-3-Clause"
    assert entry["files"] == {
        name: {"sha256": hashlib.sha256((NB / name).read_bytes()).hexdigest(), "size": (NB / name).stat().st_size}
        for name in ("config.json", "model.safetensors")
    }
    registry = tmp_path / "registry.yaml"
    registry.write_text(done.out)
    assert genreg("run", "iris", "-n", "5", "--seed", "1", "--registry", registry, "-o", tmp_path / "a.csv").code == 0
    assert genreg("run", "nb-iris", "-n", "5", "--seed", "1", "-o", tmp_path / "b.csv").code == 0
    assert (tmp_path / "a.csv").read_bytes() == (tmp_path / "b.csv").read_bytes()


def test_the_card_is_complete_and_shows_a_sample(genreg_hub, genreg, folder):
    assert genreg("push", folder, REPO, "--license", "Apache-2.0", "--dataset", "scikit-learn/iris").code == 0
    front, body = front_matter(stored(genreg_hub, "README.md").decode())
    assert front["library_name"] == "genreg"
    assert front["pipeline_tag"] == "tabular-classification"
    assert front["license"] == "apache-2.0"
    assert front["datasets"] == ["scikit-learn/iris"]
    assert front["tags"] == ["genreg", "nb"]
    assert set(front["metrics"]) == set(json.loads((NB / "config.json").read_text())["genreg"]["training"]["metrics"])
    assert f"genreg run hf://{REPO} -n 5 --seed 0" in body
    assert repr(api.load(NB).sample(5, seed=0)) in body


def test_a_card_that_people_wrote_keeps_its_words(genreg_hub, genreg, folder):
    (folder / "README.md").write_text(
        "---\nlicense: mit\ntags: [mine]\nlanguage: zh\n---\n# 鸢尾花\n\n我的话。\n", "utf-8"
    )
    assert genreg("push", folder, REPO).code == 0
    front, body = front_matter(stored(genreg_hub, "README.md").decode())
    assert (front["license"], front["tags"], front["language"], front["library_name"]) == (
        "mit",
        ["mine"],
        "zh",
        "genreg",
    )
    assert "# 鸢尾花\n\n我的话。\n" in body


def test_pictures_come_with_a_picture(genreg_hub):
    pytest.importorskip("genreg_vae")
    digits = Path(package_folder("genreg_vae") or "") / "vae-digits"
    done = push(digits, "genreg/digits", license="mit")
    assert {"config.json", "model.safetensors", "README.md", "sample.png", "curves.png"} >= done["files"].keys() - {
        "samples.png"
    }
    found = genreg_hub.repos["models", "genreg/digits"].find("main").tree
    assert found["sample.png"].size > 100


def test_nothing_else_is_sent_and_a_second_push_is_one_commit_more(genreg_hub, genreg, folder):
    for name in ("secret.env", "model.pt", "train.py"):
        (folder / name).write_text("x")
    assert genreg("push", folder, REPO, "--license", "mit").code == 0
    repo = genreg_hub.repos["models", REPO]
    assert repo.find("main").tree.keys() == {".gitattributes", "README.md", "config.json", "model.safetensors"}
    before = len(repo.commits)
    assert genreg("push", folder, REPO, "--license", "apache-2.0").code == 0
    assert len(repo.commits) == before + 1


def test_a_dry_run_sends_nothing(genreg_hub, genreg, folder):
    done = genreg("push", folder, REPO, "--license", "mit", "--dry-run")
    assert done.out.startswith("config.json: 3,161 bytes\nmodel.safetensors: 624 bytes\n")
    assert genreg_hub.requests() == []


def test_a_private_repository_is_made(genreg_hub, genreg, folder):
    assert genreg("push", folder, REPO, "--license", "mit", "--private").code == 0
    assert genreg_hub.repos["models", REPO].private


def test_somebody_elses_commit_is_not_undone(genreg_hub, genreg, folder, monkeypatch):
    genreg_hub.add_repo(REPO)
    look = hubs.contents

    def late(reference):
        there = look(reference)
        genreg_hub.push(REPO, {"notes.md": b"mine"})
        return there

    monkeypatch.setattr(hubs, "contents", late)
    line = genreg("push", folder, REPO, "--license", "mit").line
    assert (
        line
        == f"hf://{REPO} was changed by somebody else meanwhile: look at {genreg_hub.url}/{REPO}/commits/main, and push again"
    )
    assert "model.safetensors" not in genreg_hub.repos["models", REPO].find("main").tree


def test_other_bytes_on_the_hub_are_noticed(genreg_hub, folder, monkeypatch):
    look = hubs.contents

    def changed(reference):
        if reference.pinned:
            genreg_hub.push(REPO, {"model.safetensors": b"other"})
            reference = reference.at(None)
        return look(reference)

    monkeypatch.setattr(hubs, "contents", changed)
    with pytest.raises(
        CheckpointError, match=r"model.safetensors on the Hub is not the file that was sent: push it again"
    ):
        push(folder, REPO, license="mit")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "say who may use the model: --license apache-2.0 (or license: in README.md's front matter)"),
        (("--license", "mit", "--token-that-is-none"), "No such option"),
    ],
)
def test_what_is_missing_is_said(genreg_hub, genreg, folder, arguments, message):
    assert message in genreg("push", folder, REPO, *arguments).line


@pytest.mark.parametrize("repo", ["iris", "a/b/c", "datasets/a/b", "genreg/iris@main", "no good/x"])
def test_a_name_that_is_no_repositorys_is_refused(genreg_hub, genreg, folder, repo):
    line = genreg("push", folder, repo, "--license", "mit").line
    assert "is no reference" in line or "is a dataset" in line or "name the repository alone" in line
    assert genreg_hub.requests() == []


def test_rights_and_tokens_that_are_missing_are_told(genreg_hub, genreg, folder, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", READER_TOKEN)
    assert "your token lacks the right" in genreg("push", folder, REPO, "--license", "mit").line
    monkeypatch.setenv("HF_TOKEN", "")
    line = genreg("push", folder, REPO, "--license", "mit").line
    assert "`hf auth login`" in line
    assert READER_TOKEN not in line


def test_a_folder_that_is_no_checkpoint_and_front_matter_that_is_none(genreg_hub, genreg, folder, tmp_path):
    (tmp_path / "empty").mkdir()
    assert "is no checkpoint" in genreg("push", tmp_path / "empty", REPO, "--license", "mit").line
    (folder / "README.md").write_text("---\na: [\n---\n")
    assert "README.md: its front matter is no YAML" in genreg("push", folder, REPO, "--license", "mit").line
    (folder / "README.md").write_text("---\n- a\n---\n")
    assert "README.md: its front matter must be a mapping" in genreg("push", folder, REPO, "--license", "mit").line
