"""``python -m genreg_openai.testing``."""

from __future__ import annotations

import argparse
import json
from typing import Any

from genreg_openai.testing.server import FakeOpenAI


def main() -> None:
    """Serve until interrupted."""
    parser = argparse.ArgumentParser(description="A fake of the OpenAI API on loopback, for tests.")
    parser.add_argument("--port", type=int, default=4020)
    parser.add_argument("--key", default="test-key", help="the one accepted key; '' accepts anything")
    parser.add_argument("--rpm", type=int, help="answer 429 above so many requests a minute")
    parser.add_argument("--delay", type=float, default=0.0, help="seconds before each answer")
    parser.add_argument("--fault", action="append", default=[], metavar="JSON", help='such as {"kind": "rate_limit"}')
    asked = parser.parse_args()
    server = FakeOpenAI(asked.key or None, asked.port, rpm=asked.rpm, delay=asked.delay)
    for text in asked.fault:
        fault: dict[str, Any] = json.loads(text)
        server.fault(**fault)
    print(f"fake OpenAI API at {server.url}", flush=True)
    try:
        server.httpd.serve_forever(poll_interval=0.02)
    except KeyboardInterrupt:
        pass
    finally:
        server.httpd.server_close()


if __name__ == "__main__":
    main()
