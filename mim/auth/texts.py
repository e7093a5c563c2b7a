"""What people give of themselves, brought into one form: phone numbers, shown names, network addresses.

None of the errors here repeats what was given.
"""

import ipaddress
import unicodedata

import phonenumbers

from mim.errors import Code, PeerError

NAME_LIMIT = 64
_PHONE_TEXT_LIMIT = 64


def normalise_phone(text: str, region: str) -> str:
    """Return a phone number as E.164; `region` is the country of numbers without +. Raises `bad_frame`."""
    region = region.upper()
    try:
        number = phonenumbers.parse(text if len(text) <= _PHONE_TEXT_LIMIT else "", region)
    except phonenumbers.NumberParseException:
        raise PeerError(
            Code.BAD_FRAME,
            f"phone: not a phone number; write + and the country code before it, or dial as in {region}",
        ) from None
    if not phonenumbers.is_possible_number(number):
        raise PeerError(Code.BAD_FRAME, "phone: too many or too few digits for its country")
    if not phonenumbers.is_valid_number(number):
        raise PeerError(
            Code.BAD_FRAME,
            f"phone: no such number in its country (without +: {region}); check its first digits",
        )
    return str(phonenumbers.format_number(number, phonenumbers.PhoneNumberFormat.E164))


def clean_name(text: str, limit: int = NAME_LIMIT) -> str:
    """Return `text` on one line, without control characters, trimmed and cut at `limit` code points."""
    line = " ".join(text.split())
    return "".join(char for char in line if unicodedata.category(char) not in {"Cc", "Cs"})[:limit].strip()


def address_key(address: str) -> str:
    """What counts as one address for rates: an IPv4 address, or the /64 that an IPv6 client chooses from."""
    try:
        parsed = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address[:NAME_LIMIT]
    if isinstance(parsed, ipaddress.IPv6Address):
        if parsed.ipv4_mapped is not None:
            return str(parsed.ipv4_mapped)
        return str(ipaddress.ip_network((parsed, 64), strict=False))
    return str(parsed)
