"""Where data came from and where it went, for OpenLineage and Airflow's own lineage."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit


def ingest_lineage(source_url: str, receipt: Mapping[str, Any]) -> Any:
    """OpenLineage's facets of a finished ingest: the API endpoint as input, the object with its row count as
    output.

    The names follow OpenLineage's naming of HTTP and S3 datasets: scheme and authority are the namespace, the
    path is the name. A query string is no part of it, for it may hold a secret.

    :param source_url: URL of the endpoint.
    :param receipt: of the ingest.
    :return: an ``OperatorLineage``, or ``None`` where Airflow's OpenLineage provider is not installed.
    """
    # An optional dependency, and a slow import that only its listener needs.
    try:
        from airflow.providers.common.compat.openlineage.facet import (
            Dataset,
            OutputDataset,
            OutputStatisticsOutputDatasetFacet,
        )
        from airflow.providers.openlineage.extractors import OperatorLineage
    except ImportError:
        return None
    namespace, name = source_dataset(source_url)
    outputs = []
    if receipt.get("uri"):
        bucket, _, key = str(receipt["uri"]).removeprefix("s3://").partition("/")
        statistics = OutputStatisticsOutputDatasetFacet(
            rowCount=receipt["records"], size=receipt["bytes"], fileCount=1
        )
        # what an earlier run wrote is not counted again
        facets: dict[str, Any] = {} if receipt.get("skipped") else {"outputStatistics": statistics}
        outputs.append(OutputDataset(namespace=f"s3://{bucket}", name=key, outputFacets=facets))
    return OperatorLineage(inputs=[Dataset(namespace=namespace, name=name)], outputs=outputs)


def source_dataset(url: str) -> tuple[str, str]:
    """Namespace and name of an HTTP endpoint, e.g. ``("https://api.example.com", "/v1/variants")``."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}", parts.path or "/"


def collect_ingest(operator: Any, source_url: str, bucket: str, key: str) -> None:
    """Tell Airflow's collector of lineage what a task read and wrote."""
    from airflow.providers.common.compat.sdk import get_hook_lineage_collector

    collector = get_hook_lineage_collector()
    collector.add_input_asset(context=operator, uri="".join(source_dataset(source_url)))
    collector.add_output_asset(context=operator, scheme="s3", asset_kwargs={"bucket": bucket, "key": key})


def dispatch_lineage(receipt: Mapping[str, Any]) -> Any:
    """OpenLineage's facets of a finished dispatch: the source as input, the object with its row count and
    size as output.

    :param receipt: of the merge.
    :return: an ``OperatorLineage``, or ``None`` where Airflow's OpenLineage provider is not installed.
    """
    try:
        from airflow.providers.common.compat.openlineage.facet import (
            Dataset,
            OutputDataset,
            OutputStatisticsOutputDatasetFacet,
        )
        from airflow.providers.openlineage.extractors import OperatorLineage
    except ImportError:
        return None
    outputs = []
    if receipt.get("uri"):
        statistics = OutputStatisticsOutputDatasetFacet(
            rowCount=receipt["rows_out"], size=receipt["bytes"], fileCount=1
        )
        # what an earlier merge published is not counted again
        facets: dict[str, Any] = {} if receipt.get("already") else {"outputStatistics": statistics}
        to = s3_dataset(receipt["uri"])
        outputs.append(OutputDataset(namespace=to[0], name=to[1], outputFacets=facets))
    uri = receipt["source"].get("uri")  # a merge that finds its work done may not know any more
    inputs = []
    if uri is not None:
        namespace, name = dataset(uri)
        inputs.append(Dataset(namespace=namespace, name=name))
    return OperatorLineage(inputs=inputs, outputs=outputs)


def dataset(uri: str) -> tuple[str, str]:
    """Namespace and name of a source: an object, or an HTTP endpoint."""
    return s3_dataset(uri) if uri.startswith("s3://") else source_dataset(uri)


def s3_dataset(uri: str) -> tuple[str, str]:
    """Namespace and name of an object: ``("s3://bucket", "a/key")``."""
    bucket, _, key = uri.removeprefix("s3://").partition("/")
    return f"s3://{bucket}", key


def collect_dispatch(operator: Any, source_uri: str, target_uri: str) -> None:
    """Tell Airflow's collector of lineage what a dispatch read and wrote."""
    from airflow.providers.common.compat.sdk import get_hook_lineage_collector

    collector = get_hook_lineage_collector()
    if not source_uri.startswith("s3://"):
        collector.add_input_asset(context=operator, uri="".join(source_dataset(source_uri)))
    for add, uri in ((collector.add_input_asset, source_uri), (collector.add_output_asset, target_uri)):
        if not uri.startswith("s3://"):
            continue
        namespace, key = s3_dataset(uri)
        add(
            context=operator,
            scheme="s3",
            asset_kwargs={"bucket": namespace.removeprefix("s3://"), "key": key},
        )
