"""The services around Chunkwise for its demo, tests and benchmarks: not part of the provider."""
