"""Networks that are none, code wherever it is, and files that are cut off: refused, and nothing in them is run."""

from __future__ import annotations

import pytest
import torch
from stylegan_files import (
    CONFIGS,
    Evil,
    StandIn,
    arguments_of,
    generator_of,
    generator_pickle,
    network,
    pickled,
    refusal,
    tensors_of,
)

pytestmark = pytest.mark.usefixtures("published_names")


def trees() -> dict[str, object]:
    """Networks that are trees in name alone, by what is wrong with them."""
    shared = StandIn("Part", {"_parameters": {}, "_modules": {}})
    wide = shared
    for _ in range(8):
        wide = StandIn("Part", {"_modules": {f"m{k}": wide for k in range(9)}})
    deep = StandIn("Part", {})
    for _ in range(18):
        deep = StandIn("Part", {"_modules": {"m": deep}})
    crowd = {f"p{k}": None for k in range(1000)}
    herd = StandIn("Part", {"_modules": {f"m{k}": StandIn("Part", {"_parameters": crowd}) for k in range(200)}})
    return {
        "it takes more steps to build": herd,
        "is no module, or one that is in several places": wide,
        "its modules nest more than 16 levels deep": deep,
        "synthesis is no module": StandIn("Part", {"_modules": {"synthesis": 3}}),
        "bias is no tensor": StandIn("Part", {"_parameters": {"bias": "x"}}),
        "are not named as a module's are": StandIn("Part", {"_parameters": {"../../x": torch.ones(1)}}),
    }


@pytest.mark.parametrize("message", trees())
def test_a_tree_that_is_none_is_refused(tmp_path, message):
    assert message in refusal(pickled(tmp_path / "x.pkl", G_ema=trees()[message]))


def test_attributes_that_are_no_plain_values_are_refused_and_not_spelled(tmp_path):
    """What doubles 60 times would take for ever to be written into a message."""
    config, twice = CONFIGS["skip"], ()
    for _ in range(60):
        twice = (twice, twice)
    tensors, arguments = tensors_of(generator_of(config)), arguments_of(config, nested=True)
    for attributes in ({"mapping": {"w_avg_beta": twice}}, {"synthesis.b4.conv1": {"conv_clamp": twice}}):
        path = pickled(tmp_path / "x.pkl", G_ema=network(tensors, arguments, attributes))
        assert "it has a network whose arguments are no plain values" in refusal(path)
    crooked = pickled(tmp_path / "x.pkl", G_ema=network(tensors, arguments), D=StandIn("D", {"_modules": [1]}))
    assert "the _modules of 'D' are not named as a module's are" in refusal(crooked)


def test_arguments_that_are_no_plain_values_are_refused(tmp_path):
    for value in (object, [[[[1]]]], {f"k{k}": 1 for k in range(65)}):
        path = generator_pickle(tmp_path / "x.pkl", CONFIGS["skip"], z_dim=value)
        assert "FILE is refused, and nothing in it was run: it " in refusal(path)
    tensors = tensors_of(generator_of(CONFIGS["skip"]))
    unnamed = network(tensors, {}, {"": {"_init_args": (512,)}})
    assert "was made with arguments that have no names" in refusal(pickled(tmp_path / "x.pkl", G_ema=unnamed))


def test_code_in_a_network_is_refused_wherever_it_is(tmp_path):
    config, message = CONFIGS["skip"], ".exec', which no network needs: it may be there to run"
    tensors = tensors_of(generator_of(config))
    arguments = arguments_of(config, nested=True)
    for place in (
        {"G_ema": Evil()},
        {"G_ema": network(tensors, arguments), "D": Evil()},
        {"G_ema": network(tensors, {**arguments, "z_dim": Evil()})},
        {"G_ema": network(tensors, arguments, {"synthesis.b8": {"hook": Evil()}})},
        {"G_ema": network(tensors, arguments), "training_set": [{"a": Evil()}]},
    ):
        assert message in refusal(pickled(tmp_path / "x.pkl", **place))
    for older in (True, False):
        torch.save({"g_ema": Evil()}, tmp_path / "x.pt", _use_new_zipfile_serialization=older)
        assert message in refusal(tmp_path / "x.pt")


def test_a_file_with_something_behind_its_end_is_refused(tmp_path):
    path = generator_pickle(tmp_path / "x.pkl", CONFIGS["skip"])
    path.write_bytes(path.read_bytes() + b"\x80\x04N.")
    assert "it has 4 bytes behind its end" in refusal(path)
    torch.save({"a": torch.ones(3)}, tmp_path / "x.pt", _use_new_zipfile_serialization=False)
    (tmp_path / "x.pt").write_bytes((tmp_path / "x.pt").read_bytes() + b"more")
    assert "it has 4 bytes behind its end" in refusal(tmp_path / "x.pt")


def test_a_file_that_is_cut_off_is_refused_wherever_it_is_cut(tmp_path):
    whole = generator_pickle(tmp_path / "x.pkl", CONFIGS["4 pixels"]).read_bytes()
    for length in range(1, len(whole), len(whole) // 40):
        (tmp_path / "x.pkl").write_bytes(whole[:length])
        assert "FILE is refused" in refusal(tmp_path / "x.pkl")


@pytest.mark.parametrize("zipped", [True, False])
def test_a_file_of_pytorch_that_is_cut_off_is_refused(tmp_path, zipped):
    tensors = tensors_of(generator_of(CONFIGS["4 pixels"]))
    torch.save(tensors, tmp_path / "x.pt", _use_new_zipfile_serialization=zipped)
    whole = (tmp_path / "x.pt").read_bytes()
    for length in range(1, len(whole), len(whole) // 40):
        (tmp_path / "x.pt").write_bytes(whole[:length])
        assert "FILE is refused" in refusal(tmp_path / "x.pt")
