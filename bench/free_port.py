"""Ports for the servers that benches start."""

import socket

RESERVED = []


def free_port():
    """A port of 127.0.0.1 that the system gives to nobody else, because a socket is bound to it. Servers set SO_REUSEADDR,
    and so can listen there."""
    bound = socket.socket()
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    bound.bind(("127.0.0.1", 0))
    RESERVED.append(bound)
    return bound.getsockname()[1]
