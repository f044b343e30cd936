"""Chunkwise: an Apache Airflow provider that moves data onto S3 chunk by chunk."""

__version__ = "0.1.0"
