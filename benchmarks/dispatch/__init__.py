"""Large files: processors side by side with pandas and Polars, plans and merges."""
