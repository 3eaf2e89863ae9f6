"""HTTP between nodes: asking and answering."""
