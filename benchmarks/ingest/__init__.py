"""The seed workload of the paged ingest, done by Chunkwise and by others."""
