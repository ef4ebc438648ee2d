"""How long work is cut into shards, and how finished shards are kept."""
