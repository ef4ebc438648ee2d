"""The demo: a small model, an SAE of it, photographs and class embeddings, all bundled, and one real run on them."""
