"""A JWT is taken apart here and checked by the library's parts: never taken where the whole library would refuse it."""

from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from hypothesis import given
from hypothesis import strategies as st
from jwt.algorithms import HMACAlgorithm
from jwt.utils import base64url_encode

from mim.auth.tokens import read_payload
from mim.errors import PeerError

JWS = jwt.PyJWS(options={"verify_signature": True, "enforce_minimum_key_length": True})
SECRET = b"a secret that only this test suite signs with"


def pair(algorithm: str, private: Any) -> tuple[Any, jwt.PyJWK]:
    """A private key and its public half, as it comes from a JWKS."""
    public = JWS.get_algorithm_by_name(algorithm).to_jwk(private.public_key(), as_dict=True)
    return private, jwt.PyJWK.from_dict({**public, "alg": algorithm})


KEYS: dict[str, tuple[Any, Any]] = {
    "HS256": (SECRET, SECRET),
    "RS256": pair("RS256", rsa.generate_private_key(65537, 2048)),
    "ES256": pair("ES256", ec.generate_private_key(ec.SECP256R1())),
    "EdDSA": pair("EdDSA", ed25519.Ed25519PrivateKey.generate()),
}
PAYLOAD = b'{"sub":"mina","dev":"phone?","exp":99999999999}'


def token_of(algorithm: str, **headers: str) -> str:
    """A sound token."""
    return JWS.encode(PAYLOAD, KEYS[algorithm][0], algorithm, headers=headers)


def taken(token: str, algorithm: str) -> bytes | None:
    """The payload, or None for a token that is refused in words."""
    try:
        return read_payload(token, KEYS[algorithm][1], algorithm)
    except PeerError:
        return None


@pytest.mark.parametrize("algorithm", KEYS)
def test_a_sound_token_is_read_by_its_own_algorithm_alone(algorithm: str) -> None:
    token = token_of(algorithm, kid="one")
    assert [taken(token, other) for other in KEYS] == [PAYLOAD if other == algorithm else None for other in KEYS]


@pytest.mark.parametrize("algorithm", KEYS)
@given(data=st.data())
def test_what_is_taken_is_what_the_library_takes(algorithm: str, data: st.DataObject) -> None:
    token = token_of(algorithm)
    at = data.draw(st.integers(0, len(token) - 1))
    put = data.draw(st.text("ABab09-_+/=. \n\0é", max_size=3))
    token = token[:at] + put + token[at + data.draw(st.integers(0, 2)) :]
    found = taken(token, algorithm)
    if found is not None:
        assert JWS.decode(token, KEYS[algorithm][1], algorithms=[algorithm]) == found == PAYLOAD


def signed(header: bytes, payload: str) -> str:
    """A token of these parts with a sound signature."""
    head = f"{base64url_encode(header).decode()}.{payload}"
    signature = HMACAlgorithm(HMACAlgorithm.SHA256).sign(head.encode(), SECRET)
    return f"{head}.{base64url_encode(signature).decode()}"


def test_padding_that_an_issuer_leaves_is_taken() -> None:
    payload = base64url_encode(PAYLOAD).decode()
    padding = "=" * (-len(payload) % 4)
    assert padding
    assert taken(signed(b'{"alg":"HS256"}', payload + padding), "HS256") == PAYLOAD


@pytest.mark.parametrize("extension", ['"crit":["b64"],"b64":true', '"crit":["x"],"x":1', '"crit":[]', '"b64":false'])
def test_a_token_with_extensions_is_refused(extension: str) -> None:
    payload = base64url_encode(PAYLOAD).decode()
    assert taken(signed(f'{{"alg":"HS256",{extension}}}'.encode(), payload), "HS256") is None
    assert taken(signed(f'{{"alg":"HS256",{extension}}}'.encode(), ""), "HS256") is None


def test_a_key_that_is_too_short_is_refused() -> None:
    token = signed(b'{"alg":"HS256"}', base64url_encode(PAYLOAD).decode())
    with pytest.raises(PeerError, match="too short"):
        read_payload(token, SECRET[:16], "HS256")
