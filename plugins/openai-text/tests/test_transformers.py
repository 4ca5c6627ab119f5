"""Against ``transformers serve`` with a tiny random model that is made on the spot: a real model, a real server."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from test_faults import rows_of

from genreg import load

pytestmark = pytest.mark.slow
PROGRAM = Path(sys.executable).with_name("transformers")
TEMPLATE = "{% for m in messages %}{{ m['role'] }}: {{ m['content'] }}\n{% endfor %}assistant: "


def tiny_model(folder: Path) -> None:
    """A Llama of two layers with random weights and a byte-level tokenizer trained on two sentences."""
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    bytes_of = Tokenizer(models.BPE())
    bytes_of.pre_tokenizer, bytes_of.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=400, special_tokens=["<s>", "</s>"], initial_alphabet=alphabet)
    bytes_of.train_from_iterator(["a quiet river keeps its patient watch", "给我写一首关于秋天的诗。"], trainer)
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=bytes_of, bos_token="<s>", eos_token="</s>", pad_token="</s>")
    tokenizer.chat_template = TEMPLATE
    tokenizer.save_pretrained(folder)
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(tokenizer), hidden_size=64, intermediate_size=128, num_hidden_layers=2, num_attention_heads=4,
        max_position_embeddings=512, bos_token_id=0, eos_token_id=1, pad_token_id=1,
    )  # fmt: skip
    LlamaForCausalLM(config).save_pretrained(folder)


@pytest.fixture(scope="module")
def server(tmp_path_factory) -> Iterator[tuple[str, str]]:
    """The base URL, and the model's name there."""
    if not PROGRAM.exists():
        pytest.skip("transformers is not installed: pip install 'transformers[serving]'")
    folder = tmp_path_factory.mktemp("transformers")
    (folder / "hf" / "hub").mkdir(parents=True)
    env = {**os.environ, "HF_HOME": str(folder / "hf"), "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    code = f"import test_transformers; test_transformers.tiny_model({str(folder / 'tiny')!r})"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parent, env=env, capture_output=True)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    line = [PROGRAM, "serve", str(folder / "tiny"), "--host", "127.0.0.1", "--port", str(port), "--device", "cpu"]
    with (folder / "log").open("w") as log:
        child = subprocess.Popen(line, env=env, stdout=log, stderr=log)
    try:
        for _ in range(600):
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}/v1/models", timeout=2).close()
                break
            except OSError:
                assert child.poll() is None, (folder / "log").read_text()
                time.sleep(0.2)
        yield f"http://127.0.0.1:{port}/v1", str(folder / "tiny")
    finally:
        child.terminate()
        child.wait()


@pytest.mark.parametrize("api", ["chat", "responses"])
def test_a_real_server_answers(api, server, tmp_path):
    url, name = server
    model = load("openai-text", options={"base_url": url, "model": name, "api": api, "concurrency": "2"})
    rows = rows_of(model, tmp_path, n=3, prompt="给我写一首关于秋天的诗。", max_tokens=8)
    assert {row["outcome"] for row in rows} <= {"length", "ok"}, json.dumps(rows, ensure_ascii=False)
    assert all(row["text"] and row["output_tokens"] for row in rows)
    assert rows_of(model, tmp_path, n=3, prompt="给我写一首关于秋天的诗。", max_tokens=8) == rows


def test_a_seed_that_is_sent_gives_the_same_text(server, tmp_path):
    url, name = server
    model = load("openai-text", options={"base_url": url, "model": name})
    one, two = (rows_of(model, tmp_path / folder, max_tokens=8, temperature=1.0)[0]["text"] for folder in "ab")
    assert one == two
