"""What a worker is told when it starts. It goes over the line, since it holds secrets."""

import pickle
from collections.abc import Sequence
from dataclasses import dataclass

from mim.config import Settings
from mim.listening import Address


@dataclass(frozen=True, slots=True)
class Orders:
    """The settings that the parent started with, complete: a worker reads no variables and no file."""

    index: int
    settings: Settings
    database_url: str
    addresses: Sequence[Address]

    def encode(self) -> bytes:
        """For `decode`."""
        return pickle.dumps(self)

    @staticmethod
    def decode(data: bytes) -> "Orders":
        """From the parent, and from nobody else."""
        orders = pickle.loads(data)  # noqa: S301 - our own parent wrote it into our own socket
        assert isinstance(orders, Orders)
        return orders
