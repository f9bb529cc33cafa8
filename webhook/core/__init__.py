"""Pure admission: a pod and settings in, JSON-patch operations or a refusal out."""
