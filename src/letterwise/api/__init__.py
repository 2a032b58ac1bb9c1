"""The HTTP service: routes, the services behind them and what protects them."""
