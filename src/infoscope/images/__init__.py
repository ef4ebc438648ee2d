"""Where images come from, how they are decoded ahead of the model, and the views it sees of them."""
