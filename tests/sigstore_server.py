"""Sigstore as a signer and a verifier see it: an identity provider, a Fulcio with its certificate log, and a Rekor, over real HTTP.

Certificates, timestamps, the Merkle tree and its checkpoints are real and are verified by Sigstore's own library; `status` makes it fail.
"""

import base64
import hashlib
import json
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import jwt
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

ISSUER = "https://ci.example.org"
WORKFLOW = "https://example.org/shop/.ci/release.yml@refs/heads/main"
_SHA256 = ec.ECDSA(hashes.SHA256())
_ISSUER_EXTENSION = x509.ObjectIdentifier("1.3.6.1.4.1.57264.1.1")
_SCT_LIST = x509.ObjectIdentifier("1.3.6.1.4.1.11129.2.4.2")
_START = "2020-01-01T00:00:00Z"


def _key() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


@dataclass
class Sigstore:
    """`entries` are the log's bodies in order; `status` is answered instead of the truth, by path."""

    provider: ec.EllipticCurvePrivateKey = field(default_factory=_key)
    authority: ec.EllipticCurvePrivateKey = field(default_factory=_key)
    certificate_log: ec.EllipticCurvePrivateKey = field(default_factory=_key)
    log: ec.EllipticCurvePrivateKey = field(default_factory=_key)
    entries: list[bytes] = field(default_factory=list)
    status: dict[str, int] = field(default_factory=dict)
    url: str = ""
    root: x509.Certificate = field(init=False)

    def __post_init__(self) -> None:
        self.root = _root(self.authority)

    def token(self, identity: str = WORKFLOW, *, issuer: str = ISSUER, lasts: float = 300.0, audience: str = "sigstore") -> str:
        now = datetime.now(UTC)
        claims = {"iss": issuer, "sub": identity, "aud": audience, "iat": now, "exp": now + timedelta(seconds=lasts)}
        return jwt.encode(claims, self.provider, algorithm="ES256")

    def write_trust(self, folder: Path) -> tuple[Path, Path]:
        """The files that signers (client trust configuration) and verifiers (trusted root) of this instance have."""
        root = {
            "mediaType": "application/vnd.dev.sigstore.trustedroot+json;version=0.1",
            "tlogs": [_log_entry(self.url, self.log)],
            "ctlogs": [_log_entry(self.url, self.certificate_log)],
            "certificateAuthorities": [
                {
                    "subject": {"organization": "example.org", "commonName": "authority"},
                    "uri": self.url,
                    "certChain": {"certificates": [{"rawBytes": _b64(self.root.public_bytes(serialization.Encoding.DER))}]},
                    "validFor": {"start": _START},
                }
            ],
            "timestampAuthorities": [],
        }
        service = {"url": self.url, "majorApiVersion": 1, "validFor": {"start": _START}, "operator": "example.org"}
        signing = {
            "mediaType": "application/vnd.dev.sigstore.signingconfig.v0.2+json",
            "caUrls": [service],
            "oidcUrls": [service],
            "rekorTlogUrls": [service],
            "rekorTlogConfig": {"selector": "ANY"},
            "tsaUrls": [],
            "tsaConfig": {"selector": "ANY"},
        }
        config = {
            "mediaType": "application/vnd.dev.sigstore.clienttrustconfig.v0.1+json",
            "trustedRoot": root,
            "signingConfig": signing,
        }
        files = folder / "client-trust-config.json", folder / "sigstore-root.json"
        for file, document in zip(files, (config, root), strict=True):
            file.write_text(json.dumps(document))
        return files

    def certify(self, token: str, request: x509.CertificateSigningRequest) -> list[str]:
        """Raises `jwt.PyJWTError` for a token that is not the provider's."""
        claims = jwt.decode(token, self.provider.public_key(), algorithms=["ES256"], audience="sigstore")
        now = datetime.now(UTC).replace(microsecond=0)
        builder = (
            x509.CertificateBuilder()
            .subject_name(x509.Name([]))
            .issuer_name(self.root.subject)
            .public_key(request.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(seconds=5))
            .not_valid_after(now + timedelta(minutes=10))
            .add_extension(_usage(signs=True), critical=True)
            .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CODE_SIGNING]), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(self.authority.public_key()), critical=False)
            .add_extension(x509.SubjectAlternativeName([x509.UniformResourceIdentifier(claims["sub"])]), critical=True)
            .add_extension(x509.UnrecognizedExtension(_ISSUER_EXTENSION, claims["iss"].encode()), critical=False)
        )
        before = builder.sign(self.authority, hashes.SHA256())  # what the certificate log promises to keep
        stamped = builder.add_extension(x509.UnrecognizedExtension(_SCT_LIST, self._promise(before)), critical=False)
        return [_pem(stamped.sign(self.authority, hashes.SHA256())), _pem(self.root)]

    def _promise(self, certificate: x509.Certificate) -> bytes:
        """A signed certificate timestamp as an extension (RFC 6962, 3.2 and 3.3)."""
        at = int(datetime.now(UTC).timestamp()) * 1000
        body = certificate.tbs_certificate_bytes
        entry = _key_id(self.authority) + struct.pack("!I", len(body))[1:] + body
        signature = self.certificate_log.sign(struct.pack("!BBQH", 0, 0, at, 1) + entry + struct.pack("!H", 0), _SHA256)
        stamp = struct.pack("!B", 0) + _key_id(self.certificate_log) + struct.pack("!QHBBH", at, 0, 4, 3, len(signature)) + signature
        stamps = struct.pack("!H", len(stamp)) + stamp
        listed = struct.pack("!H", len(stamps)) + stamps
        size = bytes([len(listed)]) if len(listed) < 128 else bytes([0x81, len(listed)])
        return b"\x04" + size + listed

    def append(self, proposed: dict[str, Any]) -> dict[str, Any]:
        """The entry of a DSSE envelope, as the log answers it: with its place in the tree and a promise of the time."""
        content = proposed["spec"]["proposedContent"]
        envelope = json.loads(content["envelope"])
        body = {
            "apiVersion": "0.0.1",
            "kind": "dsse",
            "spec": {
                "envelopeHash": {"algorithm": "sha256", "value": hashlib.sha256(content["envelope"].encode()).hexdigest()},
                "payloadHash": {"algorithm": "sha256", "value": hashlib.sha256(base64.b64decode(envelope["payload"])).hexdigest()},
                "signatures": [{"signature": one["sig"], "verifier": content["verifiers"][0]} for one in envelope["signatures"]],
            },
        }
        self.entries.append(json.dumps(body, sort_keys=True, separators=(",", ":")).encode())
        index, leaves = len(self.entries) - 1, [hashlib.sha256(b"\0" + one).digest() for one in self.entries]
        entry: dict[str, Any] = {
            "body": _b64(self.entries[index]),
            "integratedTime": int(datetime.now(UTC).timestamp()),
            "logID": _key_id(self.log).hex(),
            "logIndex": index,
        }
        promise = self.log.sign(json.dumps(entry, sort_keys=True, separators=(",", ":")).encode(), _SHA256)
        proof = {
            "logIndex": index,
            "rootHash": _tree(leaves).hex(),
            "treeSize": len(leaves),
            "hashes": [one.hex() for one in _path(index, leaves)],
            "checkpoint": self._checkpoint(leaves),
        }
        return {f"{index:064x}": {**entry, "verification": {"signedEntryTimestamp": _b64(promise), "inclusionProof": proof}}}

    def _checkpoint(self, leaves: list[bytes]) -> str:
        note = f"log.example.org - 1\n{len(leaves)}\n{_b64(_tree(leaves))}\n"
        return f"{note}\n— log.example.org {_b64(_key_id(self.log)[:4] + self.log.sign(note.encode(), _SHA256))}\n"


@contextmanager
def sigstore() -> Iterator[Sigstore]:
    instance = Sigstore()

    class Door(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            sent = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            if (status := instance.status.get(self.path)) is not None:
                return self._answer(status, {"message": "not now"})
            if self.path == "/api/v1/log/entries":
                return self._answer(201, instance.append(sent))
            try:
                request = x509.load_pem_x509_csr(base64.b64decode(sent["certificateSigningRequest"]))
                chain = instance.certify(self.headers["Authorization"].removeprefix("Bearer "), request)
            except jwt.PyJWTError as refused:
                return self._answer(400, {"message": f"There was an error processing the identity token: {refused}"})
            return self._answer(200, {"signedCertificateEmbeddedSct": {"chain": {"certificates": chain}}})

        def _answer(self, status: int, document: dict[str, Any]) -> None:
            data = json.dumps(document).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Door)
    instance.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield instance
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def _root(key: ec.EllipticCurvePrivateKey) -> x509.Certificate:
    name = x509.Name([x509.NameAttribute(NameOID.ORGANIZATION_NAME, "example.org"), x509.NameAttribute(NameOID.COMMON_NAME, "authority")])
    return (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(datetime(2020, 1, 1, tzinfo=UTC))
        .not_valid_after(datetime.now(UTC) + timedelta(days=3650))
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(signs=False), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )


def _usage(*, signs: bool) -> x509.KeyUsage:
    others = dict.fromkeys(
        ("content_commitment", "key_encipherment", "data_encipherment", "key_agreement", "encipher_only", "decipher_only"), False
    )
    return x509.KeyUsage(digital_signature=signs, key_cert_sign=not signs, crl_sign=not signs, **others)


def _tree(leaves: list[bytes]) -> bytes:
    """The Merkle tree's root (RFC 6962, 2.1)."""
    if len(leaves) == 1:
        return leaves[0]
    half = _half(len(leaves))
    return hashlib.sha256(b"\1" + _tree(leaves[:half]) + _tree(leaves[half:])).digest()


def _path(index: int, leaves: list[bytes]) -> list[bytes]:
    """From a leaf to the root (RFC 6962, 2.1.1)."""
    if len(leaves) == 1:
        return []
    half = _half(len(leaves))
    if index < half:
        return [*_path(index, leaves[:half]), _tree(leaves[half:])]
    return [*_path(index - half, leaves[half:]), _tree(leaves[:half])]


def _half(size: int) -> int:
    return 1 << ((size - 1).bit_length() - 1)


def _log_entry(url: str, key: ec.EllipticCurvePrivateKey) -> dict[str, Any]:
    return {
        "baseUrl": url,
        "hashAlgorithm": "SHA2_256",
        "publicKey": {"rawBytes": _b64(_der(key)), "keyDetails": "PKIX_ECDSA_P256_SHA_256", "validFor": {"start": _START}},
        "logId": {"keyId": _b64(_key_id(key))},
    }


def _key_id(key: ec.EllipticCurvePrivateKey) -> bytes:
    return hashlib.sha256(_der(key)).digest()


def _der(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.public_key().public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)


def _pem(certificate: x509.Certificate) -> str:
    return certificate.public_bytes(serialization.Encoding.PEM).decode()


def _b64(data: bytes) -> str:
    return base64.b64encode(data).decode()
