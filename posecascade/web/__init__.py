"""The page that runs a model in the browser: how it is assembled and served."""
