"""The mail server role: old clients' requests, answered from the verified index."""
