"""Letter-level understanding of language models: teach spelling, measure what else improves."""

__version__ = "0.1.0"
