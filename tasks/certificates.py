"""The certificates that this process trusts when it asks a server."""

import functools
import ssl

import httpx

__all__ = ["trusted_certificates"]


@functools.cache
def trusted_certificates() -> ssl.SSLContext:
    """Return the certificates that httpx trusts by default, read once: each reading takes some 25 ms."""
    return httpx.create_ssl_context()
