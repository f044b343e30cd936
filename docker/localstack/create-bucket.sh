#!/usr/bin/env bash
# LocalStack runs this once it is ready; its health check waits for the bucket.
set -euo pipefail
awslocal s3api create-bucket --bucket "${CHUNKWISE_BUCKET}"
