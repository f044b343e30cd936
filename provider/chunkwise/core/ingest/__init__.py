"""The ingest job: a paged API becomes one object on S3."""
