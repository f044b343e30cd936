"""What S3 says about objects that have arrived."""
