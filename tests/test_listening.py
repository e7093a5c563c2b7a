"""One port for several sockets, and for nobody else."""

import socket
from contextlib import ExitStack

import pytest

from mim.config import Settings
from mim.listening import UnreachableError, check_listening, reserved, sharing


def test_workers_share_a_reserved_port_and_others_are_refused() -> None:
    with ExitStack() as sockets:
        [address] = sockets.enter_context(reserved(Settings(port=0)))
        port = address[1][1]
        with socket.socket() as nobody, pytest.raises(ConnectionRefusedError):
            nobody.connect(("127.0.0.1", port))
        for shared in sharing([address]) + sharing([address]):
            sockets.enter_context(shared).listen()
        with pytest.raises(UnreachableError, match=f"port {port} of 127.0.0.1 is in use"):
            check_listening(Settings(port=port))
    check_listening(Settings(port=port))


def test_one_port_for_every_address_of_a_name(monkeypatch: pytest.MonkeyPatch) -> None:
    both = [(socket.AF_INET, address) for address in ("127.0.0.2", "127.0.0.3")]
    found = [(family, socket.SOCK_STREAM, 6, "", (address, 0)) for family, address in both]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: found)
    with reserved(Settings(host="two.example", port=0)) as addresses:
        ports = {address[1] for _, address in addresses}
        assert [(family, address[0]) for family, address in addresses] == both
    assert len(ports) == 1
    assert ports != {0}


def test_an_address_of_another_machine_is_told() -> None:
    with pytest.raises(UnreachableError, match=r"192\.0\.2\.1 is not of this machine; correct --host"):
        check_listening(Settings(host="192.0.2.1", port=0))
