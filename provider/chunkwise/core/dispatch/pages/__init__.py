"""A paged API as the source of a dispatch: its chunks are ranges of pages, or the legs of a cursor run."""
