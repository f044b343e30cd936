"""Queues, for every test of what drains them."""

from tests.support.sqs import queue, sqs_proxy

__all__ = ["queue", "sqs_proxy"]
