#!/usr/bin/env bash
# LocalStack runs this once it is ready; its health check waits for the bucket, which is the last.
set -euo pipefail
awslocal secretsmanager create-secret --name chunkwise-tokens --secret-string "${CHUNKWISE_TOKEN_KEY}" > /dev/null
awslocal s3api create-bucket --bucket "${CHUNKWISE_BUCKET}"
