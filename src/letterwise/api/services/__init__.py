"""What the routes rely on: batching, answering, spell checking and the canary. None of it knows HTTP."""
