"""A model hub on this machine, as far as the hub's client asks: repositories of files, for tests that fetch models."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

COMMIT = "0123456789abcdef0123456789abcdef01234567"


class FakeHub:
    """Serves ``repositories``: by "owner/name", contents by file name. ``asked``: the paths that were requested."""

    def __init__(self, repositories: Mapping[str, Mapping[str, bytes]]) -> None:
        self.asked: list[str] = []
        hub = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                hub.asked.append(self.path)
                head, body = hub._answer(self.path.partition("?")[0])
                status = int(head.pop("status"))
                if "Range" in self.headers and status == 200:
                    first = int(self.headers["Range"].removeprefix("bytes=").partition("-")[0])
                    head["Content-Range"] = f"bytes {first}-{len(body) - 1}/{len(body)}"
                    status, body = 206, body[first:]
                self.send_response(status)
                for name, value in {**head, "Content-Length": str(len(body))}.items():
                    self.send_header(name, value)
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(body)

            do_HEAD = do_GET

            def log_message(self, *_: object) -> None:
                pass

        self._repositories = repositories
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        Thread(target=self._server.serve_forever, daemon=True).start()
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def close(self) -> None:
        """From now on nobody answers."""
        self._server.shutdown()
        self._server.server_close()

    def _answer(self, path: str) -> tuple[dict[str, str], bytes]:
        parts = path.strip("/").split("/")
        if parts[:2] == ["api", "models"]:
            files = self._repositories.get("/".join(parts[2:4]))
            if files is not None and parts[4:5] == ["tree"]:
                rows = [{"type": "file", "path": n, "size": len(f), "oid": _digest(f)} for n, f in files.items()]
                return _json(rows)
            if files is not None:
                siblings = [{"rfilename": name} for name in files]
                return _json({"id": "/".join(parts[2:4]), "sha": COMMIT, "siblings": siblings})
        elif parts[2:3] == ["resolve"]:
            files = self._repositories.get("/".join(parts[:2]))
            name = "/".join(parts[4:])
            if files is not None and name in files:
                head = {"status": "200", "ETag": f'"{_digest(files[name])}"', "X-Repo-Commit": COMMIT}
                return head, files[name]
            if files is not None:
                return {"status": "404", "X-Error-Code": "EntryNotFound"}, b""
        return {"status": "404", "X-Error-Code": "RepoNotFound"}, b""


def _json(data: object) -> tuple[dict[str, str], bytes]:
    return {"status": "200", "Content-Type": "application/json"}, json.dumps(data).encode()


def _digest(content: bytes) -> str:
    return hashlib.sha1(content).hexdigest()
