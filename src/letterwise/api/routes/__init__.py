"""Routes: from a request's body to the services and back."""
