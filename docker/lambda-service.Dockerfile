# The local Lambda of docker-compose.yaml: what the handlers need, AWS's runtime client, and what serves them.
# The code itself is mounted.
FROM python:3.12.11-slim-bookworm

COPY provider/chunkwise/packaging/locks/full.txt constraints/dev.txt /tmp/
RUN pip install --no-cache-dir --require-hashes --requirement /tmp/full.txt \
    && pip install --no-cache-dir --constraint /tmp/dev.txt aiohttp awslambdaric psutil \
    && rm /tmp/full.txt /tmp/dev.txt
