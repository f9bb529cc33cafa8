"""MPS on a node: which daemons are to run, and what is known of those that do."""

from dataclasses import dataclass

MOST_CLIENTS = 48
"""Processes that one daemon serves on a card at once (seen on driver 580: the 49th is refused)."""
SERVER_MIB = 128
"""MiB of a card that its MPS server holds beside all clients (seen: 66, whatever the number of clients)."""


@dataclass(frozen=True, slots=True, order=True)
class Daemon:
    """A control daemon that is to run, by the name of its directory, and the ids of its cards."""

    name: str
    cards: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Wanted:
    """What the device plugin asks for, and which cards are shared through which daemon now: its memory of both."""

    daemons: tuple[Daemon, ...] = ()
    shared: tuple[tuple[str, str], ...] = ()
    """(card id, daemon) of every card in mode mps."""


@dataclass(frozen=True, slots=True)
class DaemonState:
    """A daemon as its supervisor sees it."""

    name: str
    running: bool
    problem: str = ""
    """Why it does not run, or does not serve."""
    restarts: int = 0
    servers: tuple[int, ...] = ()
    """PIDs of its servers, on the host."""
    clients: int = 0


@dataclass(frozen=True, slots=True)
class MpsReport:
    """What the supervisor says of the node."""

    at: int = 0
    """When, in seconds since 1970."""
    problem: str = ""
    """Why no daemon can run here; empty where they can."""
    daemons: tuple[DaemonState, ...] = ()

    def of(self, name: str) -> DaemonState | None:
        """One daemon; None where the supervisor does not know it (yet)."""
        return next((daemon for daemon in self.daemons if daemon.name == name), None)

    @property
    def servers(self) -> frozenset[int]:
        """PIDs of all servers: what they hold belongs to no container."""
        return frozenset(pid for daemon in self.daemons for pid in daemon.servers)
