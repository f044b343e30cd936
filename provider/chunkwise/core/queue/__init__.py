"""Messages of an SQS queue that become rows, and are deleted only when the rows are safe."""
