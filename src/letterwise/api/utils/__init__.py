"""What every route shares: request ids, errors, keys, limits and observability."""
