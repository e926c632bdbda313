"""A name server on loopback, in a thread: what commands ask without the running server."""

from __future__ import annotations

import socket
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from threading import Thread

import dns.message
import dns.rcode
import dns.rdatatype
import dns.rrset


@contextmanager
def name_server(zone: Mapping[str, Sequence[str]]) -> Iterator[tuple[list[str], int]]:
    """What is asked, as it comes, and the port. `zone` has the records of each "name TYPE"; another type of a name that
    it has is empty, another name does not exist."""
    asked: list[str] = []
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind(("127.0.0.1", 0))
        thread = Thread(target=_serve, args=(server, zone, asked))
        thread.start()
        try:
            yield asked, server.getsockname()[1]
        finally:
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as end:
                end.sendto(b"", server.getsockname())
            thread.join()


def _serve(server: socket.socket, zone: Mapping[str, Sequence[str]], asked: list[str]) -> None:
    names = {key.split()[0] for key in zone}
    while True:
        datagram, address = server.recvfrom(4096)
        if not datagram:
            return
        query = dns.message.from_wire(datagram)
        (question,) = query.question
        name, kind = question.name.to_text(omit_final_dot=True).lower(), dns.rdatatype.to_text(question.rdtype)
        asked.append(f"{name} {kind}")
        response = dns.message.make_response(query)
        if name not in names:
            response.set_rcode(dns.rcode.NXDOMAIN)
        elif records := zone.get(f"{name} {kind}"):
            response.answer.append(dns.rrset.from_text(question.name, 60, "IN", kind, *records))
        server.sendto(response.to_wire(), address)
