"""Settings of what listens: where, with which certificate, and what the gateway takes from a client."""

from typing import Self

from pydantic import Field, model_validator

from data.frozen import Frozen


class Address(Frozen):
    """Where a service listens, and who encrypts."""

    host: str = "127.0.0.1"
    port: int = Field(ge=1, le=65535)
    tls_certificate: str | None = Field(None, description="a PEM file with the certificate and its chain")
    tls_key: str | None = Field(None, description="a PEM file with the certificate's private key")
    behind_proxy: bool = Field(
        False, description="a proxy in front of it encrypts; what it says of clients (X-Forwarded-…) is believed"
    )

    @model_validator(mode="after")
    def _both(self) -> Self:
        if (self.tls_certificate is None) != (self.tls_key is None):
            raise ValueError("tls_certificate and tls_key go together; found one of them")
        return self

    @property
    def has_tls(self) -> bool:
        """Whether it encrypts by itself."""
        return self.tls_certificate is not None

    @property
    def url(self) -> str:
        """How a client on this machine reaches it (a wildcard host is reached by loopback)."""
        host = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(self.host, self.host)
        return f"http{'s' if self.has_tls else ''}://{host}:{self.port}"

    @property
    def is_local(self) -> bool:
        """Whether only this machine reaches it."""
        return self.host == "localhost" or self.host.startswith("127.") or self.host == "::1"


class GatewaySettings(Address):
    """Where the gateway listens, its patience, and its limits; docs/security.md says what each is for."""

    port: int = Field(8000, ge=1, le=65535)
    max_wait_s: float = Field(120, gt=0, description="a request waits so long for the engine or for an adapter slot")
    max_body_mib: float = Field(10, gt=0, le=1024, description="of a request; larger ones get 413")
    max_prompt_chars: int | None = Field(None, ge=1, description="of a request's texts; none: what the model can read")
    max_output_tokens: int | None = Field(None, ge=1, description="of one answer; none: what the model can write")
    max_choices: int = Field(128, ge=1, description="answers to one request (n)")
    max_at_once: int | None = Field(
        None, ge=1, description="answers being written; none: twice the engine's max_num_seqs, without one no limit"
    )
    max_waiting: int = Field(1000, ge=0, description="requests that wait for their turn, of all keys together")
    max_connections: int = Field(2000, ge=1)
    slow_client_s: float = Field(
        30, gt=0, description="a client has so long for its headers, for its body, and to take each piece of an answer"
    )
    cors_origins: tuple[str, ...] = Field(
        (), description="web sites whose scripts may call the gateway, such as https://chat.shop.org"
    )
    open_metrics: bool = Field(False, description="/metrics wants no admin's key although there are keys or users")


class PageSettings(Address):
    """Where the page listens."""

    port: int = Field(7860, ge=1, le=65535)
