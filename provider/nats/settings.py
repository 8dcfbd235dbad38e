"""The settings of a NATS connection. Pure values: files are read, and servers reached, only when connecting."""

from __future__ import annotations

from dataclasses import dataclass

from contracts.secret import Secret


@dataclass(frozen=True, slots=True)
class ConnectionSettings:
    """The servers and credentials of one connection. Links with equal settings share a connection. Empty: not given.

    Attributes:
        servers: URLs, tried in this order, at first and after a loss.
        seed_file: Path of a file with the seed of a user that the server knows by its nkey.
        root_files: Paths of authorities that are believed besides those of the system, if a server asks for TLS. One that
            cannot be read is left out.
        js_domain: JetStream domain that requests go to, across leaf nodes.
    """

    servers: tuple[str, ...]
    creds_file: str = ""
    client_jwt: Secret = Secret("")
    client_seed: Secret = Secret("")
    seed_file: str = ""
    token: Secret = Secret("")
    user: str = ""
    password: Secret = Secret("")
    is_tls: bool = False
    tls_ca: str = ""
    tls_ca_file: str = ""
    tls_cert_file: str = ""
    tls_key_file: str = ""
    root_files: tuple[str, ...] = ()
    js_domain: str = ""

    @property
    def files(self) -> tuple[str, ...]:
        """The paths of all files that must be readable."""
        every = (self.creds_file, self.seed_file, self.tls_ca_file, self.tls_cert_file, self.tls_key_file)
        return tuple(path for path in every if path)

    @property
    def uses_tls(self) -> bool:
        is_given = self.is_tls or self.tls_ca or self.tls_ca_file or self.tls_cert_file
        return bool(is_given) or any(server.startswith("tls://") for server in self.servers)

    @property
    def has_credentials(self) -> bool:
        """True if there are credentials, in a setting of their own or in a server's URL."""
        return bool(self.credentials_setting) or any("@" in server for server in self.servers)

    @property
    def credentials_setting(self) -> str:
        """The link value that holds the credentials, for the error when they are refused; "" without credentials."""
        given = {
            "CREDS_FILE": bool(self.creds_file),
            "CLIENT_JWT": bool(self.client_jwt),
            "NKEY_SEED": bool(self.client_seed or self.seed_file),
            "TOKEN": bool(self.token),
            "USER": bool(self.user),
        }
        return next((name for name, is_given in given.items() if is_given), "")
