"""Metrics, statistics and the transfer analysis."""
