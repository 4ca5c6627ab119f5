"""A small local stand-in for the Hugging Face Hub, for tests.

It binds to 127.0.0.1, so that the *real* ``huggingface_hub`` client can talk to it through ``HF_ENDPOINT`` and plugin
authors can test that their models are fetched, with every fault of a network on order.

It opens two listeners, because the client treats them differently:

* the "hub"  (API, ``/resolve/``, LFS batch, commits);
* the "cdn"  (large-file storage, another origin, so the client must drop its token when it is sent there).

Use in pytest, where ``genreg_hub`` is a fixture::

    def test_my_model_survives_a_broken_line(genreg_hub):
        genreg_hub.add_repo("genreg/tiny-vae", {"config.json": b"{}", "model.safetensors": weights})
        genreg_hub.fail("drop", server="cdn", after=1000)          # cut the next answer after 1000 bytes
        genreg.load("hf://genreg/tiny-vae")
        assert genreg_hub.requests(server="cdn")[-1]["range"] == "bytes=1000-"

Use from a shell::

    python -m genreg.testing.hub --port 8123 --seed ./repos      # ./repos/<namespace>/<name>/<files...>
    eval "$(python -m genreg.testing.hub --print-env 8123)"      # HF_ENDPOINT=... HF_HUB_DISABLE_XET=1 ...
    curl -X POST localhost:8123/_fake/faults -d '{"kind": "status", "code": 503, "times": 2}'

The faults are listed in ``faults.py``. Known differences from the real Hub (all deliberate):

* there is no Xet: clients run with ``HF_HUB_DISABLE_XET=1`` (``env()`` sees to it), because with hf_xet active every
  upload of a large file would go straight to the Xet protocol;
* a 401 always carries ``X-Error-Code: RepoNotFound``: the client's own fallback rule only knows https URLs;
* commit ids are sha1-shaped but there is no git behind them; no discussions, no merges, no rate limits
  other than the faults; repository ids are always ``namespace/name``.

The way of a request: ``wire.py`` reads it and acts the fault that is on order, ``routes.py`` finds who answers
(``reading.py``, ``uploads.py``, ``access.py``), and ``wire.py`` sends the answer. ``exchange.py`` has what a request
and an answer are, ``repository.py`` what repositories hold, and ``fake.py`` the state of it all.
"""

from genreg.testing.hub.access import OWNER_TOKEN, READER_TOKEN
from genreg.testing.hub.fake import FakeHub
from genreg.testing.hub.faults import Fault

__all__ = ["OWNER_TOKEN", "READER_TOKEN", "FakeHub", "Fault"]
