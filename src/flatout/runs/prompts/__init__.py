"""From rows to prompts: templates, in a sandbox."""
