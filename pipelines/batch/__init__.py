"""Jobs over many files: plan, engines, manifest."""
