"""Keys for TLS between control plane and agents: each side has its own key, and knows the one certificate of the other.

No authority signs certificates, so none could be tricked into it: a certificate is trusted because it was exchanged when the host
joined (``agent.joining``).
"""

from __future__ import annotations

import ssl
import threading
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from strongroom.errors import ConfigurationError, InvalidRequest
from strongroom.system.directories import make_directory
from strongroom.system.files import read_bytes, write_file

MAX_CERTIFICATE = 8192
"""Characters of a certificate in PEM. Those of Strongroom have about 600."""
NO_END = datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC)
"""RFC 5280's value for a certificate that does not expire: it is replaced when the host joins again."""
_making = threading.Lock()


@dataclass(frozen=True, slots=True)
class KeyPair:
    """A private key (0600) and its certificate, as files; ``certificate`` in PEM, too."""

    key_file: Path
    certificate_file: Path
    certificate: str

    def client(self, peer: str) -> ssl.SSLContext:
        """To connect only to the owner of the certificate ``peer``. Raises InvalidRequest."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        context.check_hostname = False  # the host is whoever has the key, whatever its address
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_verify_locations(cadata=checked(peer))
        context.load_cert_chain(self.certificate_file, self.key_file)
        return context


def key_pair(directory: Path, name: str) -> KeyPair:
    """The key pair in ``directory``, created if there is none. ``name`` is for people to read. Raises ConfigurationError."""
    pair = directory / "key.pem", directory / "certificate.pem"
    try:
        make_directory(directory)
        with _making:  # hosts that join at the same time must all get the same
            if not all(path.exists() for path in pair):
                key, certificate = _made(name)
                write_file(pair[0], key)
                write_file(pair[1], certificate)
        return KeyPair(*pair, certificate=checked(read_bytes(pair[1]).decode()))
    except (OSError, ValueError, InvalidRequest) as error:
        raise ConfigurationError(
            f"cannot use the keys in {directory}: {error}", remedy="Give it to the service's OS user."
        ) from None


def checked(certificate: str) -> str:
    """``certificate`` if it is exactly one certificate in PEM. Raises InvalidRequest."""
    from cryptography import x509  # takes a tenth of the start of a service, and most services do not need it
    from cryptography.hazmat.primitives import serialization

    try:
        if len(certificate) > MAX_CERTIFICATE:
            raise ValueError("too long")
        (one,) = x509.load_pem_x509_certificates(certificate.encode())
    except ValueError as error:
        raise InvalidRequest(f"this is not a certificate: {error}") from None
    return one.public_bytes(serialization.Encoding.PEM).decode()


def _made(name: str) -> tuple[bytes, bytes]:
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name[:64])])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(datetime(2000, 1, 1, tzinfo=UTC))  # the clock of a host may be wrong
        .not_valid_after(NO_END)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    form = serialization.PrivateFormat.PKCS8
    return (
        key.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption()),
        certificate.public_bytes(serialization.Encoding.PEM),
    )
