"""A local AWS Lambda for the demo and the tests: botocore talks to it by its endpoint alone.

Handlers run in processes of their own under ``awslambdaric``, AWS's runtime client, with a time-out and a
memory limit that kill. ``python -m dev.lambda_service --config functions.json`` runs it from a shell.
"""

from dev.lambda_service.functions import ConfigError, Function, load_functions
from dev.lambda_service.service import LambdaService

__all__ = ["ConfigError", "Function", "LambdaService", "load_functions"]
