"""``python -m genreg.testing.hub``: the stand-in as a process of its own."""

from __future__ import annotations

import argparse
from pathlib import Path
from time import sleep

from genreg.testing.hub.fake import FakeHub, client_env


def main(argv: list[str] | None = None) -> None:
    """Serve until Ctrl-C; or print the variables that point a client here."""
    parser = argparse.ArgumentParser(
        prog="python -m genreg.testing.hub", description="A local stand-in for the Hugging Face Hub, for tests."
    )
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--root", help="where large files are kept (default: a temporary folder)")
    parser.add_argument("--seed", type=Path, help="folder of <namespace>/<name>/<files>")
    parser.add_argument("--print-env", type=int, metavar="PORT", help="print the client's variables and leave")
    args = parser.parse_args(argv)
    if args.print_env:
        print("\n".join(f"export {k}={v}" for k, v in client_env(f"http://127.0.0.1:{args.print_env}").items()))
        return
    with FakeHub(args.root, port=args.port) as hub:
        if args.seed:
            _fill(hub, args.seed)
        print(f"hub {hub.url}  cdn {hub.cdn_url}  {len(hub.repos)} repositories", flush=True)
        try:
            while True:
                sleep(3600)
        except KeyboardInterrupt:
            pass


def _fill(hub: FakeHub, folder: Path) -> None:
    for place in sorted(p for p in folder.glob("*/*") if p.is_dir()):
        files = {f.relative_to(place).as_posix(): f for f in sorted(place.rglob("*")) if f.is_file()}
        hub.add_repo(f"{place.parent.name}/{place.name}", files)


if __name__ == "__main__":
    main()
