"""Keep credentials out of messages, artifacts and reports.

Credentials come from the environment, so what must not be shown is known: the values of variables with telling names, and
what stands before the ``@`` of a URI.
"""

import os
import re

__all__ = ["redact"]

TELLING_NAME = re.compile(
    r"SECRET|TOKEN|PASSWORD|PASSWD|CREDENTIAL|ACCESS_KEY|API_KEY|ACCOUNT_KEY|AUTH_STRING|SAS|_DSN$"
)
LEAST_CHARACTERS = 6
"""Shorter values are words rather than secrets."""
USER_INFO = re.compile(r"(?<=://)[^/\s@]+@")
SIGNATURE = re.compile(r"(?i)((?:x-amz-signature|x-amz-credential|x-amz-security-token|sig|awsaccesskeyid)=)[^&\s\"']+")
HIDDEN = "***"


def redact(text: str) -> str:
    """Return `text` without the credentials of this process's environment and without credentials in URIs."""
    values = {
        value
        for name, value in os.environ.items()
        if TELLING_NAME.search(name.upper()) and len(value) >= LEAST_CHARACTERS and not value.startswith("/")
    }
    for value in sorted(values, key=len, reverse=True):
        text = text.replace(value, HIDDEN)
    return SIGNATURE.sub(rf"\1{HIDDEN}", USER_INFO.sub(f"{HIDDEN}@", text))
