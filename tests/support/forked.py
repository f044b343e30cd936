"""What is there already in the process that :mod:`tests.support.kills` forks workers from."""

from __future__ import annotations

import faulthandler

import deltalake  # noqa: F401

import tests.conftest  # noqa: F401
from chunkwise.core.compact import prefix, table  # noqa: F401
from tests.support.s3 import s3_client

s3_client("http://127.0.0.1:1")  # reads the models of S3
faulthandler.enable()  # says where a worker was that ends by a signal of its own
