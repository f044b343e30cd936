"""Paged APIs: how the next page is asked for, and how a page is read."""

from chunkwise.core.paging.cursor import CursorPaginator, HeaderCursorPaginator
from chunkwise.core.paging.last_record import LastRecordPaginator
from chunkwise.core.paging.links import JsonLinkPaginator, LinkHeaderPaginator
from chunkwise.core.paging.model import BaseRequest, Page, PageRequest, Paginator, Stop, StopReason
from chunkwise.core.paging.offset import OffsetPaginator
from chunkwise.core.paging.page_number import PageNumberPaginator
from chunkwise.core.paging.serialise import paginator_from_json, paginator_to_json
from chunkwise.core.paging.single_page import SinglePagePaginator
from chunkwise.core.selector import MISSING, Selector

__all__ = [
    "MISSING",
    "BaseRequest",
    "CursorPaginator",
    "HeaderCursorPaginator",
    "JsonLinkPaginator",
    "LastRecordPaginator",
    "LinkHeaderPaginator",
    "OffsetPaginator",
    "Page",
    "PageNumberPaginator",
    "PageRequest",
    "Paginator",
    "Selector",
    "SinglePagePaginator",
    "Stop",
    "StopReason",
    "paginator_from_json",
    "paginator_to_json",
]
