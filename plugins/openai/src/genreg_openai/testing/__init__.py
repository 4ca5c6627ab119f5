"""A fake of the OpenAI API for tests and for trying things without paying: loopback alone, standard library alone.

    python -m genreg_openai.testing --port 4020 --key test-key
    with FakeOpenAI() as server: genreg.load("openai-text", options={"base_url": server.url})

Answers are deterministic words, ``/__fake/stats`` says what the real service would have billed, and ``faults`` make it
fail in every way that services fail (see ``server.FAULTS``).
"""

from genreg_openai.testing.server import FAULTS, FakeOpenAI

__all__ = ["FAULTS", "FakeOpenAI"]
