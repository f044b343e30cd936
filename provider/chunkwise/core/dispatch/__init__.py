"""One job: a source, cut into chunks, processed into parts, merged into one object."""
