"""File formats: one module each, behind one protocol. They know bytes, never S3."""
