"""One connection to the fake: requests in, replies out, stalls and faults between."""

from __future__ import annotations

import gzip
import json
import secrets
import select
import socket
import struct
import time
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler
from typing import TYPE_CHECKING, Any

from scillm_chutes.fake.answers import chunks, completion, embeddings
from scillm_chutes.fake.replies import Answer, Document, Refusal, Reply, WarmUp

if TYPE_CHECKING:
    from scillm_chutes.fake.models import FakeModel
    from scillm_chutes.fake.server import Server

SLOW_S = 0.3
WARM_STEP_S = 0.02
QUIET_S = 30.0


class Connection(BaseHTTPRequestHandler):
    """One connection of a client."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    timeout = QUIET_S
    server: Server  # pyright: ignore[reportIncompatibleVariableOverride]

    def setup(self) -> None:
        """The server learns of the connection, so that it can hang up."""
        super().setup()
        self.server.opened(self.connection)

    def finish(self) -> None:
        """The server forgets it; a client that has gone is no error."""
        self.server.closed(self.connection)
        try:
            super().finish()
        except OSError:
            self.close_connection = True

    def handle(self) -> None:
        """Requests until somebody hangs up."""
        try:
            super().handle()
        except OSError:
            self.close_connection = True

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing is printed; `seen` has it all."""

    def do_GET(self) -> None:
        """A request without a body."""
        self._answer(b"")

    def do_POST(self) -> None:
        """A request with one."""
        self._answer(self.rfile.read(int(self.headers.get("content-length") or 0)))

    def _answer(self, body: bytes) -> None:
        fake = self.server.fake
        headers = {name.lower(): value for name, value in self.headers.items()}
        reply = fake.site.reply(self.command, self.path, headers, body)
        if fake.on_request is not None:
            fake.on_request(fake.site.seen[-1])
        self._send(reply)

    def _send(self, reply: Reply) -> None:
        if isinstance(reply, Refusal):
            self._whole(reply.status, reply.body, reply.content_type, reply.headers)
        elif isinstance(reply, Document):
            raw = json.dumps(reply.value).encode() if reply.raw is None else reply.raw
            self._whole(200, raw, reply.content_type, {})
        elif isinstance(reply, WarmUp):
            self._warm_up(reply.model)
        else:
            self._infer(reply)

    def _infer(self, answer: Answer) -> None:
        fake, model = self.server.fake, answer.model
        try:
            slow = SLOW_S if answer.fault == "slow first byte" else 0.0
            if not self._stays(model.latency_s + slow):
                fake.disconnects.append(model.id)
                self.close_connection = True
                return
            if answer.fault == "reset":
                self._reset()
                return
            with fake.site.lock:
                answer.account.billed += 1
                fake.served.append(answer.served)
            if answer.body.get("stream") and "messages" in answer.body:
                self._stream(answer)
            else:
                self._complete(answer)
        finally:
            with fake.site.lock:
                model.busy -= 1

    def _complete(self, answer: Answer) -> None:
        if "messages" in answer.body:
            document = completion(answer.body, answer.served, self._call_id())
        else:
            document = embeddings(answer.body, answer.served)
        headers = self._headers(answer)
        if answer.fault == "no choices":
            document["choices"] = []
        raw = json.dumps(document, ensure_ascii=False).encode()
        if answer.fault == "gzip":
            raw, headers = gzip.compress(raw), {**headers, "content-encoding": "gzip"}
        self._whole(200, raw, "application/json", headers)

    def _stream(self, answer: Answer) -> None:
        fake = self.server.fake
        self._start(200, "text/event-stream", self._headers(answer))
        documents = list(chunks(answer.body, answer.served, self._call_id()))
        for number, document in enumerate(documents):
            if number == 3 and answer.fault == "bare error":
                said = {"error": "Unhandled exception during response stream: lost"}
                self._piece(json.dumps(said).encode())
                self._piece(b"")
                return
            if number == len(documents) - 1 and answer.fault == "no end":
                self._piece(b"")
                return
            if answer.fault == "comments":
                self._piece(b": still here\n\n")
            data = f"data: {json.dumps(document, ensure_ascii=False)}\n\n".encode()
            parts = (data[: len(data) // 2], data[len(data) // 2 :])
            for part in parts if answer.fault == "split text" else (data,):
                self._piece(part)
            if not self._stays(answer.model.latency_s / 4):
                fake.disconnects.append(answer.model.id)
                self.close_connection = True
                return
        self._piece(b"data: [DONE]\n\n")
        self._piece(b"")

    def _warm_up(self, model: FakeModel) -> None:
        site = self.server.fake.site
        self._start(200, "text/event-stream", {})
        while not site.warmed(model):
            status = {"status": "cold", "log": "no instances yet"}
            self._piece(f"data: {json.dumps(status)}\n\n".encode())
            if not self._stays(WARM_STEP_S):
                self.close_connection = True
                return
        status = {"status": "hot", "log": f"chute is hot, {model.instances} instances available"}
        self._piece(f"data: {json.dumps(status)}\n\n".encode())
        self._piece(b"")

    # -- bytes ---------------------------------------------------------------------------------

    def _headers(self, answer: Answer) -> dict[str, str]:
        account = answer.account
        limit = account.limit_per_min
        return {
            "x-chutes-invocationid": self._call_id(),
            "x-chutes-quota-total": str(account.quota),
            "x-chutes-quota-used": str(account.billed),
            "x-chutes-quota-remaining": str(account.quota - account.billed),
            "x-chutes-rl-user": "inf" if limit == float("inf") else f"{limit:g}",
            "x-chutes-rl-chute": str(answer.model.concurrency),
        }

    def _call_id(self) -> str:
        return f"chat-{secrets.token_hex(8)}"

    def _start(self, status: int, kind: str, headers: Mapping[str, str]) -> None:
        self.send_response(status)
        self.send_header("content-type", kind)
        self.send_header("transfer-encoding", "chunked")
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()

    def _piece(self, data: bytes) -> None:
        self.wfile.write(f"{len(data):x}\r\n".encode() + data + b"\r\n")
        self.wfile.flush()

    def _whole(self, status: int, body: bytes, kind: str, headers: Mapping[str, str]) -> None:
        self.send_response(status)
        self.send_header("content-type", kind)
        self.send_header("content-length", str(len(body)))
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def _stays(self, seconds: float) -> bool:
        """Wait; False as soon as the client has gone."""
        end = time.monotonic() + seconds
        while not self.server.ending.is_set():
            left = end - time.monotonic()
            readable, _, _ = select.select([self.connection], [], [], max(0.0, min(left, 0.05)))
            if readable:
                return bool(self.connection.recv(1, socket.MSG_PEEK))
            if left <= 0:
                return True
        return False

    def _reset(self) -> None:
        linger = struct.pack("ii", 1, 0)
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        self.close_connection = True
        self.connection.close()
