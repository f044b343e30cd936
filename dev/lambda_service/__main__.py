"""``python -m dev.lambda_service --config functions.json --port 0``: run the service until Ctrl-C."""

from __future__ import annotations

import argparse
import logging
import sys
import threading
from pathlib import Path

from dev.lambda_service.functions import ConfigError, load_functions
from dev.lambda_service.service import HOST, LambdaService
from dev.processes import exit_on_signals


def main(argv: list[str] | None = None) -> int:
    """Run until Ctrl-C or SIGTERM."""
    parser = argparse.ArgumentParser("python -m dev.lambda_service", description="Run a local AWS Lambda.")
    parser.add_argument("--config", type=Path, required=True, help='JSON file: {"functions": [...]}')
    parser.add_argument("--port", type=int, default=0, help="0 takes a free port (default)")
    parser.add_argument("--host", default=HOST, help="address to listen on (default: loopback)")
    parser.add_argument("--endpoint", help="URL that stands for all other AWS services")
    parser.add_argument("--logs-endpoint", help="URL of a CloudWatch Logs that gets all log lines, too")
    parser.add_argument("--logs", type=Path, help="folder for log files (default: a temporary one)")
    parser.add_argument("--concurrency", type=int, default=10, help="invocations at a time (default 10)")
    parser.add_argument("--idle-seconds", type=float, default=300.0, help="end environments that wait longer")
    options = parser.parse_args(argv)
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(message)s")
    try:
        service = LambdaService(
            load_functions(options.config),
            port=options.port,
            host=options.host,
            endpoint=options.endpoint,
            logs_endpoint=options.logs_endpoint,
            folder=options.logs,
            account_concurrency=options.concurrency,
            idle_seconds=options.idle_seconds,
        )
        with exit_on_signals(), service:
            url = f"http://{options.host}:{service.port}"
            print(f"Lambda on {url}; memory limited by {service.memory_limit}", flush=True)
            threading.Event().wait()
    except (ConfigError, OSError) as error:
        print(error, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
