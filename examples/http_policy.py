"""A program that the policy "http" of mailhub asks: whoever is on a list is refused, other mail gets a field."""

import json
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

BLOCKED = {"spammer@yy.example"}


def judged(asked: dict[str, Any]) -> dict[str, Any]:
    if asked["stage"] == "mail" and asked["envelope"]["sender"] in BLOCKED:
        return {"action": "reject", "status": "5.7.1", "text": "We know you"}
    if asked["stage"] == "message":
        field = {"do": "add", "name": "X-Looked-At", "value": asked["client"]["address"]}
        return {"action": "accept", "edits": [field]}
    return {"action": "accept"}


class Policy(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"  # connections are kept

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        octets = json.dumps(judged(asked)).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(octets)))
        self.end_headers()
        self.wfile.write(octets)


if __name__ == "__main__":
    ThreadingHTTPServer(("127.0.0.1", 8025), Policy).serve_forever()
