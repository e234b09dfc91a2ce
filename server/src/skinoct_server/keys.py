"""API keys: a file of hashed keys, two roles, compared in constant time.

The file has a line ``name role sha256`` for each key. A key is 32 random bytes, so that one round of
SHA-256 is enough: there is nothing to guess. Keys come in the ``Authorization`` header and nowhere else.
"""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import os
import re
import secrets
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from skinoct.errors import OptionError

Role = Literal["user", "admin"]
_PREFIX = "skinoct_"


@dataclass(frozen=True)
class Caller:
    """Who asks."""

    owner: str
    """Name of the key, or the address where no keys are used."""
    admin: bool
    keyed: bool


@dataclass(frozen=True)
class Key:
    """One line of the file."""

    name: str
    role: Role
    sha256: str


def read_keys(path: Path) -> list[Key]:
    """Read a key file.

    Raises
    ------
    OptionError
        When it cannot be read, holds no key, or a line is not as it should be; the key itself is never in the text.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise OptionError(
            f"The key file {path} cannot be read ({error.strerror}). Make one with: skinoct-server key {path} NAME"
        ) from None
    except UnicodeDecodeError:
        raise OptionError(f"{path} is not a key file. Make one with: skinoct-server key OTHER-FILE NAME") from None
    keys = _parse(text, path)
    if not keys:
        raise OptionError(f"{path} holds no key. Make one with: skinoct-server key {path} NAME")
    return keys


def _parse(text: str, path: Path) -> list[Key]:
    keys = []
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip() or line.startswith("#"):
            continue
        match = re.fullmatch(r"(\S+) (user|admin) ([0-9a-f]{64})", line.strip())
        if match is None:
            raise OptionError(
                f"Line {number} of {path} is not `name role sha256`. Remove it and make the key again with: "
                f"skinoct-server key {path} NAME"
            )
        keys.append(Key(match[1], "admin" if match[2] == "admin" else "user", match[3]))
    return keys


def add_key(path: Path, name: str, role: Role) -> str:
    """Make a key, add its hash to the file and return the key, which is written nowhere.

    Raises
    ------
    OptionError
        When the name is taken or cannot be one, or the file cannot be written or is none of keys.
    """
    if not re.fullmatch(r"[A-Za-z0-9._-]{1,64}", name):
        raise OptionError(f"{name!r} cannot be the name of a key; use letters, digits, dot, dash and underscore.")
    key = _PREFIX + secrets.token_urlsafe(32)
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o600)
        with os.fdopen(descriptor, "r+", encoding="utf-8") as file:
            text = file.read()
            if name in {known.name for known in _parse(text, path)}:
                raise OptionError(
                    f"{path} has a key named {name} already. Choose another name, or remove its line first."
                )
            start = "" if text.endswith("\n") or not text else "\n"  # an editor may have left out the last newline
            file.write(f"{start}{name} {role} {hashlib.sha256(key.encode()).hexdigest()}\n")
    except OSError as error:
        raise OptionError(
            f"The key file {path} cannot be written ({error.strerror}). Make its folder, or choose another file."
        ) from None
    except UnicodeDecodeError:
        raise OptionError(
            f"{path} is not a key file. Choose another file; it is made when it does not exist."
        ) from None
    return key


def identify(keys: list[Key], authorization: str | None) -> Caller | None:
    """Return whose key an ``Authorization`` header holds; every key is compared, whichever matches."""
    scheme, _, given = (authorization or "").partition(" ")
    digest = hashlib.sha256(given.strip().encode()).hexdigest()
    found = None
    for key in keys:
        if hmac.compare_digest(key.sha256, digest):
            found = key
    if found is None or scheme.lower() != "bearer":
        return None
    return Caller(found.name, found.role == "admin", keyed=True)


def is_loopback(host: str | None) -> bool:
    """Whether only this machine answers to a name or an address."""
    if host is None:
        return False
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
