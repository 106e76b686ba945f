"""Random actions and random hostile workspaces, each from a number, so that a failure can be repeated."""
