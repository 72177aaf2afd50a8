"""The only way out: HTTP clients with time-outs, TLS, proxies, retries and the egress policy."""
