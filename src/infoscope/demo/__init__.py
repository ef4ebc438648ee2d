"""The demo: a small model, an SAE of it, photographs and class embeddings that come along, and one real run on them."""
