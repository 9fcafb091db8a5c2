"""Secrets are replaced before anything is recorded."""

from __future__ import annotations

import re
from collections.abc import Sequence

REDACTED = "***"

_SECRET_OPTION = re.compile(
    r"(^|[^a-z])(token|passw(or)?d|secret|api[_-]?key|credentials?)($|[^a-z])", re.IGNORECASE
)
# In a configuration a token is most often a piece of text (`pad_token`), so it takes more.
_SECRET_SETTING = re.compile(
    r"(^|[^a-z])((api|auth|access|bearer|hub|hf)[_-]?token|passw(or)?d|secret|api[_-]?key"
    r"|credentials?)($|[^a-z])",
    re.IGNORECASE,
)
_URL_PASSWORD = re.compile(r"(?<=://)([^/@:\s]*):([^@/\s]+)@")
_QUERY_SECRET = re.compile(
    r"(?<=[?&])(\w*(?:password|token|secret|api_key))=[^&#\s'\"]+", re.IGNORECASE
)


def redact(arguments: Sequence[str]) -> list[str]:
    """Return command-line arguments with the values of secrets replaced.

    A value counts as a secret behind an option or a key whose name says so (`--token x`,
    `api_key=x`) and as the password inside a URL.
    """
    shown: list[str] = []
    hide_next = False
    for argument in arguments:
        name, separator, _value = argument.partition("=")
        if hide_next:
            shown.append(REDACTED)
        elif separator and _SECRET_OPTION.search(name):
            shown.append(f"{name}={REDACTED}")
        else:
            shown.append(without_password(argument))
        hide_next = argument.startswith("-") and not separator and bool(_SECRET_OPTION.search(name))
    return shown


def without_password(text: str) -> str:
    """Return a text with the passwords and tokens of URLs in it replaced."""
    text = _URL_PASSWORD.sub(rf"\1:{REDACTED}@", text)
    return _QUERY_SECRET.sub(rf"\1={REDACTED}", text)


def is_secret(name: str) -> bool:
    """Return whether a setting of this name holds a secret: `api_key`, `hub_token`, `password`."""
    return _SECRET_SETTING.search(name) is not None
