"""`ServerSettings`: what the server may be told beyond the engine's own options."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass, field

from edgellm.errors import UsageError

DEFAULT_PORT = 8000
DEFAULT_MAX_BODY = 4 << 20


@dataclass(frozen=True, kw_only=True)
class ServerSettings:
    """Settings of one server.

    Attributes:
        host, port: where to listen; port 0 = any free one.
        api_key: None = no key asked for. Otherwise `Authorization: Bearer KEY` on all but `/`, its
            static files and `/health`.
        cors_origins: web origins whose pages may call this server; "*" = all.
        allowed_hosts: names accepted in the Host header, beyond those of a loopback address.
        model_names: names the model answers to, the first being the one shown; empty = from the bundle.
        max_body_bytes: largest request body. body_timeout_s: seconds in which it must have arrived.
        grace_s: seconds that running requests get to finish once the server is told to stop.
        access_log: one line on stderr for each request.
    """

    host: str = "127.0.0.1"
    port: int = DEFAULT_PORT
    api_key: str | None = field(default=None, repr=False)
    cors_origins: tuple[str, ...] = ()
    allowed_hosts: tuple[str, ...] = ()
    model_names: tuple[str, ...] = ()
    max_body_bytes: int = DEFAULT_MAX_BODY
    body_timeout_s: float = 30.0
    grace_s: float = 20.0
    access_log: bool = False

    def __post_init__(self) -> None:
        if not 0 <= self.port <= 65535:
            raise UsageError(f"port is {self.port}; allowed is 0 (any free one) to 65535")
        if self.api_key is not None and not (self.api_key.isascii() and self.api_key.isprintable()):
            raise UsageError("the API key must be printable ASCII, since it travels in an HTTP header")
        if self.api_key is not None and not self.api_key.strip():
            raise UsageError("the API key is empty; give one, or leave the option and EDGELLM_API_KEY unset")
        if self.max_body_bytes < 1024:
            raise UsageError(f"max-body is {self.max_body_bytes} bytes; allowed is 1,024 or more")
        if self.body_timeout_s <= 0 or self.grace_s < 0:
            raise UsageError("body-timeout must be above 0 and grace at least 0 seconds")

    @property
    def loopback(self) -> bool:
        """Whether only this machine can reach the address."""
        return is_loopback(self.host)

    @property
    def host_names(self) -> frozenset[str] | None:
        """Names accepted in the Host header, without port; None = any.

        A page of any web site can make a browser resolve its own name to 127.0.0.1 (DNS rebinding) and
        then talk to a server there as if it were its own; the name in the Host header gives it away.
        """
        if self.loopback:
            own = {"localhost", "127.0.0.1", "::1", self.host.lower()}
            return frozenset(own | {h.lower().strip("[]") for h in self.allowed_hosts})
        if self.allowed_hosts:
            return frozenset(h.lower().strip("[]") for h in self.allowed_hosts)
        return None


def is_loopback(host: str) -> bool:
    """Whether `host` is a loopback address or "localhost"."""
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False
