"""Fan-outs run against a server that refuses what S3 refuses, and an API that can change."""

from tests.core.dispatch.conftest import s3
from tests.support.http_api import other_api
from tests.support.paged import listing

__all__ = ["listing", "other_api", "s3"]
