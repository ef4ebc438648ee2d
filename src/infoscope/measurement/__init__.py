"""The passes over images: ranking, maps, the fit check, and the tables of a run."""
