"""The page that runs a model in the browser: assemble and serve it."""
