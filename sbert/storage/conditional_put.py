"""Create a small file only if its name is free; if several writers try at once, exactly one succeeds.

On S3 this is a conditional put (``If-None-Match: *``), on disk a hard link made from a whole file.
"""

import contextlib
import errno

from sbert.errors import MissingError, StorageError
from sbert.storage.errors import translate_errors
from sbert.storage.files import filesystem, read_bytes, strip_protocol
from sbert.storage.local_write import LocalWrite

__all__ = ["create_bytes"]


def create_bytes(uri: str, content: bytes) -> bool:
    """Write `content` to `uri` unless the name is taken; return whether this call made the file.

    A reader sees all of the content or nothing. Put a run id or a random token into `content`: when the answer of storage
    is lost, the client repeats the request, finds the name taken, and recognises its own file by the content.

    Raises:
        StorageError: when storage refuses for another reason.
    """
    if "://" in uri:
        return _create_object(uri, content)
    with translate_errors(uri):
        local = LocalWrite(uri)
        try:
            local.file.write(content)
            return local.create()
        finally:
            local.discard()


def _create_object(uri: str, content: bytes) -> bool:
    try:
        filesystem(uri).pipe_file(strip_protocol(uri), content, mode="create")
    except Exception as error:
        taken = isinstance(error, FileExistsError) or getattr(error, "errno", None) in {errno.EEXIST, errno.EINVAL}
        # Servers answer a lost race in several ways. The content that is there now decides.
        with contextlib.suppress(MissingError):
            stored = read_bytes(uri)
            return stored == content
        if taken:
            raise StorageError(f"{uri}: storage refused a conditional put ({error})", uri=uri) from error
        with translate_errors(uri):
            raise
    return True
