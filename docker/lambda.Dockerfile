# The Lambda handlers as an image, where an archive is not wanted or would be too large:
#   docker build --file docker/lambda.Dockerfile --platform linux/arm64 --build-arg PROFILE=delta --tag chunkwise-lambda .
# AWS moves the tag to what it has patched. For images that are the same for ever, name a digest:
#   --build-arg BASE=public.ecr.aws/lambda/python@sha256:...
ARG BASE=public.ecr.aws/lambda/python:3.13
FROM ${BASE}

# jsonl, full or delta, as `chunkwise package lambda` has them, with the same versions.
ARG PROFILE=full

COPY provider/chunkwise/packaging/locks/ /tmp/locks/
RUN python -m pip install --no-cache-dir --no-deps --require-hashes --only-binary=:all: \
        --target "${LAMBDA_TASK_ROOT}" --requirement "/tmp/locks/${PROFILE}.txt" \
    && rm -r /tmp/locks

COPY provider/chunkwise/__init__.py provider/chunkwise/py.typed ${LAMBDA_TASK_ROOT}/chunkwise/
COPY provider/chunkwise/core/ ${LAMBDA_TASK_ROOT}/chunkwise/core/
COPY provider/chunkwise/aws_lambda/ ${LAMBDA_TASK_ROOT}/chunkwise/aws_lambda/

# Other functions of the same image, by --command or in the template: chunkwise.aws_lambda.dispatcher.handler,
# chunkwise.aws_lambda.ingest.handler, chunkwise.aws_lambda.webhook.handler, chunkwise.aws_lambda.delta.handler (PROFILE=delta)
CMD ["chunkwise.aws_lambda.processor.handler"]
