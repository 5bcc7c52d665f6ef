"""Retraining from a pull request: ``docs/pull-requests.md`` has its threats and its flow."""
