"""Content credentials: said as a fact, whole or changed, and no part of the verdict."""

from __future__ import annotations

import datetime
import io
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sficonv.detect.credentials import read_credentials
from sficonv.detect.report import write_report

c2pa = pytest.importorskip("c2pa")

GENERATED = "http://cv.iptc.org/newscodes/digitalsourcetype/trainedAlgorithmicMedia"


def signer_named(name: str):
    """A signer with a certificate of its own making, as anybody can have."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

    def named(text: str) -> x509.Name:
        kinds = (NameOID.ORGANIZATION_NAME, NameOID.COMMON_NAME)
        return x509.Name([x509.NameAttribute(kind, text) for kind in kinds])

    def certificate(subject, key, issuer_key, *, authority: bool):
        flags = [not authority, False, False, False, False, authority, False, False, False]
        made = x509.CertificateBuilder(
            issuer_name=named("Root"), subject_name=named(subject), public_key=key.public_key(),
            serial_number=x509.random_serial_number(), not_valid_before=datetime.datetime(2024, 1, 1),
            not_valid_after=datetime.datetime(2049, 1, 1),
        )  # fmt: skip
        made = made.add_extension(x509.BasicConstraints(authority, None), critical=True)
        made = made.add_extension(x509.KeyUsage(*flags), critical=True)
        made = made.add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        if not authority:
            usage = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.EMAIL_PROTECTION])
            above = x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key.public_key())
            made = made.add_extension(usage, critical=False).add_extension(above, critical=False)
        return made.sign(issuer_key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)

    root, leaf = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
    chain = certificate(name, leaf, root, authority=False) + certificate("Root", root, root, authority=True)
    plain = serialization.NoEncryption()
    key = leaf.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, plain)
    return c2pa.Signer.from_info(c2pa.C2paSignerInfo(b"es256", chain, key, None))


@pytest.fixture(scope="module")
def signed(tmp_path_factory) -> Path:
    """A JPEG that says of itself that a generative model made it."""
    actions = {"actions": [{"action": "c2pa.created", "digitalSourceType": GENERATED}]}
    manifest = {
        "claim_generator_info": [{"name": "Maker\x1b[2J", "version": "1"}],
        "assertions": [{"label": "c2pa.actions", "data": actions}],
    }
    plain, out = io.BytesIO(), io.BytesIO()
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    Image.fromarray(noise).save(plain, "JPEG")
    source = io.BytesIO(plain.getvalue())
    c2pa.Builder(manifest).sign(signer_named("Some <camera>"), "image/jpeg", source, out)
    path = tmp_path_factory.mktemp("signed") / "signed.jpg"
    path.write_bytes(out.getvalue())
    return path


def test_who_signed_with_what_and_what_it_declares(signed):
    assert read_credentials(signed) == (
        r"content credentials (C2PA), signed by Some <camera>; made with Maker\x1b[2J; "
        "declared source: trainedAlgorithmicMedia; unchanged since it was signed"
    )


def test_a_file_that_was_changed_is_told(signed, tmp_path):
    content = bytearray(signed.read_bytes())
    content[-200] ^= 0xFF
    (tmp_path / "changed.jpg").write_bytes(content)
    assert "CHANGED since it was signed" in read_credentials(tmp_path / "changed.jpg")


def test_the_content_and_not_the_name_chooses_the_parser(signed, tmp_path):
    (tmp_path / "signed.svg").write_bytes(signed.read_bytes())
    assert "signed by Some <camera>" in read_credentials(tmp_path / "signed.svg")


def test_files_without_credentials(media, tmp_path):
    (tmp_path / "text.jpg").write_text("no image")
    mine = (tmp_path / "text.jpg", tmp_path / "gone.png", tmp_path)
    for path in (media / "face.jpg", media / "clip.mp4", *mine):
        assert read_credentials(path) is None


def test_they_stand_beside_the_verdict_and_change_nothing(detector, signed, tmp_path):
    (result,) = detector([signed], crops=True, evidence=True)
    assert result.facts == (read_credentials(signed),)
    assert result.to_dict()["facts"] == list(result.facts)
    assert detector(np.asarray(Image.open(signed)), crops=True).verdict == result.verdict
    write_report([result], tmp_path / "report.html", detector)
    assert "signed by Some &lt;camera&gt;" in (tmp_path / "report.html").read_text(encoding="utf-8")


def test_a_pipe_that_is_called_an_image_stops_nothing(detector, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.jpg")
    assert read_credentials(tmp_path / "a.jpg") is None
    assert "not a file" in detector(tmp_path)[0].error
