"""Programs that train one adapter as another tool's user would, and one that does so with ours."""
