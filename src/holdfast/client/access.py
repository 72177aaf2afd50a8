"""Access urls and names of files: what no service would take is refused before it is sent."""

from __future__ import annotations

import re
from typing import Final

from holdfast.client.errors import InvalidAccessUrl, InvalidName

ACCESS_URL_REGEX: Final = (
    r"^(https?)://([a-zA-Z0-9]+):([a-zA-Z0-9]+)@([-.a-zA-Z0-9]+(?::[0-9]+)?)/$"
)
_LOOPBACK: Final = re.compile(r"(localhost|127\.\d+\.\d+\.\d+)(:\d+)?")


def parse_access_url(access_url: str) -> re.Match[str]:
    """Groups: scheme, user name, password, host with port.

    Raises:
        InvalidAccessUrl: a ValueError, which does not show the text.
    """
    match = re.match(ACCESS_URL_REGEX, access_url)
    if match and not access_url.endswith("\n"):
        return match
    raise InvalidAccessUrl(f"this is no access url: {_mistake_in(access_url)}")


def _mistake_in(access_url: str) -> str:
    if not re.match(r"https?://", access_url):
        return "it does not begin with https://"
    if "@" not in access_url:
        return "it has no user name and password before an @"
    if not access_url.endswith("/"):
        return "it does not end with a slash"
    if not re.match(r"https?://[a-zA-Z0-9]+:[a-zA-Z0-9]+@", access_url):
        return "user name and password must be letters and digits with a colon between"
    return "between the @ and the slash at its end stands something that is no host"


def check_name(name: str) -> str:
    """The name of a file in the account, with a slash at its beginning.

    Raises:
        InvalidName: no service would take it.
    """
    name = name if name.startswith("/") else f"/{name}"
    try:
        name.encode()
    except UnicodeEncodeError as error:
        raise InvalidName(f"the name {name!a} is not UTF-8") from error
    if re.search(r"[\x00-\x1f\x7f]", name):
        raise InvalidName(f"the name {name!a} has control characters")
    if {"", ".", ".."} & set(name[1:].split("/")):
        raise InvalidName(f"the name {name} has an empty part, or one that is only dots")
    return name


def is_loopback(host: str) -> bool:
    """Whether a host (and port) is this machine by what it says, without asking anybody."""
    return bool(_LOOPBACK.fullmatch(host))
