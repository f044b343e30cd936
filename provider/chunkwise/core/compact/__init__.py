"""Many small Parquet files become few, below a prefix or in a Delta table."""
