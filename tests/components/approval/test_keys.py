"""Keys: made once, kept private, read strictly."""

from __future__ import annotations

import stat
import subprocess
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import load_pem_private_key, load_pem_public_key

from components.approval.keys import load_public, new_key, open_signer, open_trusted
from components.errors import InputError


def test_a_new_key_is_private_to_its_owner_and_has_its_public_half_beside_it(tmp_path: Path) -> None:
    public = new_key(tmp_path / "keys" / "rita")
    assert public == tmp_path / "keys" / "rita.pub"
    assert stat.S_IMODE((tmp_path / "keys" / "rita").stat().st_mode) == 0o600
    private = load_pem_private_key((tmp_path / "keys" / "rita").read_bytes(), password=None)
    assert private.public_key() == load_pem_public_key(public.read_bytes())


@pytest.mark.integration
def test_openssl_reads_the_public_half(tmp_path: Path) -> None:
    public = new_key(tmp_path / "rita")
    told = subprocess.run(
        ["openssl", "pkey", "-pubin", "-in", str(public), "-noout", "-text"], capture_output=True, text=True, check=True
    )
    assert "ED25519" in told.stdout


@pytest.mark.parametrize("taken", ["rita", "rita.pub"])
def test_a_key_is_never_replaced(tmp_path: Path, taken: str) -> None:
    (tmp_path / taken).write_text("mine")
    with pytest.raises(InputError, match=r"never replaced"):
        new_key(tmp_path / "rita")
    assert [path.name for path in tmp_path.iterdir()] == [taken]
    assert (tmp_path / taken).read_text() == "mine"


def test_a_private_key_that_others_can_read_is_refused(tmp_path: Path) -> None:
    new_key(tmp_path / "rita")
    (tmp_path / "rita").chmod(0o640)
    with pytest.raises(InputError, match=r"found mode 0640.*needed 0600"):
        open_signer(tmp_path / "rita")


@pytest.mark.parametrize(
    "content", [b"", b"not a key", b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"]
)
def test_what_is_no_private_key_is_refused(tmp_path: Path, content: bytes) -> None:
    place = tmp_path / "rita"
    place.write_bytes(content)
    place.chmod(0o600)
    with pytest.raises(InputError, match="no usable PEM private key"):
        open_signer(place)


def test_a_key_is_opened_by_path_or_by_file_uri(tmp_path: Path) -> None:
    new_key(tmp_path / "rita")
    by_path, by_uri = open_signer(tmp_path / "rita"), open_signer(f"file2:{tmp_path / 'rita'}")
    assert by_path.public_key.keyid == by_uri.public_key.keyid
    assert by_path.public_key.keyid == load_public(tmp_path / "rita.pub").keyid


def test_a_remote_key_needs_its_public_half(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no public half.*after a #"):
        open_signer("gcpkms:projects/p/locations/l/keyRings/r/cryptoKeys/k/cryptoKeyVersions/1")


def test_a_remote_key_that_cannot_be_reached_is_an_input_error(tmp_path: Path) -> None:
    public = new_key(tmp_path / "rita")
    with pytest.raises(InputError, match="key hsm:2: cannot be used"):
        open_signer(f"hsm:2#{public}")


def test_trusted_keys_come_from_files_and_from_pub_files_in_folders(tmp_path: Path) -> None:
    rita, ravi = new_key(tmp_path / "team" / "rita"), new_key(tmp_path / "ravi")
    trusted = open_trusted([tmp_path / "team", ravi])
    assert set(trusted) == {load_public(rita).keyid, load_public(ravi).keyid}


def test_a_folder_without_keys_trusts_nobody(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"found no \.pub file"):
        open_trusted([tmp_path])
    with pytest.raises(InputError, match="found no"):
        open_trusted([])


def test_a_private_key_is_not_taken_for_a_public_one(tmp_path: Path) -> None:
    new_key(tmp_path / "rita")
    with pytest.raises(InputError, match="found a private key; needed the public half"):
        open_trusted([tmp_path / "rita"])


def test_a_missing_trusted_key_is_told(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"nobody\.pub: cannot be read"):
        open_trusted([tmp_path / "nobody.pub"])
