"""The verb convert: what it writes, what it says, and the published reference files where they are there."""

from __future__ import annotations

import json
import os

import pytest
import torch
from safetensors.numpy import load_file
from stylegan_files import CONFIGS, FIXTURES, Evil, generator_of, generator_pickle, pickled, published, refusal, same

from genreg.errors import CheckpointError, DataError
from genreg_stylegan.convert import convert, read_networks
from genreg_stylegan.discriminator import Critic

pytestmark = pytest.mark.usefixtures("published_names")


def call(*words: object, capsys) -> tuple[int, str, str]:
    from genreg.cli import main

    with pytest.raises(SystemExit) as ended:
        main([str(word) for word in words])
    printed = capsys.readouterr()
    return int(ended.value.code or 0), printed.out, printed.err


def test_the_verb_converts_asks_for_the_license_and_the_model_runs(tmp_path, capsys):
    path, folder = generator_pickle(tmp_path / "x.pkl", CONFIGS["skip"]), tmp_path / "made"
    code, out, err = call("convert", path, "-o", folder, capsys=capsys)
    assert (code, out) == (0, f"{folder}: stylegan2, 16 pixels, {read_networks(path).numbers:,} numbers\n")
    assert err == f"genreg: whose weights are these? {folder / 'README.md'} asks; --license notes the answer\n"
    card = (folder / "README.md").read_text("utf-8")
    assert "license: other\n---" in card
    assert "**Not stated.** Whoever trained the network" in card
    code, out, err = call("convert", path, "-o", folder, "--license", "CC0-1.0", "--force", "--json", capsys=capsys)
    assert (code, err, json.loads(out)["license"]) == (0, "", "CC0-1.0")
    assert "license: cc0-1.0\n---" in (folder / "README.md").read_text("utf-8")
    code, out, err = call("run", folder, "-n", "2", "--seed", "1", "-o", f"{tmp_path / 'pictures'}/", capsys=capsys)
    assert code == 0
    assert len(list((tmp_path / "pictures").glob("*.png"))) == 2


def test_a_license_that_the_hub_does_not_know_is_written_as_it_is_named(tmp_path):
    convert(generator_pickle(tmp_path / "x.pkl", CONFIGS["skip"]), tmp_path / "made", license_name='Ours: "see us"')
    front = (tmp_path / "made" / "README.md").read_text("utf-8").split("---")[1]
    assert 'license: other\nlicense_name: "Ours: \\"see us\\""\n' in front


def test_a_file_that_is_no_model_is_told_and_so_is_the_verb(tmp_path, capsys):
    path = generator_pickle(tmp_path / "x.pkl", CONFIGS["skip"])
    code, out, err = call("run", path, capsys=capsys)
    assert (code, out) == (2, "")
    assert err == (
        f"genreg: {path} is a pickle, which can run code when it is opened: genreg convert {path} -o FOLDER makes a "
        "checkpoint of it\n"
    )


def test_a_folder_that_is_there_is_left_alone(tmp_path):
    path = generator_pickle(tmp_path / "x.pkl", CONFIGS["skip"])
    (tmp_path / "made").mkdir()
    with pytest.raises(CheckpointError, match="made is there already: choose another name"):
        convert(path, tmp_path / "made")
    with pytest.raises(CheckpointError, match="is no checkpoint, so --force does not replace it"):
        convert(path, tmp_path / "made", force=True)


def test_a_failed_conversion_leaves_nothing(tmp_path):
    path = pickled(tmp_path / "x.pkl", G_ema=Evil())
    with pytest.raises(DataError):
        convert(path, tmp_path / "made")
    assert [one.name for one in tmp_path.iterdir()] == ["x.pkl"]


def test_files_that_are_none_are_told(tmp_path):
    for content, message in (
        (b"", "FILE is empty"),
        (b"GIF89a", "it is neither a network pickle nor a file of PyTorch's, nor safetensors"),
        (b"PK\x03\x04", "it is a zip that is damaged: "),
    ):
        (tmp_path / "x").write_bytes(content)
        assert message in refusal(tmp_path / "x")
    assert refusal(tmp_path / "none.pkl") == "FILE cannot be read: No such file or directory"
    assert refusal(tmp_path) == "FILE cannot be read: Is a directory"
    (tmp_path / "x.safetensors").write_bytes(b"x" * 20)
    assert "FILE: is not a readable safetensors file" in refusal(tmp_path / "x.safetensors", CheckpointError)


# ---- the published files ----


@published
def test_the_published_pickle_gives_the_reference_bits_and_pictures():
    name_of = "sg2_16_orig_nonoise"
    found = read_networks(FIXTURES / f"{name_of}.pkl")
    for tensors, name in ((found.generator, "g"), (found.discriminator, "d")):
        wanted = {
            key: torch.from_numpy(one) for key, one in load_file(FIXTURES / f"{name_of}.{name}.safetensors").items()
        }
        assert same(tensors, wanted)
    generator = generator_of(found.config)
    generator.load_state_dict({name: torch.from_numpy(one.copy()) for name, one in found.generator.items()})
    critic = Critic(found.config, 16)
    critic.load_state_dict({name: torch.from_numpy(one.copy()) for name, one in found.discriminator.items()})
    known = {name: torch.from_numpy(one) for name, one in load_file(FIXTURES / f"{name_of}.io.safetensors").items()}
    with torch.no_grad():
        assert (generator.styles(known["z"], known["c"]) - known["ws"]).abs().max() < 1e-6 * known["ws"].abs().max()
        for kind in ("", "_psi0.7", "_psi0.5_cut3", "_mix", "_plus"):
            made, wanted = generator.synthesis(known[f"ws{kind}"], None), known[f"img{kind}"]
            assert (made - wanted).abs().max() < 1e-6 * wanted.abs().max()
        logits = critic(known["d_in"], known["c"])
        assert (logits - known["d_logits"]).abs().max() < 5e-6 * known["d_logits"].abs().max()


@published
def test_the_published_hostile_file_is_refused(monkeypatch):
    monkeypatch.delenv("GENREG_PWNED", raising=False)
    assert "it asks for 'builtins.exec'" in refusal(FIXTURES / "evil_direct.pkl")
    assert "GENREG_PWNED" not in os.environ


@published
@pytest.mark.parametrize("name", ["sg2_32_uncond", "sg2_16_clamp", "sg2_16_orig_nonoise", "sg3_t_32"])
def test_the_published_state_dicts_tell_their_configs(name):
    told = json.loads((FIXTURES / f"{name}.json").read_text())["generator_kwargs"]
    config = read_networks(FIXTURES / f"{name}.g.safetensors").config
    assert config.mapping_layers == told["mapping_kwargs"]["num_layers"]
    given = {**told, **told.get("synthesis_kwargs", {})}
    for argument in (
        "z_dim",
        "c_dim",
        "w_dim",
        "channel_base",
        "channel_max",
        "num_layers",
        "margin_size",
        "architecture",
    ):
        if argument in given:
            assert getattr(config, argument) == given[argument]
