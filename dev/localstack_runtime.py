"""Start LocalStack's runtime on loopback only, with its S3 objects in a temp folder of its own.

LocalStack's own interpreter runs this file. Left alone, LocalStack listens on all addresses whatever it is
told, and every LocalStack of a machine keeps its objects in one fixed folder, by bucket name: deleting one
here would break the bucket of that name elsewhere.
"""

from __future__ import annotations

import functools

from localstack.runtime.main import main
from localstack.services.s3.storage.ephemeral import EphemeralS3ObjectStore
from twisted.internet import endpoints

_init = EphemeralS3ObjectStore.__init__


def _init_in_own_folder(store: EphemeralS3ObjectStore, _root: str | None = None) -> None:
    _init(store)  # without a folder it makes one below TMPDIR


EphemeralS3ObjectStore.__init__ = _init_in_own_folder
endpoints.TCP4ServerEndpoint = functools.partial(endpoints.TCP4ServerEndpoint, interface="127.0.0.1")

if __name__ == "__main__":
    main()
